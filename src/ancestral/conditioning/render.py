"""What is asked of a sample, as a person can see it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Box = tuple[int, str, float, float, float, float]


@dataclass(frozen=True)
class Rendering:
    """What one sample was asked to be.

    words: to stand beneath it. boxes: the class's number and name, and left, top, width and height in shares of the picture, to
    be drawn on it. pictures: `(1 or 3, h, w)` in [0, 1], to stand beside it.
    """

    words: str = ""
    boxes: tuple[Box, ...] = ()
    pictures: tuple[Tensor, ...] = ()

    @staticmethod
    def merge(parts: Sequence[Rendering]) -> Rendering:
        """Of several conditions of one sample."""
        return Rendering(
            ", ".join(part.words for part in parts if part.words),
            tuple(box for part in parts for box in part.boxes),
            tuple(picture for part in parts for picture in part.pictures),
        )


def colour(number: int) -> tuple[int, int, int]:
    """Of the class of that number: hues a golden section of the circle apart, so that neighbours differ and none returns."""
    r, g, b = colorsys.hsv_to_rgb(number * 0.61803399 % 1, 0.75, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)


def coloured(semantic: Tensor) -> Tensor:
    """A map `(h, w)` of classes plus one -> `(3, h, w)` in [0, 1], background black."""
    classes = int(semantic.max())
    table = torch.tensor([(0, 0, 0), *(colour(i) for i in range(classes))]).float() / 255
    return table[semantic.long()].permute(2, 0, 1)
