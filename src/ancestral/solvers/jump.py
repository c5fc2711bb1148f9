"""Few steps: a network that is told where to go, and goes there at once.

A denoiser knows the slope of the flow at x_t; a flow map knows where the flow leads,

    jump(x_t, t, s) = x_s      for every s < t, on one trajectory of the probability-flow ODE.

A consistency model (Song et al. 2023, arXiv:2303.01469) is the map to s = 0. A map to any s is a flow map, whose network has
a second time (Kim et al. 2024, arXiv:2310.02279; Boffi et al. 2024, arXiv:2406.07507).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ancestral.noise import Noise
from ancestral.schedules import CLEAN, Level
from ancestral.solvers.base import Denoise, Solver, State


@runtime_checkable
class Jump(Protocol):
    """Where the flow leads from a noise level to a lower one."""

    def __call__(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """X_s `(n, *shape)` of x_t `(n, *shape)`, s less noisy than t; at s = t it is x_t."""


@dataclass(frozen=True)
class FewStep(Solver):
    """Jumps from level to level of any grid; one evaluation each, and the denoiser is not asked.

    renoise: jump to data at every step and add the noise of the next level, x_s = alpha_s jump(x_t, t, 0) + sigma_s z. That is
    Algorithm 1 of Song et al. 2023, for a map that knows s = 0 alone. Otherwise the way is the flow's, without chance.
    """

    jump: Jump
    renoise: bool = False

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        if self.renoise and s.sigma > 0:
            return s.alpha * self.jump(x, t, CLEAN) + s.sigma * noise.normal(x.shape[1:]).to(x), memory
        return self.jump(x, t, s), memory

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        total = len(levels) - 1
        yield State(x, levels[0], None, 0, 0, total)
        for done, (t, s) in enumerate(pairwise(levels), start=1):
            x, _ = self.step(denoise, x, t, s, None, noise)
            yield State(x, s, None, done, done, total)  # each jump is an evaluation
