"""`{metrics}`: the table of all registered metrics: name, meaning, which values are better."""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def table() -> list[str]:
    """The lines of the table in Markdown."""
    import ancestral.app.evaluation  # noqa: F401 (it registers the metrics)
    from ancestral import registry
    from ancestral.app.evaluation.result import DIRECTIONS

    lines = ["| metric | what it measures | |", "|---|---|---|"]
    for name in registry.names("metric"):
        metric = registry.entry("metric", name)
        lines.append(f"| `{name}` | {metric.meaning} | {DIRECTIONS[metric.facts['better']]} |")
    return lines


class Metrics(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(table(), "metrics"), self.content_offset, parent)
        return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("metrics", Metrics)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
