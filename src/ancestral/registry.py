"""Parts that are known by name: solvers, schedules, networks, metrics, conditions, families.

    @an.register("solver", "midpoint", "second-order midpoint rule")
    class Midpoint(Solver): ...

Another package joins by the entry-point group `ancestral.plugins`: the modules that it names are imported the first time that
names are looked up, and they register their parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, TypeVar

from ancestral.errors import AncestralError, UsageError
from ancestral.suggest import unknown

T = TypeVar("T")
GROUP = "ancestral.plugins"


@dataclass(frozen=True)
class Entry:
    """A part under its name. facts: what else is said of it, e.g. the direction of a metric."""

    name: str
    meaning: str
    value: Any
    facts: dict[str, Any] = field(default_factory=dict)


_ENTRIES: dict[str, dict[str, Entry]] = {}
_LOADED: set[str] = set()


def register(kind: str, name: str, meaning: str, **facts: Any) -> Callable[[T], T]:
    """A decorator that gives a part its name. Raises ValueError if the name belongs to another part of that kind."""

    def add(value: T) -> T:
        known = _ENTRIES.setdefault(kind, {})
        if name in known and known[name].value is not value:
            raise ValueError(f"the {kind} {name!r} is registered already: choose another name")
        known[name] = Entry(name, meaning, value, facts)
        return value

    return add


def lookup(kind: str, name: str) -> Any:
    """The part of that name. Raises UsageError for an unknown name, with the nearest known one."""
    return entry(kind, name).value


def names(kind: str) -> tuple[str, ...]:
    """The names of a kind, in the order of their registration."""
    _load_plugins()
    return tuple(_ENTRIES.get(kind, {}))


def entry(kind: str, name: str) -> Entry:
    """The part of that name with its meaning and facts. Raises UsageError for an unknown name."""
    _load_plugins()
    known = _ENTRIES.get(kind, {})
    if name not in known:
        raise UsageError(unknown(kind, name, known))
    return known[name]


def _load_plugins() -> None:
    """Import the modules of other packages, once. Raises AncestralError for one that cannot be imported."""
    if GROUP in _LOADED:
        return
    _LOADED.add(GROUP)
    for plugin in entry_points(group=GROUP):
        try:
            plugin.load()
        except Exception as error:
            raise AncestralError(
                f"the plug-in {plugin.name} ({plugin.value}) cannot be imported ({error}): repair it or uninstall its package"
            ) from error
