"""Choice between binary, uint8 and real data from the values themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.assemble import chunks
from ancestral.app.data.errors import DataError
from ancestral.app.data.precision import real


def quantise(arrays: Sequence[np.ndarray], images: bool, levels: int | None = None) -> tuple[list[Tensor], int | None]:
    """Return the arrays as uint8 with the number of levels, or as real numbers (see `real`) with None.

    The choice is the same for all arrays. levels: their number if it is known; the arrays are then uint8. Otherwise:

    - only 0 and 1 (in any type), or uint8 with only 0 and 255: 2 levels;
    - uint8, and images of other integers in 0..255: 256 levels;
    - float images of k/255 for whole k, to the precision of their type: 256 levels;
    - other values: real numbers in their own units.
    """
    if levels is not None:
        return [_tensor(array, np.uint8) for array in arrays], levels
    bytes_ = all(array.dtype == np.uint8 for array in arrays)
    if every(arrays, lambda a: (a == 0) | (a == 1)):
        return [_tensor(array, np.uint8) for array in arrays], 2
    if bytes_ and every(arrays, lambda a: (a == 0) | (a == 255)):
        return [_tensor(array // 255, np.uint8) for array in arrays], 2
    integers = images and all(array.dtype.kind in "iu" for array in arrays)
    if bytes_ or (integers and every(arrays, lambda a: (a >= 0) & (a <= 255))):
        return [_tensor(array, np.uint8) for array in arrays], 256
    if images and all(array.dtype.kind == "f" for array in arrays) and every(arrays, _of_255):
        return [torch.from_numpy(_scaled(array)) for array in arrays], 256
    return [_tensor(array, array.dtype.type) for array in real(arrays)], None


def check_finite(array: np.ndarray, where: str) -> None:
    """Raise `DataError`, with their number and the first index, if values are not finite as float32."""
    if array.dtype.kind != "f":
        return
    total, first, seen = 0, -1, 0
    for part in chunks(array):
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(part.astype(np.float32, copy=False)).ravel()
        if found := int(wrong.sum()):
            first = seen + int(wrong.argmax()) if first < 0 else first
            total += found
        seen += part.size
    if total:
        index = tuple(int(i) for i in np.unravel_index(first, array.shape))
        values = "1 value that is" if total == 1 else f"{total:,} values that are"
        raise DataError(
            f"{where} holds {values} not a finite float32 (NaN, infinite or too large), the first at index {index}: "
            "remove or replace such values"
        )


def _tensor(array: np.ndarray, dtype: type[np.generic]) -> Tensor:
    """Return a tensor of that type. The array is copied only if it is not contiguous and writable, as torch needs it."""
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def every(arrays: Sequence[np.ndarray], test: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return whether `test` holds for every value. It stops at the first chunk with a value for which it does not."""
    return all(bool(test(part).all()) for array in arrays for part in chunks(array))


def _of_255(part: np.ndarray) -> np.ndarray:
    # A float64 array is often a converted float32 array, so float32's precision is enough.
    tolerance = 255 * max(float(np.finfo(part.dtype).eps), float(np.finfo(np.float32).eps))
    scaled = part.astype(np.float64) * 255
    return (part >= 0) & (part <= 1) & (abs(scaled - np.rint(scaled)) <= tolerance)


def _scaled(array: np.ndarray) -> np.ndarray:
    levels = np.empty(array.shape, dtype=np.uint8)
    start = 0
    for part in chunks(array):
        levels[start : start + len(part)] = np.rint(part.astype(np.float64) * 255)
        start += len(part)
    return levels
