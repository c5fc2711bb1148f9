"""A metric of one's own, as a plug-in package brings it: the energy distance, in one file outside the package."""

import numpy as np
from scipy.spatial.distance import cdist

import ancestral as an
from ancestral.metrics import Estimate, half_samples


@an.register("metric", "energy", "energy distance: 0 for equal distributions", better="lower", every=True)
def energy(x, reference):
    """2 E|x - y| - E|x - x'| - E|y - y'| (Szekely & Rizzo 2013) of features `(n, d)` and `(m, d)`."""
    between, among, known = cdist(x, reference), cdist(x, x), cdist(reference, reference).mean()

    def distance(rows):
        return 2 * between[rows].mean() - among[np.ix_(rows, rows)].mean() - known

    return Estimate(float(distance(np.arange(len(x)))), half_samples(distance, len(x)), len(x))


@an.register("metric", "brightness", "mean of all pixels", better="as real", takes="samples")
def brightness(x, reference):
    """The mean value of samples `(n, *shape)`."""
    means = x.flatten(1).mean(1)
    return Estimate(float(means.mean()), float(means.std() / len(x) ** 0.5), len(x))
