"""Kernel distances: the squared maximum mean discrepancy of two sets, unbiased, and tests with it.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)                            (Gretton et al. 2012, JMLR 13, lemma 6)

With the kernel (x.y / d + 1)^3 of features it is the kernel inception distance, KID (Bińkowski et al. 2018, arXiv:1801.01401);
its expectation does not depend on n, and it is zero for equal distributions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ancestral.metrics.estimate import Estimate
from ancestral.registry import register

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
BLOCK = 2048  # rows of a kernel matrix held at a time


def cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a.b / d + 1)^3: compares moments up to the third."""
    k: np.ndarray = (a @ b.T / a.shape[1] + 1) ** 3
    return k


def gaussian(bandwidth: float) -> Kernel:
    """Sum of exp(-|a - b|^2 / (2 s^2)) over s = bandwidth times 1/4, 1/2, 1, 2, 4: sensitive at several scales."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance2 = _distance2(a, b)
        return sum((np.exp(-distance2 / (2 * (bandwidth * f) ** 2)) for f in (0.25, 0.5, 1, 2, 4)), np.zeros_like(distance2))

    return kernel


@register("metric", "kid", "distance of the distributions by a kernel; 0 for equal ones at any n", better="lower", every=True)
def kid(x: np.ndarray, reference: np.ndarray) -> Estimate:
    """KID of features that are standardised by the reference first, so that scales do not count; may be slightly negative."""
    x, reference = standardised(x, reference)
    return _mmd2(x, reference, cubic)


@register("metric", "mmd", "distance by Gaussian kernels; 0 for equal ones at any n", better="lower", vectors=True)
def mmd(x: np.ndarray, reference: np.ndarray) -> Estimate:
    """MMD^2 with Gaussian kernels about the median distance within the reference (Gretton et al. 2012, section 8)."""
    some = reference[:: max(1, len(reference) // 1000)]
    median = float(np.median(np.sqrt(_distance2(some, some)[np.triu_indices(len(some), 1)])))
    return _mmd2(x, reference, gaussian(max(median, 1e-12)))


def standardised(x: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in units in which each feature of the reference has mean 0 and deviation 1.

    Features that hardly vary in the reference are divided by a tenth of the root mean square deviation instead, so that
    the cube of one feature that a small reference happens not to show does not outweigh all others.
    """
    mean, std = reference.mean(0), reference.std(0)
    std = np.maximum(std, 0.1 * np.sqrt((std**2).mean()) + 1e-12)
    return (x - mean) / std, (reference - mean) / std


def _mmd2(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Estimate:
    """The U-statistic, with the delete-one jackknife error over both sets, from the row sums of the kernel matrices."""
    n, m = len(x), len(y)
    xx, yy = _row_sums(x, x, kernel, own=True), _row_sums(y, y, kernel, own=True)
    xy, yx = _row_sums(x, y, kernel), _row_sums(y, x, kernel)
    sxx, syy, sxy = xx.sum(), yy.sum(), xy.sum()
    value = sxx / (n * (n - 1)) + syy / (m * (m - 1)) - 2 * sxy / (n * m)
    without_x = (sxx - 2 * xx) / ((n - 1) * (n - 2)) + syy / (m * (m - 1)) - 2 * (sxy - xy) / ((n - 1) * m)
    without_y = sxx / (n * (n - 1)) + (syy - 2 * yy) / ((m - 1) * (m - 2)) - 2 * (sxy - yx) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return Estimate(float(value), float(np.sqrt(variance)), n)


def _row_sums(a: np.ndarray, b: np.ndarray, kernel: Kernel, own: bool = False) -> np.ndarray:
    """sum_j k(a_i, b_j) `(n,)`; own: a and b are one set, and j = i is left out."""
    sums = np.empty(len(a))
    for start in range(0, len(a), BLOCK):
        part = kernel(a[start : start + BLOCK], b)
        if own:
            rows = np.arange(len(part))
            part[rows, start + rows] = 0
        sums[start : start + BLOCK] = part.sum(1)
    return sums


def paired_permutation(a: np.ndarray, b: np.ndarray, reference: np.ndarray, permutations: int = 999, seed: int = 0) -> float:
    """The two-sided p-value of "a and b, drawn from the same seeds, are equally far from the reference" by KID.

    Under the null a pair may be swapped, so the difference KID(a) - KID(b) is compared with those of random swaps
    (Good 2005, "Permutation tests"); exact for any n. a, b: `(n, d)` each.
    """
    n = len(a)
    both = np.concatenate([a, b])
    both, reference = standardised(both, reference)
    k = cubic(both, both)
    np.fill_diagonal(k, 0)
    cross = _row_sums(both, reference, cubic) / len(reference)
    swap = np.random.default_rng(seed).random((n, permutations)) < 0.5
    swap = np.concatenate([np.zeros((n, 1), dtype=bool), swap], 1)  # the first is what was seen
    member = np.concatenate([~swap, swap]).astype(np.float64)  # (2n, 1 + permutations): who is called a

    def distance(of: np.ndarray) -> np.ndarray:
        result: np.ndarray = (of * (k @ of)).sum(0) / (n * (n - 1)) - 2 * (of * cross[:, None]).sum(0) / n
        return result

    differences = np.abs(distance(member) - distance(1 - member))
    return float((differences >= differences[0] * (1 - 1e-12)).mean())


def holm(p_values: list[float]) -> list[float]:
    """P-values adjusted for their number: those below 0.05 hold together at that rate (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = largest
    return adjusted


def _distance2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return squares.clip(0)
