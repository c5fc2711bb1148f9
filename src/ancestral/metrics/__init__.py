"""Distances and rates between two sets of feature vectors: mathematics on arrays, without models or files.

Every function takes float64 arrays `(n, d)`, the generated set first, and is deterministic: it draws its random numbers from a
stream of its own, so neither the order of calls nor a batch size changes a figure.

Each metric is registered under its name with its meaning and with these facts:

    better:  "lower", "higher" or "as real" (the value of real data is the best)
    takes:   what the function is called with
             "features"        (default) features of the samples `(n, d)` and of the reference `(m, d)`
             "standardised"    the same, standardised by the training split
             "whitened"        the same, in units in which the training split varies about equally in all directions
             "components"      the same, in the leading principal components of the reference if n is too small for all features
             "equal features"  the same number of rows of both
             "samples"         the samples themselves and the reference's, tensors `(n, *shape)` in the units of the data
             "evaluator"       the evaluator calls it with what only the evaluator has, such as the training set or the model
    every:   True: it is computed in the features of every extractor. False (default): only in those of the first extractor
    strata:  True: the function also takes the classes of the samples and of the reference `(n,)` if the number of each class
             was fixed and not drawn, else None

The function returns an `Estimate`; one that computes several metrics returns them by name and is registered once for each.
"""

from ancestral.metrics.estimate import Estimate, half_samples
from ancestral.metrics.frechet import frechet, frechet_infinity, frechet_pairs, gaussian_distance2
from ancestral.metrics.kernel import Jackknife, Scale, Whitening, difference, holm, kid, mmd, mmd_jackknife
from ancestral.metrics.memory import (
    EXPECTED,
    CopyTest,
    Nearness,
    copies_by_chance,
    copy_rate,
    copy_test,
    data_copying,
    duplicate_rate,
    expected_copies,
    nearest,
)
from ancestral.metrics.neighbours import Manifold, expected_coverage, neighbour_rates
from ancestral.metrics.sliced import sliced_wasserstein
from ancestral.metrics.vendi import centred_vendi, vendi

__all__ = [
    "EXPECTED",
    "CopyTest",
    "Estimate",
    "Jackknife",
    "Manifold",
    "Nearness",
    "Scale",
    "Whitening",
    "centred_vendi",
    "copies_by_chance",
    "copy_rate",
    "copy_test",
    "data_copying",
    "difference",
    "duplicate_rate",
    "expected_copies",
    "expected_coverage",
    "frechet",
    "frechet_infinity",
    "frechet_pairs",
    "gaussian_distance2",
    "half_samples",
    "holm",
    "kid",
    "mmd",
    "mmd_jackknife",
    "nearest",
    "neighbour_rates",
    "sliced_wasserstein",
    "vendi",
]
