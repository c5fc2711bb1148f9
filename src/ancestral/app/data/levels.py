"""Which numbers are levels: the choice between binary, uint8 and real data, from the values themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.assemble import chunks
from ancestral.app.data.errors import DataError


def quantise(arrays: Sequence[np.ndarray], images: bool) -> tuple[list[Tensor], int | None]:
    """The arrays as uint8 levels, with their number, or as float32, with None; one decision for all.

    - only 0 and 1 (in any type), or uint8 with only 0 and 255: 2 levels;
    - uint8, and images of other integers in 0..255: 256 levels;
    - float images of k/255 for whole k, to the precision of their type: 256 levels;
    - all else: real numbers in their own units.
    """
    bytes_ = all(array.dtype == np.uint8 for array in arrays)
    if _every(arrays, lambda a: (a == 0) | (a == 1)):
        return [_tensor(array, np.uint8) for array in arrays], 2
    if bytes_ and _every(arrays, lambda a: (a == 0) | (a == 255)):
        return [_tensor(array // 255, np.uint8) for array in arrays], 2
    integers = images and all(array.dtype.kind in "iu" for array in arrays)
    if bytes_ or (integers and _every(arrays, lambda a: (a >= 0) & (a <= 255))):
        return [_tensor(array, np.uint8) for array in arrays], 256
    if images and all(array.dtype.kind == "f" for array in arrays) and _every(arrays, _of_255):
        return [torch.from_numpy(_scaled(array)) for array in arrays], 256
    return [_tensor(array, np.float32) for array in arrays], None


def check_finite(array: np.ndarray, where: str) -> None:
    """Raise `DataError` with the first index and the count of values that are not finite as float32."""
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
    """Contiguous and writable, as torch wants it; copied only if it is not."""
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _every(arrays: Sequence[np.ndarray], test: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether `test` holds for every value; stops at the first chunk where it does not."""
    return all(bool(test(part).all()) for array in arrays for part in chunks(array))


def _of_255(part: np.ndarray) -> np.ndarray:
    # float64 arrays are often float32 ones that were widened, so no more than float32's precision is asked of them.
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
