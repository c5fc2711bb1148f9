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
    """From a bad version of the model to the model: shorter trained, smaller, or both, with the same data and condition.

    The two err in the same direction, the weak one more, so going on from it undoes errors of the strong one; the condition is
    not made stronger, and models without any are served. Source: Karras et al. 2024 (arXiv:2406.02507).
    Two evaluations, one of each model.
    """

    denoise: Denoise
    weak: Denoise

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        strong = self.denoise(x_t, t)
        if self.scale == 1 or not self.acts(t):
            return strong
        return Prediction(self.between(self.weak(x_t, t).x, strong.x), x_t, strong.alpha, strong.sigma)
