"""Data that PyTorch hands out: map-style and iterable data sets, and loaders of either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ancestral.app.data.arrays import from_array
from ancestral.app.data.dataset import DataSet
from ancestral.app.data.errors import DataError

LARGEST = 1_000_000  # samples that are read of a data set without an end


def from_torch(source: Dataset[Any] | DataLoader[Any], layout: Any = None) -> DataSet:
    """The samples of a torch `Dataset` or `DataLoader`, in memory.

    A sample is a tensor, a pair (tensor, label), or a dict with "x" and, where there is one, "class". A loader's batches are
    taken apart, its transforms as they are; its order plays no part. Of an iterable without an end the first million is taken.
    Raises DataError for samples of any other form.
    """
    if isinstance(source, DataLoader):
        samples: Iterator[Any] = (sample for batch in source for sample in _apart(batch))
    elif isinstance(source, IterableDataset):
        samples = iter(source)
    else:
        samples = (source[i] for i in range(len(source)))  # type: ignore[arg-type]
    xs, labels = [], []
    for sample in islice(samples, LARGEST):
        x, label = _read(sample)
        xs.append(x)
        labels.append(label)
    if not xs:
        raise DataError("the data set is empty: at least 2 samples are needed")
    if len({tuple(x.shape) for x in xs}) > 1:
        raise DataError("the samples of the data set have different shapes: give a transform that makes them equal")
    known = None if any(label is None for label in labels) else [_plain(label) for label in labels]
    return from_array(torch.stack(xs), labels=known, layout=layout)


def _apart(batch: Any) -> Iterable[Any]:
    """The samples of a loader's batch."""
    if isinstance(batch, Mapping):
        return ({key: value[i] for key, value in batch.items()} for i in range(len(next(iter(batch.values())))))
    if isinstance(batch, list | tuple):
        parts: Iterable[Any] = zip(*batch, strict=True)
        return parts
    rows: Iterable[Any] = batch
    return rows


def _read(sample: Any) -> tuple[Tensor, Any]:
    label = None
    if isinstance(sample, Mapping):
        if "x" not in sample:
            raise DataError(f"a sample that is a dict has its data as 'x'; found the keys {', '.join(map(str, sample))}")
        sample, label = sample["x"], sample.get("class")
    elif isinstance(sample, list | tuple):
        sample, label = (sample[0], sample[1] if len(sample) > 1 else None)
    if isinstance(sample, np.ndarray):
        sample = torch.from_numpy(sample)
    if not isinstance(sample, Tensor):
        raise DataError(f"a sample is a tensor, (tensor, label) or a dict with 'x'; found {type(sample).__name__}")
    return sample, label


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, Tensor | np.generic) else label
