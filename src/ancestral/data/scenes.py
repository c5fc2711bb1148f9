"""`scenes`: small pictures composed of digits, with the exact truth of captions, boxes and semantic maps.

One to three digits of scikit-learn's `digits`, scaled to 8-16 pixels, stand without overlap on 32x32 pixels. Training
and held-out scenes are composed of different handwriting: of the training and the held-out split of `digits`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image

from ancestral.data.assemble import assemble
from ancestral.data.dataset import DataSet, Split
from ancestral.data.digits import digits

SIDE, SMALLEST, LARGEST = 32, 8, 16  # pixels
INK = 64  # a pixel belongs to its digit from a quarter of full ink on
DIGITS = tuple("0123456789")
Place = tuple[int, int, int]  # left, top, side of the square a digit is scaled to


def scenes(train: int = 10_000, test: int = 1_000) -> DataSet:
    """Images (1, 32, 32) in 256 levels with a caption, boxes and a map each; a scene has no class of its own.

    In boxes the class is the digit, and the box is the smallest that holds its ink; in maps a pixel of ink is the
    digit plus one.
    """
    source = digits()
    return assemble(
        "scenes",
        compose(source.train, train, np.random.RandomState(0)),
        compose(source.test, test, np.random.RandomState(1)),
        levels=256,
        box_classes=DIGITS,
        map_classes=DIGITS,
    )


def compose(source: Split, n: int, random: np.random.RandomState) -> Split:
    """N scenes of the digits of `source`, uint8 (N, 1, 8, 8) in 17 levels with labels."""
    if source.labels is None:
        raise ValueError("scenes are composed of labelled digits")
    ink = np.rint(source.array[:, 0].numpy() * (255 / 16)).astype(np.uint8)
    labels = source.labels.tolist()

    @cache
    def scaled(index: int, side: int) -> np.ndarray:
        return np.asarray(Image.fromarray(ink[index]).resize((side, side), Image.Resampling.BICUBIC))

    pictures, maps = np.zeros((2, n, SIDE, SIDE), dtype=np.uint8)
    boxes, captions = [], []
    for picture, semantic in zip(pictures, maps, strict=True):
        chosen = random.randint(len(ink), size=random.randint(1, 4))
        places = _places(len(chosen), random)
        rows = []
        for index, (left, top, side) in zip(chosen.tolist(), places, strict=True):
            digit = scaled(index, side)
            picture[top : top + side, left : left + side] = digit
            semantic[top : top + side, left : left + side] = (digit >= INK) * (labels[index] + 1)
            y, x = np.nonzero(digit >= INK)
            rows.append((labels[index], left + x.min(), top + y.min(), np.ptp(x) + 1, np.ptp(y) + 1))
        boxes.append(torch.from_numpy(np.array(rows, dtype=np.int64)))
        captions.append(_caption([row[0] for row in rows], places))
    return Split(
        torch.from_numpy(pictures).unsqueeze(1),
        captions=tuple(captions),
        boxes=tuple(boxes),
        maps=torch.from_numpy(maps),
    )


def _places(k: int, random: np.random.RandomState) -> list[Place]:
    """K squares of uniform sides and corners, given that they do not overlap: drawn all anew until they fit."""
    while True:
        sides = random.randint(SMALLEST, LARGEST + 1, size=k)
        corners = random.randint(0, SIDE + 1 - sides, size=(2, k))
        squares = list(zip(*corners.tolist(), sides.tolist(), strict=True))
        if not any(_overlap(a, b) for i, a in enumerate(squares) for b in squares[:i]):
            return squares


def _overlap(a: Place, b: Place) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[2] and b[1] < a[1] + a[2]


def _caption(names: list[int], places: list[Place]) -> str:
    """`a 3`, `a 3 left of a 7`, `a 3 left of a 7 and above an 8`: where the first stands, seen from the others."""
    articles = [f"an {name}" if name == 8 else f"a {name}" for name in names]
    relations = [f"{_relation(places[0], place)} {other}" for place, other in zip(places[1:], articles[1:], strict=True)]
    return " ".join([articles[0], " and ".join(relations)]).strip()


def _relation(a: Place, b: Place) -> str:
    """Where a's centre lies from b's, along the axis in which they are further apart."""
    dx, dy = (2 * b[i] + b[2] - 2 * a[i] - a[2] for i in (0, 1))
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"
