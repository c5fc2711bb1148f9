"""Registry of named parts: solvers, schedules, networks, metrics, conditions, families. Other packages may add their own.

    @an.register("solver", "midpoint", "second-order midpoint rule")
    class Midpoint(Solver): ...

A package adds its names by an entry point of the group `ancestral.plugins` that names a module:

    [project.entry-points."ancestral.plugins"]
    midpoint = "my_package.midpoint"

Such modules are imported the first time that the names of any kind are looked up, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from ancestral.errors import AncestralError, UsageError
from ancestral.suggest import unknown

GROUP = "ancestral.plugins"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Entry:
    """One registered part: its name, its meaning in one line, the part itself, and further facts of its kind."""

    name: str
    meaning: str
    value: Any
    facts: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_kinds: dict[str, dict[str, Entry]] = {}
_plugins_loaded = False


def register(kind: str, name: str, meaning: str, **facts: Any) -> Callable[[T], T]:
    """Return a decorator that registers a class or function under `name` and returns it unchanged.

    Args:
        kind: What the thing is, such as "solver" or "metric".
        name: The name that recipes, commands and `lookup` use. It is unique within its kind.
        meaning: One line that help texts, reports and the documentation show.
        facts: Further facts of this kind, such as `better="lower"` for a metric.

    The same definition that is run again, as by a notebook cell or by a plug-in's file that is also the script, replaces
    what it registered before.

    Raises:
        ValueError: If another object of that kind has the name already.
    """

    def decorate(value: T) -> T:
        known = _kinds.setdefault(kind, {})
        if name in known and _place(known[name].value) != _place(value):
            raise ValueError(
                f"two objects register as {kind} {name!r}: {known[name].value!r} and {value!r}; rename one of them"
            )
        known[name] = Entry(name, meaning, value, MappingProxyType(facts))
        return value

    return decorate


def _place(value: Any) -> tuple[str, str] | int:
    """Return the place of a definition: its file (or its module, such as a notebook's) and its qualified name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or name is None:
        return id(value)
    return getattr(sys.modules.get(module), "__file__", None) or module, name


def entry(kind: str, name: str) -> Entry:
    """Return what is registered under the name, with its meaning and facts. Raises UsageError for an unknown name."""
    known = _known(kind)
    if name not in known:
        raise UsageError(unknown(kind, name, known))
    return known[name]


def lookup(kind: str, name: str) -> Any:
    """Return the class or function that is registered under the name. Raises UsageError for an unknown name."""
    return entry(kind, name).value


def meaning(kind: str, name: str) -> str:
    """Return the one-line meaning of the name. Raises UsageError for an unknown name."""
    return entry(kind, name).meaning


def names(kind: str) -> tuple[str, ...]:
    """Return all names of the kind in the order of their registration."""
    return tuple(_known(kind))


def _known(kind: str) -> dict[str, Entry]:
    _load_plugins()
    return _kinds.get(kind, {})


def _load_plugins() -> None:
    """Import the modules of the entry points once. A plug-in that cannot be imported is an error at every look-up."""
    global _plugins_loaded  # noqa: PLW0603  # one flag of the process
    if _plugins_loaded:
        return
    from importlib.metadata import entry_points

    _plugins_loaded = True  # set first, because a plug-in may look up names while it is imported
    for plugin in entry_points(group=GROUP):
        try:
            plugin.load()
        except Exception as error:
            _plugins_loaded = False
            raise AncestralError(
                f"the plug-in {plugin.name!r} ({plugin.value}) cannot be imported ({type(error).__name__}: {error}): "
                "fix it or uninstall it"
            ) from error
