"""The forward process: data that turn into noise, and the distance of q(x_t) to N(0, I) as it falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ancestral.app.data import load
from ancestral.app.lab.plane import plane_of, rounded
from ancestral.gaussian import Gaussian
from ancestral.noise import StreamNoise
from ancestral.schedules import Level, schedule

SCHEDULES = ("cosine", "vp", "linear", "sub-vp")
TIMES = 61
SHOWN, MEASURED, DIGITS = 500, 1000, 24


def forward(source: str | Sequence[Sequence[float]], name: str = "cosine") -> dict[str, Any]:
    """Return data x, noise eps, alpha(t) and sigma(t), with which the page shows x_t = alpha x + sigma eps, and the distance.

    The distance of points is KL(q(x_t) || N(0, I)) in nats, from draws of x_t and its exact density. That of digits is the KL
    of the Gaussian with the same mean and covariance.

    Args:
        source: as in `plane_of`, or "digits".
        name: of the schedule.
    """
    levels = schedule(name).levels(torch.linspace(0, 1, TIMES, dtype=torch.float64))
    scales = {
        "t": [round(level.t, 4) for level in levels],
        "alpha": [round(level.alpha, 5) for level in levels],
        "sigma": [round(level.sigma, 5) for level in levels],
    }
    if source == "digits":
        data = load("digits")
        x = (data.x() - 0.5) * 2
        chosen = x[torch.linspace(0, len(x) - 1, DIGITS).long()].flatten(1)
        noise = StreamNoise(DIGITS, 0, 0).normal((x[0].numel(),))
        flat = x.flatten(1).double()
        mean, covariance = flat.mean(0), torch.cov(flat.T)
        kl = [_gaussian_kl(level, mean, covariance) for level in levels]
        what = "KL of the Gaussian with the mean and covariance of q(x_t)"
        return {"kind": "digits", "side": 8, "x": rounded(chosen), "eps": rounded(noise), "kl": kl, "what": what, **scales}
    plane = plane_of(source)
    x, noise = plane.sample(MEASURED), StreamNoise(MEASURED, 1, 0).normal((2,))
    kl = []
    for level in levels:
        x_t = (level.alpha * x + level.sigma * noise).double()
        log_n = -(x_t**2).sum(1) / 2 - math.log(2 * math.pi)
        kl.append(round(max(0.0, float((plane.oracle.log_density(x_t, level) - log_n).mean())), 5))
    what = "KL(q(x_t) || N(0, I)), from the exact density"
    return {"kind": "points", "x": rounded(x[:SHOWN]), "eps": rounded(noise[:SHOWN]), "kl": kl, "what": what, **scales}


def _gaussian_kl(level: Level, mean: Tensor, covariance: Tensor) -> float:
    """Return KL(N(alpha m, alpha^2 S + sigma^2 I) || N(0, I)), from the eigenvalues of S, in nats."""
    values = level.alpha**2 * torch.linalg.eigvalsh(covariance).clamp(min=1e-6) + level.sigma**2
    zero, one = torch.zeros_like(values)[None], torch.ones_like(values)[None]
    kl = Gaussian(zero, values[None]).kl(Gaussian(zero, one)) + (level.alpha * mean).square().sum() / 2
    return round(float(kl), 5)
