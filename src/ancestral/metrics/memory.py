"""Copies of the training set, and duplicates.

Copies are closer to the training set than new data are. How close new data come is known from a held-out split:

    copy rate: the share of samples nearer to a training sample than the nearest 1 % of held-out samples are; .01 for a model
               that does not copy (more if few samples are held out), 1 for one that repeats the training set
    C_T:       the Mann-Whitney U statistic of sample-to-training against held-out-to-training distances, in each cell of the
               space, as a z-score: below -3 the model copies, above 3 it underfits      (Meehan et al. 2020, arXiv:2004.05675)
    duplicates: the share of samples nearer to another sample than the nearest 1 % of as many real samples are to each other

A blurred sample is near to many samples without being a copy of one. `Nearness` therefore divides the distance to the nearest
training sample by that to the second nearest, as is usual where the onset of copying is studied (Bonnaire et al. 2025,
arXiv:2505.17638). `copy_test` says whether a copy rate is above its expectation, also with few held-out samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ancestral.metrics.estimate import Estimate
from ancestral.registry import register

EXPECTED = 0.01
BLOCK = 2000
CELL = 20  # points of each kind that a cell needs


def nearest(x: np.ndarray, points: np.ndarray, *, own: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance `(n,)` to the nearest of `points` `(m, d)`, and its index `(n,)`.

    Args:
        x: Vectors `(n, d)`.
        points: The points `(m, d)`.
        own: Whether x is `points`, so that no point is its own neighbour.
    """
    found = []
    all_points = torch.from_numpy(points)
    for start in range(0, len(x), BLOCK):
        part = torch.from_numpy(x[start : start + BLOCK])
        between = torch.cdist(part, all_points)
        if own:
            rows = torch.arange(len(part))
            between[rows, start + rows] = torch.inf
        found.append(between.min(1))
    return torch.cat([f.values for f in found]).numpy(), torch.cat([f.indices for f in found]).numpy()


@register(
    "metric",
    "copy-rate",
    "share nearer to the training data than 99 % of held-out data are",
    better="as real",
    takes="evaluator",
)
def copy_rate(to_train: np.ndarray, held_out_to_train: np.ndarray) -> Estimate:
    """Return the copy rate, from the distances to the nearest training sample of samples `(n,)` and of held-out data `(m,)`."""
    return _rate(to_train <= np.quantile(held_out_to_train, EXPECTED))


