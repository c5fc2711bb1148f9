"""Choice of the extractors that suit the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ancestral.app.data import DataSet
from ancestral.app.evaluation.extractors import inception
from ancestral.app.evaluation.extractors.base import Coordinates, Extractor, Pictures
from ancestral.app.evaluation.extractors.classifier import OwnClassifier
from ancestral.app.evaluation.extractors.efficientnet import efficientnet
from ancestral.app.evaluation.extractors.random_features import RandomFeatures
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import UsageError
from ancestral.networks import imagenet
from ancestral.runtime import Runtime
from ancestral.suggest import unknown

MOST = 2  # a ranking is claimed only if both agree

Make = Callable[[DataSet, Runtime, Progress, Path | None], Extractor]


def _coordinates(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    x = data.x().flatten(1).double().numpy()
    std = x.std(0)
    return Coordinates(x.mean(0), np.where(std > 0, std, 1.0))


def _random(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    about = "a network with random weights: a rough guide only"
    return Pictures("random", RandomFeatures(data.spec.shape), about, runtime, coarse=True)


EXTRACTORS: dict[str, Make] = {
    "classifier": lambda data, runtime, progress, _: OwnClassifier(data, runtime, progress),
    "efficientnet": lambda data, runtime, *_: efficientnet(data.spec.shape, runtime),
    "inception": lambda data, runtime, _, weights: inception.inception(runtime, weights),
    "random": _random,
    "coordinates": _coordinates,
}


def choose(data: DataSet, weights: Path | None = None) -> list[str]:
    """Return the names of at most two extractors that suit the data, the more trustworthy first.

    For vectors these are the coordinates. For images and signals they are a classifier of their classes; for images a network
    with ImageNet weights (Inception if its weights are given or cached, else EfficientNet if installed); and last random
    features.
    """
    spec = data.spec
    if len(spec.shape) == 1:
        return ["coordinates"]
    names = []
    if len(spec.classes) > 1:
        names.append("classifier")
    if spec.is_image and spec.shape[0] in (1, 3):
        if inception.find(weights):
            names.append("inception")
        if imagenet.available():
            names.append("efficientnet")
    return [*names, "random"][:MOST]


def extractor(
    name: str, data: DataSet, runtime: Runtime, progress: Progress = silent, weights: Path | None = None
) -> Extractor:
    """Make the extractor `name` for the data. Raises UsageError if the name is unknown or does not suit the data."""
    if name not in EXTRACTORS:
        raise UsageError(unknown("extractor", name, EXTRACTORS))
    if name == "classifier" and data.labels() is None:
        raise UsageError(f"the extractor classifier needs classes, and {data.spec.name} has none: choose another extractor")
    if name in ("efficientnet", "inception") and not data.spec.is_image:
        raise UsageError(f"the extractor {name} needs images, and {data.spec.name} has none: choose another extractor")
    return EXTRACTORS[name](data, runtime, progress, weights)
