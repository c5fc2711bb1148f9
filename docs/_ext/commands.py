"""`{commands}`: every command with what it takes, read from the program itself.

One table a command, of its arguments and options: their values, their defaults, and the words of `--help`.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from settings import values
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ancestral.app.cli import app


def label(argument: Any) -> str:
    """Return an argument as it is written in a command: SOURCE, or --solver."""
    if argument.index is not None:
        return f"`{argument.field_info.name.upper()}`{' ...' if argument.is_var_positional() else ''}"
    hidden = set(argument.negatives)
    return ", ".join(f"`{name}`" for name in argument.names if name not in hidden)


def accepted(argument: Any) -> str:
    """The values that it takes, in words. Empty for a flag."""
    if argument.is_flag():
        return ""
    hint = get_args(argument.hint)[0] if get_origin(argument.hint) is tuple else argument.hint
    return "path" if Path in (hint, *get_args(hint)) else values(hint)


def default(argument: Any) -> str:
    """The words for its default. Empty if its help says it, or if it has none."""
    if argument.required:
        return " Required."
    value = argument.field_info.default
    nothing = argument.is_var_positional() or value is None or value is False or value == ()
    return "" if nothing else f" Default: `{value}`."


def table(command: Any) -> list[str]:
    """Two columns, which fit on a phone."""
    rows = ["| argument or option | meaning |", "|---|---|"]
    for argument in command.assemble_argument_collection(parse_docstring=True).filter_by(show=True):
        words = coded(" ".join((argument.parameter.help or "").split()).replace("|", "\\|"))
        rows.append(f"| {label(argument)} {accepted(argument)} | {words}{default(argument)} |")
    return [*rows, ""] if len(rows) > 2 else []


def coded(words: str) -> str:
    """Set the options that the words name, such as --out, as code."""
    return re.sub(r"`[^`]*`|(?<![\w-])--[a-z][a-z-]*", lambda found: f"`{found[0].strip('`')}`", words)


def about(function: Any) -> list[str]:
    """The function's docstring up to its parameters."""
    return [*coded((inspect.getdoc(function) or "").partition("\nParameters\n")[0].strip()).splitlines(), ""]


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        lines = []
        for name in app:
            if not name.startswith("-"):
                command = app[name]
                lines += [f"## {name}", "", *about(command.default_command), *table(command)]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, "commands"), self.content_offset, parent, match_titles=True)
        return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
