"""The judge: prepared once with the real side, then asked about any number of models or sets of samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ancestral import metrics as m
from ancestral.app.data import DataSet
from ancestral.app.data.cache import cache_dir, keep
from ancestral.app.evaluation.extractors import choose, extractor
from ancestral.app.evaluation.extractors.classifier import OwnClassifier, fit, predict
from ancestral.app.evaluation.likelihood import likelihood
from ancestral.app.evaluation.projection import Projection
from ancestral.app.evaluation.reconstruction import fidelities, returned
from ancestral.app.evaluation.reference import Against, features, real_side
from ancestral.app.evaluation.result import Better, Evaluation, Metric
from ancestral.app.evaluation.samples import Samples
from ancestral.app.evaluation.truth import true_density
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import UsageError
from ancestral.metrics import Estimate
from ancestral.models import GenerativeModel, HasReconstruction
from ancestral.runtime import Runtime

FORMAT = 1  # of the figures of real data in the cache
N = 2000
CAS_SEEN = 40_000  # samples seen by the classifier of the classification accuracy score
MEANINGS = {
    "fd": "distance of the distributions, of two Gaussians fitted to features",
    "fd-infinity": "the same, extrapolated to infinitely many samples",
    "kid": "distance of the distributions by a kernel; 0 for equal ones at any n",
    "mmd": "distance by Gaussian kernels; 0 for equal ones at any n",
    "sliced-wasserstein": "how far samples have to be moved to become the data",
    "precision": "share of samples that could be data",
    "recall": "share of the data that could be samples",
    "density": "how crowded the data are where the samples lie",
    "coverage": "share of the data that have a sample nearby",
    "vendi": "how many different samples there are",
    "copy-rate": "share nearer to the training data than 99 % of held-out data are",
    "c_t": "z-score of being further from the training data than held-out data are; below -3: copies",
    "duplicates": "share that repeat one another",
    "class-agreement": "share recognised as the class asked for",
    "cas": "accuracy on real data of a classifier trained on samples alone",
    "true-log-density": "mean log density of samples under the truth, in nats",
    "psnr": "how close reconstructions of held-out samples are, in decibels",
    "ssim": "how alike they are in structure, at most 1",
    "rfd": "distance of held-out samples and their reconstructions, as fd; pairs, so that it may be below real data's",
    "modes": "components of the true mixture that have their share of samples",
}


class Evaluator:
    """Data, reference, extractors and all that is known of real data at n samples.

    against: the reference split. n: samples to compare; fewer where the data have fewer, see `self.n`. names: of extractors;
    None: those that suit the data. The classifier, where it is one of them, is trained when the judge is made.
    Raises UsageError where the data or an extractor do not allow it.
    """

    def __init__(
        self,
        data: DataSet,
        *,
        against: Against = "test",
        n: int = N,
        names: list[str] | None = None,
        runtime: Runtime | None = None,
        weights: Path | None = None,
        progress: Progress = silent,
    ):
        self.data, self.progress, self.weights = data, progress, weights
        self.runtime = runtime or Runtime.choose(parameters=10**6)
        self.real = real_side(data, against, n)
        self.n = self.real.n
        self.extractors = [extractor(name, data, self.runtime, progress, weights) for name in names or choose(data, weights)]
        self.reference = [features(e, self.real.reference, f"{self.real.key}-reference", progress) for e in self.extractors]
        self.floor = [features(e, self.real.floor, f"{self.real.key}-floor", progress) for e in self.extractors]
        first = self.extractors[0]
        self.train = features(first, self.real.train, f"{self.real.key}-train", progress)
        self.test = features(first, self.real.test, f"{self.real.key}-test", progress)
        self.projections = [Projection(reference, self.n) for reference in self.reference]
        self._floor_metrics: dict[str, Estimate] | None = None

    @property
    def told(self) -> dict[str, str]:
        """What each extractor is."""
        return {e.name: e.about + p.about for e, p in zip(self.extractors, self.projections, strict=True)}

    def evaluate(
        self,
        samples: Samples,
        subject: str,
        *,
        model: GenerativeModel | None = None,
        family: str | None = None,
        cost: Mapping[str, float] | None = None,
        how: Mapping[str, Any] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Evaluation:
        """All metrics of the first `n` samples. Raises UsageError for samples of another shape, or too few."""
        if tuple(samples.x.shape[1:]) != self.data.spec.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (samples.x.shape[1:], self.data.spec.shape))
            raise UsageError(
                f"the samples of {subject} are {theirs} and those of {self.data.spec.name} {ours}: compare like with like"
            )
        if len(samples) < 20:
            raise UsageError(f"{subject} has {len(samples)} samples; 20 are the least that can be judged")
        if len(samples) < self.n:
            return self._smaller(len(samples)).evaluate(
                samples, subject, model=model, family=family, cost=cost, how=how, notes=notes
            )
        samples = samples.take(self.n)
        found = [e(samples.x, self.progress) for e in self.extractors]
        values = self._distances(found) | self._memory(found[0], self.test) | self._true(samples.x)
        values["duplicates"] = m.duplicate_rate(m.nearest(found[0], found[0], own=True)[0], self._within)
        real = self._real()
        values |= self._classes(samples)
        rows = [self._metric(name, value, real.get(name)) for name, value in values.items()]
        rows += self._reconstructions(model) if isinstance(model, HasReconstruction) else []
        rows += likelihood(model, self.data, self.progress) if model is not None else []
        return Evaluation(
            subject=subject,
            family=family,
            source=self.data.spec.name,
            against=self.real.against,
            reference=len(self.real.reference),
            n=self.n,
            extractors=self.told,
            coarse=all(e.coarse for e in self.extractors),
            metrics=tuple(rows),
            cost=dict(cost or {}),
            how=dict(how or {}),
            notes=notes,
        )

    def _smaller(self, n: int) -> Evaluator:
        return Evaluator(
            self.data,
            against=self.real.against,
            n=n,
            names=[e.name for e in self.extractors],
            runtime=self.runtime,
            weights=self.weights,
            progress=self.progress,
        )

    def _metric(self, name: str, value: Estimate, real: Estimate | None) -> Metric:
        kind = next(key for key in sorted(MEANINGS, key=len, reverse=True) if name == key or name.startswith(key + "-"))
        lower = ("fd", "rfd", "fd-infinity", "kid", "mmd", "sliced-wasserstein")
        as_real = ("vendi", "copy-rate", "c_t", "duplicates", "density", "true-log-density")
        better: Better = "lower" if kind in lower else "as real" if kind in as_real else "higher"
        return Metric(name, value, real, better, MEANINGS[kind])

    def _distances(self, found: list[np.ndarray]) -> dict[str, Estimate]:
        """All that compares features with the reference's, the extractor's name in each metric's."""
        values: dict[str, Estimate] = {}
        for i, (e, x, reference, project) in enumerate(
            zip(self.extractors, found, self.reference, self.projections, strict=True)
        ):
            self.progress(f"distances ({e.name})")
            values[f"fd-{e.name}"] = m.frechet(project(x), project(reference))
            values[f"kid-{e.name}"] = m.kid(x, reference)
            if i > 0:
                continue
            values[f"fd-infinity-{e.name}"] = m.frechet_infinity(project(x), project(reference))
            size = min(len(x), len(reference))
            values |= {f"{name}-{e.name}": value for name, value in m.prdc(x[:size], reference[:size]).items()}
            values[f"sliced-wasserstein-{e.name}"] = m.sliced_wasserstein(x, reference)
            if len(self.data.spec.shape) == 1:
                values[f"mmd-{e.name}"] = m.mmd(x, reference)
            values[f"vendi-{e.name}"] = m.vendi(x, reference.mean(0))
        return values

    def _reconstructions(self, model: HasReconstruction) -> list[Metric]:
        """What comes back of as many held-out samples as are judged, or of all; beside it the distance of as many others."""
        rows = torch.linspace(0, len(self.real.test) - 1, min(self.n, len(self.real.test))).long()
        x, y = returned(model, self.data, rows, self.progress)
        found = [self._metric(name, value, None) for name, value in fidelities(x, y, self.data.spec.range).items()]
        e, project = self.extractors[0], self.projections[0]
        there, here = project(self.test[rows.numpy()]), project(e(y, self.progress))
        floor = m.frechet(project(self.floor[0][: len(rows)]), there)
        return [*found, self._metric(f"rfd-{e.name}", m.frechet_pairs(here, there), floor)]

    def _memory(self, x: np.ndarray, held_out: np.ndarray) -> dict[str, Estimate]:
        """Copies of the training set among features x, measured against held-out ones."""
        self.progress("nearest training samples")
        to_train, held_out_to_train = (m.nearest(a, self.train)[0] for a in (x, held_out))
        cells = self._cells()
        ours, theirs = (None, None) if cells is None else (cells(x), cells(held_out))
        z, deviation = m.data_copying(to_train, held_out_to_train, ours, theirs)
        return {"copy-rate": m.copy_rate(to_train, held_out_to_train), "c_t": Estimate(z, deviation, len(x))}

    def _cells(self) -> Callable[[np.ndarray], np.ndarray] | None:
        count = min(10, len(self.test) // 100)
        if count < 2:
            return None
        from sklearn.cluster import KMeans

        some = self.train[:: max(1, len(self.train) // 5000)]
        means = KMeans(count, random_state=0, n_init=1).fit(some)
        return lambda x: np.asarray(means.predict(x.astype(some.dtype)))

    @cached_property
    def _within(self) -> np.ndarray:
        """Distances of the floor's samples to each other."""
        return m.nearest(self.floor[0], self.floor[0], own=True)[0]

    def _true(self, x: torch.Tensor) -> dict[str, Estimate]:
        truth = true_density(self.data.spec.name, self.data.spec.fingerprint)
        return {} if truth is None else truth(x)

    def _real(self) -> dict[str, Estimate]:
        """The same metrics of real data in the samples' place; for memorisation, what is expected of new data."""
        if self._floor_metrics is None:
            key = f"{FORMAT} {self.real.key} {sorted(self.told.items())}"
            file = cache_dir() / "floors" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.json"
            if file.exists():
                stored = json.loads(file.read_text())
                self._floor_metrics = {name: Estimate(**value) for name, value in stored.items()}
            else:
                self._floor_metrics = self._measured_floor()
                stored = {name: asdict(value) for name, value in self._floor_metrics.items()}
                keep(file, json.dumps(stored).encode(), self.progress)
        return self._floor_metrics

    def _measured_floor(self) -> dict[str, Estimate]:
        self.progress("real against real")
        values = self._distances(self.floor) | self._true(self.real.floor)
        values["duplicates"] = m.duplicate_rate(self._within, self._within)
        values["copy-rate"] = Estimate(0.01, None, len(self.test))
        values["c_t"] = Estimate(0.0, None, len(self.test))
        if (judge := self._classifier) is not None and self.real.floor_labels is not None:
            values |= self._classes(Samples(self.real.floor, self.real.floor_labels))
            values["class-agreement"] = Estimate(judge.accuracy, None, len(self.test))
        return values

    @property
    def _classifier(self) -> OwnClassifier | None:
        return next((e for e in self.extractors if isinstance(e, OwnClassifier)), None)

    def _classes(self, samples: Samples) -> dict[str, Estimate]:
        """Whether samples show the class asked for, and whether a classifier can learn the classes from them."""
        judge = self._classifier
        if judge is None or samples.labels is None or (held_out := self.data.labels("test")) is None:
            return {}
        n = len(samples)
        right = (judge.classes(samples.x) == samples.labels).double().mean().item()
        classes = len(self.data.spec.classes)
        pupil = fit(
            samples.x,
            samples.labels,
            classes,
            self.runtime,
            seen=min(CAS_SEEN, 60 * n),
            progress=self.progress,
            what="classifier of samples",
        )
        learned = (predict(pupil, self.real.test, self.runtime) == held_out).double().mean().item()
        return {
            "class-agreement": Estimate(right, _binomial(right, n), n),
            "cas": Estimate(learned, _binomial(learned, len(self.real.test)), n),
        }


def _binomial(share: float, n: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / n) / n)
