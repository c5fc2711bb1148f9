"""Comparison of several models: which is better, by how much, and whether the difference is real.

The verdict follows one rule. A is better than B if the kernel distance to the data (mmd) is smaller for A in the most
trustworthy features, those of the first extractor, with a p-value of "both are equally far from the data" below 0.05, adjusted
by Holm for all pairs, and if no other extractor shows the contrary in the same way. The error counts the samples, the reference
and, for a model that was trained several times, the spread between its trainings. `benchmarks/verdicts.py` measures how often
it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ancestral.app.evaluation.evaluator import Evaluator
from ancestral.app.evaluation.subject import Subject
from ancestral.app.evaluation.verdict import verdict
from ancestral.metrics import difference, holm, mmd_jackknife

LEVEL = 0.05
MOST, REFERENCE = 2000, 4000  # samples of each subject, and of the reference, in a test
RULE = (
    "A is called better than B if the kernel distance to the data (mmd) is smaller for A in the features of the first "
    "extractor, the p-value of the hypothesis that both are equally far from the data, adjusted by Holm for all pairs, is "
    "below 0.05, and no other extractor shows the contrary in the same way. "
)
ONE = "The test counts the error of the samples and of the held-out data, but not the spread between trainings."
SEVERAL = "The test (Welch's t) counts the error of the samples and of the held-out data, and the spread between trainings."


@dataclass(frozen=True)
class Pair:
    """The test of two subjects, of which at least one is not a baseline.

    Attributes:
        a, b: Their names.
        differences: mmd(a) - mmd(b) by extractor, of means over trainings.
        p_values: The adjusted p-values by extractor.
        better: The name of the better one, or None.
    """

    a: str
    b: str
    differences: dict[str, float]
    p_values: dict[str, float]
    better: str | None

    @property
    def nearer(self) -> dict[str, str]:
        """The name of the nearer one to the data, by each extractor that shows a difference."""
        shown = [name for name, p in self.p_values.items() if p < LEVEL]
        return {name: self.a if self.differences[name] < 0 else self.b for name in shown}

    @property
    def contradiction(self) -> str | None:
        """A sentence if extractors show the contrary of each other, or None."""
        found = self.nearer
        if len(set(found.values())) < 2:
            return None
        by = " and ".join(f"{winner} is nearer to the data in the features {name}" for name, winner in found.items())
        return f"The features contradict each other on {self.a} and {self.b}: {by}."


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several subjects in order, the tests of their differences, and the verdict in plain words.

    Attributes:
        subjects: The subjects, the best first by the headline distance. Subjects that copy and baselines are last.
        pairs: The tests.
        verdict: The sentences of the verdict. The first is the answer.
        rule: The rule by which one subject is called better than another.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    verdict: tuple[str, ...]
    rule: str = RULE + ONE

    @classmethod
    def of(cls, subjects: Sequence[Subject], evaluator: Evaluator) -> Comparison:
        """Evaluate the subjects that this evaluator has not evaluated yet, test all pairs and write the verdict.

        Raises:
            ValueError: If two subjects have the same name.
        """
        if len({s.name for s in subjects}) < len(subjects):
            raise ValueError("the subjects of a comparison need different names")
        for subject in (member for s in subjects for member in s.members):
            if not subject.evaluated_by(evaluator):
                evaluator.evaluate(subject)
        ordered = sorted(subjects, key=lambda s: (s.baseline, s.copies, s.evaluation.headline.value.value))
        rule = RULE + (SEVERAL if any(s.trainings for s in subjects) else ONE)
        tested = cls(tuple(ordered), tuple(_test(ordered, evaluator)), (), rule)
        answer, *others = verdict(tested.subjects, tested.better)
        models = {s.name for s in ordered if not s.baseline}
        contradicted = [pair.contradiction for pair in tested.pairs if {pair.a, pair.b} <= models and pair.contradiction]
        return replace(tested, verdict=(answer, *contradicted, *others))

    def better(self, a: str, b: str) -> bool:
        """Return whether a is better than b by the rule."""
        return any(pair.better == a and {pair.a, pair.b} == {a, b} for pair in self.pairs)


def _test(subjects: Sequence[Subject], evaluator: Evaluator) -> list[Pair]:
    couples = [(a, b) for a, b in combinations(subjects, 2) if not (a.baseline and b.baseline)]
    if not couples:
        return []
    n = min(MOST, *(len(member.samples) for s in subjects for member in s.members))
    every = slice(None, None, max(1, math.ceil(len(evaluator.reference.samples) / REFERENCE)))
    strata = None if evaluator.reference.strata is None else evaluator.reference.strata[every]
    p_values: dict[str, list[float]] = {}
    differences: dict[str, list[float]] = {}
    for e, reference, whiten in zip(evaluator.extractors, evaluator.reference_features, evaluator.whitenings, strict=True):
        some = whiten(reference[every])
        found = {}
        for s in subjects:
            features = [whiten(member.features(e, n, evaluator.progress)) for member in s.members]
            classes = [None if x.samples.labels is None else x.samples.labels[:n].numpy() for x in s.members]
            found[s.name] = [mmd_jackknife(x, some, of, strata) for x, of in zip(features, classes, strict=True)]
        tests = [difference(found[a.name], found[b.name]) for a, b in couples]
        differences[e.name] = [value for value, _ in tests]
        p_values[e.name] = holm([p for _, p in tests])
        evaluator.progress(f"tests ({e.name})")
    pairs = []
    for i, (a, b) in enumerate(couples):
        by = {name: values[i] for name, values in differences.items()}
        p = {name: values[i] for name, values in p_values.items()}
        pair = Pair(a.name, b.name, by, p, None)
        winner = pair.nearer.get(next(iter(by)))
        pairs.append(replace(pair, better=None if pair.contradiction else winner))
    return pairs
