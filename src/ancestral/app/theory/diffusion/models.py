"""Noise, schedules and models whose expectations are exact, or in which one quantity is fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.app.theory.known import M, S
from ancestral.models.diffusion import Diffusion
from ancestral.prediction import PredictionType
from ancestral.schedules import Schedule

N = 100_000


class Signs:
    """Noise with the values -1 and 1, for which means of quadratic functions are exact. n: a multiple of 4."""

    def __init__(self, n: int):
        self.n = n

    def normal(self, shape: object) -> Tensor:
        return torch.tensor([-1.0, 1.0]).repeat(self.n // 2)[:, None]


def signs_of_data() -> Tensor:
    """Return data with mean M and deviation S, in which each value occurs with both values of `Signs`."""
    return torch.tensor([M - S, M - S, M + S, M + S], dtype=torch.float64)[:, None]


def family(network: nn.Module, schedule: Schedule, target: PredictionType = "eps", d: int = 1, **options: object) -> Diffusion:
    return Diffusion(network, (d,), schedule=schedule, target=target, **options)  # type: ignore[arg-type]


class OneLevel(Schedule):
    """A schedule in which training always draws the same time."""

    def __init__(self, schedule: Schedule, t: float):
        self.alpha, self.sigma, self.only = schedule.alpha, schedule.sigma, t  # type: ignore[method-assign]

    def noisy(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.only)


class Fixed:
    """Noise that is always the same number."""

    n = 1

    def __init__(self, value: float):
        self.value = value

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full((1, *shape), self.value)
