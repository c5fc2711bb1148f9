"""From samples to a `DataSet`: the held-out split, the statistics and the fingerprint, the same for every source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.errors import DataError
from ancestral.app.data.spec import DataSpec, Kind

CHUNK = 1 << 22  # values examined at a time: bounds the float64 and int64 temporaries at 32 MB


def assemble(
    name: str,
    train: Split,
    test: Split | None = None,
    *,
    levels: int | None,
    classes: tuple[str, ...] = (),
    box_classes: tuple[str, ...] = (),
    map_classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A `DataSet` of samples that are already channels first and either uint8 levels (`levels` given) or float32.

    box_classes, map_classes: names of what boxes and maps show.
    Without a `test` split of its own, a tenth is held out (`held_out`). Raises `DataError` for fewer than 2 samples.
    """
    if test is None:
        if len(train) < 2:
            found = count(len(train), "sample")
            raise DataError(f"{name} holds {found}: at least 2 are needed, one to train on and one to hold out")
        kept, out = held_out(len(train), train.labels)
        train, test = train.take(kept), train.take(out)
        notes = (*notes, f"held out {len(test):,} of {len(train) + len(test):,} samples, chosen at random")
    elif not len(train) or not len(test):
        empty = "training" if not len(train) else "held-out"
        raise DataError(f"the {empty} split of {name} is empty: at least 1 sample is needed there")
    kind: Kind = "real" if levels is None else "binary" if levels == 2 else "uint8"
    mean, std = moments(train.array, levels)
    limits = (0.0, 1.0) if levels is not None else (float(train.array.min()), float(train.array.max()))
    spec = DataSpec(
        name=name,
        shape=tuple(train.array.shape[1:]),
        kind=kind,
        range=limits,
        levels=levels,
        mean=mean,
        std=std,
        classes=classes,
        size=len(train),
        fingerprint=fingerprint(train, levels),
        captions=sum(text is not None for text in train.captions or ()),
        boxes=max((len(rows) for rows in train.boxes or ()), default=0),
        box_classes=box_classes,
        map_classes=map_classes,
        paired=0 if train.paired is None else train.paired.shape[1],
    )
    return DataSet(spec, train, test, notes)


def held_out(n: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices `(train, test)` of n samples, both ascending: a tenth is held out, at least 1 and at most 10,000.

    With labels every class gives its share, and a class of a single sample is kept for training. The choice depends on
    n and the labels alone: it is the same on every machine and with every version of numpy.
    """
    order = np.random.RandomState(0).permutation(n)  # RandomState's stream is frozen; default_rng's may change
    if labels is not None:
        known = labels.numpy()
        order = order[np.argsort(known[order], kind="stable")]
        shared = np.bincount(known)[known[order]] > 1
        order = order[shared] if shared.any() else order
    # Evenly spaced picks from the samples sorted by class, shuffled within each, are a stratified draw. Of two
    # neighbours at most one is picked, so no class is held out whole.
    size = max(1, min(n // 10, 10_000, len(order) // 2))
    picks = order[((np.arange(size) + 0.5) * len(order) / size).astype(np.int64)]
    out = np.zeros(n, dtype=bool)
    out[picks] = True
    return torch.from_numpy(np.flatnonzero(~out)), torch.from_numpy(np.flatnonzero(out))


def moments(array: Tensor, levels: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation per channel in the units the models see, accurate to float64."""
    means, stds = [], []
    for c in range(array.shape[1]):
        channel = array[:, c].numpy()
        if levels is not None:  # exact: a histogram of whole numbers
            counts = sum(np.bincount(part.ravel(), minlength=levels) for part in chunks(channel))
            grid = np.arange(levels) / (levels - 1)
            mean = float(counts @ grid) / channel.size
            variance = float(counts @ (grid - mean) ** 2) / channel.size
        else:
            mean = sum(float(part.sum(dtype=np.float64)) for part in chunks(channel)) / channel.size
            squares = (float(((part.astype(np.float64) - mean) ** 2).sum()) for part in chunks(channel))
            variance = sum(squares) / channel.size
        constant = bool((channel == channel.flat[0]).all())
        means.append(mean)
        stds.append(1.0 if constant else variance**0.5)
    return tuple(means), tuple(stds)


def fingerprint(split: Split, levels: int | None) -> str:
    """A 16-byte BLAKE2b hash, in hexadecimal, of samples and what is known of them."""
    digest = hashlib.blake2b(digest_size=16)
    head = [tuple(split.array.shape), str(split.array.dtype), levels, split.captions]
    digest.update(json.dumps(head).encode())
    digest.update(split.array.contiguous().numpy().reshape(-1).view(np.uint8).data)
    boxes = None
    if split.boxes is not None:
        boxes = torch.cat([torch.tensor([len(rows) for rows in split.boxes]), *(rows.flatten() for rows in split.boxes)])
    for name, column in (("labels", split.labels), ("boxes", boxes), ("maps", split.maps), ("paired", split.paired)):
        if column is not None:
            digest.update(name.encode())
            digest.update(column.contiguous().numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices along the first axis of about `CHUNK` values each."""
    rows = max(1, CHUNK // max(1, array[0].size))
    return (array[i : i + rows] for i in range(0, len(array), rows))


def count(n: int, thing: str, plural: str | None = None) -> str:
    """`1 image`, `1,204 images`, `2 classes`."""
    return f"{n:,} {thing if n == 1 else plural or thing + 's'}"
