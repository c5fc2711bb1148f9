"""Samples of large arrays that are mapped from a file. They stay there, and each batch is converted when it is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ancestral.app.data.columns import Pictures, Values
from ancestral.app.data.errors import DataError
from ancestral.app.data.levels import every, quantise
from ancestral.app.data.streamed import SAMPLE, Mapped, Streamed, evenly, is_large


def levels_of(arrays: list[np.ndarray], images: bool, levels: int | None = None) -> tuple[list[Tensor | Streamed], int | None]:
    """Return the samples of arrays in memory as `quantise` does, and those of large mapped arrays as columns.

    The levels of mapped arrays are decided by a sample of each, evenly spread. Bytes are only called binary if all of them are.
    """
    seen = [_sample(array) if is_large(array) else array for array in arrays]
    found, chosen = quantise(seen, images, levels)
    if levels is None and chosen == 2 and all(array.dtype == np.uint8 for array in arrays):
        top = max(int(part.max()) for part in seen)
        if not every(arrays, lambda part: (part == 0) | (part == top)):
            found, chosen = quantise(seen, images, 256)
    levels = chosen
    columns = [
        _column(array, part.numpy(), levels) if is_large(array) else part for array, part in zip(arrays, found, strict=True)
    ]
    return columns, levels


def _sample(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[evenly(len(array), SAMPLE, array[0].nbytes).numpy()])


def _column(array: np.ndarray, seen: np.ndarray, levels: int | None) -> Streamed:
    """Return the column of a mapped array. seen: the samples by which its levels were decided, after their conversion."""
    source = Mapped(array, converter(_sample(array), seen, levels))
    return Streamed(source, Pictures if len(source.shape) == 3 else Values)


def converter(raw: np.ndarray, seen: np.ndarray, levels: int | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the function that makes `seen` of `raw`, which refuses rows that do not fit. None: they are the same."""
    kind = seen.dtype
    if raw.dtype == kind and np.array_equal(raw, seen) and levels != 2:
        return None
    scale = 255 if raw.dtype.kind == "f" and levels == 256 else 1 if raw.max() <= 1 else 1 / 255 if levels == 2 else 1

    def convert(rows: np.ndarray) -> np.ndarray:
        if levels is None:
            return rows.astype(kind)
        scaled = rows * scale
        values = np.rint(scaled)
        wrong = (values < 0) | (values > levels - 1) | (abs(values - scaled) > 0.01)
        if wrong.any():
            raise DataError(
                f"the array holds values that do not fit the {levels} levels of its evenly spread samples, such as "
                f"{float(rows[wrong][0]):.6g}: save it as uint8, or as real numbers in other units"
            )
        return values.astype(kind)

    return convert
