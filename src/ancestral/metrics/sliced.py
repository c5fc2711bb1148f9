"""The sliced Wasserstein distance: a distance without a Gaussian assumption, for any dimension."""

from __future__ import annotations

import numpy as np

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.registry import register

PROJECTIONS = 128


@register("metric", "sliced-wasserstein", "how far samples have to be moved to become the data", better="lower")
def sliced_wasserstein(x: np.ndarray, reference: np.ndarray, projections: int = PROJECTIONS, seed: int = 0) -> Estimate:
    """SW_2 = (E_theta W_2^2(theta.x, theta.y))^(1/2) over random directions theta (Bonneel et al. 2015).

    In one dimension W_2^2 is the mean squared difference of the quantile functions, which are compared at the quantiles of the
    smaller set. x, reference: `(n, d)` and `(m, d)`.
    """
    directions = np.random.default_rng(seed).normal(size=(x.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    ours, theirs = x @ directions, np.sort(reference @ directions, axis=0)

    def distance(rows: np.ndarray) -> float:
        mine = np.sort(ours[rows], axis=0)
        n = min(len(mine), len(theirs))
        at = (np.arange(n) + 0.5) / n
        difference = _quantiles(mine, at) - _quantiles(theirs, at)
        return float(np.sqrt((difference**2).mean()))

    return Estimate(distance(np.arange(len(x))), half_samples(distance, len(x)), len(x))


def _quantiles(ordered: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The step quantile function of each ordered column `(n, p)` at probabilities `(k,)`: `(k, p)`."""
    rows: np.ndarray = ordered[np.minimum((at * len(ordered)).astype(int), len(ordered) - 1)]
    return rows
