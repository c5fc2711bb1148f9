"""Guidance by the model's own answer without the condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.conditioning import Context
from ancestral.denoiser import Denoiser
from ancestral.guidance.extrapolation import Extrapolation
from ancestral.prediction import Prediction
from ancestral.schedules import Level, Levels
from ancestral.solvers.base import Denoise


@dataclass(frozen=True)
class Conditional:
    """The denoiser with its context filled in."""

    denoiser: Denoiser
    context: Context

    def __call__(self, x_t: Tensor, t: Level | Levels) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, self.context)
        return prediction


@dataclass(frozen=True)
class ClassifierFree(Extrapolation):
    """From the null context to the condition's, both answers in one batched pass.

    null: or a negative condition, from which samples are to keep away. With Ho & Salimans' weight w (2022, arXiv:2207.12598,
    eq. 6) scale = 1 + w.
    """

    denoiser: Denoiser
    context: Context
    null: Context

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        if not self.acts(t):
            return Conditional(self.denoiser, self.context)(x_t, t)
        both: Prediction = self.denoiser(torch.cat([x_t, x_t]), t, Context.cat([self.context, self.null]))
        conditional, null = both.x.chunk(2)
        return Prediction(self.between(null, conditional), x_t, both.alpha, both.sigma)


def guided(
    denoiser: Denoiser,
    context: Context,
    null: Context,
    scale: float,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> Denoise:
    """The cheapest denoiser with that guidance: one of the two answers where only one counts. Raises as `Extrapolation`."""
    guide = ClassifierFree(denoiser, context, null, scale=scale, interval=interval, rescale=rescale)
    if scale == 1:
        return Conditional(denoiser, context)
    if scale == 0 and interval is None and rescale == 0:
        return Conditional(denoiser, null)
    return guide
