"""Copies of the training set, and duplicates.

Copies are closer to the training set than new data are. How close new data come is known from a held-out split:

    copy rate: the share of samples nearer to a training sample than the nearest 1 % of held-out samples are; .01 for a model
               that does not copy, 1 for one that repeats the training set
    C_T:       the Mann-Whitney U statistic of sample-to-training against held-out-to-training distances, in each cell of the
               space, as a z-score: below -3 the model copies, above 3 it underfits      (Meehan et al. 2020, arXiv:2004.05675)
    duplicates: the share of samples nearer to another sample than the nearest 1 % of as many real samples are to each other
"""

from __future__ import annotations

import math

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


@register("metric", "duplicates", "share that repeat one another", better="as real", takes="evaluator")
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
