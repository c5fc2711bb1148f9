"""Guidance that is turned up until variety is lost, with exact denoisers of a class and of all data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ancestral.app.lab.plane import plane_of, rounded
from ancestral.errors import UsageError
from ancestral.guidance.extrapolation import Extrapolation
from ancestral.noise import SampleNoise
from ancestral.prediction import Prediction
from ancestral.schedules import Level, Linear
from ancestral.schedules.grids import grid
from ancestral.solvers import Heun

SHOWN, STEPS = 300, 16


@torch.no_grad()
def guided(source: str, scale: float, label: int = 0) -> dict[str, Any]:
    """Return samples of a class with guidance w, all from the same noise for every w.

        x_hat = x_hat(x_t) + w (x_hat(x_t | c) - x_hat(x_t))

    variety is the root of the determinant of their covariance relative to that of the class; inside is the share of samples
    to which the class gives a density that 99 % of its own samples exceed.

    Raises:
        UsageError: if the set has no classes.
    """
    plane = plane_of(source)
    if not plane.halves:
        raise UsageError(f"{source} has no classes: choose moons, rings or gaussians")
    given, guidance = plane.halves[label % len(plane.halves)], Extrapolation(scale=scale)

    def denoise(x_t: Tensor, t: Level) -> Prediction:
        x = guidance.between(plane.oracle(x_t, t).x, given(x_t, t).x)
        return Prediction(x, x_t, t.alpha, t.sigma)

    schedule = Linear()
    levels = schedule.levels(grid(schedule, STEPS, "logsnr"))
    noise = SampleNoise(range(SHOWN))
    x = noise.normal((2,))
    for state in Heun()(denoise, x, levels, noise):
        x = state.x
    real = given.sample(SampleNoise(range(2000)))
    clean = Level(0.0, 1.0, 0.02)
    least = given.log_density(real, clean).quantile(0.01)
    area = torch.linalg.det(torch.cov(x.T)).clamp(min=0).sqrt() / torch.linalg.det(torch.cov(real.T)).sqrt()
    return {
        "samples": rounded(x),
        "others": rounded(plane.sample(600)),
        "variety": float(area),
        "inside": float((given.log_density(x, clean) >= least).float().mean()),
    }
