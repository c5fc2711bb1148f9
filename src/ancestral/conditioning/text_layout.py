"""Conditions on a layout whose boxes have texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.conditioning.layout import SPATIAL, LayoutCondition
from ancestral.conditioning.text import TextCondition
from ancestral.conditioning.vocabulary import PAD, START
from ancestral.configuration import configurable


@configurable
class TextLayoutCondition(LayoutCondition):
    """A condition on a layout with a text in each box.

    A text can combine any words of the training boxes, for example `a red house` if the boxes had `red roof` and `house`. It is
    encoded as by `TextCondition`, with a separate vocabulary for boxes. Raw tensors are `(n, most, 5 + length)`: the row of a
    box with class 0, and then the numbers of the pieces of its text.

    Args:
        names: the different texts of the training boxes.
        most: the largest number of boxes of a sample.
        canvas: the height and width, in pixels, to which boxes refer.
        space: height and width of the channels.
        width: of the tokens and the vector.
    """

    def __init__(self, names: Sequence[str], most: int, canvas: Sequence[int], space: Sequence[int], width: int):
        super().__init__(names, most, canvas, space, width)
        del self.table, self.colours
        self.text = TextCondition(width, layers=1)
        self.colour = nn.Linear(width, SPATIAL)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.most, *self.text.language)

    @property
    def numbers(self) -> int:
        return 5 + self.text.read([""]).shape[1]

    def fit(self, values: Sequence[Tensor]) -> None:
        self.text.fit([self.names[i] for i in sorted({int(row[0]) for rows in values for row in rows})])
        self.notes = self.text.notes

    def column(self, values: Sequence[Tensor]) -> Tensor:
        read = self.text.read(self.names)
        boxes = (rows[: self.most] for rows in values)
        return torch.stack([self._padded(torch.cat([0 * b[:, :1], b[:, 1:], read[b[:, 0]]], 1)) for b in boxes])

    def name(self, row: Tensor) -> tuple[int, str]:
        pieces = row[5:].long()
        known = (self.text.read(self.names) == pieces.cpu()).all(1).nonzero()
        if len(known):
            return int(known[0]), self.names[int(known[0])]
        assert self.text.vocabulary is not None
        return 0, self.text.vocabulary.decode(pieces.tolist())

    def number(self, label: Any) -> list[float]:
        self.text.check(str(label))
        return [0, *self.text.read([str(label)])[0].tolist()]

    def embed(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        pieces = raw[..., 5:].long().clamp(min=PAD)
        pieces[..., 0] = START  # also for rows without a box
        vector = self.text(pieces.flatten(0, 1), pieces.shape[0] * pieces.shape[1]).vector
        held = vector.view(*pieces.shape[:2], -1)
        return held, self.colour(held)
