"""Metrics of toy data whose true density is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ancestral.app.data import load
from ancestral.app.data.toys import DENSITIES
from ancestral.metrics import Estimate
from ancestral.registry import register
from ancestral.schedules import CLEAN

WITHIN = 4.0  # deviations from a mode's mean at which a sample still belongs to it
ENOUGH = 0.25  # a mode is found if it has at least this part of its true share of samples


@register(
    "metric", "modes", "components of the true mixture that have their share of samples", better="higher", takes="evaluator"
)
@register(
    "metric",
    "true-log-density",
    "mean log density of samples under the truth, in nats",
    better="as real",
    takes="evaluator",
)
def true_density(name: str, fingerprint: str) -> Callable[[Tensor], dict[str, Estimate]] | None:
    """Return a function that measures points `(n, 2)`: mean true log density, and for separate Gaussians the modes found.

    It is None if `name` is not a toy data set, or if the fingerprint is that of other data with the same name.
    """
    if name not in DENSITIES or load(name).spec.fingerprint != fingerprint:
        return None
    oracle = DENSITIES[name]()

    def measured(x: Tensor) -> dict[str, Estimate]:
        n = len(x)
        found = {"true-log-density": Estimate.mean(oracle.log_density(x.double(), CLEAN))}
        modes = len(oracle.weights)
        if modes <= 32:  # separate Gaussians, not the nodes of a curve
            distance = np.linalg.norm(x.double().numpy()[:, None] - oracle.means.numpy(), axis=2)
            std = oracle.variances.sqrt().numpy().max(1)
            near = distance.argmin(1)
            inside = distance[np.arange(n), near] < WITHIN * std[near]
            share = np.bincount(near[inside], minlength=modes) / n
            hit = int((share > ENOUGH * oracle.weights.numpy()).sum())
            found["modes"] = Estimate(float(hit), None, n)
        return found

    return measured
