"""Inpainting with any solver and any unconditional model.

At each level, the known part is drawn from q(x_s | x) = N(alpha_s x, sigma_s^2 I), and the unknown part is the result of a step
of the solver from all of x_t. The known part is drawn independently of the unknown part, so the two do not fit after one step.
Each step is therefore repeated: noise is added from s back to t, and the solver goes from t to s again (Lugmayr et al. 2022,
arXiv:2201.09865, Algorithm 1, with jumps of one step).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.noise import Noise
from ancestral.schedules import Level, transition
from ancestral.solvers.base import Counted, Denoise, Solver, State


@dataclass(frozen=True)
class RePaint(Solver):
    """A solver that keeps the known part of a sample.

    A part of x is replaced at each level, so each step starts without memory of the steps before, and multistep solvers have
    order 1. It takes `repeats` times the evaluations of the solver, except at the two ends.

    Args:
        solver: the solver of each step.
        x: `(n or 1, *shape)`, in model units.
        known: bool, broadcasts against x; True where x is kept.
        repeats: how many times each step is done, r of the paper.

    Raises:
        UsageError: if the solver does not visit the levels that are given.
    """

    solver: Solver
    x: Tensor
    known: Tensor
    repeats: int = 10

    def __post_init__(self) -> None:
        if not self.solver.visits_levels:
            raise UsageError("a solver that stays at one noise level cannot inpaint: choose another")

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        counted = Counted(denoise)
        total = len(levels) - 1
        x_t = self.keep(x, levels[0], noise)
        yield State(x_t, levels[0], None, 0, 0, total)
        for done, (t, s) in enumerate(pairwise(levels), start=1):
            for _ in range(self.repeats - 1 if t.alpha > 0 and s.sigma > 0 else 0):
                x_s = self.down(counted, x_t, t, s, noise)
                a, var = transition(s, t)
                x_t = a * x_s + var**0.5 * noise.normal(x.shape[1:]).to(x)
            x_t = self.down(counted, x_t, t, s, noise)
            yield State(x_t, s, counted.last, counted.nfe, done, total)

    def down(self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, noise: Noise) -> Tensor:
        """Do one step of the solver, and set the known part at its end."""
        *_, last = self.solver(denoise, x_t, [t, s], noise)
        return self.keep(last.x, s, noise)

    def keep(self, x_s: Tensor, s: Level, noise: Noise) -> Tensor:
        known = s.alpha * self.x
        if s.sigma > 0:
            known = known + s.sigma * noise.normal(x_s.shape[1:]).to(x_s)
        return torch.where(self.known, known.to(x_s), x_s)
