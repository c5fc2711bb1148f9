"""Sampling in few steps, by a network that maps directly to a lower noise level.

A denoiser gives the slope of the flow at x_t. A flow map gives the end of the flow,

    jump(x_t, t, s) = x_s      for every s < t, on one trajectory of the probability-flow ODE.

A consistency model (Song et al. 2023, arXiv:2303.01469) is the map to s = 0. A map to any s is a flow map, whose network has
a second time (Kim et al. 2024, arXiv:2310.02279; Boffi et al. 2024, arXiv:2406.07507).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.denoiser import network_logsnr
from ancestral.noise import Noise
from ancestral.schedules import CLEAN, Level
from ancestral.solvers.base import Denoise, Solver, State


@runtime_checkable
class Jump(Protocol):
    """A map along the flow from a noise level to a lower one."""

    def __call__(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """Return x_s `(n, *shape)` for x_t `(n, *shape)`, s less noisy than t. At s = t it is x_t."""


@configurable
class FlowMap(nn.Module):
    """A network with a second time, read as a `Jump`.

    At unit scale, z = x / sqrt(alpha^2 + sigma^2), the flow turns z through the angle theta = arctan(sigma / alpha),
    dz/dtheta = v (`ancestral.prediction`). With D = theta_s - theta_t the map is

        z_s = cos(D) z_t + sin(D) F(z_t, logsnr_t, context, logsnr_s)

    which is z_t at s = t and finite at both ends of every schedule. If F is v at t it is a step of DDIM; the F of the exact map
    is a mean of v on the way.

    Args:
        network: (z `(n, *shape)`, logsnr `(n,)`, Context, logsnr `(n,)`) -> F `(n, *shape)`, such as
            `UNet(..., second_time=True)`.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Level, s: Level, context: Context | None = None) -> Tensor:
        """x_s `(n, *shape)`."""
        turn = math.atan2(s.sigma, s.alpha) - math.atan2(t.sigma, t.alpha)
        z = x_t / math.hypot(t.alpha, t.sigma)
        first, second = (torch.full((len(z),), network_logsnr(level), device=z.device) for level in (t, s))
        f = self.network(z, first, context or Context(), second).to(z)
        x_s: Tensor = math.hypot(s.alpha, s.sigma) * (math.cos(turn) * z + math.sin(turn) * f)
        return x_s


@dataclass(frozen=True)
class FewStep(Solver):
    """Jumps from level to level of any grid, with one evaluation of the map each and none of the denoiser.

    With `renoise` each step jumps to data and adds the noise of the next level, x_s = alpha_s jump(x_t, t, 0) + sigma_s z. This
    is Algorithm 1 of Song et al. 2023, for a map that is trained only for s = 0. Without it the path is that of the flow.
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
