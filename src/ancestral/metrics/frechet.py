"""The Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)),

is the squared 2-Wasserstein distance of two Gaussians. From finite samples it is biased upwards by about c/n (Chong & Forsyth
2020, arXiv:1911.07023). So distances at different n are not comparable; a straight line in 1/n extrapolates to n = infinity.
"""

from __future__ import annotations

import numpy as np

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.registry import register

Moments = tuple[np.ndarray, np.ndarray]


def gaussian_distance2(a: Moments, b: Moments) -> float:
    """Return the squared distance of N(mu_a, S_a) and N(mu_b, S_b), given the mean `(d,)` and covariance `(d, d)` of each.

    tr (S_a S_b)^(1/2) is the sum of the square roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2). This matrix is symmetric,
    so no complex numbers and no iterations are needed, and a covariance may be singular.
    """
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def moments(x: np.ndarray) -> Moments:
    """Return the mean and the unbiased covariance of `(n, d)`."""
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


@register(
    "metric",
    "fd",
    "distance of two Gaussians that are fitted to the features of samples and of data",
    better="lower",
    takes="components",
    every=True,
)
def frechet(x: np.ndarray, reference: np.ndarray) -> Estimate:
    """Return the squared Fréchet distance of two sets `(n, d)` and `(m, d)`, with its error over the choice of x."""
    against = moments(reference)
    value = gaussian_distance2(moments(x), against)
    return Estimate(value, half_samples(lambda rows: gaussian_distance2(moments(x[rows]), against), len(x)), len(x))


@register(
    "metric",
    "rfd",
    "fd of held-out samples and their reconstructions; these are pairs, so it may be below that of real data",
    better="lower",
    takes="evaluator",
)
def frechet_pairs(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Return the squared distance of two sets `(n, d)` whose rows are pairs, with its error over the choice of pairs.

    What the two have in common cancels: the distance is 0 for equal sets at every n. That of independent sets is not.
    """
    value = gaussian_distance2(moments(x), moments(y))
    error = half_samples(lambda rows: gaussian_distance2(moments(x[rows]), moments(y[rows])), len(x))
    return Estimate(value, error, len(x))


@register("metric", "fd-infinity", "fd extrapolated to infinitely many samples", better="lower", takes="components")
def frechet_infinity(x: np.ndarray, reference: np.ndarray, points: int = 10, seed: int = 0) -> Estimate:
    """Return the distance extrapolated in 1/n to infinitely many generated samples, by least squares over sizes from n/5 to n.

    Its error is the spread of the intercept over random halves of x.
    """
    against = moments(reference)

    def intercept(rows: np.ndarray, draws: int, stream: int) -> float:
        random = np.random.default_rng(stream)
        sizes = np.linspace(len(rows) / 5, len(rows), draws).astype(int)
        values = [gaussian_distance2(moments(x[random.permutation(rows)[:size]]), against) for size in sizes]
        return float(np.polyfit(1 / sizes, values, 1)[1])

    value = intercept(np.arange(len(x)), points, seed)
    return Estimate(value, half_samples(lambda rows: intercept(rows, 5, seed), len(x), draws=10), len(x))
