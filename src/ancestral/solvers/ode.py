"""One-step solvers of the probability-flow ODE, dy/du = eps with y = x/alpha, u = sigma/alpha."""

from __future__ import annotations

from torch import Tensor

from ancestral.randomness import Noise
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise, Solver, move


class Euler(Solver):
    """y_s = y_t + (u_s - u_t) eps. One evaluation a step, global error O(h); the same map as DDIM."""

    order = 1

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        return move(denoise(x, t), s), None


class Heun(Solver):
    """Euler's step, then the trapezoidal correction with the slope at its end.

    Two evaluations a step but for the ends, at most `2 * steps - 1` in all. Global error O(h^2).
    Source: Karras et al. 2022 (arXiv:2206.00364), Algorithm 1 with S_churn = 0.
    """

    order = 2

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        p = denoise(x, t)
        x_s = move(p, s)
        if s.sigma > 0 and t.alpha > 0:  # no slope exists at sigma = 0, and u has no start at alpha = 0
            q = denoise(x_s, s)
            x_s = x_s + s.alpha * (s.u - t.u) / 2 * (q.eps - p.eps)
        return x_s, None
