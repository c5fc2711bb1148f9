"""Data that PyTorch hands out: map-style and iterable data sets, and loaders of either."""

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

LARGEST = 1_000_000  # samples that are read of a data set without an end


def from_torch(source: Dataset[Any] | DataLoader[Any], layout: Any = None) -> DataSet:
    """The samples of a torch `Dataset` or `DataLoader`, in memory.

    A sample is a tensor, a pair (tensor, label), or a dict of named columns: "x", and "class", "text", "number" or any other
    (`from_columns`). A loader's batches are taken apart, its transforms as they are; its order plays no part. Of an iterable
    without an end the first million samples are taken. Raises DataError for samples of any other form.
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
    return from_columns({name: _stacked(name, values) for name, values in columns.items()}, name="dataset", layout=layout)


def _apart(batch: Any) -> Iterable[Any]:
    """The samples of a loader's batch."""
    if isinstance(batch, Mapping):
        return ({key: value[i] for key, value in batch.items()} for i in range(len(next(iter(batch.values())))))
    if isinstance(batch, list | tuple):
        parts: Iterable[Any] = zip(*batch, strict=True)
        return parts
    rows: Iterable[Any] = batch
    return rows


def _read(sample: Any) -> dict[str, Any]:
    """The named columns of one sample."""
    if isinstance(sample, Mapping):
        if "x" not in sample:
            raise DataError(f"a sample that is a dict has its data as 'x'; found the keys {', '.join(map(str, sample))}")
        found = dict(sample)
    elif isinstance(sample, list | tuple):
        found = {"x": sample[0]} | ({"class": sample[1]} if len(sample) > 1 else {})
    else:
        found = {"x": sample}
    if not isinstance(found["x"], Tensor | np.ndarray):
        raise DataError(f"a sample is a tensor, (tensor, label) or a dict with 'x'; found {type(found['x']).__name__}")
    return found


def _stacked(name: str, values: list[Any]) -> Any:
    """The values of a column as one array; texts as a list."""
    if isinstance(values[0], str):
        return values
    try:
        return np.stack([np.asarray(value) for value in values])
    except ValueError:
        raise DataError(f"the {name} of the samples have different shapes: give a transform that makes them equal") from None
