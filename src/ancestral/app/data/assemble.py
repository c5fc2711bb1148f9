"""Functions that make a `DataSet` of samples: held-out split, statistics and fingerprint. All sources use them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.columns import STANDARD, Numbers, Texts
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.discrete import allowed_values, described
from ancestral.app.data.errors import DataError
from ancestral.app.data.hashing import fingerprint, of_sample
from ancestral.app.data.precision import CONSTANT
from ancestral.app.data.spec import DataSpec, Kind
from ancestral.app.data.streamed import HELD, Streamed, apart
from ancestral.errors import printable

CHUNK = 1 << 22  # values examined at a time, so that float64 and int64 temporaries take at most 32 MB
MOST_HELD_OUT = 10_000
LEAST = 20  # samples of each side of a comparison


def assemble(
    name: str,
    train: Split,
    test: Split | None = None,
    *,
    levels: int | None,
    classes: tuple[str, ...] = (),
    box_classes: tuple[str, ...] = (),
    map_classes: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> DataSet:
    """Make a `DataSet` of samples that have channels first and are either uint8 levels (`levels` given) or real numbers.

    Args:
        name: the name of the data.
        train: the samples to train on.
        test: the held-out split. None: a `share` of `train` is held out.
        levels: number of levels, or None for real numbers.
        classes: names of the classes of the samples.
        box_classes: names of the classes of boxes.
        map_classes: names of the classes of maps.
        channels: names of the channels of the samples, which are the columns of a table.
        notes: notes for the user.

    Raises:
        DataError: if a split would be empty.
    """
    written = [part["text"] for part in (train, test) if part is not None and "text" in part]
    if replaced := sum(column.replaced for column in written if isinstance(column, Texts)):
        notes = (*notes, f"{count(replaced, 'caption')} with a lone surrogate, which is no character: replaced by U+FFFD")
    if test is None:
        if len(train) < 2:
            found = count(len(train), "sample")
            raise DataError(f"{name} holds {found}: at least 2 are needed, one to train on and one to hold out")
        train, test, rule = _divided(train)
        notes = (*notes, f"held out {len(test):,} of {len(train) + len(test):,} samples, {rule}")
    elif not len(train) or not len(test):
        empty = "training" if not len(train) else "held-out"
        raise DataError(f"the {empty} split of {name} is empty: at least 1 sample is needed there")
    kind: Kind = "real" if levels is None else "binary" if levels == 2 else "uint8"
    x_column, seen = train["x"], train.sample()
    if train.streamed:
        what = "mean, deviation and fingerprint are" if levels is not None else "mean, deviation, limits and fingerprint are"
        notes = (*notes, f"samples are read on demand; {what} those of {len(seen):,} evenly spread training samples")
    held = {name: column if not isinstance(column := train[name], Streamed) else seen[name] for name in train}
    x = seen["x"].values
    texts, boxes, paired = (held[name].values if name in held else None for name in ("text", "boxes", "image"))
    found = fingerprint(seen, levels)
    mean, std = moments(x, levels)
    limits = () if levels is not None else tuple((float(c.min()), float(c.max())) for c in x.unbind(1))
    numbers = held.get("number", Numbers(torch.empty(len(seen), 0)))
    assert isinstance(numbers, Numbers)
    number_mean, number_std = known_moments(numbers.values)
    allowed = allowed_values(x.numpy(), levels)
    spec = DataSpec(
        name=printable(name),
        shape=tuple(x.shape[1:]),
        kind=kind,
        range=(min(low for low, _ in limits), max(high for _, high in limits)) if limits else (0.0, 1.0),
        levels=levels,
        mean=mean,
        std=std,
        classes=classes,
        size=len(train),
        fingerprint=of_sample(fingerprint(seen, levels), x_column)
        if isinstance(x_column, Streamed)
        else fingerprint(seen, levels),
        captions=0 if texts is None else round(sum(text is not None for text in texts) * len(train) / len(texts)),
        boxes=max((len(rows) for rows in boxes or ()), default=0),
        box_classes=box_classes,
        map_classes=map_classes,
        paired=0 if paired is None else paired.shape[1],
        numbers=numbers.names if "number" in held else (),
        number_mean=number_mean,
        number_std=number_std,
        columns=tuple((column, train[column].shape[1:]) for column in sorted(train) if column not in STANDARD),
        channels=tuple(map(printable, channels)),
        limits=limits,
        allowed=allowed if any(allowed) else (),
    )
    if values := described(spec):
        notes = (*notes, f"written samples get the values that the data have: {values}")
    return DataSet(spec, train, test, tuple(map(printable, notes)))


def _divided(samples: Split) -> tuple[Split, Split, str]:
    """Return the training split, the held-out split, and how the latter was chosen. Samples in shards are not permuted."""
    x, n = samples["x"], len(samples)
    most = max(1, min(MOST_HELD_OUT, HELD // x.row_bytes)) if isinstance(x, Streamed) else MOST_HELD_OUT
    if isinstance(x, Streamed) and x.groups is not None:
        train, test = apart(n, share(n, most))
        return samples.view(train), samples.view(test), f"every {test.period:,}th" if test.period > 3 else "evenly spread"
    kept, out = held_out(n, samples.labels, most)
    rule = "chosen at random" if samples.labels is None else "the same share of each class"
    return samples.take(kept), samples.take(out), rule


def held_out(n: int, labels: Tensor | None = None, most: int = MOST_HELD_OUT) -> tuple[Tensor, Tensor]:
    """Return ascending indices `(train, test)` of n samples, of which a `share` is held out.

    With labels the choice is stratified by class, and a class of a single sample stays in training. The choice depends only on
    n and the labels, so it is the same on every machine and with every version of numpy.
    """
    order = np.random.RandomState(0).permutation(n)  # RandomState's stream is frozen; default_rng's may change
    if labels is not None:
        known = labels.numpy()
        order = order[np.argsort(known[order], kind="stable")]
        shared = np.bincount(known)[known[order]] > 1
        order = order[shared] if shared.any() else order
    # The samples are sorted by class and shuffled within each class, so evenly spaced picks are a stratified draw. At most one
    # of two neighbours is picked, so no whole class is held out.
    size = min(share(n, most), max(1, len(order) // 2))
    picks = order[((np.arange(size) + 0.5) * len(order) / size).astype(np.int64)]
    out = np.zeros(n, dtype=bool)
    out[picks] = True
    return torch.from_numpy(np.flatnonzero(~out)), torch.from_numpy(np.flatnonzero(out))


def share(n: int, most: int = MOST_HELD_OUT) -> int:
    """Return how many of n samples are held out: a tenth, or as many as a comparison needs if these are at most a quarter."""
    tenth = n // 10
    return max(1, min(max(tenth, LEAST) if n >= 4 * LEAST else tenth, most))


def moments(array: Tensor, levels: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the population standard deviation of each channel, in model units and with float64 accuracy."""
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
        constant = bool((channel == channel.flat[0]).all()) or variance**0.5 <= CONSTANT * abs(mean)
        means.append(mean)
        stds.append(1.0 if constant else variance**0.5)
    return tuple(means), tuple(stds)


def known_moments(numbers: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each of k numbers `(N, k)` over the samples with a known value (not NaN).

    A constant number has deviation 1. A number that is never known has mean 0 and deviation 1.
    """
    means, stds = [], []
    rounding = CONSTANT if numbers.dtype == torch.float64 else 1e-6
    for values in numbers.double().unbind(1):
        known = values[values.isfinite()]
        means.append(float(known.mean()) if len(known) else 0.0)
        std = float(known.std(correction=0)) if len(known) else 0.0
        stds.append(std if std > rounding * abs(means[-1]) and std > 0 else 1.0)
    return tuple(means), tuple(stds)


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield slices along the first axis of about `CHUNK` values each."""
    rows = max(1, CHUNK // max(1, array[0].size))
    return (array[i : i + rows] for i in range(0, len(array), rows))


def count(n: int, thing: str, plural: str | None = None) -> str:
    """Write a number with its noun: `1 image`, `1,204 images`, `2 classes`."""
    return f"{n:,} {thing if n == 1 else plural or thing + 's'}"
