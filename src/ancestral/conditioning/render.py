"""Rendering of a sample's conditions for people."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Box = tuple[int, str, float, float, float, float]


@dataclass(frozen=True)
class Rendering:
    """The rendered condition of one sample.

    Args:
        words: the words below the sample.
        boxes: the boxes on the sample: number and name of the class, and left, top, width and height in shares of the picture.
        pictures: the pictures beside the sample, `(1 or 3, h, w)` in [0, 1].
    """

    words: str = ""
    boxes: tuple[Box, ...] = ()
    pictures: tuple[Tensor, ...] = ()

    @staticmethod
    def merge(parts: Sequence[Rendering]) -> Rendering:
        """Merge the renderings of several conditions of one sample."""
        return Rendering(
            ", ".join(part.words for part in parts if part.words),
            tuple(box for part in parts for box in part.boxes),
            tuple(picture for part in parts for picture in part.pictures),
        )


def colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a class. Consecutive classes differ in hue by the golden ratio, so no two are equal."""
    r, g, b = colorsys.hsv_to_rgb(number * 0.61803399 % 1, 0.75, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)


def coloured(semantic: Tensor) -> Tensor:
    """Convert a map `(h, w)` of classes plus one to a picture `(3, h, w)` in [0, 1] with a black background."""
    classes = int(semantic.max())
    table = torch.tensor([(0, 0, 0), *(colour(i) for i in range(classes))]).float() / 255
    return table[semantic.long()].permute(2, 0, 1)
