"""Sources of data: `load` turns a name, a path or an array into a `DataSet` with its `DataSpec`."""

from ancestral.data.dataset import DataSet, Split
from ancestral.data.errors import DataError
from ancestral.data.sources import built_in, load
from ancestral.data.spec import DataSpec

__all__ = ["DataError", "DataSet", "DataSpec", "Split", "built_in", "load"]
