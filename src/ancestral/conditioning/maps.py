"""Conditions on a semantic map, which has a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Spatial
from ancestral.conditioning.render import Rendering, coloured
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.transfer import onto

COLOURS = 8  # the width of a class's embedding in each pixel
CHANNELS = 16


@configurable
class MapCondition(Condition):
    """A condition on a class for every pixel, which gives channels, and a vector from their mean.

    Raw tensors are uint8 `(n, *canvas)`.

    Args:
        names: of the values 1, 2, ...; 0 is background.
        canvas: height and width of a map.
        space: height and width of the channels.
        width: of the vector.
    """

    source = "map"

    def __init__(self, names: Sequence[str], canvas: Sequence[int], space: Sequence[int], width: int):
        super().__init__()
        self.names, self.canvas = tuple(names), tuple(canvas)
        self.table = nn.Embedding(len(names) + 1, COLOURS)
        self.tau = Spatial(COLOURS, CHANNELS, canvas, space)
        self.pool = nn.Sequential(nn.SiLU(), nn.Linear(CHANNELS, width))
        self.null = nn.Parameter(torch.zeros(CHANNELS, *space))
        self.widths = ContextShape(vector=width, channels=CHANNELS)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.names, self.canvas)

    def column(self, values: Tensor) -> Tensor:
        return values

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor from one map `(*canvas)` or n maps `(n, *canvas)` of whole numbers."""
        maps = torch.as_tensor(value)
        if maps.is_floating_point() or maps.shape[-2:] != self.canvas or maps.ndim not in (2, 3):
            height, width = self.canvas
            kind = "real" if maps.is_floating_point() else "whole"
            found = f"{kind} numbers of shape {tuple(maps.shape)}"
            raise UsageError(f"a map has a whole number for each of {height} rows of {width} pixels, found {found}")
        if maps.numel() and (maps.min() < 0 or maps.max() > len(self.names)):
            wrong = int(maps.min()) if maps.min() < 0 else int(maps.max())
            raise UsageError(f"a map has numbers from 0 (background) to {len(self.names)} ({self.names[-1]}), found {wrong}")
        return one_or_each(maps, n, maps.ndim == 2, "maps", lambda m: m.to(torch.uint8))

    def mirror(self, raw: Tensor) -> Tensor:
        return raw.flip(-1)

    def render(self, raw: Tensor) -> Rendering:
        return Rendering(pictures=(coloured(raw),))

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        channels = self.null.expand(n, -1, -1, -1)
        if raw is not None:
            pixels = onto(raw, self.null.device).long()
            channels = where(drop, self.null, self.tau(self.table(pixels).permute(0, 3, 1, 2)))
        return Context(vector=self.pool(channels.mean((2, 3))), channels=channels)
