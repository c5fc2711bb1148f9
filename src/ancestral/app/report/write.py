"""Writer of a comparison as HTML, Markdown and JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from ancestral.app.evaluation import Comparison, Evaluator, Metric, Subject
from ancestral.app.evaluation.result import COSTS, DIRECTIONS
from ancestral.app.evaluation.verdict import LINES
from ancestral.app.pictures import is_picture
from ancestral.app.report import figures
from ancestral.errors import printable
from ancestral.files import disk_errors, write_atomically
from ancestral.version import __version__

LIKELIHOODS = ("bits", "nats")  # metrics with a table of their own
MEANT = re.compile(r"[\\`*_\[\]|~#](?<!\w_(?=\w))")  # characters with a meaning in Markdown; not _ within a word
SIGN = "●"  # before the best figures, also in print without colours


def write(
    comparison: Comparison,
    evaluator: Evaluator,
    path: Path,
    title: str,
    states: Sequence[Tensor] = (),
    commands: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the report to `path` (.html), and beside it the same as .md and .json.

    Args:
        comparison: The subjects and the verdict.
        evaluator: The evaluator of the subjects.
        path: The file of the page.
        title: The title of the page.
        states: States of the same samples from noise to data, for the film of a model that draws in steps.
        commands: What to try next: commands, each with what it does.
    """
    with disk_errors(path):
        write_atomically(path, html(comparison, evaluator, title, states, commands).encode())
        write_atomically(path.with_suffix(".md"), markdown(comparison, title, commands).encode())
        write_atomically(path.with_suffix(".json"), json.dumps(as_json(comparison), indent=1).encode())


