"""A walk through the latents of samples, from that of each seed to that of the next: a picture, or a film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import grid
from ancestral.app.sampling.latents import between, decoded, latents
from ancestral.app.sampling.request import SampleRequest
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel

STEPS = 9  # pictures from a seed to the next
PART = 8  # pictures that are decoded at a time


@dataclass(frozen=True)
class Walk:
    """A walk between the samples of seeds. Its ends are the samples themselves.

    Args:
        request: the conditions, and the `prior` of a VAE. Its other settings are not used.
        seeds: at least two seeds.
        steps: the number of pictures from a seed to the next, with both ends.

    Raises:
        UsageError: if there are too few seeds or steps.
    """

    request: SampleRequest
    seeds: tuple[int, ...]
    steps: int = STEPS

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise UsageError("a walk needs at least two seeds, e.g. 3,7")
        if self.steps < 2:
            raise UsageError(f"a walk has at least 2 pictures from a seed to the next; got {self.steps}")

    @property
    def n(self) -> int:
        """The number of pictures."""
        return (len(self.seeds) - 1) * self.steps

    def frames(self, model: GenerativeModel, spec: DataSpec) -> Iterator[Tensor]:
        """Yield the pictures in order, several at a time, `(k, *shape)` in the units of the data."""
        condition = self.request.conditions.condition(model, spec)
        prior = {name: value for name, value in self.request.options.items() if name == "prior"}
        for z in between(latents(model, list(self.seeds), condition, prior), self.steps).split(PART):
            yield decoded(model, z, condition).cpu()

    def picture(self, x: Tensor, spec: DataSpec) -> Image.Image:
        """Draw all pictures, with a row from each seed to the next."""
        rows = [f"seeds {a} to {b}" for a, b in pairwise(self.seeds)]
        return grid(x, spec, self.steps, rows=rows, across=["start", *[""] * (self.steps - 2), "end"])

    def film(self, x: Tensor, spec: DataSpec) -> list[Image.Image]:
        """Draw each picture by itself."""
        return [grid(one[None], spec) for one in x]

    @property
    def arrangement(self) -> dict[str, Any]:
        """Seeds and steps, as a record has them."""
        return {"walk": list(self.seeds), "steps": self.steps}

    @classmethod
    def of(cls, request: SampleRequest, arrangement: Mapping[str, Any]) -> Walk:
        """Return the walk of an arrangement. Raises UsageError if it has another form."""
        try:
            seeds, steps = tuple(int(seed) for seed in arrangement["walk"]), int(arrangement.get("steps", STEPS))
        except (KeyError, TypeError, ValueError):
            raise UsageError("a walk needs seeds: whole numbers") from None
        return cls(request, seeds, steps)
