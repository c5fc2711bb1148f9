"""Guidance by a classifier of noisy samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.guidance.tweedie import gain, with_signal
from ancestral.prediction import Prediction
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise


@dataclass(frozen=True)
class ClassifierGuidance:
    """score + scale grad log p(y | x_t): Bayes' rule at scale 1.

    log_prob: (x_t `(n, *shape)`, level) -> log p(y | x_t) `(n,)` in nats, up to a constant; any differentiable function, row by
    row. It must know noise: at scale 1 samples are of p(x | y) only if it is the classifier of each level.
    One evaluation of each, and the classifier's gradient. Source: Dhariwal & Nichol 2021 (arXiv:2105.05233), Algorithm 2.
    """

    denoise: Denoise
    log_prob: Callable[[Tensor, Level], Tensor]
    scale: float = 1.0

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        p = self.denoise(x_t, t)
        level = with_signal(t)
        with torch.enable_grad():
            z = x_t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_prob(z, level).sum(), z)
        return Prediction(p.x + self.scale * gain(level) * slope, x_t, p.alpha, p.sigma)
