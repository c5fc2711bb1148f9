"""Storage of real numbers: float32, or float64 where float32 would lose what distinguishes the samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ancestral.units import dtype_of

CONSTANT = 1e-12  # a deviation below this share of the mean is rounding of float64


def real(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arrays `(N, C, ...)` of real numbers as float32, or all as float64 if float32 would move values noticeably.

    `dtype_of` decides from the mean and the deviation of each channel, in which NaN is ignored.
    """
    dtype = np.float32 if all(map(_is_exact, arrays)) or not _is_lossy(arrays[0]) else np.float64
    return [np.asarray(array, dtype) for array in arrays]


def _is_exact(array: np.ndarray) -> bool:
    """Return whether float32 holds every value exactly."""
    if array.dtype in (np.float32, np.float16, np.bool_, np.uint8, np.int8, np.uint16, np.int16):
        return True
    return np.array_equal(array.astype(np.float32).astype(np.float64), array.astype(np.float64), equal_nan=True)


def _is_lossy(array: np.ndarray) -> bool:
    channels = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) if array.ndim > 1 else array[np.newaxis]
    means, stds = [], []
    for channel in channels:
        known = channel[np.isfinite(channel)].astype(np.float64)
        mean, std = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        means.append(mean)
        stds.append(std if std > CONSTANT * abs(mean) else 1.0)
    return dtype_of(torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)) == torch.float64
