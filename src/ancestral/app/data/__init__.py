"""Sources of data: `load` turns a name, a path or an array into a `DataSet` with its `DataSpec`."""

from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.errors import DataError
from ancestral.app.data.sources import built_in, exists, is_name, load, name_of, size_of
from ancestral.app.data.spec import DataSpec

__all__ = ["DataError", "DataSet", "DataSpec", "Split", "built_in", "exists", "is_name", "load", "name_of", "size_of"]
