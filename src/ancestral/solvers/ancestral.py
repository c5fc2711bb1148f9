"""Ancestral sampling of the reverse Markov chain, and its deterministic limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ancestral.noise import Noise
from ancestral.schedules import Level, transition
from ancestral.solvers.base import Denoise, Solver


@dataclass(frozen=True)
class Ancestral(Solver):
    """x_s = alpha_s x + sqrt(sigma_s^2 - var) eps + sqrt(var) z,    var = eta^2 beta~.

    beta~ = (sigma_s/sigma_t)^2 (sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2) is the posterior variance of q(x_s | x_t, x).
    eta = 1 is Algorithm 2 of Ho et al. 2020 with variance beta~; eta = 0 is DDIM, without noise.
    One evaluation a step. Source: Song et al. 2021 (arXiv:2010.02502), eq. 12 and 16.
    """

    eta: float = 1.0
    order = 1

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        p = denoise(x, t)
        if s.sigma == 0:
            return s.alpha * p.x, None
        _, forward = transition(s, t)
        var = self.eta**2 * forward * (s.sigma / t.sigma) ** 2
        x = s.alpha * p.x + math.sqrt(max(s.sigma**2 - var, 0.0)) * p.eps
        if var > 0:
            x = x + math.sqrt(var) * noise.normal(x.shape[1:]).to(x)
        return x, None
