"""The nearest training samples of samples, and whether samples are copies.

Distances are between pixels (or values) in model units, divided by the root of their number: the root mean square difference in
standard deviations of the data. A copy is nearer to the training set than 99 % of held-out data are (`metrics.copy_rate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.metrics.memory import EXPECTED, copy_rate, nearest

HELD_OUT = 1000  # held-out samples that say how near new data come
MOST = 50_000  # training samples that are searched


@dataclass(frozen=True)
class Found:
    """The nearest training sample of each of n samples.

    Args:
        rows: their indices in the training split `(n,)`.
        distances: `(n,)`.
        copies: whether each sample is nearer than 99 % of held-out data `(n,)`.
        copy_rate: the share of copies; about .01 for a model that does not copy.
        usual: the median distance of held-out data.
        threshold: the distance below which a sample counts as a copy.
    """

    rows: np.ndarray
    distances: np.ndarray
    copies: np.ndarray
    copy_rate: float
    usual: float
    threshold: float


class Neighbours:
    """The search for nearest training samples."""

    def __init__(self, data: DataSet):
        n = len(data.train)
        self.index = torch.linspace(0, n - 1, min(n, MOST)).round().long()
        self.data = data
        self.train = data.vectors(data.x("train", self.index))
        held = torch.linspace(0, len(data.test) - 1, min(len(data.test), HELD_OUT)).round().long()
        self.held_out = nearest(data.vectors(data.x("test", held)), self.train)[0]

    def __call__(self, x: Tensor) -> Found:
        """Find the nearest training sample of each of the samples x, in the units of the data."""
        distances, rows = nearest(self.data.vectors(x), self.train)
        threshold = float(np.quantile(self.held_out, EXPECTED))
        return Found(
            self.index.numpy()[rows],
            distances,
            distances <= threshold,
            copy_rate(distances, self.held_out).value,
            float(np.median(self.held_out)),
            threshold,
        )
