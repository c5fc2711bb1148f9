"""The precision that the units of data need."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 2.0**-24  # the largest relative error of a number that is rounded to float32
HARMLESS = 1e-3  # the error, in deviations of the data, that no model can notice


def dtype_of(mean: Tensor, std: Tensor) -> torch.dtype:
    """Return float32, or float64 if float32 rounds numbers near `mean` by more than a thousandth of their deviation `std`.

    Times within a minute are an example: 1.7e9 plus or minus 20 seconds, and float32 has steps of 128 there. Such data are
    standardised in float64, and the network still computes in float32.
    """
    lossy = (ROUNDING * mean.double().abs() > HARMLESS * std.double()).any()
    return torch.float64 if lossy else torch.float32
