"""Guidance by the model's own prediction without the condition."""

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
    """A denoiser with a fixed context."""

    denoiser: Denoiser
    context: Context

    def __call__(self, x_t: Tensor, t: Level | Levels) -> Prediction:
        prediction: Prediction = self.denoiser(x_t, t, self.context)
        return prediction


@dataclass(frozen=True)
class ClassifierFree(Extrapolation):
    """Guidance from the null context to the condition's, with both predictions in one batched pass.

    In terms of Ho & Salimans' weight w (2022, arXiv:2207.12598, eq. 6), scale = 1 + w.

    Args:
        denoiser: the denoiser.
        context: the context of the condition.
        null: the null context, or that of a negative condition, from which samples move away.
    """

    denoiser: Denoiser
    context: Context
    null: Context

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        if not self.acts(t):
            return Conditional(self.denoiser, self.context)(x_t, t)
        both: Prediction = self.denoiser(torch.cat([x_t, x_t]), t, Context.cat([self.context, self.null]))
        n = x_t.shape[0]
        conditional, null = both.x[:n], both.x[n:]
        return Prediction(self.between(null, conditional), x_t, both.alpha, both.sigma)


def guided(
    denoiser: Denoiser,
    context: Context,
    null: Context,
    scale: float,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> Denoise:
    """Return the cheapest denoiser for this guidance. It evaluates one context if the other has no effect.

    Raises:
        UsageError: as `Extrapolation`.
    """
    guide = ClassifierFree(denoiser, context, null, scale=scale, interval=interval, rescale=rescale)
    if scale == 1:
        return Conditional(denoiser, context)
    if scale == 0 and interval is None and rescale == 0:
        return Conditional(denoiser, null)
    return guide
