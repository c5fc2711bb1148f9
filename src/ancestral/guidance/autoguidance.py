"""Guidance by a weaker model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ancestral.guidance.extrapolation import Extrapolation
from ancestral.prediction import Prediction
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise


@dataclass(frozen=True)
class Autoguidance(Extrapolation):
    """Guidance from a weaker version of the model to the model. The weaker one is smaller, was trained for less time, or both.

    Both have the same data and condition. Their errors have the same direction, and those of the weak one are larger, so
    extrapolation from the weak one reduces errors of the strong one. The condition does not become stronger, and a model
    without conditions can be used. Source: Karras et al. 2024 (arXiv:2406.02507).
    A call takes two evaluations, one of each model.
    """

    denoise: Denoise
    weak: Denoise

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        strong = self.denoise(x_t, t)
        if self.scale == 1 or not self.acts(t):
            return strong
        return Prediction(self.between(self.weak(x_t, t).x, strong.x), x_t, strong.alpha, strong.sigma)
