"""Kernel distances: the squared maximum mean discrepancy of two sets, unbiased, and tests with it.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)                            (Gretton et al. 2012, JMLR 13, lemma 6)

With the kernel (x.y / d + 1)^3 of features it is the kernel inception distance, KID (Bińkowski et al. 2018, arXiv:1801.01401).
Its expectation does not depend on the sizes of the sets, and is zero for equal distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import stdtr

from ancestral.metrics.estimate import Estimate
from ancestral.registry import register

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
Strata = np.ndarray | None
SMALLEST = 3  # samples of a stratum, for the jackknife
BLOCK = 2048  # rows of a kernel matrix held at a time
SIGNS = 200  # vectors of random signs, by which the variance of pairs is known within 10 %


def cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (a.b / d + 1)^3 `(n, m)`, a kernel that compares moments up to the third."""
    k: np.ndarray = a @ b.T / a.shape[1] + 1
    cube: np.ndarray = k * k * k  # much faster than k**3
    return cube


def gaussian(bandwidth: float) -> Kernel:
    """Return the sum of exp(-|a - b|^2 / (2 s^2)) over s = bandwidth times 1/4, 1/2, 1, 2, 4: sensitive at several scales."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        k = np.exp(-_distance2(a, b) / (2 * (4 * bandwidth) ** 2))
        total: np.ndarray = k.copy()
        for _ in range(4):
            k = k**2 * k**2  # half the scale is the fourth power
            total += k
        return total

    return kernel


@register(
    "metric",
    "kid",
    "distance of the distributions by a cubic kernel, which rises steeply; 0 on average for equal ones, at any n",
    better="lower",
    takes="standardised",
    every=True,
    strata=True,
)
def kid(x: np.ndarray, reference: np.ndarray, strata: Strata = None, reference_strata: Strata = None) -> Estimate:
    """Return the KID of features `(n, d)` and `(m, d)`, unbiased at every n and m; it may be slightly negative.

    It is unbiased if the features are standardised by numbers that depend on neither set (`Scale`), as in the evaluator.

    Args:
        x: Features of the samples.
        reference: Features of the reference.
        strata: The class of each sample, if the numbers of each class were fixed and not drawn. None: they were drawn.
        reference_strata: The same for the reference.
    """
    return _mmd2(x, reference, cubic, strata, reference_strata).estimate


@register(
    "metric",
    "mmd",
    "distance by Gaussian kernels, which decides the verdict; 0 on average for equal distributions, at any n",
    better="lower",
    takes="whitened",
    strata=True,
)
def mmd(x: np.ndarray, reference: np.ndarray, strata: Strata = None, reference_strata: Strata = None) -> Estimate:
    """Return MMD^2 with Gaussian kernels of about the median distance of standard normal vectors, sqrt(2 d).

    The median distance is the usual bandwidth (Gretton et al. 2012, section 8). This one depends on neither set, so the
    estimate is unbiased if the same holds for the units of the features (`Whitening`).
    For the arguments, see `kid`.
    """
    return mmd_jackknife(x, reference, strata, reference_strata).estimate


@dataclass(frozen=True, eq=False)
class Jackknife:
    """An estimate from samples and a reference, with the share of each row in its error.

    Two estimates with the same reference, and samples of the same seeds, may be subtracted: what their rows have in common
    cancels.

    Attributes:
        value: The estimate.
        samples: The deviations `(n,)` of the samples. All squares, with those of the reference, sum to the jackknife variance.
        reference: The deviations `(m,)` of the reference.
        pairs: Deviations whose squares sum to the part of the variance that belongs to pairs of rows and not to single rows.
    """

    value: float
    samples: np.ndarray
    reference: np.ndarray
    pairs: np.ndarray

    @property
    def variance(self) -> float:
        """The variance. The jackknife counts the part of pairs twice (Efron & Stein 1981), so it is subtracted once.

        Where the distributions are equal, nothing but this part remains.
        """
        rows = (self.samples**2).sum() + (self.reference**2).sum()
        pairs = (self.pairs**2).sum()
        return float(max(rows - pairs, pairs))

    @property
    def estimate(self) -> Estimate:
        """The value with its standard error."""
        return Estimate(self.value, float(np.sqrt(self.variance)), len(self.samples))

    def __sub__(self, other: Jackknife) -> Jackknife:
        """Return the difference of two estimates with the same reference, from equal numbers of samples."""
        return Jackknife(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @classmethod
    def mean(cls, of: Sequence[Jackknife]) -> Jackknife:
        """Return the mean of estimates with the same reference, from equal numbers of samples."""
        return cls(
            float(np.mean([j.value for j in of])), *(np.mean([getattr(j, f.name) for j in of], 0) for f in fields(cls)[1:])
        )


def mmd_jackknife(x: np.ndarray, reference: np.ndarray, strata: Strata = None, reference_strata: Strata = None) -> Jackknife:
    """Return the estimate of `mmd` with the share of each row in its error."""
    return _mmd2(x, reference, gaussian(float(np.sqrt(2 * x.shape[1]))), strata, reference_strata)


@dataclass(frozen=True, eq=False)
class Scale:
    """Units in which each feature has mean 0 and deviation 1: (f - mean) / std. The scales of the features do not count.

    For an unbiased distance, mean and std come from samples that belong to neither set.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scale:
        """Return the scale of features `(n, d)`.

        Features that hardly vary are divided by a tenth of the root mean square deviation instead. So the cube of one feature
        that these samples happen not to show does not outweigh all others.
        """
        std = features.std(0)
        return cls(features.mean(0), np.maximum(std, 0.1 * np.sqrt((std**2).mean()) + 1e-12))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise features `(n, d)`."""
        result: np.ndarray = (features - self.mean) / self.std
        return result


@dataclass(frozen=True, eq=False)
class Whitening:
    """Units in which features vary about equally in all directions: (f - mean) A. Rotations of the features do not count.

    A small change in a direction in which data hardly vary, such as the sharpness of images, then counts as much as one of the
    shares of classes. For an unbiased distance, mean and A come from samples that belong to neither set.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Whitening:
        """Return the whitening of features `(n, d)` with covariance C.

        A A' is proportional to (C + t I)^-1, where t is a tenth of the mean variance. The mean square of the results is 1.
        """
        covariance = np.atleast_2d(np.cov(features, rowvar=False))
        ridge = 0.1 * covariance.trace() / len(covariance) + 1e-12
        root = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        inverse = solve_triangular(root, np.eye(len(root)), lower=True)
        square = ((inverse @ covariance) * inverse).sum() / len(root)
        return cls(features.mean(0), inverse.T / np.sqrt(square + 1e-12))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Whiten features `(n, d)`."""
        result: np.ndarray = (features - self.mean) @ self.matrix
        return result


def _mmd2(x: np.ndarray, y: np.ndarray, kernel: Kernel, x_strata: Strata = None, y_strata: Strata = None) -> Jackknife:
    """Estimate MMD^2 without bias, with the delete-one jackknife error over both sets.

    E k(x, x') of independent x, x' is estimated by the mean over pairs of strata a, b, weighted by their shares w_a w_b:

        U = sum_ab w_a w_b mean { k(x_i, x_j) : i in a, j in b, i != j }

    With one stratum it is the U-statistic. A sample whose classes have fixed numbers has fewer pairs of one class than
    independent draws have, so the U-statistic of all its pairs would be too small.

    The variance of pairs is that of r(x, x'), the kernel less its means over either argument: 2 E r^2 / n^2 within a set, and
    4 E r^2 / (n m) between two.
    """
    n, m = len(x), len(y)
    a, b = _strata(x_strata, n), _strata(y_strata, m)
    sums_x, sums_y, (xy, yx) = _within_sums(x, kernel, a), _within_sums(y, kernel, b), _between_sums(x, y, kernel, a, b)
    within_x, without_x = _within(sums_x.strata, a)
    within_y, without_y = _within(sums_y.strata, b)
    between = float(xy.strata.sum() / (n * m))
    value = within_x + within_y - 2 * between
    # a deletion changes the mean over its own stratum, whose share stays
    means_x, means_y = xy.strata.sum(1) / m, yx.sum(1) / n
    samples, reference = without_x - 2 * _without(means_x, a), without_y - 2 * _without(means_y, b)
    within = (np.sqrt(2) * sums.signs / (size * (size - 1)) for sums, size in ((sums_x, n), (sums_y, m)))
    pairs = np.concatenate([*within, 2 * xy.signs / (n * m)]) / np.sqrt(SIGNS)
    return Jackknife(value, _deviations(samples, a), _deviations(reference, b), pairs)


def _strata(labels: Strata, n: int) -> np.ndarray:
    """Return strata 0, 1, ... `(n,)`. Classes with fewer than three samples become one with the largest class."""
    if labels is None:
        return np.zeros(n, int)
    _, strata, counts = np.unique(labels, return_inverse=True, return_counts=True)
    strata[counts[strata] < SMALLEST] = counts.argmax()
    result: np.ndarray = np.unique(strata, return_inverse=True)[1]
    return result


def _within(sums: np.ndarray, strata: np.ndarray) -> tuple[float, np.ndarray]:
    """Return U from row sums by stratum `(n, strata)`, and U without each row `(n,)`."""
    one_hot = np.eye(sums.shape[1])[strata]
    count = one_hot.sum(0)
    share = count / len(strata)
    pairs = np.outer(count, count) - np.diag(count)
    blocks = one_hot.T @ sums  # sums of k over pairs of strata
    weight = np.outer(share, share)
    value = (weight * blocks / pairs).sum()
    own, n_own = sums[np.arange(len(strata)), strata], count[strata]
    # the blocks of the row's own stratum with the others, and with itself, have one row less
    other = (weight[strata] * blocks[strata] / pairs[strata]).sum(1) - (weight * blocks / pairs)[strata, strata]
    less = (weight[strata] * (blocks[strata] - sums) / (pairs[strata] - count)).sum(1)
    less -= weight[strata, strata] * (blocks[strata, strata] - own) / (pairs[strata, strata] - n_own)
    within = weight[strata, strata] * blocks[strata, strata] / pairs[strata, strata]
    left = weight[strata, strata] * (blocks[strata, strata] - 2 * own) / ((n_own - 1) * (n_own - 2))
    return float(value), value + 2 * (less - other) + left - within


def _without(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return the mean over strata, weighted by their shares, without each row `(n,)`."""
    count = np.bincount(strata)
    totals = np.bincount(strata, values)
    share = count / len(values)
    means = totals / count
    left = (totals[strata] - values) / (count[strata] - 1)
    result: np.ndarray = share @ means + share[strata] * (left - means[strata])
    return result


def _deviations(without: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return from the values without each row the deviations whose squares sum to the jackknife variance."""
    count = np.bincount(strata)
    result: np.ndarray = np.sqrt((count - 1) / count)[strata] * _centred(without, strata)
    return result


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the rows of a kernel matrix.

    Attributes:
        strata: The sums over the columns of each stratum, `(n, strata)`.
        signs: R w `(n, SIGNS)` for vectors w of random signs, where R is the matrix less the means of its rows and columns, by
            strata. E |R w|^2 is the sum of all squares of R (Hutchinson 1990).
    """

    strata: np.ndarray
    signs: np.ndarray


def _between_sums(x: np.ndarray, y: np.ndarray, kernel: Kernel, a: np.ndarray, b: np.ndarray) -> tuple[_Sums, np.ndarray]:
    """Return the sums of the rows of k(x, y), and the sums of its columns over each stratum of x `(m, strata)`."""
    ours, theirs = np.eye(a.max() + 1)[a], np.eye(b.max() + 1)[b]
    right = np.hstack([theirs, _centred(_signs(len(y)), b)])
    rows, columns = np.empty((len(x), right.shape[1])), np.zeros((len(y), ours.shape[1]))
    for start in range(0, len(x), BLOCK):
        part = kernel(x[start : start + BLOCK], y)
        rows[start : start + BLOCK] = part @ right
        columns += part.T @ ours[start : start + BLOCK]
    sums, signs = np.split(rows, [theirs.shape[1]], axis=1)
    return _Sums(sums, _centred(signs, a)), columns


def _within_sums(x: np.ndarray, kernel: Kernel, a: np.ndarray) -> _Sums:
    """Return the sums of the rows of k(x, x) without its diagonal."""
    one_hot, w = np.eye(a.max() + 1)[a], _centred(_signs(len(x)), a)
    rows = np.empty((len(x), one_hot.shape[1] + SIGNS))
    for start in range(0, len(x), BLOCK):
        part = kernel(x[start : start + BLOCK], x)
        own = np.arange(len(part))
        part[own, start + own] = 0
        rows[start : start + BLOCK] = part @ np.hstack([one_hot, w])
    sums, signs = np.split(rows, [one_hot.shape[1]], axis=1)
    means = sums[np.arange(len(x)), a] / (np.bincount(a)[a] - 1)
    diagonal = means + _centred(means, a)  # where R is 0
    return _Sums(sums, _centred(signs + diagonal[:, None] * w, a))


def _signs(n: int) -> np.ndarray:
    """Return random signs `(n, SIGNS)`, the same for all sets of n samples."""
    signs: np.ndarray = np.random.default_rng(0).choice([-1.0, 1.0], (n, SIGNS))
    return signs


def _stratum_means(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return for each row the mean over its stratum, of values `(n,)` or `(n, k)`."""
    one_hot = np.eye(strata.max() + 1)[strata]
    means: np.ndarray = ((one_hot.T @ values).T / one_hot.sum(0)).T[strata]
    return means


def _centred(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return values `(n,)` or `(n, k)` less the means over their strata."""
    centred: np.ndarray = values - _stratum_means(values, strata)
    return centred


def difference(a: Sequence[Jackknife], b: Sequence[Jackknife]) -> tuple[float, float]:
    """Return the difference of two mean distances, and the two-sided p-value of "it is 0".

        D = mean_i a_i - mean_j b_j,        t = D / sqrt(V + s_a^2 / |a| + s_b^2 / |b|)

    V is the variance over samples and reference (`Jackknife`). The spread s^2 between several trainings of one model counts as
    in Welch's t-test, and the degrees of freedom are those of Welch and Satterthwaite over all parts. s^2 holds the error of
    the samples too, so that this error counts twice where the samples of the trainings are independent: the test is then
    conservative.

    No exchange of samples is assumed: two distributions may differ and yet be equally far from the reference's.

    Args:
        a: The distances of the trainings of one model, or a single one.
        b: Those of the other, with the same reference and as many samples.
    """
    joint = Jackknife.mean(a) - Jackknife.mean(b)
    parts = [(joint.variance, min(len(joint.samples), len(joint.reference)) - 1)]
    parts += [(float(np.var([j.value for j in of], ddof=1)) / len(of), len(of) - 1) for of in (a, b) if len(of) > 1]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return joint.value, float(joint.value == 0)
    freedom = variance**2 / sum(v**2 / f for v, f in parts)
    return joint.value, float(2 * stdtr(freedom, -abs(joint.value) / np.sqrt(variance)))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted for their number: a false one is below 0.05 with a probability of at most 0.05 (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = largest
    return adjusted


def _distance2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return squares.clip(0)
