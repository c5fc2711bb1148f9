"""The evaluator. It is prepared once with real data and then evaluates any number of models or sets of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral import metrics as m
from ancestral import registry
from ancestral.app import records
from ancestral.app.data import DataSet
from ancestral.app.data.assemble import LEAST
from ancestral.app.data.cache import cache_dir, keep
from ancestral.app.evaluation.classes import class_agreement, classification_accuracy
from ancestral.app.evaluation.extractors import Extractor, choose, extractor
from ancestral.app.evaluation.extractors.classifier import OwnClassifier
from ancestral.app.evaluation.likelihood import likelihood
from ancestral.app.evaluation.projection import Projection
from ancestral.app.evaluation.reconstruction import fidelities, returned
from ancestral.app.evaluation.reference import Against, reference_of
from ancestral.app.evaluation.result import DIRECTIONS, Evaluation, Metric
from ancestral.app.evaluation.samples import Samples
from ancestral.app.evaluation.subject import Subject
from ancestral.app.evaluation.truth import true_density
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import DamageError, UsageError
from ancestral.metrics import Estimate
from ancestral.models import HasReconstruction
from ancestral.runtime import Runtime
from ancestral.suggest import unknown

FORMAT = 7  # version of the figures of real data in the cache
N = 2000
Values = dict[tuple[str, str], Estimate]  # by metric and extractor ("" for a metric without extractor)
TAKES = ("features", "standardised", "whitened", "components", "equal features", "samples", "evaluator")


class Evaluator:
    """Evaluator of samples with the metrics of real data at the same number of samples.

    Args:
        data: The real data.
        against: The split that samples are compared with: "test", "train" or "all".
        n: Number of samples to compare. Small data sets use fewer; see `self.n`.
        extractors: Names of extractors, or extractors. None: those that suit the data. If the classifier is one of them, it
            is trained here.
        runtime: Device and precision of the extractors.
        weights: The file of the standard FID's weights.
        progress: A function that is called with a sentence about work that takes long.

    Raises:
        UsageError: If the data are too small or do not suit an extractor.
    """

    def __init__(
        self,
        data: DataSet,
        *,
        against: Against = "test",
        n: int = N,
        extractors: Sequence[str | Extractor] | None = None,
        runtime: Runtime | None = None,
        weights: Path | None = None,
        progress: Progress = silent,
    ):
        self.notes = data.sampled.notes[len(data.notes) :]
        self.data = data = data.sampled
        self.progress = progress
        self.runtime = runtime or Runtime.choose(parameters=10**6)
        self.reference = reference_of(data, against, n)
        self.n = self.reference.n
        if bool((self.reference.samples == self.reference.samples[:1]).all()):
            raise UsageError(
                f"all {len(self.reference.samples):,} reference samples of {data.spec.name} are equal, so a distance from them "
                "says nothing: give data that vary"
            )
        self.extractors: list[Extractor] = [
            extractor(e, data, self.runtime, progress, weights) if isinstance(e, str) else e
            for e in extractors or choose(data, weights)
        ]
        features = [self.reference.features(e, e is self.extractors[0], progress) for e in self.extractors]
        self.reference_features = [f["reference"] for f in features]
        self.real_features = [f["real"] for f in features]
        self.train_features, self.test_features = features[0]["train"], features[0]["test"]
        self.projections = [Projection(x, self.n) for x in self.reference_features]
        self.scales = [m.Scale.of(f["units"]) for f in features]
        self.whitenings = [m.Whitening.of(f["units"]) for f in features]

    @property
    def descriptions(self) -> dict[str, str]:
        """The description of each extractor, by name."""
        return {e.name: e.about + p.about for e, p in zip(self.extractors, self.projections, strict=True)}

    def evaluate(self, subject: Subject) -> Evaluation:
        """Compute all metrics of the subject's first `n` samples, and keep the evaluation in the subject.

        Raises:
            UsageError: If the samples have another shape than the data, or are too few.
        """
        self._check(subject)
        size = len(subject.samples)
        evaluation = self._evaluate(subject) if size >= self.n else self._with_n(size)._evaluate(subject)
        subject.keep(self, evaluation)
        return evaluation

    def _check(self, subject: Subject) -> None:
        shape, n = tuple(subject.samples.x.shape[1:]), len(subject.samples)
        if shape != self.data.spec.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (shape, self.data.spec.shape))
            raise UsageError(
                f"the samples of {subject.name} have the shape {theirs} and those of {self.data.spec.name} {ours}: "
                "the shapes must be the same"
            )
        if n < LEAST:
            raise UsageError(f"{subject.name} has {n} samples; at least {LEAST} are needed for an evaluation")

    def _with_n(self, n: int) -> Evaluator:
        """Return the same evaluator for fewer samples."""
        fewer = Evaluator(
            self.data,
            against=self.reference.against,
            n=n,
            extractors=self.extractors,
            runtime=self.runtime,
            progress=self.progress,
        )
        fewer.notes = self.notes
        return fewer

    def _evaluate(self, subject: Subject) -> Evaluation:
        samples, model = subject.samples.take(self.n), subject.model
        found = [subject.features(e, self.n, self.progress) for e in self.extractors]
        labels = None if samples.labels is None else samples.labels.numpy()
        values = self._registered(samples.x, found, self.reference.samples, self.reference_features, _metrics(), labels)
        values |= self._copies(found[0]) | self._true(samples.x)
        values["duplicates", ""] = m.duplicate_rate(m.nearest(found[0], found[0], own=True)[0], self._within_real)
        classes = self._classes(samples)
        values |= classes
        real = self._real | (self._real_classes if classes else {})
        rows = [_metric(kind, e, value, real.get((kind, e))) for (kind, e), value in values.items()]
        rows += self._reconstructions(model) if isinstance(model, HasReconstruction) else []
        rows += likelihood(model, self.data, self.progress) if model is not None else []
        return Evaluation(
            subject=subject.name,
            family=subject.family,
            source=self.data.spec.name,
            against=self.reference.against,
            reference=len(self.reference.samples),
            n=self.n,
            extractors=self.descriptions,
            coarse=all(e.coarse for e in self.extractors),
            metrics=tuple(rows),
            cost=dict(subject.cost),
            how=dict(subject.how),
            notes=(*subject.notes, *self.notes),
        )

    def _registered(
        self,
        x: Tensor,
        x_features: Sequence[np.ndarray],
        reference: Tensor,
        reference_features: Sequence[np.ndarray],
        metrics: Sequence[registry.Entry],
        labels: np.ndarray | None = None,
    ) -> Values:
        """Compute the registered metrics, which compare samples, or features of extractors, with those of a reference.

        labels: the classes that a conditional model was asked for; the reference is then the evaluator's.
        """
        values: Values = {}
        strata = (labels, self.reference.strata if reference is self.reference.samples else None)
        units = zip(self.projections, self.scales, self.whitenings, strict=True)
        features = zip(self.extractors, x_features, reference_features, units, strict=True)
        for i, (e, ours, theirs, (project, scale, whiten)) in enumerate(features):
            self.progress(f"distances ({e.name})")
            size = min(len(ours), len(theirs))
            inputs = {
                "features": (ours, theirs),
                "standardised": (scale(ours), scale(theirs)),
                "whitened": (whiten(ours), whiten(theirs)),
                "components": (project(ours), project(theirs)),
                "equal features": (ours[:size], theirs[:size]),
                "samples": (x, reference),
            }
            results: dict[Any, Any] = {}  # by function, since one may compute several metrics
            for metric in metrics:
                takes = metric.facts.get("takes", "features")
                if takes not in inputs or (i > 0 and not metric.facts.get("every")):
                    continue
                if metric.value not in results:
                    results[metric.value] = metric.value(*inputs[takes], *(strata if metric.facts.get("strata") else ()))
                result = results[metric.value]
                key = metric.name, "" if takes == "samples" else e.name
                values[key] = result[metric.name] if isinstance(result, Mapping) else result
        return values

    def _reconstructions(self, model: HasReconstruction) -> list[Metric]:
        """Measure the reconstructions of at most n held-out samples. The distance has that of other real samples beside it."""
        test = self.reference.test
        rows = torch.linspace(0, len(test) - 1, min(self.n, len(test))).long()
        x, y = returned(model, self.data, rows, self.progress)
        found = [_metric(kind, "", value, None) for kind, value in fidelities(x, y, self.data.spec.range).items()]
        e, project = self.extractors[0], self.projections[0]
        theirs, ours = project(self.test_features[rows.numpy()]), project(e(y, self.progress))
        real = m.frechet(project(self.real_features[0][: len(rows)]), theirs)
        return [*found, _metric("rfd", e.name, m.frechet_pairs(ours, theirs), real)]

    def _copies(self, x: np.ndarray) -> Values:
        """Measure copies of the training set among features x, in comparison with held-out samples."""
        self.progress("nearest training samples")
        to_train, held_out_to_train = (m.nearest(a, self.train_features)[0] for a in (x, self.test_features))
        cells = self._cells()
        ours, theirs = (None, None) if cells is None else (cells(x), cells(self.test_features))
        z, deviation = m.data_copying(to_train, held_out_to_train, ours, theirs)
        return {("copy-rate", ""): m.copy_rate(to_train, held_out_to_train), ("c_t", ""): Estimate(z, deviation, len(x))}

    def _cells(self) -> Callable[[np.ndarray], np.ndarray] | None:
        count = min(10, len(self.test_features) // 100)
        if count < 2:
            return None
        from sklearn.cluster import KMeans

        some = self.train_features[:: max(1, len(self.train_features) // 5000)]
        means = KMeans(count, random_state=0, n_init=1).fit(some)
        return lambda x: np.asarray(means.predict(x.astype(some.dtype)))

    def _true(self, x: Tensor) -> Values:
        truth = true_density(self.data.spec.name, self.data.spec.fingerprint)
        return {} if truth is None else {(kind, ""): value for kind, value in truth(x).items()}

    def _classes(self, samples: Samples) -> Values:
        labels, test_labels = samples.labels, self.data.test.labels
        if self._classifier is None or labels is None or test_labels is None:
            return {}
        learned = classification_accuracy(
            samples, self.reference.test, test_labels, len(self.data.spec.classes), self.runtime, self.progress
        )
        return {("class-agreement", ""): class_agreement(self._classifier, samples.x, labels), ("cas", ""): learned}

    @property
    def _classifier(self) -> OwnClassifier | None:
        return next((e for e in self.extractors if isinstance(e, OwnClassifier)), None)

    @cached_property
    def _within_real(self) -> np.ndarray:
        """The distance of each real sample to the nearest other one."""
        return m.nearest(self.real_features[0], self.real_features[0], own=True)[0]

    @cached_property
    def _real(self) -> Values:
        """The metrics of real data in place of the samples. For copies, the value that is expected for new data.

        Metrics of other packages are computed each time, since their code may change. The others are cached.
        """
        return self._cached("", self._measured_real) | self._real_metrics(_metrics(own=False))

    @cached_property
    def _real_classes(self) -> Values:
        """The metrics of classes of real data, which only samples with classes need: a classifier is trained for them."""
        return self._cached("classes ", self._measured_classes)

    def _cached(self, part: str, measure: Callable[[], Values]) -> Values:
        """Return a part of the metrics of real data from the cache, or measure and keep it."""
        key = f"{FORMAT} {part}{self.reference.key} {sorted(self.descriptions.items())}"
        file = cache_dir() / "real" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.json"
        try:
            stored = records.read(file, dict[str, list[tuple[str, str, Estimate]]], "it is measured again")
            return {(kind, e): value for kind, e, value in stored["values"]}
        except (DamageError, KeyError) as error:
            self.progress(str(error))
        except FileNotFoundError:
            pass
        values = measure()
        keep(file, records.dump({"values": [[kind, e, asdict(v)] for (kind, e), v in values.items()]}), self.progress)
        return values

    def _real_metrics(self, metrics: Sequence[registry.Entry]) -> Values:
        """Compute the registered metrics of n real samples in place of samples, or their value for a perfect model.

        The reference is that of all samples, because its classes can be balanced: samples are nearer to such a reference than
        to a random one. Kernel distances take the shares of the classes into account, and so compare two random parts of both
        sets together. These are exchangeable, so their distance has the expectation 0.
        """
        real, reference = self.reference.real, self.reference.samples
        exchanged = [metric for metric in metrics if metric.facts.get("strata")]
        others = [metric for metric in metrics if not metric.facts.get("strata")]
        order = np.random.RandomState(2).permutation(len(real) + len(reference))
        rows, rest = order[: len(real)], order[len(real) :]
        both = torch.cat([real, reference])
        features = [np.concatenate(pair) for pair in zip(self.real_features, self.reference_features, strict=True)]
        return self._registered(real, self.real_features, reference, self.reference_features, others) | self._registered(
            both[torch.from_numpy(rows)],
            [f[rows] for f in features],
            both[torch.from_numpy(rest)],
            [f[rest] for f in features],
            exchanged,
        )

    def _measured_real(self) -> Values:
        self.progress("real against real")
        real, test = self.reference.real, self.reference.test
        values = self._real_metrics(_metrics(own=True)) | self._true(real)
        values["duplicates", ""] = m.duplicate_rate(self._within_real, self._within_real)
        values["copy-rate", ""] = m.expected_copies(len(test))
        values["c_t", ""] = Estimate(0.0, None, len(test))
        return values

    def _measured_classes(self) -> Values:
        values: Values = {}
        if self._classifier is not None and self.reference.real_labels is not None:
            values |= self._classes(Samples(self.reference.real, self.reference.real_labels))
            values["class-agreement", ""] = Estimate(self._classifier.accuracy, None, len(self.reference.test))
        return values


def _metrics(own: bool | None = None) -> list[registry.Entry]:
    """Return the registered metrics. Raises UsageError if one is registered with unknown facts.

    Args:
        own: True: only the metrics of this package. False: only those of other packages. None: all.
    """
    found = [registry.entry("metric", name) for name in registry.names("metric")]
    for metric in found:
        for fact, known in (("better", DIRECTIONS), ("takes", TAKES)):
            if (value := metric.facts.get(fact, "features" if fact == "takes" else None)) not in known:
                raise UsageError(f"the metric {metric.name!r} is registered with " + unknown(fact, value, known))
    return [metric for metric in found if own is None or _is_own(metric) == own]


def _is_own(metric: registry.Entry) -> bool:
    return str(getattr(metric.value, "__module__", "")).startswith("ancestral.")


def _metric(kind: str, extractor: str, value: Estimate, real: Estimate | None) -> Metric:
    metric = registry.entry("metric", kind)
    return Metric(f"{kind}-{extractor}" if extractor else kind, value, real, metric.facts["better"], metric.meaning, kind)
