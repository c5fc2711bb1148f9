"""Choice of the extractors that suit the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ancestral.app.data import DataSet
from ancestral.app.evaluation.extractors import inception
from ancestral.app.evaluation.extractors.base import Coordinates, Extractor, Pictures
from ancestral.app.evaluation.extractors.classifier import OwnClassifier
from ancestral.app.evaluation.extractors.efficientnet import efficientnet
from ancestral.app.evaluation.extractors.random_features import RandomFeatures
from ancestral.app.training.stage import Progress, silent
from ancestral.builtin import built_in
from ancestral.errors import UsageError
from ancestral.networks import imagenet
from ancestral.registry import entry
from ancestral.runtime import Runtime

MOST = 2  # the first decides a ranking, unless the second shows the contrary
FEW = 1000  # training samples, with fewer of which a classifier knows too little of pictures


@built_in("extractor", "classifier", needs="classes")
def _classifier(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    return OwnClassifier(data, runtime, progress)


@built_in("extractor", "efficientnet", needs="images")
def _efficientnet(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    return efficientnet(data.spec.shape, runtime)


@built_in("extractor", "inception", needs="images")
def _inception(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    return inception.inception(runtime, weights)


@built_in("extractor", "coordinates")
def _coordinates(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    x = data.x().flatten(1).double().numpy()
    std = x.std(0)
    return Coordinates(x.mean(0), np.where(std > 0, std, 1.0))


@built_in("extractor", "random")
def _random(data: DataSet, runtime: Runtime, progress: Progress, weights: Path | None) -> Extractor:
    about = "a network with random weights: a rough guide only"
    return Pictures("random", RandomFeatures(data.spec.shape), about, runtime, coarse=True)


def choose(data: DataSet, weights: Path | None = None) -> list[str]:
    """Return the names of at most two extractors that suit the data, the more trustworthy first.

    For vectors these are the coordinates. For images and signals they are a classifier of their classes; for images a network
    with ImageNet weights (Inception if its weights are given or cached, else EfficientNet if installed), which comes first if
    the classifier would be trained on fewer than `FEW` samples; and last random features.
    """
    spec = data.spec
    if len(spec.shape) == 1:
        return ["coordinates"]
    own = ["classifier"] if len(spec.classes) > 1 else []
    trained = []
    if spec.is_image and spec.shape[0] in (1, 3):
        if inception.find(weights):
            trained.append("inception")
        if imagenet.available():
            trained.append("efficientnet")
    names = [*trained, *own] if len(data.train) < FEW else [*own, *trained]
    return [*names, "random"][:MOST]


def extractor(
    name: str, data: DataSet, runtime: Runtime, progress: Progress = silent, weights: Path | None = None
) -> Extractor:
    """Return the extractor of that name for the data.

    Args:
        name: The name under which a function (data, runtime, progress, weights) -> `Extractor` is registered. Its fact
            `needs` is "classes" or "images" if it is not for all data.
        data: The data, of whose samples it makes features.
        runtime: The device and the precision.
        progress: Called with one line of text on the way.
        weights: File of Inception's weights, or None.

    Raises:
        UsageError: For an unknown name, or one that is not for such data.
    """
    found = entry("extractor", name)
    needs = found.facts.get("needs")
    if needs == "classes" and data.labels() is None:
        raise UsageError(f"the extractor {name} needs classes, and {data.spec.name} has none: choose another extractor")
    if needs == "images" and not data.spec.is_image:
        raise UsageError(f"the extractor {name} needs images, and {data.spec.name} has none: choose another extractor")
    made: Extractor = found.value(data, runtime, progress, weights)
    return made
