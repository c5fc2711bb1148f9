"""The sliced Wasserstein distance: a distance in all moments of the features, from few samples.

    d E_theta W_2^2(theta.x, theta.y),      theta uniform on the unit sphere of R^d     (Rabin et al. 2011; Bonneel et al. 2015)

In one dimension W_2^2 is the integral of the squared difference of the quantile functions, so nothing but sorting is needed.
The factor d gives it the units of the squared Fréchet distance: between N(m, s^2 I) and N(0, I) both are |m|^2 + d (s - 1)^2.
Three times this value in Inception's features is the Monge Inception Distance (MIND, Berthet et al. 2026, arXiv:2605.06797).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.registry import register

PROJECTIONS = 1000
BLOCK = 100  # directions whose quantiles are compared at a time


@register(
    "metric",
    "sliced-wasserstein",
    "distance of the distributions along random directions, which sees all moments",
    better="lower",
    every=True,
)
def sliced_wasserstein(x: np.ndarray, reference: np.ndarray, projections: int = PROJECTIONS, seed: int = 0) -> Estimate:
    """Return d E_theta W_2^2(theta.x, theta.y) of two sets `(n, d)` and `(m, d)`, with its error over the choice of x.

    It is biased upwards at finite n. The bias grows as d / n, since each W_2^2 is that of one-dimensional samples; the bias of
    the Fréchet distance grows as d^2 / n, with the number of entries of a covariance.

    Args:
        x: Features of the samples.
        reference: Features of the reference.
        projections: The least number of directions if d is smaller, since bases are whole; else their number.
        seed: Random seed of the directions, which are the same for all x.
    """
    directions = _directions(x.shape[1], projections, seed)
    ours, theirs = directions @ x.T, np.sort(directions @ reference.T, axis=1)
    order = ours.argsort(axis=1)
    ours = np.take_along_axis(ours, order, axis=1)

    def distance(rows: np.ndarray) -> float:
        chosen = np.zeros(len(x), dtype=bool)
        chosen[rows] = True
        total = 0.0
        for start in range(0, len(directions), BLOCK):
            part = slice(start, start + BLOCK)
            mine = ours[part][chosen[order[part]]].reshape(-1, len(rows))  # still sorted
            total += _transport(mine, theirs[part])
        return float(total * x.shape[1] / len(directions))

    return Estimate(distance(np.arange(len(x))), half_samples(distance, len(x)), len(x))


@lru_cache(maxsize=4)  # extractors of a report
def _directions(d: int, count: int, seed: int) -> np.ndarray:
    """Return unit vectors `(at least count, d)` in random orthonormal bases, or `(count, d)` of one basis if d is larger.

    Over a whole basis the squared projections of a vector sum to its squared length, so the distance of a shift is exact. Each
    direction is uniform on the sphere, and the mean over bases varies less than that over independent directions (Rowland et
    al. 2019). For differences of shape it varies by a few per cent. No error holds this: the directions of all x are the same.
    """
    random = np.random.default_rng(seed)
    bases = []
    for _ in range(math.ceil(count / d)):
        basis, upper = np.linalg.qr(random.normal(size=(d, min(count, d))))
        bases.append((basis * np.sign(np.diag(upper))).T)  # these signs make it uniform (Mezzadri 2007)
    directions = np.concatenate(bases)
    directions.flags.writeable = False  # it is shared
    return directions


def _transport(a: np.ndarray, b: np.ndarray) -> float:
    """Return the sum over rows of W_2^2 of sorted samples `(p, n)` and `(p, m)`, whose quantile functions are steps."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return float(((a - b) ** 2).sum() / n)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # of the steps, in units of 1 / (n m)
    difference = a[:, (ends - 1) // m] - b[:, (ends - 1) // n]
    return float((difference**2).sum(0) @ np.diff(ends, prepend=0) / (n * m))
