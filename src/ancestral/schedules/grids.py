"""Grids of the times that a sampler visits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ancestral.builtin import built_in
from ancestral.errors import UsageError
from ancestral.registry import lookup
from ancestral.schedules.base import Schedule
from ancestral.schedules.chain import Chain

RHO = 7.0  # exponent of the spacing karras


def grid(schedule: Schedule, steps: int, spacing: str | Sequence[float] = "trailing") -> Tensor:
    """Return the times that a sampler visits: `(steps + 1,)` float64, from 1 down to 0.

    On a `Chain` times are rounded to its steps, and those that coincide are visited once.

    Args:
        schedule: The forward process.
        steps: The number of steps, at least 1.
        spacing: The name of a registered function (schedule, steps) -> the times `(steps,)` before the last, which is 0; or all
            `steps + 1` times themselves, such as those of `ancestral tune`.

    Raises:
        UsageError: For steps < 1, an unknown spacing, or times that do not fall from 1 to 0 in so many steps.
    """
    if steps < 1:
        raise UsageError(f"a sampler needs at least 1 step; got {steps}")
    times: Tensor = lookup("spacing", spacing)(schedule, steps) if isinstance(spacing, str) else _explicit(spacing, steps)
    if isinstance(schedule, Chain):
        times = torch.unique((times * schedule.T).round().clamp(min=1)).flip(0) / schedule.T
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])


def _explicit(times: Sequence[float], steps: int) -> Tensor:
    """Return given times without the last, checked."""
    found = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if found.ndim != 1 or len(found) != steps + 1:
        raise UsageError(f"{steps} steps visit {steps + 1} times, and {found.numel()} are given: give as many, with 1 and 0")
    if found[0] != 1 or found[-1] != 0 or not bool((found.diff() < 0).all()):
        raise UsageError("the times of a sampler must fall from 1 (noise) to 0 (data), each less than the one before")
    return found[:-1]


@built_in("spacing", "trailing")
def trailing(schedule: Schedule, steps: int) -> Tensor:
    """Even steps of t from 1 to 0 (Lin et al. 2023, arXiv:2305.08891)."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]


@built_in("spacing", "linear")
def linear(schedule: Schedule, steps: int) -> Tensor:
    """Even steps of t from 1 to the schedule's first noisy time."""
    return torch.linspace(1, schedule.t_min, steps, dtype=torch.float64)


@built_in("spacing", "logsnr")
def logsnr(schedule: Schedule, steps: int) -> Tensor:
    """Even steps of log SNR between the same ends (Lu et al. 2022, arXiv:2206.00927)."""
    high, low = _ends(schedule)
    return _times(schedule, high.log() + _fractions(steps) * (low.log() - high.log()))


@built_in("spacing", "karras")
def karras(schedule: Schedule, steps: int) -> Tensor:
    """Even steps of (sigma/alpha)^(1/7) between the same ends (Karras et al. 2022, eq. 5)."""
    high, low = (end ** (1 / RHO) for end in _ends(schedule))
    return _times(schedule, RHO * (high + _fractions(steps) * (low - high)).log())


def _fractions(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def _ends(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """The largest and the smallest u = sigma / alpha that are visited."""
    ends = schedule.at(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
    high, low = (ends.sigma / ends.alpha).clamp(*schedule.u_range)
    return high, low


def _times(schedule: Schedule, log_u: Tensor) -> Tensor:
    """The times at which sigma / alpha = u."""
    times = schedule.time(-2 * log_u)
    times[0] = 1.0  # the prior, where the schedule's end lies beyond the range
    return times
