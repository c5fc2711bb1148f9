"""A grid of samples over two settings: one sample in each cell, all of one seed unless the seed is a setting of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ancestral.app.sampling.request import SampleRequest
from ancestral.errors import UsageError
from ancestral.suggest import unknown

SETTINGS = ("seed", "class", "guidance", "steps", "solver", "spacing", "strength", "truncation")
MOST = 144  # cells


@dataclass(frozen=True)
class Axis:
    """A setting of a grid and its values. name: one of `SETTINGS`."""

    name: str
    values: Sequence[Any]

    def __post_init__(self) -> None:
        if self.name not in SETTINGS:
            raise UsageError(unknown("setting", self.name, SETTINGS))
        if not self.values:
            raise UsageError(f"the grid has no values of {self.name}: give at least one")

    @property
    def labels(self) -> list[str]:
        return [f"{self.name} {value}" for value in self.values]


@dataclass(frozen=True)
class SampleGrid:
    """A request that is repeated with each pair of values of two settings.

    Raises:
        UsageError: if both settings are the same, or there are too many cells.
    """

    request: SampleRequest
    across: Axis
    down: Axis

    def __post_init__(self) -> None:
        if self.across.name == self.down.name:
            raise UsageError(f"both axes of the grid are {self.across.name}: choose two settings")
        if (cells := len(self.across.values) * len(self.down.values)) > MOST:
            raise UsageError(f"the grid has {cells} cells: give fewer values, for at most {MOST}")

    def requests(self) -> list[SampleRequest]:
        """Return the request of each cell, row by row."""
        one = replace(self.request, n=1, seeds=None)
        return [
            varied(varied(one, self.down.name, down), self.across.name, across)
            for down in self.down.values
            for across in self.across.values
        ]


def varied(request: SampleRequest, name: str, value: Any) -> SampleRequest:
    """Return the request with another value of a setting. Raises UsageError if the value is not one of the setting."""
    try:
        if name == "class":
            return replace(request, conditions=replace(request.conditions, classes=(str(value),)))
        if name == "guidance":
            return replace(request, guidance=replace(request.guidance, scale=float(value)))
        if name == "strength":
            return replace(request, edit=replace(request.edit, strength=float(value)))
        if name == "truncation":
            return replace(request, options={**request.options, "truncation": float(value)})
        changed: dict[str, Any] = {name: int(value) if name in ("seed", "steps") else str(value)}
        return replace(request, **changed)
    except ValueError:
        raise UsageError(f"{value!r} is not a value of {name}: write a number") from None
