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
    """Guidance with score + scale grad log p(y | x_t), which is Bayes' rule at scale 1.

    A call takes one evaluation of the denoiser, and one of the classifier with its gradient.
    Source: Dhariwal & Nichol 2021 (arXiv:2105.05233), Algorithm 2.

    Args:
        denoise: the denoiser.
        log_prob: any differentiable function (x_t `(n, *shape)`, level) -> log p(y | x_t) `(n,)` in nats, up to a constant, in
            which rows do not depend on each other. It must be a classifier of noisy samples: at scale 1, samples follow
            p(x | y) only if it is the classifier for each level.
        scale: the scale.
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
