"""Distances and rates between two sets of feature vectors: mathematics on arrays, which knows neither models nor files.

Every function takes float64 arrays `(n, d)`, the generated set first, and is deterministic: whatever it draws is drawn from a
stream of its own, so that neither the order of calls nor a batch size changes a figure.
"""

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.metrics.frechet import frechet, frechet_infinity, frechet_pairs, gaussian_distance2
from ancestral.metrics.kernel import holm, kid, mmd, paired_permutation
from ancestral.metrics.memory import copy_rate, data_copying, duplicate_rate, nearest
from ancestral.metrics.neighbours import Manifold, prdc
from ancestral.metrics.sliced import sliced_wasserstein
from ancestral.metrics.vendi import vendi

__all__ = [
    "Estimate",
    "Manifold",
    "copy_rate",
    "data_copying",
    "duplicate_rate",
    "frechet",
    "frechet_infinity",
    "frechet_pairs",
    "gaussian_distance2",
    "half_samples",
    "holm",
    "kid",
    "mmd",
    "nearest",
    "paired_permutation",
    "prdc",
    "sliced_wasserstein",
    "vendi",
]
