"""`{reference} PACKAGE ...`: documents every module below those named, so that none is forgotten."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def modules(name: str) -> list[str]:
    """The public modules of a package, or the module itself."""
    module = import_module(name)
    if not hasattr(module, "__path__"):
        return [name]
    found = [m.name for m in pkgutil.walk_packages(module.__path__, f"{name}.") if not m.ispkg]
    return [m for m in found if not m.rpartition(".")[2].startswith("_")]


class Reference(SphinxDirective):
    required_arguments = 1
    optional_arguments = 20

    def run(self) -> list[nodes.Node]:
        children: list[nodes.Node] = []
        for package in self.arguments:
            for name in modules(package):
                short = name.removeprefix("ancestral.")
                lines = [f"### {short}", "", "```{eval-rst}", f".. automodule:: {name}"]
                lines += ["   :members:", "   :exclude-members: model_config", "```", ""]
                parent = nodes.Element()
                self.state.nested_parse(StringList(lines, name), self.content_offset, parent, match_titles=True)
                children += parent.children
        return children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("reference", Reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
