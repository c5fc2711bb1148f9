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
DRAWS = 20  # halves


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
def prdc(x: np.ndarray, reference: np.ndarray, k: int = K, draws: int = DRAWS) -> dict[str, Estimate]:
    """The four rates of x `(n, d)` against as many reference points `(n, d)`.

    Errors are the spread over random halves of both sets, drawn apart, as of `half_samples`: balls of both sets vary with the
    points that were drawn, so no formula for independent points covers.

    Raises ValueError for sets of different sizes, whose balls would differ for that reason alone.
    """
    if len(x) != len(reference):
        raise ValueError(f"precision and recall compare sets of equal size; got {len(x)} and {len(reference)}")
    n, random = len(x), np.random.default_rng(0)
    halves = [[random.permutation(n)[: n // 2] for _ in range(2)] for _ in range(draws)]
    spread = [_rates(x[ours], Manifold(reference[theirs], k)) for ours, theirs in halves]
    least = 1 / n  # a rate of 0 or 1 is not known to be exact
    errors = {name: max(float(np.std([half[name] for half in spread], ddof=1)), least) for name in spread[0]}
    return {name: Estimate(value, errors[name], n) for name, value in _rates(x, Manifold(reference, k)).items()}


def _rates(x: np.ndarray, real: Manifold) -> dict[str, float]:
    between = distances(real.points, x)  # (real, generated)
    inside = between < real.radii[:, None]
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between < Manifold(x, real.k).radii).any(1).mean()),
        "density": float(inside.sum(0).mean() / real.k),
        "coverage": float(inside.any(1).mean()),
    }
