"""The OpenAPI of a service as a page. It needs no network and no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup

FILE = Path(__file__).with_name("page.html")


@cache
def _template() -> Template:
    found = Environment(autoescape=True)
    found.filters["tojson"] = json.dumps
    found.filters["code"] = _code
    return found.from_string(FILE.read_text(encoding="utf-8"))


def page(openapi: Mapping[str, Any], server: str, with_token: bool) -> str:
    """Return the page of a description. server: the address of the service, for the examples."""
    schemas = openapi.get("components", {}).get("schemas", {})

    def named(field: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = schemas[field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        return found

    def schema(route: Mapping[str, Any]) -> dict[str, Any] | None:
        content = route.get("requestBody", {}).get("content", {}).get("application/json")
        return None if content is None else {"required": (), "examples": (), **named(content["schema"])}

    def type_of(field: Mapping[str, Any]) -> str:
        kinds = field.get("anyOf", [field])
        return " or ".join(_word(named(kind)) for kind in kinds if kind.get("type") != "null")

    token = ' -H "authorization: Bearer $TOKEN"' if with_token else ""
    return _template().render(openapi, server=server, token=token, schema=schema, type_of=type_of)


def _code(text: str) -> Markup:
    """Return a text as HTML, with what stands between backticks as code."""
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(text.split("`")))


def _word(kind: Mapping[str, Any]) -> str:
    if "enum" in kind:
        return " or ".join(map(str, kind["enum"]))
    if kind.get("type") == "array":
        return f"list of {_word(kind.get('items', {}))}s"
    return str(kind.get("type", "value"))
