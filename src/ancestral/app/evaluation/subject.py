"""The subject of an evaluation: samples with a name and with the facts that a comparison and a report need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from ancestral.app.evaluation.extractors import Extractor
from ancestral.app.evaluation.result import Evaluation
from ancestral.app.evaluation.samples import Samples
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import UsageError
from ancestral.metrics import copies_by_chance
from ancestral.models import GenerativeModel

MUCH, CHANCE = 0.05, 0.002  # a copy rate that counts, and the p-value below which it is not chance


@dataclass(frozen=True)
class Cost:
    """Quality at one setting of the sampler: seconds per sample, and the headline distance with its error."""

    setting: str
    seconds: float
    distance: float
    std_err: float | None


@dataclass(eq=False)
class Subject:
    """A model, a baseline or any other samples, with a name that is unique within a comparison.

    Features and the evaluation are computed once. Reports, tests and pictures share them.

    Args:
        name: The name in tables and sentences.
        samples: The samples, in the units of the data.
        model: The model, for its reconstructions and likelihoods. None if there are only samples.
        family: The family of the model, or None.
        baseline: Whether it is a baseline, which needs no training.
        cost: samples_per_second, nfe, parameters, memory, training_seconds and images, if known.
        how: Options of the sampler.
        notes: Sentences for the reader of the evaluation.
        rows: The measurements during training, which are the rows of metrics.jsonl.
        recipe: The recipe as YAML.
        findings: The problems of the model that were found during training.
        costs: Quality at several settings of the sampler.
        trainings: If the model was trained several times, the subjects of the trainings. See `of_trainings`.
    """

    name: str
    samples: Samples
    model: GenerativeModel | None = None
    family: str | None = None
    baseline: bool = False
    cost: Mapping[str, float] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: Sequence[dict[str, Any]] = ()
    recipe: str = ""
    findings: Sequence[str] = ()
    costs: tuple[Cost, ...] = ()
    trainings: tuple[Subject, ...] = ()
    _features: dict[Extractor, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _evaluation: tuple[object, Evaluation] | None = field(default=None, init=False, repr=False)

    @classmethod
    def of_trainings(cls, name: str, trainings: Sequence[Subject]) -> Subject:
        """Return one subject for several trainings of a model that differ in their seeds.

        Its figures are those of `Evaluation.mean`. Its samples, curves and recipe are those of the
        first training.
        """
        first = trainings[0]
        keys = [key for key in first.cost if all(key in t.cost for t in trainings)]
        return replace(
            first,
            name=name,
            cost={key: fmean(t.cost[key] for t in trainings) for key in keys},
            findings=[f"{t.name}: {finding}" for t in trainings for finding in t.findings],
            trainings=tuple(trainings),
        )

    @property
    def members(self) -> tuple[Subject, ...]:
        """The subjects of the single trainings, or the subject itself if there is one."""
        return self.trainings or (self,)

    def features(self, extractor: Extractor, n: int, progress: Progress = silent) -> np.ndarray:
        """Return the features `(n, d)` of the first n samples. They are extracted once for the largest n asked for."""
        if self.trainings:
            return self.trainings[0].features(extractor, n, progress)
        known = self._features.get(extractor)
        if known is None or len(known) < min(n, len(self.samples)):
            known = self._features[extractor] = extractor(self.samples.x[:n], progress)
        return known[:n]

    def keep(self, evaluator: object, evaluation: Evaluation) -> None:
        """Store the evaluation and the evaluator that made it."""
        self._evaluation = evaluator, evaluation

    def evaluated_by(self, evaluator: object) -> bool:
        """Return whether this evaluator made the stored evaluation, or those of all trainings."""
        if self.trainings:
            return all(t.evaluated_by(evaluator) for t in self.trainings)
        return self._evaluation is not None and self._evaluation[0] is evaluator

    @property
    def evaluation(self) -> Evaluation:
        """The stored evaluation, or the mean of those of all trainings. Raises UsageError if there is none yet."""
        if self.trainings:
            return Evaluation.mean(self.name, [t.evaluation for t in self.trainings])
        if self._evaluation is None:
            raise UsageError(f"{self.name} has not been evaluated: call Evaluator.evaluate or Comparison.of first")
        return self._evaluation[1]

    @property
    def copies(self) -> bool:
        """Whether the samples repeat the training data: a copy rate above 5 % and not by chance, and a negative C_T.

        Chance counts that the threshold is uncertain if few samples are held out (`copies_by_chance`). A model that was trained
        several times copies if one of its trainings does.
        """
        if self.trainings:
            return any(t.copies for t in self.trainings)
        rate, expected = self.evaluation["copy-rate"].value, self.evaluation["copy-rate"].real
        if expected is None or rate.value <= MUCH or self.evaluation["c_t"].value.value >= 0:
            return False
        return copies_by_chance(rate.value, rate.n, expected.value, expected.n) < CHANCE
