"""A grid of samples over two settings: one sample in each cell, all of one seed unless the seed is a setting of the grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import grid
from ancestral.app.sampling.request import SampleRequest
from ancestral.app.training.saved import Opened
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
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

    @classmethod
    def read(cls, text: str) -> Axis:
        """Read NAME=VALUE,VALUE,... Raises UsageError for any other text."""
        name, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f"cannot read the side {text!r} of the grid: write NAME=VALUE,VALUE, e.g. guidance=0,1,2,4")
        return cls(name, [part.strip() for part in values.split(",") if part.strip()])

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

    def samples(self, model: GenerativeModel, run: Opened) -> Iterator[Tensor]:
        """Yield the sample of each cell, `(1, *shape)` in the units of the data."""
        for request in self.requests():
            yield request.prepare(model, run=run).sample().cpu()

    def picture(self, x: Tensor, spec: DataSpec) -> Image.Image:
        """Draw the samples of all cells, with the values of both settings."""
        return grid(x, spec, len(self.across.values), rows=self.down.labels, across=self.across.labels)

    @property
    def arrangement(self) -> dict[str, Any]:
        """Both settings, as a record has them."""
        return {side: {"name": a.name, "values": list(a.values)} for side, a in (("across", self.across), ("down", self.down))}

    @classmethod
    def of(cls, request: SampleRequest, arrangement: Mapping[str, Any]) -> SampleGrid:
        """Return the grid of an arrangement. Raises UsageError if it has another form."""
        try:
            sides = [Axis(str(arrangement[side]["name"]), list(arrangement[side]["values"])) for side in ("across", "down")]
        except (KeyError, TypeError):
            raise UsageError("a grid needs two settings, `across` and `down`, each with its values") from None
        return cls(request, *sides)


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
