"""The walk from x_T to x_0.

A solver knows how to step from one noise level to the next, given a denoiser; it knows neither which levels a grid
visits nor what the network was trained to output. In u = sigma/alpha and y = x_t/alpha the probability-flow ODE is

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
    """Where a sampler stands.

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
    """How to step. Subclasses define `step`; `memory` carries what a multistep method remembers (None at the start).

    visits_levels: whether the states stand at the levels that are given, which those of `UnadjustedLangevin` do not.
    """

    order = 1
    visits_levels = True

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        """From x at level t to level s, s less noisy than t."""
        raise NotImplementedError

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        """All states from x at levels[0] to levels[-1], the start included."""
        counted = Counted(denoise)
        total = len(levels) - 1
        memory = None
        yield State(x, levels[0], None, 0, 0, total)
        for done, (t, s) in enumerate(pairwise(levels), start=1):
            x, memory = self.step(counted, x, t, s, memory, noise)
            yield State(x, s, counted.last, counted.nfe, done, total)


class Counted:
    """A denoiser that counts its evaluations and remembers the last."""

    def __init__(self, denoise: Denoise):
        self.denoise = denoise
        self.nfe = 0
        self.last: Prediction | None = None

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        self.nfe += 1
        self.last = self.denoise(x_t, t)
        return self.last


def move(p: Prediction, s: Level) -> Tensor:
    """x_s = alpha_s x + sigma_s eps: Euler's step in u, which is DDIM's (Song et al. 2021a, eq. 12). Exact where the
    prediction does not change on the way; finite at alpha_t = 0 and at sigma_s = 0.
    """
    return s.alpha * p.x + s.sigma * p.eps if s.sigma > 0 else s.alpha * p.x
