"""Projection to fewer features, if there are too few samples for a covariance of all features."""

from __future__ import annotations

import numpy as np

MOST = 128
SAMPLES_PER_FEATURE = 4


class Projection:
    """The identity, or a projection to the leading principal components of the reference if it has too many features.

    A Fréchet distance needs the covariance of the features, and its bias grows with their number squared over n.

    Args:
        reference: Features of the reference, `(m, d)`.
        n: The number of generated samples.
    """

    def __init__(self, reference: np.ndarray, n: int):
        most = int(np.clip(min(n, len(reference)) // SAMPLES_PER_FEATURE, 2, MOST))
        self.about = ""
        self.basis: np.ndarray | None = None
        if reference.shape[1] > most:
            self.mean = reference.mean(0)
            _, vectors = np.linalg.eigh(np.cov(reference, rowvar=False))
            self.basis = vectors[:, ::-1][:, :most]
            self.about = f"; distances in its {most} leading principal components"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Project features `(n, d)` to `(n, d')`."""
        return x if self.basis is None else (x - self.mean) @ self.basis
