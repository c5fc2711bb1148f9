"""Baselines that need no training. A model must be better than they are, and the metrics must recognise the copies.

Each draws n samples in the units of the data. If the data have classes, each class has its own fit. A baseline is a registered
function (training samples `(n, d)` float64, random generator) -> a function that draws n samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from ancestral.app.data import DataSet
from ancestral.app.evaluation.samples import Samples, at_levels, rows_for
from ancestral.builtin import built_in
from ancestral.registry import lookup

COMPONENTS = 64  # principal components
MIXTURE = 10  # Gaussians of a mixture
MIXTURE_FIT = 4_000  # training samples for the fit of a mixture, per class
LARGEST = 10_000  # training samples that a baseline uses, per class if there are classes
Draw = Callable[[int], np.ndarray]


def baseline(name: str, data: DataSet, n: int) -> Samples:
    """Return n samples of the baseline of that name. Raises UsageError for an unknown name."""
    x = data.column("x")
    random = np.random.default_rng(0)

    def drawing(rows: np.ndarray | None) -> Draw:
        some = np.arange(len(x)) if rows is None or not rows.any() else rows.nonzero()[0]
        some = random.permutation(some)[:LARGEST]
        draw: Draw = lookup("baseline", name)(data.values(x[torch.from_numpy(some)]).flatten(1).double().numpy(), random)
        return draw

    known, asked = data.labels("train"), data.labels("test")
    if known is None or asked is None:
        drawn, labels = drawing(None)(n), None
    else:
        labels = asked[rows_for(data, n)]
        drawn = np.empty((n, data.spec.dims))
        for c in range(len(data.spec.classes)):
            rows, mine = (labels == c).numpy(), (known == c).numpy()
            if rows.any():
                drawn[rows] = drawing(mine)(int(rows.sum()))
    made = torch.from_numpy(drawn).to(x.dtype if x.is_floating_point() else torch.float32)
    return Samples(at_levels(made.view(n, *data.spec.shape), data), labels)


class _Principal:
    """Principal components, x = mean + basis y. Their number is at most 64 and at most a quarter of the number of samples."""

    def __init__(self, x: np.ndarray):
        self.mean = x.mean(0)
        count = max(1, min(COMPONENTS, x.shape[1], len(x) // 4))
        _, _, vectors = np.linalg.svd(x - self.mean, full_matrices=False)
        self.basis = vectors[:count]
        self.y = (x - self.mean) @ self.basis.T

    def back(self, y: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.mean + y @ self.basis
        return result


@built_in("baseline", "gaussian")
def _gaussian(x: np.ndarray, random: np.random.Generator) -> Draw:
    """N(mean, covariance) in the leading principal components."""
    space = _Principal(x)
    covariance = np.atleast_2d(np.cov(space.y, rowvar=False)) if len(space.y) > 1 else np.zeros((1, 1))
    return lambda n: space.back(random.multivariate_normal(space.y.mean(0), covariance, n, method="eigh"))


@built_in("baseline", "mixture")
def _mixture(x: np.ndarray, random: np.random.Generator) -> Draw:
    """A Gaussian mixture in the leading principal components, fitted by scikit-learn."""
    from sklearn.mixture import GaussianMixture

    if len(x) < 2:
        return _gaussian(x, random)
    space = _Principal(x)
    count = max(1, min(MIXTURE, len(space.y) // (4 * space.y.shape[1])))
    rounds = GaussianMixture(count, random_state=0, reg_covar=1e-6 * max(float(space.y.var()), 1e-12), tol=1e-2, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EM may stop at its limit of iterations
        fitted = rounds.fit(space.y[:MIXTURE_FIT])
    return lambda n: space.back(random.permutation(fitted.sample(n)[0]))


@built_in("baseline", "kernel")
def _kernel(x: np.ndarray, random: np.random.Generator) -> Draw:
    """A training sample plus Gaussian noise of the width that makes held-out data most likely."""
    width = _width(x, random)

    def draw(n: int) -> np.ndarray:
        rows = random.integers(len(x), size=n)
        return x[rows] + width * random.normal(size=(n, x.shape[1]))

    return draw


def _width(x: np.ndarray, random: np.random.Generator) -> float:
    """Return the deviation of the kernel under which one part of the data is most likely given the other."""
    from scipy.special import logsumexp

    order = random.permutation(len(x))[:1000]
    held_out, kept = x[order[: len(order) // 2]], x[order[len(order) // 2 :]]
    if not len(held_out):
        return 0.0
    distance2 = torch.cdist(torch.from_numpy(held_out), torch.from_numpy(kept)).square().numpy()
    dims = x.shape[1]
    widths = np.sqrt(np.median(distance2.min(1)) / dims + 1e-24) * np.geomspace(0.02, 2, 25)
    scores = [(logsumexp(-distance2 / (2 * w**2), axis=1) - dims * np.log(w)).mean() for w in widths]
    return float(widths[int(np.argmax(scores))])


@built_in("baseline", "copy")
def _copy(x: np.ndarray, random: np.random.Generator) -> Draw:
    return lambda n: x[random.integers(len(x), size=n)]
