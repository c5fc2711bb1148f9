"""Predictions that stay within the range of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ancestral.prediction import Prediction
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise


@dataclass(frozen=True)
class Clip:
    """A denoiser whose predictions are limited to the range of the data. low, high: tensors that broadcast against x."""

    denoise: Denoise
    low: Tensor
    high: Tensor

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        p = self.denoise(x_t, t)
        return replace(p, x=p.x.clamp(self.low, self.high))