class Nearness:
    """The nearness of samples to points: the distance to the nearest point over that to the second nearest, in [0, 1].

    It is 0 for a copy of a point, and near to 1 for a sample that belongs to no single point. Equal points count as one.

    Args:
        points: The points `(m, d)`.
        mirrored: Their mirror images `(m, d)`, if samples near to these are near to the points too.

    Raises:
        ValueError: If there are fewer than three different points.
    """

    def __init__(self, points: np.ndarray, mirrored: np.ndarray | None = None):
        rows = np.ascontiguousarray(points).view(np.dtype((np.void, points.itemsize * points.shape[1])))[:, 0]
        _, first, self._inverse, self._counts = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
        if len(first) < 3:
            raise ValueError("fewer than three different points")
        self._images = [torch.from_numpy(p[first]) for p in (points, mirrored) if p is not None]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the nearness `(n,)` of samples `(n, d)`."""
        return np.concatenate([self._of(torch.from_numpy(x[start : start + BLOCK])) for start in range(0, len(x), BLOCK)])

    def own(self, most: int) -> np.ndarray:
        """Return the nearness of points, at most `most`, evenly chosen, each to the others: as near as new data come."""
        index = np.linspace(0, len(self._inverse) - 1, min(most, len(self._inverse))).round().astype(int)
        found = []
        for start in range(0, len(index), BLOCK):
            rows = self._inverse[index[start : start + BLOCK]]
            near = self._of(self._images[0][rows], torch.from_numpy(rows))
            found.append(np.where(self._counts[rows] > 1, 0.0, near))
        return np.concatenate(found)

    def _of(self, x: torch.Tensor, without: torch.Tensor | None = None) -> np.ndarray:
        """Return the nearness of samples. without: the index of a point for each sample, which is left out."""
        between = torch.stack([torch.cdist(x, image) for image in self._images]).amin(0)
        if without is not None:
            between[torch.arange(len(x)), without] = torch.inf
        first, second = between.topk(2, largest=False).values.unbind(1)
        near: np.ndarray = (first / second).numpy()
        return near


@dataclass(frozen=True)
class CopyTest:
    """A copy rate beside its expectation.

    Attributes:
        rate: The share of copies.
        expected: The expectation of this share for new data.
        n: The number of samples.
        p_value: The probability that new data have at least as many copies. It counts the error of the threshold, too.
    """

    rate: float
    expected: float
    n: int
    p_value: float

    @property
    def doubled(self) -> bool:
        """Whether the rate is over twice its expectation."""
        return self.rate > 2 * self.expected


def expected_copies(m: int) -> Estimate:
    """Return the expectation of the copy rate for new data, and its deviation, if the threshold comes from m others.

    The threshold is the 1 % quantile of m values, so the share of new data below it is about Beta(1 + h, m - h) distributed
    with h = (m - 1) / 100. Its mean is above 1 % for small m: 10 % for m = 10.
    """
    mean = (1 + EXPECTED * (m - 1)) / (m + 1)
    return Estimate(mean, math.sqrt(mean * (1 - mean) / (m + 2)), m)


def copies_by_chance(rate: float, n: int, expected: float, m: int) -> float:
    """Return the probability that n new samples have at least this copy rate, if the threshold comes from m others."""
    from scipy.stats import betabinom

    if expected >= 1:
        return 1.0
    return float(betabinom.sf(round(rate * n) - 1, n, expected * (m + 1), (1 - expected) * (m + 1)))


def copy_test(samples: np.ndarray, new: np.ndarray) -> CopyTest:
    """Compare the copy rate of samples with that of new data.

    Args:
        samples: Nearness of, or distance to the nearest training sample of, samples `(n,)`.
        new: The same of new data `(m,)`.
    """
    m, n = len(new), len(samples)
    rate = copy_rate(samples, new).value
    expected = max(expected_copies(m).value, copy_rate(new, new).value)  # the latter where many values are equal
    return CopyTest(rate, expected, n, copies_by_chance(rate, n, expected, m))


@register("metric", "duplicates", "share of samples that repeat another sample", better="as real", takes="evaluator")
def duplicate_rate(within: np.ndarray, within_real: np.ndarray) -> Estimate:
    """Return the share of duplicates, from distances to the nearest other one: of samples `(n,)` and real samples `(n,)`."""
    return _rate(within <= np.quantile(within_real, EXPECTED))


def _rate(hits: np.ndarray) -> Estimate:
    share, n = float(hits.mean()), len(hits)
    return Estimate(share, float(np.sqrt(max(share * (1 - share), 1 / n) / n)), n)


@register(
    "metric",
    "c_t",
    "z-score of being further from the training data than held-out data are; below -3: copies",
    better="as real",
    takes="evaluator",
)
def data_copying(
    to_train: np.ndarray,
    held_out_to_train: np.ndarray,
    cells: np.ndarray | None = None,
    held_out_cells: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return C_T, a z-score, and its deviation if samples are as far from the training set as held-out points.

    Cells with too few samples or held-out points are left out. The others count by their share of the held-out points (eq. 4 of
    the paper).

    Args:
        to_train: Distances of the samples to the nearest training sample `(n,)`.
        held_out_to_train: The same of held-out points `(m,)`.
        cells: The cell of each sample `(n,)`. None: there is one cell.
        held_out_cells: The cell of each held-out point `(m,)`.
    """
    cells = np.zeros(len(to_train), int) if cells is None else cells
    held_out_cells = np.zeros(len(held_out_to_train), int) if held_out_cells is None else held_out_cells
    total, weight, squares = 0.0, 0, 0
    for cell in np.unique(held_out_cells):
        a, b = to_train[cells == cell], held_out_to_train[held_out_cells == cell]
        if len(a) >= CELL and len(b) >= CELL:
            total += len(b) * _mann_whitney(a, b)
            weight += len(b)
            squares += len(b) ** 2
    if not weight:
        return _mann_whitney(to_train, held_out_to_train), 1.0
    return total / weight, math.sqrt(squares) / weight


def _mann_whitney(a: np.ndarray, b: np.ndarray) -> float:
    """Return the z-score of "a is larger than b": mean 0 and variance 1 if both have one distribution."""
    n, m = len(a), len(b)
    below, upto = (np.searchsorted(np.sort(b), a, side=side).sum() for side in ("left", "right"))
    u = (below + upto) / 2  # pairs with a > b, and half of the equal ones
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))
