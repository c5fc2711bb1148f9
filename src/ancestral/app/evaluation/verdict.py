"""The verdict of a comparison in plain words: one sentence of answer, what to do next, then the evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import yaml

from ancestral.app.evaluation.result import Evaluation, Metric
from ancestral.app.evaluation.subject import Subject
from ancestral.app.training.budget import Budget
from ancestral.metrics import Estimate

LINES = 5  # of a verdict that everybody reads; the others are for those who ask


Better = Callable[[str, str], bool]


def verdict(subjects: Sequence[Subject], better: Better) -> tuple[str, ...]:
    """Return the sentences of the verdict, the answer first.

    Args:
        subjects: The subjects, the best first.
        better: A function of two names that returns whether the first is better than the second by the rule.
    """
    models = [s for s in subjects if not s.baseline]
    honest = [s for s in models if not s.copies]
    baselines = [s for s in subjects if s.baseline and not s.copies]
    sentences = [_answer(better, models, honest, baselines)]
    sentences += [
        f"{s.name} repeats its training data: {s.evaluation['copy-rate'].value.value:.0%} of its samples are nearer to them "
        "than 99 % of held-out data are, so its distance does not show what it has learned."
        for s in subjects
        if s.copies
    ]
    if len(subjects) == 1 and honest:
        sentences.append(_uncopied(honest[0].evaluation))
    if honest:
        sentences += _beaten(better, honest, baselines) + _speed(honest) + _variety(honest) + _likelihoods(honest)
    if any(s.evaluation.coarse for s in subjects):
        sentences.append("The features are those of a random network, so the order is only a rough guide.")
    once = [s for s in honest if s.family is not None and not s.trainings]
    if once and len(subjects) > 1:
        of = "each model" if len(once) == len(honest) else _listed([s.name for s in once])
        sentences.append(
            f"There is one training of {of}. The errors do not count the spread between trainings, so other trainings may have "
            "another order: `ancestral compare SOURCE --seeds 3` counts it."
        )
    return tuple(sentences)


def _answer(better: Better, models: Sequence[Subject], honest: Sequence[Subject], baselines: Sequence[Subject]) -> str:
    """Return the answer in one sentence, and what to do next in another."""
    if not models:
        return "Nothing was compared but baselines: give a model or samples."
    if not honest:
        names = _listed([s.name for s in models])
        return f"{names} repeat{_s(models)} the training data: train for less long, with more data or with a smaller network."
    best, *others = honest
    metric, trainings = best.evaluation.headline, best.evaluation.trainings
    worse = [s.name for s in others if better(best.name, s.name)]
    equal = [s.name for s in others if s.name not in worse]
    figure = f"{metric.name} {metric.value}" + (f" over {trainings} trainings" if trainings > 1 else "")
    figure += f", real data {metric.real}" if metric.real else ""
    if not others:
        first = f"{best.name}: {_reading(best.evaluation)} ({figure})."
    elif not equal:
        first = f"{best.name} is the best model ({figure}); {_reading(best.evaluation)}."
    else:
        first = f"{best.name} has the smallest distance ({figure}), but {_listed(equal)} cannot be distinguished from it"
        first += f". {best.name} is better than {_listed(worse)}." if worse else "."
    return f"{first} {_next(better, best, baselines)}"


def _reading(evaluation: Evaluation) -> str:
    """Return how often a distance is that of real data if it is above that, or what mmd shows if it alone is."""
    value, real, kernel = evaluation.headline.value, evaluation.headline.real, _kernel_distance(evaluation)
    if real is None:
        return "no distance of real data is known"
    if _farther(evaluation):
        error = 2 * (real.std_err or 0)
        if real.value > error:
            return f"its distance is {value.value / real.value:,.1f} times that of real data"
        bound = value.value / (real.value + error) if real.value + error > 0 else 1.0  # the distance of real data may be 0
        return (
            f"its distance is more than {bound:,.1f} times that of real data"
            if bound > 1
            else "its distance is above that of real data"
        )
    near = "its distance is within two standard errors of that of real data"
    if kernel is not None and _above_real(evaluation):
        return f"its samples differ from real data, as {kernel.name} {kernel.value} shows, which is 0 for equal ones; {near}"
    return near


def _kernel_distance(evaluation: Evaluation) -> Metric | None:
    return evaluation.get(f"mmd-{next(iter(evaluation.extractors))}")


def _farther(evaluation: Evaluation) -> bool:
    """Return whether the headline distance is above that of real data by more than two standard errors."""
    value, real = evaluation.headline.value, evaluation.headline.real
    return real is None or value.value - real.value > 2 * math.hypot(value.std_err or 0, real.std_err or 0)


def _above_real(evaluation: Evaluation) -> bool:
    """Return whether the headline distance is above that of real data, or mmd above 0, by more than two standard errors.

    mmd sees differences that are smaller than the error of the headline distance.
    """
    kernel = _kernel_distance(evaluation)
    return _farther(evaluation) or (kernel is not None and kernel.value.value > 2 * (kernel.value.std_err or 0))


def _next(better: Better, best: Subject, baselines: Sequence[Subject]) -> str:
    """Return what to do next."""
    longer = _longer(best)
    if stronger := [b.name for b in baselines if better(b.name, best.name)]:
        one = len(stronger) == 1
        return f"{_listed(stronger)} {'is' if one else 'are'} better and need{'s' if one else ''} no training: {longer}."
    if unbeaten := [b.name for b in baselines if not better(best.name, b.name)]:
        return f"It is not shown to be better than {_untrained(unbeaten)}: {longer}."
    if not _above_real(best.evaluation):
        return "Look at the samples beside real data before you trust a figure."
    if not best.recipe:
        return "Look at the samples beside real data."
    longer, falls = longer[0].upper() + longer[1:], still_falls(best.rows)
    if falls is None or not longer.startswith("Train"):
        return f"{longer}."
    return f"{longer}: its loss still falls." if falls else f"{longer}, or with a larger network: its loss hardly falls."


def _longer(best: Subject) -> str:
    """Return how to train longer, or why not: a training may have ended before its time."""
    copies = [row["copies"] for row in best.rows if "copies" in row][-1:]  # a sentence if the watch ended the training
    if any(copies):
        return "give more data, because longer training would copy them"
    recipe = yaml.safe_load(best.recipe)
    train = recipe.get("train", {}) if isinstance(recipe, dict) else {}
    epochs, seconds = train.get("epochs"), best.cost.get("training_seconds")
    budget = Budget.parse(train.get("budget", "1s"))
    if epochs and seconds and budget.unit == "seconds" and seconds < 0.95 * budget.amount:
        return f"train longer with a larger train.epochs, since {epochs:g} passes through the data ended the training"
    return "train longer"


def still_falls(rows: Sequence[Mapping[str, Any]]) -> bool | None:
    """Return whether the training loss of a model with one player fell in the last quarter, beyond twice its error.

    None if there are too few rows, or several players, whose losses do not say it.
    """
    keys = {key for row in rows for key in row if key.endswith("/total")}
    if len(keys) != 1:
        return None
    (key,) = keys
    values = [row[key] for row in rows if row.get(key) is not None and math.isfinite(row[key])]
    quarter = len(values) // 4
    if quarter < 4:
        return None
    before, last = values[-2 * quarter : -quarter], values[-quarter:]
    error = math.hypot(stdev(before), stdev(last)) / math.sqrt(quarter)
    return fmean(before) - fmean(last) > 2 * error


def _uncopied(evaluation: Evaluation) -> str:
    """Return the copy rate of a subject that is not shown to copy, beside that of new data."""
    rate = evaluation["copy-rate"]
    expected = f", where {rate.real.value:.1%} of new data are expected to be" if rate.real else ""
    return (
        f"It is not shown to copy: {rate.value.value:.1%} of its samples are as near to the training data as copies{expected}."
    )


def _beaten(better: Better, honest: Sequence[Subject], baselines: Sequence[Subject]) -> list[str]:
    """Return which baselines, that need no training, each model beats, which are better, and which are neither."""
    found = []
    for words in ("worse than", "not shown to be better than"):
        groups: dict[tuple[str, ...], list[str]] = {}
        for s in honest:
            unbeaten = [b.name for b in baselines if not better(s.name, b.name)]
            if names := tuple(b for b in unbeaten if better(b, s.name) == (words == "worse than")):
                groups.setdefault(names, []).append(s.name)
        found += [f"{_listed(g)} {'is' if len(g) == 1 else 'are'} {words} {_untrained(b)}." for b, g in groups.items()]
    winners = [s.name for s in honest if all(better(s.name, b.name) for b in baselines)]
    if baselines and winners:
        found.append(f"{_listed(winners)} beat{'s' if len(winners) == 1 else ''} every baseline.")
    return found


def _untrained(names: Sequence[str]) -> str:
    return f"{_listed(names)}, which need{'s' if len(names) == 1 else ''} no training"


def _speed(honest: Sequence[Subject]) -> list[str]:
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


def _s(of: Sequence[Subject]) -> str:
    """Return the ending of a verb after that many subjects."""
    return "s" if len(of) == 1 else ""
