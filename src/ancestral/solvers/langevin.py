"""Langevin dynamics: samples from the score alone.

    x <- x + eta grad log p_t(x) + sqrt(2 eta) z,      z ~ N(0, I)

has p_t as its limit for small eta. On N(m, s^2) its stationary variance is s^2 / (1 - eta/(2 s^2)), and it needs eta < 2 s^2.
Here x is y = x_t / alpha and the noise level u = sigma / alpha, as in VE, so that it serves every schedule; eta = step u^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ancestral.builtin import built_in
from ancestral.noise import Noise
from ancestral.schedules import Level
from ancestral.solvers.ancestral import Ancestral
from ancestral.solvers.base import Denoise, Solver, State, move


def langevin_step(denoise: Denoise, x: Tensor, t: Level, eta: float, noise: Noise) -> Tensor:
    """Make one step at level t with eta in units of y = x / alpha, for alpha > 0 and sigma > 0."""
    score = -denoise(x, t).eps / t.u  # grad log p(y) = alpha grad log p(x)
    z = noise.normal(x.shape[1:]).to(x)
    return x + t.alpha * (eta * score + math.sqrt(2 * eta) * z)


@built_in("solver", "langevin")
@dataclass(frozen=True)
class Langevin(Solver):
    """Annealed Langevin dynamics: several steps at every noise level, and Tweedie's formula at the end.

    repeats: steps at each level. step: eta / u^2; None: as NCSNv2 chooses it for the grid's ratio of levels, `ncsn_step`.
    NCSN (Song & Ermon 2019, arXiv:1907.05600, Algorithm 1) has 10 levels, repeats = 100 and step = 0.1; NCSNv2 hundreds of
    levels, repeats = 5 and the final denoising (Song & Ermon 2020, arXiv:2006.09011). `repeats` evaluations a step, one more
    at the end.
    """

    repeats: int = 5
    step_size: float | None = None

    def step(
        self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: float | None, noise: Noise
    ) -> tuple[Tensor, float | None]:
        if t.alpha == 0:  # pure noise is already in equilibrium
            return move(denoise(x, t), s), None
        step = self.step_size or ncsn_step(
            max(memory / t.u, 1.0) if memory else t.u / s.u if s.sigma > 0 else 2.0, self.repeats
        )
        for _ in range(self.repeats):
            x = langevin_step(denoise, x, t, step * t.u**2, noise)
        return (s.alpha * denoise(x, t).x if s.sigma == 0 else s.alpha / t.alpha * x), t.u


def ncsn_step(ratio: float, repeats: int) -> float:
    """The step e = eta/u^2 with which `repeats` steps bring the noise of a point mass from (ratio u)^2 nearest to u^2:

    v <- (1 - e)^(2 T) (ratio^2 - 2 e/(1 - (1 - e)^2)) + 2 e/(1 - (1 - e)^2)        (Song & Ermon 2020, proposition 3)
    """
    e = np.linspace(1e-3, 0.999, 1998)
    limit = 2 * e / (1 - (1 - e) ** 2)
    variance = (1 - e) ** (2 * repeats) * (ratio**2 - limit) + limit
    return float(e[np.abs(variance - 1).argmin()])


@built_in("solver", "langevin-one")
@dataclass(frozen=True)
class UnadjustedLangevin(Solver):
    """Langevin dynamics at one noise level, from noise of that level's scale, with Tweedie's formula at the end.

    u: the level, sigma / alpha; step: eta / u^2. Each step of the grid is one step of the chain.
    """

    u: float = 0.3
    step_size: float = 0.1
    visits_levels = False

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        held = Level(levels[0].t, 1.0, self.u)
        start = x * math.hypot(1.0, self.u) / math.hypot(levels[0].alpha, levels[0].sigma)
        yield from super().__call__(denoise, start, [held] * (len(levels) - 1) + [levels[-1]], noise)

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        x = langevin_step(denoise, x, t, self.step_size * t.u**2, noise)
        return (s.alpha * denoise(x, t).x if s.sigma == 0 else x), None


@built_in("solver", "pc")
@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """A step of a solver that has a `step`, followed by Langevin steps at the new level.

    The corrector's eta is 2 (snr sigma)^2 (Song et al. 2021, arXiv:2011.13456, Algorithms 4-5, with eta for their epsilon).
    They use |z| / |score|, averaged over the batch, in place of sigma; both are equal if noise dominates. But a sample must not
    depend on its batch, and a step size that depends on the sample would not preserve p_t. The step does not depend on the
    schedule, so it also works for sub-VP. Two evaluations a step with one correction; none after the last step.
    """

    predictor: Solver = field(default_factory=lambda: Ancestral(eta=1))
    corrections: int = 1
    snr: float = 0.16

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: object, noise: Noise) -> tuple[Tensor, object]:
        x, memory = self.predictor.step(denoise, x, t, s, memory, noise)
        if s.sigma == 0 or not self.corrections:
            return x, memory
        for _ in range(self.corrections):
            x = langevin_step(denoise, x, s, 2 * (self.snr * s.u) ** 2, noise)
        return x, None  # the predictor's memory belongs to x before the correction
