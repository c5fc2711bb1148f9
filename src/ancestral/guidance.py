"""Denoisers that wrap denoisers, so that every solver has them for free."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ancestral.conditioning import Context
from ancestral.denoiser import Denoiser
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
class ClassifierFree:
    """x = x_null + scale (x_cond - x_null): scale 0 is the unconditional model, 1 the conditional, above 1 sharper.

    Since every reading is affine in x at fixed x_t, the same holds for eps, v and score. Both answers come from one
    batched pass. With Ho & Salimans' weight w (2022, arXiv:2207.12598, eq. 6) scale = 1 + w.
    """

    denoiser: Denoiser
    context: Context
    null: Context
    scale: float

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        both: Prediction = self.denoiser(torch.cat([x_t, x_t]), t, Context.cat([self.context, self.null]))
        conditional, null = both.x.chunk(2)
        return Prediction(null + self.scale * (conditional - null), x_t, both.alpha, both.sigma)


def guided(denoiser: Denoiser, context: Context, null: Context, scale: float) -> Denoise:
    """The cheapest denoiser with that guidance scale: one of the two answers where only one counts."""
    if scale == 1:
        return Conditional(denoiser, context)
    if scale == 0:
        return Conditional(denoiser, null)
    return ClassifierFree(denoiser, context, null, scale)


@dataclass(frozen=True)
class Clip:
    """Predictions limited to the range of the data. low, high: tensors that broadcast against x."""

    denoise: Denoise
    low: Tensor
    high: Tensor

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        p = self.denoise(x_t, t)
        return replace(p, x=p.x.clamp(self.low, self.high))
