"""Tables of the metrics.

`{metrics}`: all registered metrics: name, meaning, which values are better.
`{record}`: how near each family comes to data in minutes, by `benchmarks/results/record.jsonl`, in the tables of
`benchmarks/record.py`.
`{sanity}`: which metrics pass which checks, by `benchmarks/results/sanity.json`, in the tables of `benchmarks/sanity.py`.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "sanity.json"
RECORD = BENCHMARKS / "results" / "record.jsonl"


def table() -> list[str]:
    """The lines of the table of metrics in Markdown."""
    import ancestral.app.evaluation  # noqa: F401 (it registers the metrics)
    from ancestral import registry
    from ancestral.app.evaluation.result import DIRECTIONS

    lines = ["| metric | what it measures | |", "|---|---|---|"]
    for name in registry.names("metric"):
        metric = registry.entry("metric", name)
        lines.append(f"| `{name}` | {metric.meaning} | {DIRECTIONS[metric.facts['better']]} |")
    return lines


def checks() -> list[str]:
    """The lines of the tables of checks in Markdown, one table for each class of metrics."""
    tables = runpy.run_path(str(BENCHMARKS / "sanity.py"))["tables"]
    results = json.loads(RESULTS.read_text())["results"]
    return [line for kind, lines in tables(results) for line in (f"**{kind.capitalize()}**", "", *lines, "")]


def recorded() -> list[str]:
    """The lines of the tables of the record in Markdown."""
    tables = runpy.run_path(str(BENCHMARKS / "record.py"))["tables"]
    found = tables([json.loads(line) for line in RECORD.read_text().splitlines()])
    return [line for heading, lines in found for line in (f"**{heading}**", "", *lines, "")]


class Lines(SphinxDirective):
    """Markdown that a function makes."""

    made: Callable[[], list[str]]

    def run(self) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(self.made(), self.name), self.content_offset, parent)
        return parent.children


class Metrics(Lines):
    made = staticmethod(table)


class Sanity(Lines):
    made = staticmethod(checks)

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        return super().run()


class Record(Lines):
    made = staticmethod(recorded)

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RECORD))
        return super().run()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("metrics", Metrics)
    app.add_directive("sanity", Sanity)
    app.add_directive("record", Record)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
