"""The Vendi score: how many different samples there are."""

from __future__ import annotations

import numpy as np

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.registry import register


def vendi(x: np.ndarray, centre: np.ndarray | None = None) -> Estimate:
    """Return exp(-sum_i l_i log l_i) over the eigenvalues l of K/n, where K holds the cosine similarities.

    Source: Friedman & Dieng 2022 (arXiv:2210.02410). The score is 1 if all are alike, and n if all are orthogonal. The
    eigenvalues of K/n = XX'/n, up to zeros, are those of the d x d matrix X'X/n of unit vectors; the smaller matrix is used.

    Args:
        x: Features `(n, d)`.
        centre: A vector `(d,)` that is subtracted first, such as the mean of the reference.
    """
    centred = x if centre is None else x - centre
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)

    def score(rows: np.ndarray) -> float:
        part = unit[rows]
        values = np.linalg.eigvalsh((part @ part.T if len(part) < part.shape[1] else part.T @ part) / len(part))
        values = values[values > 1e-12]
        return float(np.exp(-(values * np.log(values)).sum()))

    return Estimate(score(np.arange(len(x))), half_samples(score, len(x)), len(x))


@register("metric", "vendi", "how many different samples there are", better="as real")
def centred_vendi(x: np.ndarray, reference: np.ndarray) -> Estimate:
    """Return the Vendi score about the mean of the reference."""
    return vendi(x, reference.mean(0))
