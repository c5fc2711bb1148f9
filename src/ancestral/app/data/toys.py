"""Points in the plane: the smallest data on which a generative model can be right or wrong.

Each set has 20,000 training points and 2,000 held-out points, float32 of shape (2,) and about unit scale, the same on every
run. Each has an exact density (`DENSITIES`): eight Gaussians, or curves with Gaussian noise, which are mixtures over the
curve's parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split
from ancestral.oracles import MixtureOracle

TRAIN, TEST = 20_000, 2_000
RINGS, RING_STD = (1.6, 0.8), 0.08  # radii, outer first; noise
NODES = 1024  # nodes of the quadrature along a curve; their spacing is far below the noise
Draw = Callable[[np.random.RandomState, int], tuple[np.ndarray, np.ndarray | None]]


class Mixture(NamedTuple):
    """The mixture sum_k weights[k] N(means[k], std^2 I): float64 weights `(K,)` and means `(K, D)`, one common `std`."""

    weights: Tensor
    means: Tensor
    std: float


def gaussian_mixture() -> Mixture:
    """Return the exact distribution of `gaussians`: 8 equal Gaussians with deviation 0.1 on a circle of radius sqrt(2)."""
    angle = torch.arange(8, dtype=torch.float64) * (torch.pi / 4)
    means = 2**0.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return Mixture(torch.full((8,), 1 / 8, dtype=torch.float64), means, 0.1)


def moons() -> DataSet:
    """Draw two interleaved half circles of radius 1 with noise 0.1, in two classes."""
    return _toy("moons", _moons, ("upper", "lower"))


def rings() -> DataSet:
    """Draw two concentric circles of radii 1.6 and 0.8 with noise 0.08, in two classes."""
    return _toy("rings", _rings, ("outer", "inner"))


def gaussians() -> DataSet:
    """Draw eight Gaussians on a circle, in eight classes. Their density is `gaussian_mixture()`."""
    return _toy("gaussians", _gaussians, tuple("01234567"))


def swiss_roll() -> DataSet:
    """Draw a spiral of one and a half turns with noise 0.07, the cross section of the Swiss roll."""
    return _toy("swiss-roll", _swiss_roll, ())


def _toy(name: str, draw: Draw, classes: tuple[str, ...]) -> DataSet:
    points, labels = draw(np.random.RandomState(0), TRAIN + TEST)
    known = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    samples = Split({"x": torch.from_numpy(points.astype(np.float32)), "class": known})
    rows = torch.arange(TRAIN + TEST)
    return assemble(name, samples.take(rows[:TRAIN]), samples.take(rows[TRAIN:]), levels=None, classes=classes)


def _moon(lower: np.ndarray, angle: np.ndarray) -> np.ndarray:
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    return np.stack([x, y], axis=1)


def _ring(inner: np.ndarray, angle: np.ndarray) -> np.ndarray:
    radius = np.where(inner, RINGS[1], RINGS[0])
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _spiral(u: np.ndarray) -> np.ndarray:
    angle = 1.5 * np.pi * (1 + 2 * u)
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 7


def _moons(random: np.random.RandomState, n: int) -> tuple[np.ndarray, np.ndarray]:
    lower, angle = random.uniform(size=n) < 0.5, np.pi * random.uniform(size=n)
    return _moon(lower, angle) + 0.1 * random.normal(size=(n, 2)), lower


def _rings(random: np.random.RandomState, n: int) -> tuple[np.ndarray, np.ndarray]:
    inner, angle = random.uniform(size=n) < 0.5, 2 * np.pi * random.uniform(size=n)
    return _ring(inner, angle) + RING_STD * random.normal(size=(n, 2)), inner


def _gaussians(random: np.random.RandomState, n: int) -> tuple[np.ndarray, np.ndarray]:
    weights, means, std = gaussian_mixture()
    label = np.floor(len(weights) * random.uniform(size=n)).astype(np.int64)
    return means.numpy()[label] + std * random.normal(size=(n, 2)), label


def _swiss_roll(random: np.random.RandomState, n: int) -> tuple[np.ndarray, None]:
    return _spiral(random.uniform(size=n)) + 0.07 * random.normal(size=(n, 2)), None


def _curves(*curves: np.ndarray, std: float) -> MixtureOracle:
    """Return the density of equally likely curves with noise. Each is given by points `(k, 2)` at equal parameter steps."""
    points = torch.from_numpy(np.concatenate(curves))
    return MixtureOracle(torch.ones(len(points)), points, torch.full((len(points),), std**2))


def _density_of_gaussians() -> MixtureOracle:
    weights, means, std = gaussian_mixture()
    return MixtureOracle(weights, means, torch.full((len(weights),), std**2))


_U = (np.arange(NODES) + 0.5) / NODES
_BOTH = (np.zeros(NODES, dtype=bool), np.ones(NODES, dtype=bool))
DENSITIES: dict[str, Callable[[], MixtureOracle]] = {
    "gaussians": _density_of_gaussians,
    "moons": lambda: _curves(*(_moon(side, np.pi * _U) for side in _BOTH), std=0.1),
    "rings": lambda: _curves(*(_ring(side, 2 * np.pi * _U) for side in _BOTH), std=RING_STD),
    "swiss-roll": lambda: _curves(_spiral(_U), std=0.07),
}
