"""Solvers of the reverse stochastic differential equation.

At unit scale, z = x_t / sqrt(alpha^2 + sigma^2) with cosine c, every schedule is variance preserving: an Ornstein-Uhlenbeck
process in the time h = -log c, dz = -z dh + sqrt(2) dw, whose reversal is (Anderson 1982; Song et al. 2021, eq. 6)

    dz = [-z - 2 grad log p(z)] dh + sqrt(2) dw,      h from infinity (noise) down to 0 (data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from ancestral.builtin import built_in
from ancestral.noise import Noise
from ancestral.schedules import Level
from ancestral.solvers.ancestral import Ancestral
from ancestral.solvers.base import Denoise, Solver
from ancestral.solvers.ode import Heun


@built_in("solver", "euler-maruyama")
@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """z <- z + d (z + 2 score) + sqrt(2 d) w,   d = h_t - h_s. One evaluation a step, weak order 1.

    Where no signal is left (h infinite) and into sigma = 0 the step is the ancestral one, which is exact for constant x_hat.
    """

    order = 1

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        if t.alpha == 0 or s.sigma == 0:
            return Ancestral(eta=1).step(denoise, x, t, s, memory, noise)
        r_t, r_s = math.hypot(t.alpha, t.sigma), math.hypot(s.alpha, s.sigma)
        d = math.log(s.alpha / r_s) - math.log(t.alpha / r_t)
        z = x / r_t
        score = -denoise(x, t).eps * (r_t / t.sigma)
        z = z + d * (z + 2 * score) + math.sqrt(2 * d) * noise.normal(x.shape[1:]).to(x)
        return r_s * z, None


@built_in("solver", "churn")
@dataclass(frozen=True)
class StochasticHeun(Solver):
    """Fresh noise up to a higher level, exactly, then Heun's step of the ODE down from there.

    The SDE is the ODE and Langevin's diffusion at once (Karras et al. 2022, arXiv:2206.00364, eq. 6); adding noise keeps the
    marginals exact, so in them the method is of the ODE step's order, 2. churn: u rises by the factor 1 + churn log(u_t/u_s),
    at most sqrt(2). Two evaluations a step. Source: ibid., Algorithm 2, with their gamma tied to the step's length.
    """

    churn: float = 0.5
    order = 2

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        if t.alpha > 0 and s.sigma > 0 and self.churn > 0:
            rise = 1 + min(self.churn * math.log(t.u / s.u), math.sqrt(2) - 1)
            added = t.sigma * math.sqrt(rise**2 - 1)
            x = x + added * noise.normal(x.shape[1:]).to(x)
            t = replace(t, sigma=t.sigma * rise)
        return Heun().step(denoise, x, t, s, None, noise)
