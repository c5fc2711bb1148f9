"""Reader of PyTorch's data sets (map-style and iterable) and loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ancestral.app.data.arrays import from_columns
from ancestral.app.data.dataset import DataSet
from ancestral.app.data.errors import DataError

LARGEST = 1_000_000  # largest number of samples that is read


def from_torch(
    source: Dataset[Any] | DataLoader[Any], axes: str | None = None, shape: tuple[int, ...] | None = None
) -> DataSet:
    """Read the samples of a torch `Dataset` or `DataLoader` into memory.

    A sample is a tensor, a pair (tensor, label), or a dict of named columns: "x", and "class", "text", "number" or any other
    (`from_columns`). The batches of a loader are split into samples, with its transforms applied. At most a million samples are
    read, so an endless iterable works. `axes` and `shape` are as in `from_array`.

    Raises:
        DataError: if samples have any other form.
    """
    if isinstance(source, DataLoader):
        samples: Iterator[Any] = (sample for batch in source for sample in _apart(batch))
    elif isinstance(source, IterableDataset):
        samples = iter(source)
    else:
        samples = (source[i] for i in range(len(source)))  # type: ignore[arg-type]
    columns: dict[str, list[Any]] = {}
    for sample in islice(samples, LARGEST):
        for name, value in _read(sample).items():
            columns.setdefault(name, []).append(value)
    if not columns:
        raise DataError("the data set is empty: at least 2 samples are needed")
    n = len(columns["x"])
    if partial := [name for name, values in columns.items() if len(values) != n]:
        raise DataError(f"the column {partial[0]} of the data set is missing in some samples: give it in all or in none")
    stacked = {name: _stacked(name, values) for name, values in columns.items()}
    return from_columns(stacked, name="dataset", axes=axes, shape=shape)


def _apart(batch: Any) -> Iterable[Any]:
    """Split a loader's batch into samples."""
    if isinstance(batch, Mapping):
        return ({key: value[i] for key, value in batch.items()} for i in range(len(next(iter(batch.values())))))
    if isinstance(batch, list | tuple):
        parts: Iterable[Any] = zip(*batch, strict=True)
        return parts
    rows: Iterable[Any] = batch
    return rows


def _read(sample: Any) -> dict[str, Any]:
    """Return the named columns of one sample."""
    if isinstance(sample, Mapping):
        if "x" not in sample:
            raise DataError(f"a sample that is a dict needs the key 'x'; found the keys {', '.join(map(str, sample))}")
        found = dict(sample)
    elif isinstance(sample, list | tuple):
        found = {"x": sample[0]} | ({"class": sample[1]} if len(sample) > 1 else {})
    else:
        found = {"x": sample}
    if not isinstance(found["x"], Tensor | np.ndarray):
        raise DataError(f"a sample is a tensor, (tensor, label) or a dict with 'x'; found {type(found['x']).__name__}")
    return found


def _stacked(name: str, values: list[Any]) -> Any:
    """Return the values of a column as one array, or texts as a list."""
    if isinstance(values[0], str):
        return values
    try:
        return np.stack([np.asarray(value) for value in values])
    except ValueError:
        raise DataError(f"the {name} of the samples have different shapes: add a transform that makes them equal") from None
