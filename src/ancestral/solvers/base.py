"""The base class of solvers, which lead from x_T to x_0.

A solver steps from one noise level to the next, given a denoiser. It depends neither on the levels of a grid nor on the output
for which the network was trained. In u = sigma/alpha and y = x_t/alpha the probability-flow ODE is

    dy/du = eps_hat(x_t, t)                                  (Song et al. 2021, eq. 13, after the change of variable)

so one formula serves VP, VE, cosine and flow schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from ancestral.noise import Noise
from ancestral.prediction import Prediction
from ancestral.schedules import Level

Denoise = Callable[[Tensor, Level], Prediction]


@dataclass(frozen=True)
class State:
    """The state of a sampler.

    x: the sample at level t, `(n, *shape)`. prediction: the denoiser's last answer (None before the first).
    nfe: evaluations of the denoiser so far. done, total: steps taken and to take.
    """

    x: Tensor
    t: Level
    prediction: Prediction | None
    nfe: int
    done: int
    total: int


class Solver:
    """A method of steps. Subclasses define `step`. `memory` is the history of a multistep method (None at the start).

    `order` is p of the global error O(h^p), from any finite log SNR on; of stochastic methods it is the error of the moments.
    It is None for methods that have none, and that of the predictor for `UniPC`.
    `visits_levels` is whether the states are at the given levels. Those of `UnadjustedLangevin` are not.
    `per_sample` is whether a sample depends on itself alone, up to rounding. Steps that are chosen for a whole batch are not.
    """

    order: int | None = None
    visits_levels = True
    per_sample = True

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        """Step from x at level t to level s, which is less noisy than t."""
        raise NotImplementedError

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        """Yield all states from x at levels[0] to levels[-1], including the start."""
        counted = Counted(denoise)
        total = len(levels) - 1
        memory = None
        yield State(x, levels[0], None, 0, 0, total)
        for done, (t, s) in enumerate(pairwise(levels), start=1):
            x, memory = self.step(counted, x, t, s, memory, noise)
            yield State(x, s, counted.last, counted.nfe, done, total)


class Counted:
    """A denoiser that counts its evaluations and stores the last prediction."""

    def __init__(self, denoise: Denoise):
        self.denoise = denoise
        self.nfe = 0
        self.last: Prediction | None = None

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        self.nfe += 1
        self.last = self.denoise(x_t, t)
        return self.last


def move(p: Prediction, s: Level) -> Tensor:
    """Return x_s = alpha_s x + sigma_s eps, Euler's step in u, which is that of DDIM (Song et al. 2021a, eq. 12).

    It is exact if the prediction is constant between the levels, and finite at alpha_t = 0 and at sigma_s = 0.
    """
    return s.alpha * p.x + s.sigma * p.eps if s.sigma > 0 else s.alpha * p.x
