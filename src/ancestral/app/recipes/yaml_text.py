"""The reader of YAML in recipes and options, with limits.

It builds plain values only, as `yaml.safe_load` does. A text can be short and mean much: aliases that name aliases, deep
nesting, numbers of many digits. Each is counted while the text is read and refused beyond a limit that no recipe comes near.
"""

from __future__ import annotations

from typing import Any

import yaml

from ancestral.files import DIGITS

LENGTH = 1 << 18  # characters
DEPTH = 50  # levels of nesting
VALUES = 20_000  # values, each alias counted as all that it stands for


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str):
        super().__init__(text)
        self.depth = self.count = 0
        self.sizes: dict[int, int] = {}  # the number of values in each node that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias, before = self.check_event(yaml.AliasEvent), self.count
        self.depth += 1
        if self.depth > DEPTH:
            raise ValueError(f"it is nested deeper than {DEPTH} levels")
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.sizes:
            raise ValueError("a value holds itself")
        self.count += self.sizes[id(node)] if alias else 1
        if self.count > VALUES:
            raise ValueError(f"it holds more than {VALUES:,} values")
        if not alias:
            self.sizes[id(node)] = self.count - before
            if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
                raise ValueError(f"a number has {len(node.value):,} digits, and at most {DIGITS} are read")
        return node


def read_yaml(text: str) -> Any:
    """Return the value of a YAML text. Raises ValueError, whose message is one line, if it is no YAML or beyond the limits."""
    if len(text) > LENGTH:
        raise ValueError(f"it has {len(text):,} characters, and at most {LENGTH:,} are read")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ValueError(_line(error)) from None
    finally:
        if loader is not None:
            loader.dispose()
    try:
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(_line(error)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # of a date or a number that does not exist
        raise ValueError("it holds a date, a number or a tag that does not exist") from None


def _line(error: yaml.YAMLError) -> str:
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None:
        return str(error).splitlines()[0]
    return problem if mark is None else f"{problem}, line {mark.line + 1}"
