"""Metrics of classes: do samples show the requested class, and can a classifier learn the classes from them?"""

from __future__ import annotations

import math

from torch import Tensor

from ancestral.app.evaluation.extractors.classifier import OwnClassifier, fit, predict
from ancestral.app.evaluation.samples import Samples
from ancestral.app.training.stage import Progress, silent
from ancestral.metrics import Estimate
from ancestral.registry import register
from ancestral.runtime import Runtime

CAS_SEEN = 40_000  # samples seen by the classifier of the classification accuracy score


@register("metric", "class-agreement", "share recognised as the class asked for", better="higher", takes="evaluator")
def class_agreement(classifier: OwnClassifier, x: Tensor, labels: Tensor) -> Estimate:
    """Return the share of samples `(n, *shape)` that the data's classifier assigns to the requested class `(n,)`."""
    return _share(classifier.classes(x) == labels)


@register(
    "metric",
    "cas",
    "accuracy on real data of a classifier trained on samples alone",
    better="higher",
    takes="evaluator",
)
def classification_accuracy(
    samples: Samples, test: Tensor, test_labels: Tensor, classes: int, runtime: Runtime, progress: Progress = silent
) -> Estimate:
    """Return the classification accuracy score (Ravuri & Vinyals 2019, arXiv:1905.10887) on held-out data."""
    assert samples.labels is not None
    learned = fit(
        samples.x,
        samples.labels,
        classes,
        runtime,
        seen=min(CAS_SEEN, 60 * len(samples)),
        progress=progress,
        what="classifier of samples",
    )
    return _share(predict(learned, test, runtime) == test_labels)


def _share(right: Tensor) -> Estimate:
    share, n = right.double().mean().item(), len(right)
    return Estimate(share, math.sqrt(max(share * (1 - share), 1 / n) / n), n)
