"""Grids of the times that a sampler visits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.schedules.base import Schedule
from ancestral.schedules.chain import Chain

Spacing = Literal["trailing", "linear", "logsnr", "karras"]
RHO = 7.0  # exponent of the spacing karras


def grid(schedule: Schedule, steps: int, spacing: Spacing = "trailing") -> Tensor:
    """Return the times that a sampler visits, `(steps + 1,)` float64, from 1 down to 0.

    trailing: evenly from 1 to 0 (Lin et al. 2023, arXiv:2305.08891).
    linear:   evenly from 1 to the schedule's first noisy time, then 0.
    logsnr:   even steps of logsnr between the same ends, then 0 (Lu et al. 2022, arXiv:2206.00927).
    karras:   even steps of (sigma/alpha)^(1/7), then 0 (Karras et al. 2022, eq. 5).
    On a `Chain` times are rounded to its steps, and those that coincide are visited once.

    Raises UsageError for steps < 1 or an unknown spacing.
    """
    if steps < 1:
        raise UsageError(f"a sampler needs at least 1 step; got {steps}")
    fraction = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "trailing":
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
    elif spacing == "linear":
        times = 1 + fraction * (schedule.t_min - 1)
    elif spacing in ("logsnr", "karras"):
        ends = schedule.at(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
        high, low = (ends.sigma / ends.alpha).clamp(*schedule.u_range)
        if spacing == "logsnr":
            log_u = high.log() + fraction * (low.log() - high.log())
        else:
            log_u = RHO * (high ** (1 / RHO) + fraction * (low ** (1 / RHO) - high ** (1 / RHO))).log()
        times = schedule.time(-2 * log_u)
        times[0] = 1.0  # the prior, even if the schedule's end is outside of the range
    else:
        raise UsageError(f"unknown spacing {spacing!r}: choose trailing, linear, logsnr or karras")
    if isinstance(schedule, Chain):
        times = torch.unique((times * schedule.T).round().clamp(min=1)).flip(0) / schedule.T
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])
