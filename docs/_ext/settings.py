"""Tables of a recipe's settings, read from the recipe itself: `{settings} data`, `{settings} train` and `{settings} models`.

`{settings} solver` and those of other kinds are tables of registered names.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import AfterValidator
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ancestral.app.recipes import FAMILIES, Section
from ancestral.app.recipes.choices import Choice
from ancestral.app.recipes.recipe import DataRecipe, TrainRecipe
from ancestral.builtin import MEANINGS, meanings


def values(annotation: Any) -> str:
    """What a setting may be, in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(values(part) for part in inside if part is not type(None))
    if origin is tuple:
        return f"list: {values(inside[0])}"
    if origin is Annotated:
        return registered(inside[1:]) or values(inside[0])
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"`{annotation.model_fields['family'].default}`" if "family" in annotation.model_fields else "a section"
    return {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}.get(annotation, "")


def registered(metadata: Iterable[Any]) -> str:
    """The names of a registry with their meanings, if the metadata of a setting say that it is one of them."""
    for part in metadata:
        if isinstance(part, AfterValidator) and isinstance(part.func, Choice):
            return ", ".join(f"`{name}` ({meaning})" for name, meaning in meanings(part.func.kind).items())
    return ""


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Section):
        return "see below"
    if value is None or value == ():
        return ""
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    return f"`{text or (list(value) if isinstance(value, tuple) else value)}`"


def table(section: type[Section], prefix: str) -> list[str]:
    rows = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if name != "family":
            words = (field.description or "").replace("|", "\\|")
            rows.append(
                f"| `{prefix}.{name}` | {default(field)} | {registered(field.metadata) or values(field.annotation)} | {words} |"
            )
    return [*rows, ""]


def sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a setting may be, those of whole families aside."""
    if isinstance(annotation, type) and issubclass(annotation, Section) and annotation not in FAMILIES.values():
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


class Settings(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "models":
            lines = []
            for name, section in FAMILIES.items():
                lines += [
                    f"### {name}",
                    "",
                    f"{(section.__doc__ or '').strip()} `model.family={name}`",
                    "",
                    *table(section, "model"),
                ]
                for key, field in section.model_fields.items():
                    for inner in sections(field.annotation):
                        kind = inner.model_fields.get("family")
                        title = f"model.{key}" + (f", {kind.default}" if kind else "")
                        lines += [f"#### {title}", "", (inner.__doc__ or "").strip(), "", *table(inner, f"model.{key}")]
                if section.training:
                    suits = ", ".join(f"`train.{key}={value}`" for key, value in section.training.items())
                    lines += [f"Its defaults of the section train: {suits}.", ""]
        elif self.arguments[0] in MEANINGS:
            rows = [f"| `{name}` | {meaning} |" for name, meaning in meanings(self.arguments[0]).items()]
            lines = ["| name | meaning |", "|---|---|", *rows, ""]
        else:
            lines = table({"data": DataRecipe, "train": TrainRecipe}[self.arguments[0]], self.arguments[0])
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, "settings"), self.content_offset, parent, match_titles=True)
        return parent.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
