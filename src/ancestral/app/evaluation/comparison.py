"""Comparison of several models: which is better, by how much, and whether the difference is real.

The verdict follows one rule. A is better than B if the kernel distance to the data is smaller for A in the features of every
extractor, by a paired permutation test (samples of the same seeds) whose p-values, adjusted by Holm for all pairs, are below
0.05. If extractors disagree or a test is not significant, neither is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ancestral.app.evaluation.evaluator import Evaluator
from ancestral.app.evaluation.subject import Subject
from ancestral.metrics import Estimate, holm, kid, paired_permutation

LEVEL = 0.05
PAIRED = 1000  # samples of each subject in a test
RULE = (
    "A is called better than B if the kernel distance to held-out data is smaller for A in the features of every extractor, "
    "by a paired permutation test whose Holm-adjusted p-values are below 0.05."
)


@dataclass(frozen=True)
class Pair:
    """The test of two subjects, of which at least one is not a baseline.

    Attributes:
        a, b: Their names.
        differences: KID(a) - KID(b) by extractor.
        p_values: The adjusted p-values by extractor.
        better: The name of the better one, or None.
    """

    a: str
    b: str
    differences: dict[str, float]
    p_values: dict[str, float]
    better: str | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several subjects in order, the tests of their differences, and the verdict in plain words.

    Attributes:
        subjects: The subjects, the best first by the headline distance. Subjects that copy and baselines are last.
        pairs: The tests.
        verdict: The sentences of the verdict.
        rule: The rule by which one subject is called better than another.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    verdict: tuple[str, ...]
    rule: str = RULE

    @classmethod
    def of(cls, subjects: Sequence[Subject], evaluator: Evaluator) -> Comparison:
        """Evaluate the subjects that this evaluator has not evaluated yet, test all pairs and write the verdict.

        Raises:
            ValueError: If two subjects have the same name.
        """
        if len({s.name for s in subjects}) < len(subjects):
            raise ValueError("the subjects of a comparison need different names")
        for subject in subjects:
            if not subject.evaluated_by(evaluator):
                evaluator.evaluate(subject)
        ordered = sorted(subjects, key=lambda s: (s.baseline, s.copies, s.evaluation.headline.value.value))
        tested = cls(tuple(ordered), tuple(_test(ordered, evaluator)), ())
        return replace(tested, verdict=tuple(_verdict(tested)))

    def better(self, a: str, b: str) -> bool:
        """Return whether a is better than b by the rule."""
        return any(pair.better == a and {pair.a, pair.b} == {a, b} for pair in self.pairs)


def _test(subjects: Sequence[Subject], evaluator: Evaluator) -> list[Pair]:
    couples = [(a, b) for a, b in combinations(subjects, 2) if not (a.baseline and b.baseline)]
    if not couples:
        return []
    n = min(PAIRED, *(len(s.samples) for s in subjects))
    p_values: dict[str, list[float]] = {}
    differences: dict[str, list[float]] = {}
    for e, reference, scale in zip(evaluator.extractors, evaluator.reference_features, evaluator.scales, strict=True):
        some = scale(reference[:: max(1, math.ceil(len(reference) / 4000))])
        found = {s.name: scale(s.features(e, n, evaluator.progress)) for s in subjects}
        distance = {name: kid(x, some).value for name, x in found.items()}
        differences[e.name] = [distance[a.name] - distance[b.name] for a, b in couples]
        p_values[e.name] = holm([paired_permutation(found[a.name], found[b.name], some) for a, b in couples])
        evaluator.progress(f"tests ({e.name})")
    pairs = []
    for i, (a, b) in enumerate(couples):
        by = {name: values[i] for name, values in differences.items()}
        p = {name: values[i] for name, values in p_values.items()}
        sure = all(value < LEVEL for value in p.values())
        better = a.name if all(d < 0 for d in by.values()) else b.name if all(d > 0 for d in by.values()) else None
        pairs.append(Pair(a.name, b.name, by, p, better if sure else None))
    return pairs


def _verdict(comparison: Comparison) -> list[str]:
    models = [c for c in comparison.subjects if not c.baseline]
    honest = [c for c in models if not c.copies]
    sentences = [
        f"{c.name} repeats its training data: {c.evaluation['copy-rate'].value.value:.0%} of its samples are nearer to them "
        "than 99 % of held-out data are, so its distance does not show what it has learned."
        for c in comparison.subjects
        if c.copies
    ]
    if honest:
        sentences += _quality(comparison, honest) + _speed(comparison, honest) + _variety(honest) + _likelihoods(honest)
    baselines = [c.name for c in comparison.subjects if c.baseline and not c.copies]
    for model in models:
        for word, names in (
            ("beats", [name for name in baselines if comparison.better(model.name, name)]),
            ("loses to", [name for name in baselines if comparison.better(name, model.name)]),
        ):
            if names:
                sentences.append(
                    f"{model.name} {word} {_listed(names)}, which need{'s' if len(names) == 1 else ''} no training."
                )
    if any(c.evaluation.coarse for c in comparison.subjects):
        sentences.append("The features are those of a random network, so the order is only a rough guide.")
    return sentences


def _quality(comparison: Comparison, honest: Sequence[Subject]) -> list[str]:
    best, *others = honest
    metric = best.evaluation.headline
    figure = f"{metric.name} {metric.value}" + (f", real data {metric.real}" if metric.real else "")
    worse = [c.name for c in others if comparison.better(best.name, c.name)]
    equal = [c.name for c in others if c.name not in worse]
    if not others:
        return [f"{best.name}: {figure}."]
    if not equal:
        return [f"{best.name} is best on quality ({figure})."]
    text = f"{best.name} has the smallest distance ({figure}), but {_listed(equal)} cannot be distinguished from it"
    return [text + (f"; it is better than {_listed(worse)}." if worse else ".")]


def _speed(comparison: Comparison, honest: Sequence[Subject]) -> list[str]:
    timed = [(c.evaluation.cost["samples_per_second"], c) for c in honest if "samples_per_second" in c.evaluation.cost]
    if len(timed) < 2:
        return []
    rate, fastest = max(timed, key=lambda pair: pair[0])
    best = honest[0]
    if fastest is best:
        return [f"{best.name} is also the fastest to sample ({rate:,.0f} a second)."]
    times = rate / best.evaluation.cost["samples_per_second"] if "samples_per_second" in best.evaluation.cost else 0
    recall = _recall(fastest), _recall(best)
    aside = ""
    if recall[0] and recall[1]:
        gap = recall[0].value - recall[1].value
        error = math.hypot(recall[0].std_err or 0, recall[1].std_err or 0)
        if abs(gap) < 2 * error:
            aside = " and within error on recall"
        else:
            aside = f" but has {'less' if gap < 0 else 'more'} recall ({recall[0].value:.2f} against {recall[1].value:.2f})"
    return [f"{fastest.name} is {times:,.1f} times faster to sample than {best.name}{aside}."]


def _recall(c: Subject) -> Estimate | None:
    metric = c.evaluation.get(f"recall-{next(iter(c.evaluation.extractors))}")
    return metric.value if metric else None


def _variety(honest: Sequence[Subject]) -> list[str]:
    """Return sentences about models that leave out a part of the data (low coverage, high precision) or repeat samples."""
    found = []
    for c in honest:
        first = next(iter(c.evaluation.extractors))
        coverage, precision = c.evaluation.get(f"coverage-{first}"), c.evaluation.get(f"precision-{first}")
        if coverage is None or precision is None or coverage.real is None or precision.real is None:
            continue
        kept, fine = coverage.value.value / coverage.real.value, precision.value.value / precision.real.value
        if kept < 0.7 and fine > 0.85:
            found.append(
                f"{c.name} leaves out a part of the data: its samples look right, but cover {kept:.0%} of what real data cover."
            )
        if (duplicates := c.evaluation.get("duplicates")) and duplicates.value.value > 0.1:
            found.append(f"{c.name} repeats itself: {duplicates.value.value:.0%} of its samples are duplicates.")
    return found


def _likelihoods(honest: Sequence[Subject]) -> list[str]:
    """Return a sentence about the best likelihood in each column. Bounds of different kinds are in different columns."""
    found = []
    columns = sorted({m.name for c in honest for m in c.evaluation.metrics if m.kind == "bits"})
    for column in columns:
        rows = [(metric.value, c) for c in honest if (metric := c.evaluation.get(column))]
        if len(rows) > 1:
            value, best = min(rows, key=lambda row: row[0].value)
            found.append(f"{best.name} has the best likelihood ({column} {value}).")
    return found


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
