"""Filling in what is missing of a sample, with any solver and any unconditional model.

At each level the known part is drawn from what is known of it, q(x_s | x) = N(alpha_s x, sigma_s^2 I), and the rest is what the
solver makes of all of x_t. One step cannot make the two fit, since the known part was drawn without a look at the rest; so each
is repeated: noise from s back to t, and down again (Lugmayr et al. 2022, arXiv:2201.09865, Algorithm 1, jumps of one step).
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
    """A solver that keeps the known part. A part of x is exchanged at each level, so each step begins anew, and multistep
    solvers are of order 1.

    solver: of each step. x: `(n or 1, *shape)`, in the models' units. known: bool, broadcasts against x, True where x is to be
    kept. repeats: of each step, r of the paper. `repeats` times the solver's evaluations, but for the two ends.
    Raises UsageError for a solver that does not visit the levels that it is given.
    """

    solver: Solver
    x: Tensor
    known: Tensor
    repeats: int = 10

    def __post_init__(self) -> None:
        if not self.solver.visits_levels:
            raise UsageError("a solver that stays at one noise level cannot fill in a sample: choose another")

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
        """One step of the solver, and the known part at its end."""
        *_, last = self.solver(denoise, x_t, [t, s], noise)
        return self.keep(last.x, s, noise)

    def keep(self, x_s: Tensor, s: Level, noise: Noise) -> Tensor:
        known = s.alpha * self.x
        if s.sigma > 0:
            known = known + s.sigma * noise.normal(x_s.shape[1:]).to(x_s)
        return torch.where(self.known, known.to(x_s), x_s)
