"""From a comparison to HTML, Markdown and JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ancestral.app.evaluation.comparison import Comparison, shown
from ancestral.app.evaluation.judge import Evaluator
from ancestral.app.evaluation.result import Evaluation, Metric
from ancestral.app.report import figures
from ancestral.app.report.entry import Entry
from ancestral.files import disk_errors, write_atomically
from ancestral.version import __version__

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "samples_per_second": ("samples a second", lambda v: f"{v:,.1f}"),
    "nfe": ("evaluations a sample", lambda v: f"{v:,.0f}"),
    "parameters": ("parameters", lambda v: f"{v:,.0f}"),
    "memory": ("memory while sampling", lambda v: f"{v / 2**20:,.0f} MiB"),
    "training_seconds": ("training", lambda v: f"{v / 60:,.1f} min"),
    "images": ("samples seen in training", lambda v: f"{v:,.0f}"),
}
SIGNS = {"lower": "less is better", "higher": "more is better", "as real": "as real data is best"}


def write(comparison: Comparison, entries: Mapping[str, Entry], judge: Evaluator, path: Path, title: str) -> None:
    """`path` (.html) and, beside it, the same as .md and .json."""
    with disk_errors(path):
        write_atomically(path, html(comparison, entries, judge, title).encode())
        write_atomically(path.with_suffix(".md"), markdown(comparison, title).encode())
        write_atomically(path.with_suffix(".json"), json.dumps(as_json(comparison), indent=1).encode())


def html(comparison: Comparison, entries: Mapping[str, Entry], judge: Evaluator, title: str) -> str:
    """One page with every picture inside; it needs no network."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("ancestral.app.report", "templates"), autoescape=True, trim_blocks=True)
    environment.filters["picture"] = lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}"
    several = len(comparison.contestants) > 1
    models = [c for c in comparison.contestants if not c.baseline]
    return environment.get_template("report.html").render(
        title=title,
        version=__version__,
        comparison=comparison,
        first=comparison.contestants[0].evaluation,
        rows=table(comparison),
        likelihoods=likelihoods(comparison),
        costs=costs(comparison),
        pairs=pairs(comparison),
        names=[c.name for c in comparison.contestants],
        pixelated=judge.data.spec.is_image,
        ranking=figures.ranking(comparison.contestants) if several else None,
        real=figures.real(judge.data),
        grids=[
            (c.name, figures.samples(c.samples.x, judge.data, c.samples.shown), bool(c.samples.shown))
            for c in comparison.contestants
        ],
        losses=figures.losses(entries),
        time=figures.quality_against_time(entries),
        cost=figures.quality_against_cost(comparison.contestants, entries),
        neighbours=[
            (c.name, figures.neighbours(c, judge), figures.distances(c, judge))
            for c in [*models, *(c for c in comparison.contestants if c.baseline and c.copies)]
        ],
        entries=entries,
    )


def markdown(comparison: Comparison, title: str) -> str:
    """The verdict and the tables as Markdown."""
    first = comparison.contestants[0].evaluation
    names = [c.name for c in comparison.contestants]
    lines = [f"# {title}", "", *(f"- {sentence}" for sentence in comparison.verdict), "", f"*{comparison.rule}*", ""]
    lines += [f"{first.n:,} samples against {first.reference:,} of {first.source} ({first.against}). ", ""]
    lines += [f"- {name}: {about}" for name, about in first.extractors.items()]
    head = ["metric", *names, "real data"]
    lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {row['name']} ({row['sign']}) | {' | '.join(row['values'])} | {row['real']} |" for row in table(comparison)]
    for heading, rows in (("likelihood", likelihoods(comparison)), ("cost", costs(comparison))):
        if rows:
            lines += ["", f"| {heading} | {' | '.join(names)} |", f"|{'---|' * (1 + len(names))}"]
            lines += [f"| {row['name']} | {' | '.join(row['values'])} |" for row in rows]
    return "\n".join(lines) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "verdict": list(comparison.verdict),
        "rule": comparison.rule,
        "evaluations": [asdict(c.evaluation) for c in comparison.contestants],
        "baselines": [c.name for c in comparison.contestants if c.baseline],
        "pairs": [asdict(pair) for pair in comparison.pairs],
    }


def table(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of the main table: every metric that any has, likelihoods aside."""
    return _rows([c.evaluation for c in comparison.contestants], lambda name: not name.startswith(("bits-", "nats-")))


def likelihoods(comparison: Comparison) -> list[dict[str, Any]]:
    return _rows([c.evaluation for c in comparison.contestants], lambda name: name.startswith(("bits-", "nats-")))


def _rows(evaluations: list[Evaluation], wanted: Any) -> list[dict[str, Any]]:
    known: dict[str, Metric] = {}
    for evaluation in evaluations:
        known |= {metric.name: metric for metric in evaluation.metrics if wanted(metric.name) and metric.name not in known}
    rows = []
    for name, metric in known.items():
        found = [evaluation.get(name) for evaluation in evaluations]
        values = [shown(m.value) if m is not None else "" for m in found]
        real = shown(metric.real) if metric.real is not None else ""
        best = _best(found, metric)
        rows.append(
            {
                "name": name,
                "meaning": metric.meaning,
                "sign": SIGNS[metric.better],
                "values": values,
                "real": real,
                "best": best,
            }
        )
    return rows


def _best(found: list[Metric | None], metric: Metric) -> list[bool]:
    """Which are best, or within two standard errors of it."""
    there = [m for m in found if m is not None]
    if len(there) < 2 or metric.better == "as real":
        return [False] * len(found)
    sign = -1 if metric.better == "lower" else 1
    top = max(there, key=lambda m: sign * m.value.value)
    return [
        m is not None
        and sign * (top.value.value - m.value.value) <= 2 * ((m.value.std_err or 0) ** 2 + (top.value.std_err or 0) ** 2) ** 0.5
        for m in found
    ]


def costs(comparison: Comparison) -> list[dict[str, Any]]:
    rows = []
    for key, (name, form) in COSTS.items():
        values = [form(c.evaluation.cost[key]) if key in c.evaluation.cost else "" for c in comparison.contestants]
        if any(values):
            rows.append({"name": name, "values": values})
    return rows


def pairs(comparison: Comparison) -> list[dict[str, Any]]:
    """Which is better, for a matrix of names: "better", "worse" or "not told apart", with the largest p-value."""
    rows = []
    for a in comparison.contestants:
        cells = []
        for b in comparison.contestants:
            pair = next((p for p in comparison.pairs if {p.a, p.b} == {a.name, b.name}), None)
            if pair is None:
                cells.append({"word": "", "p": ""})
                continue
            word = "not told apart" if pair.better is None else "better" if pair.better == a.name else "worse"
            cells.append({"word": word, "p": f"p = {max(pair.p_values.values()):.3f}"})
        rows.append({"name": a.name, "cells": cells})
    return rows
