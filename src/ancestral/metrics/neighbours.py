"""Rates of nearest neighbours: fidelity and variety apart.

Around each point of a set is a ball whose radius is the distance to its k-th nearest other point. The support of a set is the
union of its balls.

    precision: share of generated points in the support of the real ones          (Kynkäänniemi et al. 2019, arXiv:1904.06991)
    recall:    share of real points in the support of the generated ones
    density:   real balls that a generated point lies in, over k; may exceed 1            (Naeem et al. 2020, arXiv:2002.09797)
    coverage:  share of real balls that hold a generated point; for equal distributions 1 - 2^-k in expectation

The clipped rates (Salvy et al. 2026, arXiv:2507.01761) are calibrated. If a share s of the samples is drawn from the data and
the others lie far off, both are s in expectation.

    clipped density:  the mean over generated points of min(balls, k) / k, divided by that of the real points themselves, each
                      without its own ball. No radius exceeds the median radius, so that real outliers have no large balls
    clipped coverage: c, the mean over real balls of min(points, k) / k, in units of good samples: the m with f(m) = c, over n.
                      The mass of a ball among N real points is Beta(k, N - k), whatever the distribution. So the number J of m
                      good samples in it is beta-binomial, and

                          f(m) = E min(J, k) / k = 1 - sum_{j < k} (k - j) P(J = j) / k
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.special import betaln, gammaln

from ancestral.metrics.estimate import Estimate
from ancestral.registry import register

K = 5
DRAWS = 20  # halves
SHARES = ("clipped-density", "clipped-coverage")


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances `(n, m)`."""
    result: np.ndarray = torch.cdist(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return result


@dataclass(frozen=True, eq=False)
class Manifold:
    """Points `(n, d)` and their balls."""

    points: np.ndarray
    k: int = K

    @cached_property
    def radii(self) -> np.ndarray:
        """The distance to the k-th nearest other point `(n,)`. Raises ValueError for fewer than k + 1 points."""
        if len(self.points) <= self.k:
            raise ValueError(f"{self.k} nearest neighbours need more than {self.k} points; got {len(self.points)}")
        result: np.ndarray = np.partition(self._within, self.k - 1, axis=1)[:, self.k - 1]
        return result

    @cached_property
    def clipped_radii(self) -> np.ndarray:
        """The radii, none larger than their median `(n,)`."""
        result: np.ndarray = np.minimum(self.radii, np.median(self.radii))
        return result

    @cached_property
    def clipped_density(self) -> float:
        """The mean over the points of min(other points' clipped balls that it lies in, k) / k."""
        inside = self._within <= self.clipped_radii[:, None]
        return float(np.minimum(inside.sum(0) / self.k, 1).mean())

    @cached_property
    def _within(self) -> np.ndarray:
        """The distances of the points from one another `(n, n)`; a point is infinitely far from itself."""
        result = distances(self.points, self.points)
        np.fill_diagonal(result, np.inf)
        return result


@register(
    "metric",
    "clipped-coverage",
    "share of good samples that cover the data as well",
    better="higher",
    takes="equal features",
)
@register(
    "metric",
    "clipped-density",
    "share of good samples that lie in the data as well",
    better="higher",
    takes="equal features",
)
@register("metric", "coverage", "share of the data that have a sample nearby", better="higher", takes="equal features")
@register("metric", "density", "how dense the data are near the samples", better="as real", takes="equal features")
@register("metric", "recall", "share of the data that could be samples", better="higher", takes="equal features")
@register("metric", "precision", "share of samples that could be data", better="higher", takes="equal features")
def neighbour_rates(x: np.ndarray, reference: np.ndarray, k: int = K, draws: int = DRAWS) -> dict[str, Estimate]:
    """Return the six rates of x `(n, d)` against as many reference points `(n, d)`.

    Errors are the spread over random halves of both sets, drawn apart, as of `half_samples`: balls of both sets vary with the
    points that were drawn, so no formula for independent points covers. The clipped rates are shares and end at 1; their errors
    are those of the rates before that, so that a share of 1 has an error too.

    Raises:
        ValueError: For sets of different sizes, whose balls would differ for that reason alone.
    """
    if len(x) != len(reference):
        raise ValueError(f"precision and recall compare sets of equal size; got {len(x)} and {len(reference)}")
    n, random = len(x), np.random.default_rng(0)
    halves = [[random.permutation(n)[: n // 2] for _ in range(2)] for _ in range(draws)]
    spread = [_rates(x[ours], Manifold(reference[theirs], k)) for ours, theirs in halves]
    least = 1 / n  # a rate of 0 or 1 is not known to be exact
    errors = {name: max(float(np.std([half[name] for half in spread], ddof=1)), least) for name in spread[0]}
    values = _rates(x, Manifold(reference, k))
    return {name: Estimate(min(value, 1) if name in SHARES else value, errors[name], n) for name, value in values.items()}


def _rates(x: np.ndarray, real: Manifold) -> dict[str, float]:
    k, n = real.k, len(real.points)
    between = distances(real.points, x)  # (real, generated)
    inside = between < real.radii[:, None]
    crowd = (between <= real.clipped_radii[:, None]).sum(0)
    covered = np.minimum((between <= real.radii[:, None]).sum(1), k).mean() / k
    return {
        "precision": float(inside.any(0).mean()),
        "recall": float((between < Manifold(x, k).radii).any(1).mean()),
        "density": float(inside.sum(0).mean() / k),
        "coverage": float(inside.any(1).mean()),
        "clipped-density": float(np.minimum(crowd / k, 1).mean() / real.clipped_density),
        "clipped-coverage": float(np.interp(covered, expected_coverage(n, 2 * len(x), k), np.arange(2 * len(x) + 1)) / len(x)),
    }


@lru_cache(maxsize=8)
def expected_coverage(n: int, most: int, k: int = K) -> np.ndarray:
    """Return f(m) for m = 0, 1, ..., most good samples `(most + 1,)`: E min(J, k) / k of the ball of one of n real points."""
    m = np.arange(most + 1)[:, None]
    j = np.arange(k)
    choose = gammaln(m + 1) - gammaln(j + 1) - gammaln(np.maximum(m - j, 0) + 1)
    p = np.exp(choose + betaln(j + k, np.maximum(m - j, 0) + n - k) - betaln(k, n - k))  # beta-binomial
    result: np.ndarray = 1 - np.where(j <= m, (k - j) * p, 0).sum(1) / k
    return result
