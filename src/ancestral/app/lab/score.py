"""The score at a noise level, and the paths of Langevin dynamics, the reverse SDE and the ODE from a point.

All is in y = x_t / alpha: the data plus noise of scale u = sigma / alpha, which is the same for every schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.drawings import Plane
from ancestral.app.lab.plane import lattice, plane_of, rounded
from ancestral.errors import UsageError
from ancestral.noise import SampleNoise
from ancestral.schedules import Level
from ancestral.solvers import EulerMaruyama

CELLS, ARROWS = 56, 17
LEAST = 0.01
LANGEVIN, STEPS = 240, 60


@torch.no_grad()
def field(source: str | Sequence[Sequence[float]], u: float, half: float = 3.0) -> dict[str, Any]:
    """Return the density on a grid and the score as arrows at noise level u."""
    plane = plane_of(source)
    level = _level(u)
    grid = lattice(half, CELLS)
    log_p = plane.oracle.log_density(grid, level)
    at = lattice(half * (1 - 1 / ARROWS), ARROWS)
    score = plane.oracle.score(at, level)
    length = score.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return {
        "half": half,
        "cells": CELLS,
        "density": rounded((log_p - log_p.max()).exp(), 3),
        "at": rounded(at),
        "arrows": rounded(score / length * (length / length.max()).sqrt()),
        "largest": float(length.max()),
        "points": rounded(plane.sample(300)),
    }


@torch.no_grad()
def paths(source: str | Sequence[Sequence[float]], u: float, start: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Return three paths from a point y at noise level u.

    langevin stays at the level: y <- y + eta/2 score + sqrt(eta) noise. sde and ode lead to the data.
    """
    oracle = plane_of(source).oracle
    plane = Plane.of(oracle)
    y = torch.tensor([list(map(float, start))[:2]])
    if y.shape != (1, 2) or not bool(y.isfinite().all()):
        raise UsageError("a path begins at a point of the plane: two numbers")
    levels = np.geomspace(max(u, 2 * LEAST), LEAST, STEPS).tolist()
    sde = EulerMaruyama()(oracle, y, [_level(v) for v in levels], SampleNoise([seed]))
    return {
        "langevin": _way(plane.langevin(y, _level(u).sigma, seed, LANGEVIN)),
        "sde": _way(torch.stack([state.x for state in sde])),
        "ode": _way(plane.flow(y, levels)),
    }


def _level(u: float) -> Level:
    if not LEAST <= u <= 20:
        raise UsageError(f"a noise level is from {LEAST} to 20; got {u:g}")
    return Level(0.0, 1.0, u)


def _way(path: Tensor) -> list[object]:
    return rounded(path[:, 0])
