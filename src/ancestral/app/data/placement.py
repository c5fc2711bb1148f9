"""Placement of the objects of a composed scene, and the caption that describes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Place = tuple[int, int, int]  # left, top, side of the square that an object is scaled to


def places(k: int, canvas: int, sides: tuple[int, int], random: np.random.RandomState) -> list[Place]:
    """Draw k squares that do not overlap in a square canvas. If they overlap, all are drawn again.

    Args:
        k: the number of squares.
        canvas: the side of the canvas in pixels.
        sides: the smallest and the largest side of a square. Sides and corners are uniform.
        random: the random generator.
    """
    least, most = sides
    while True:
        drawn = random.randint(least, most + 1, size=k)
        corners = random.randint(0, canvas + 1 - drawn, size=(2, k))
        squares = list(zip(*corners.tolist(), drawn.tolist(), strict=True))
        if not any(_overlap(a, b) for i, a in enumerate(squares) for b in squares[:i]):
            return squares


def mark(semantic: np.ndarray, solid: np.ndarray, place: Place, label: int) -> tuple[int, int, int, int, int]:
    """Write the class of an object plus one into the map of its scene, at the object's solid pixels, bool `(side, side)`.

    Returns:
        The object's row of boxes: class, left, top, width, height of the smallest box that contains these pixels.
    """
    left, top, side = place
    semantic[top : top + side, left : left + side] = solid * (label + 1)
    y, x = np.nonzero(solid)
    return label, left + int(x.min()), top + int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1


def caption(names: Sequence[str], squares: Sequence[Place]) -> str:
    """Write a caption with the position of the first object relative to the others: `a 3 left of a 7 and above an 8`.

    Args:
        names: the names of the objects, with their articles.
        squares: the places of the objects.
    """
    relations = [f"{_relation(squares[0], square)} {name}" for square, name in zip(squares[1:], names[1:], strict=True)]
    return " ".join([names[0], " and ".join(relations)]).strip()


def _relation(a: Place, b: Place) -> str:
    """Return the position of a relative to b, along the axis in which their centres are further apart."""
    dx, dy = (2 * b[i] + b[2] - 2 * a[i] - a[2] for i in (0, 1))
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def _overlap(a: Place, b: Place) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[2] and b[1] < a[1] + a[2]