def html(
    comparison: Comparison,
    evaluator: Evaluator,
    title: str,
    states: Sequence[Tensor] = (),
    commands: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the report as one page that contains all pictures and needs no network. Arguments as in `write`."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("ancestral.app.report", "templates"), autoescape=True, trim_blocks=True)
    environment.filters["picture"] = lambda data, kind="png": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    environment.filters["figure"] = lambda text: text.replace(" ± ", " ±\N{NO-BREAK SPACE}")  # it may wrap before the sign
    several, shows = len(comparison.subjects) > 1, is_picture(evaluator.data.spec)  # pictures show their conditions
    models = [s for s in comparison.subjects if not s.baseline]
    return environment.get_template("report.html").render(
        title=title,
        version=__version__,
        comparison=comparison,
        lines=LINES,
        sign=SIGN,
        first=comparison.subjects[0].evaluation,
        rows=table(comparison),
        trainings=trainings(comparison),
        about_trainings=about_trainings(trainings(comparison)),
        likelihoods=likelihoods(comparison),
        costs=costs(comparison),
        pairs=pairs(comparison),
        names=[s.name for s in comparison.subjects],
        pixelated=shows,
        ranking=figures.ranking(comparison.subjects) if several else None,
        real=figures.real(evaluator.data),
        film=figures.film(states, evaluator.data),
        commands=commands,
        grids=[
            (s.name, figures.samples(s.samples.x, evaluator.data, s.samples.renderings), shows and bool(s.samples.renderings))
            for s in comparison.subjects
        ],
        losses=figures.losses({s.name: s.rows for s in models}),
        time=figures.quality_against_time(models),
        cost=figures.quality_against_cost(models),
        neighbours=[
            (s.name, figures.neighbours(s, evaluator), figures.distances(s, evaluator))
            for s in [*models, *(s for s in comparison.subjects if s.baseline and s.copies)]
        ],
        models=models,
    )


def markdown(comparison: Comparison, title: str, commands: Sequence[tuple[str, str]] = ()) -> str:
    """Return the verdict and the tables as Markdown. Names and sentences, which may hold names from data, are `literal`."""
    first = comparison.subjects[0].evaluation
    names = [literal(s.name) for s in comparison.subjects]
    lines = [f"# {literal(title)}", "", *_verdict(comparison), ""]
    lines += [f"*{literal(comparison.rule)}*", ""] if len(names) > 1 else []
    lines += [f"{literal(first.compared)}.", ""]
    lines += [f"- {literal(name)}: {literal(about)}" for name, about in first.extractors.items()]
    head = ["metric", *names, "real data"]
    lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [
        f"| {literal(row['name'])} ({row['sign']}) | {' | '.join(_signed(row))} | {row['real']} |" for row in table(comparison)
    ]
    if len(names) > 1:
        lines += ["", f"{SIGN} the best model, and every model that is within two standard errors of it."]
    lines += [f"\n**{literal(s.name)}**: {literal(finding)}" for s in comparison.subjects for finding in s.findings]
    groups = trainings(comparison)
    lines += ["", literal(about_trainings(groups))] if groups else []
    for heading, rows in (("likelihood", likelihoods(comparison)), ("cost", costs(comparison))):
        if rows:
            lines += ["", f"| {heading} | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
            lines += [f"| {literal(row['name'])} | {' | '.join(_signed(row))} |" for row in rows]
    for group in groups:
        members = [literal(name) for name in group["members"]]
        lines += ["", f"<details><summary>each training of {escape(printable(group['name']))}</summary>", ""]
        lines += [f"| metric | {' | '.join(members)} |", f"|{'---|' * (1 + len(members))}"]
        lines += [f"| {literal(row['name'])} ({row['sign']}) | {' | '.join(row['values'])} |" for row in group["rows"]]
        lines += ["", "</details>"]
    if commands:
        lines += ["", "What to try next:", "", *(f"- {literal(command)}: {literal(use)}" for command, use in commands)]
    return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """Write a text for Markdown, in which it means nothing but itself: no link, no tag, no column and no line of its own."""
    return MEANT.sub(r"\\\g<0>", printable(text)).replace("&", "&amp;").replace("<", "&lt;")


def _verdict(comparison: Comparison) -> list[str]:
    """Return the answer, the lines that everybody reads, and the others under a fold."""
    answer, *evidence = comparison.verdict
    lines = [f"**{literal(answer)}**", "", *(f"- {literal(sentence)}" for sentence in evidence[: LINES - 1])]
    if rest := evidence[LINES - 1 :]:
        folded = [f"- {literal(sentence)}" for sentence in rest]
        lines += ["", "<details><summary>more</summary>", "", *folded, "", "</details>"]
    return lines


def _signed(row: dict[str, Any]) -> list[str]:
    """Return the figures of a row, with a sign before the best."""
    marks = row.get("best") or [False] * len(row["values"])
    return [f"{SIGN} {value}" if best else value for value, best in zip(row["values"], marks, strict=True)]


def as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "verdict": list(comparison.verdict),
        "rule": comparison.rule,
        "evaluations": [asdict(s.evaluation) for s in comparison.subjects],
        "baselines": [s.name for s in comparison.subjects if s.baseline],
        "trainings": {s.name: [asdict(t.evaluation) for t in s.trainings] for s in comparison.subjects if s.trainings},
        "pairs": [asdict(pair) for pair in comparison.pairs],
    }


def table(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the main table: all metrics of all subjects except likelihoods."""
    return _rows(comparison.subjects, lambda metric: metric.kind not in LIKELIHOODS)


def likelihoods(comparison: Comparison) -> list[dict[str, Any]]:
    return _rows(comparison.subjects, lambda metric: metric.kind in LIKELIHOODS)


def trainings(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the name, the trainings and the rows of each model that was trained several times."""
    return [
        {"name": s.name, "members": [t.name for t in s.trainings], "rows": _rows(s.trainings, lambda metric: True)}
        for s in comparison.subjects
        if s.trainings
    ]


def about_trainings(groups: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentences that say what the figures of models with several trainings are. "" if there are none."""
    if not groups:
        return ""
    counts = ", ".join(f"{group['name']} over {len(group['members'])} trainings" for group in groups)
    return (
        f"Figures are means of {counts}. Their errors are standard deviations between trainings, and at least the error of one "
        "training. Pictures and curves are those of the first training."
    )


def _rows(subjects: Sequence[Subject], wanted: Callable[[Metric], bool]) -> list[dict[str, Any]]:
    evaluations = [s.evaluation for s in subjects]
    honest = [not s.baseline and not s.copies for s in subjects]
    known: dict[str, Metric] = {}
    for evaluation in evaluations:
        known |= {metric.name: metric for metric in evaluation.metrics if wanted(metric) and metric.name not in known}
    rows = []
    for name, metric in known.items():
        found = [evaluation.get(name) for evaluation in evaluations]
        values = [str(m.value) if m is not None else "" for m in found]
        real = str(metric.real) if metric.real is not None else ""
        best = _best([m if fair else None for m, fair in zip(found, honest, strict=True)], metric)
        rows.append(
            {
                "name": name,
                "meaning": metric.meaning,
                "sign": DIRECTIONS[metric.better],
                "values": values,
                "real": real,
                "best": best,
            }
        )
    return rows


def _best(found: list[Metric | None], metric: Metric) -> list[bool]:
    """Return for each metric whether it is the best or within two standard errors of the best.

    Those that take no part, baselines and subjects that copy, are None. A metric that is best as real data is the better, the
    nearer it is to theirs.
    """
    there = [m for m in found if m is not None]
    if len(there) < 2 or (metric.better == "as real" and metric.real is None):
        return [False] * len(found)

    def loss(m: Metric) -> float:
        if metric.better == "as real":
            assert metric.real is not None
            return abs(m.value.value - metric.real.value)
        return m.value.value if metric.better == "lower" else -m.value.value

    top = min(there, key=loss)
    return [
        m is not None and loss(m) - loss(top) <= 2 * math.hypot(m.value.std_err or 0, top.value.std_err or 0) for m in found
    ]


def costs(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for key, (name, form) in COSTS.items():
        values = [form(s.evaluation.cost[key]) if key in s.evaluation.cost else "" for s in comparison.subjects]
        if any(values):
            rows.append({"name": name, "values": values})
    return rows


def pairs(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a matrix of all pairs: "better", "worse" or "no difference found", with the largest p-value."""
    rows = []
    for a in comparison.subjects:
        cells = []
        for b in comparison.subjects:
            pair = next((p for p in comparison.pairs if {p.a, p.b} == {a.name, b.name}), None)
            if pair is None:
                cells.append({"word": "", "p": ""})
                continue
            word = "no difference found" if pair.better is None else "better" if pair.better == a.name else "worse"
            cells.append({"word": word, "p": f"p = {max(pair.p_values.values()):.3f}"})
        rows.append({"name": a.name, "cells": cells})
    return rows
