"""Precision, recall, density and coverage: fidelity and variety apart, by nearest neighbours.

The support of a set is the union of balls around its points, each as wide as the distance to the k-th neighbour.

    precision: share of generated points in the support of the real ones          (Kynkäänniemi et al. 2019, arXiv:1904.06991)
    recall:    share of real points in the support of the generated ones
    density:   real balls that a generated point lies in, over k; may exceed 1            (Naeem et al. 2020, arXiv:2002.09797)
    coverage:  share of real balls that hold a generated point; for equal distributions 1 - 2^-k in expectation
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ancestral.metrics.estimate import Estimate
from ancestral.registry import register

K = 5
PARTS = 8


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances `(n, m)`."""
    result: np.ndarray = torch.cdist(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return result


@dataclass(frozen=True, eq=False)
class Manifold:
    """Real points `(n, d)` and the radii of their balls."""

    points: np.ndarray
    k: int = K

    @cached_property
    def radii(self) -> np.ndarray:
        """The distance to the k-th nearest other point `(n,)`. Raises ValueError for fewer than k + 1 points."""
        if len(self.points) <= self.k:
            raise ValueError(f"{self.k} nearest neighbours need more than {self.k} points; got {len(self.points)}")
        within = distances(self.points, self.points)
        np.fill_diagonal(within, 0)
        result: np.ndarray = np.partition(within, self.k, axis=1)[:, self.k]  # column 0 is the point itself
        return result


@register("metric", "coverage", "share of the data that have a sample nearby", better="higher", takes="equal features")
@register("metric", "density", "how crowded the data are where the samples lie", better="as real", takes="equal features")
@register("metric", "recall", "share of the data that could be samples", better="higher", takes="equal features")
@register("metric", "precision", "share of samples that could be data", better="higher", takes="equal features")
def prdc(x: np.ndarray, reference: np.ndarray, k: int = K, parts: int = PARTS) -> dict[str, Estimate]:
    """The four rates of x `(n, d)` against as many reference points `(n, d)`.

    Errors are from disjoint parts of both, or, of fewer than 80 k points, as if these were independent.

    Raises ValueError for sets of different sizes, whose balls would differ for that reason alone.
    """
    if len(x) != len(reference):
        raise ValueError(f"precision and recall compare sets of equal size; got {len(x)} and {len(reference)}")
    whole = _rates(x, Manifold(reference, k))
    parts = min(parts, len(x) // (20 * k))
    if parts < 4:  # in smaller parts every point is near every other, and the rates do not vary: as if points were independent
        errors = {name: float(np.sqrt(max(value * abs(1 - value), 1 / len(x)) / len(x))) for name, value in whole.items()}
        return {name: Estimate(value, errors[name], len(x)) for name, value in whole.items()}
    order = np.random.default_rng(0).permutation(len(x))
    split = [_rates(x[rows], Manifold(reference[rows], k)) for rows in np.array_split(order, parts)]
    errors = {name: float(np.std([part[name] for part in split], ddof=1) / np.sqrt(parts)) for name in whole}
    return {name: Estimate(value, errors[name], len(x)) for name, value in whole.items()}


def _rates(x: np.ndarray, real: Manifold) -> dict[str, float]:
    between = distances(real.points, x)  # (real, generated)
    inside = between < real.radii[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between < Manifold(x, real.k).radii).any(1).mean()),
        "density": float(inside.sum(0).mean() / real.k),
        "coverage": float(inside.any(1).mean()),
    }
