"""The values that a channel of data can have: samples of a table keep its constants, its few values and its whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.spec import Allowed, DataSpec

FEW = 20  # at most so many different values are kept as such
SHARE = 10  # on average, each of them occurs at least so often
FIRST, CHUNK = 1 << 12, 1 << 22  # values examined at first, and then at a time


def allowed_values(x: np.ndarray, levels: int | None) -> tuple[Allowed, ...]:
    """Return what each channel of samples `(n, c, ...)` can be: a few values, `"whole"`, `"count"` (whole, from 0), or None.

    Of data with levels only constant channels are returned, in model units.
    """
    scale = 1 if levels is None else levels - 1
    found = (_of_channel(x[:, c], constant=levels is not None) for c in range(x.shape[1]))
    return tuple(tuple(v / scale for v in values) if isinstance(values, tuple) else values for values in found)


def _of_channel(x: np.ndarray, constant: bool) -> Allowed:
    most = 1 if constant else max(1, min(FEW, len(x) // SHARE))
    seen: set[float] | None = set()
    whole, negative = not constant, False
    for part in _parts(x):
        if seen is not None:
            seen.update(np.unique(part).tolist())
            seen = seen if len(seen) <= most else None
        if whole:
            whole = bool((part == np.rint(part)).all())
            negative = negative or bool((part < 0).any())
        if seen is None and not whole:
            return None
    if seen is not None:
        return tuple(sorted(map(float, seen)))
    return "whole" if negative else "count"


def _parts(x: np.ndarray) -> Iterator[np.ndarray]:
    each = max(1, x[0].size)
    first, rows = max(1, FIRST // each), max(1, CHUNK // each)
    yield x[:first]
    yield from (x[i : i + rows] for i in range(first, len(x), rows))


def as_allowed(x: Tensor, spec: DataSpec) -> Tensor:
    """Return samples `(n, *shape)` with the values that their channels can have in the data, and at the levels of the data.

    Data with levels are rounded to them. In other data a constant channel gets its value, a channel of few values the nearest
    of these, and a channel of whole numbers is rounded.
    """
    if spec.levels is not None:
        top = spec.levels - 1
        x = x.clamp(0, 1).mul(top).round().div(top)
    if not any(spec.allowed):
        return x
    channels = [_nearest(x[:, c], values) for c, values in enumerate(spec.allowed)]
    return torch.stack(channels, 1)


def _nearest(x: Tensor, values: Allowed) -> Tensor:
    if values is None:
        return x
    if isinstance(values, str):
        return x.round().clamp(min=0) if values == "count" else x.round()
    known = torch.tensor(values, dtype=x.dtype, device=x.device)
    return known[torch.bucketize(x.contiguous(), (known[1:] + known[:-1]) / 2)]


def described(spec: DataSpec, most: int = 5) -> str:
    """Describe the channels of real data that `as_allowed` changes: `flag (0 or 1), one (always 7)`.

    If all channels are alike: `whole numbers`. Without such channels: "".
    """
    if spec.levels is not None or not any(spec.allowed):
        return ""
    kinds = [_kind(values) for values in spec.allowed]
    if len(set(kinds)) == 1:
        return kinds[0]
    word = "number" if len(spec.shape) == 1 else "channel"
    names = spec.channels or [f"{word} {i + 1}" for i in range(len(kinds))]
    shown = [f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True) if kind]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")


def _kind(values: Sequence[float] | Literal["whole", "count"] | None) -> str:
    if values is None:
        return ""
    if isinstance(values, str):
        return "whole numbers"
    words = [f"{value:.6g}" for value in values]
    if len(words) == 1:
        return f"always {words[0]}"
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) <= 4 else f"one of {len(words)} values"
