"""The data set `scenes`: small pictures composed of digits, with exact captions, boxes and semantic maps.

A scene has one to three digits of scikit-learn's `digits`, scaled to 8-16 pixels, without overlap on 32x32 pixels. Training
scenes are composed of the training split of `digits` and held-out scenes of its held-out split, so the handwriting differs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from PIL import Image

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.digits import digits
from ancestral.app.data.placement import caption, mark, places

SIDE, SIDES = 32, (8, 16)  # side of a scene, and smallest and largest side of a digit, in pixels
INK = 64  # a pixel belongs to its digit if it has at least a quarter of full ink
DIGITS = tuple("0123456789")


def scenes(train: int = 10_000, test: int = 1_000) -> DataSet:
    """Compose images (1, 32, 32) with 256 levels. Each has a caption, boxes and a map; scenes have no class labels.

    The class of a box is the digit, and the box is the smallest that contains its ink. A pixel of ink in a map has the value of
    the digit plus one.
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
    """Compose n scenes of the digits of `source`, uint8 (N, 1, 8, 8) with 17 levels and labels."""
    if "class" not in source:
        raise ValueError("scenes are composed of labelled digits, and the source has no labels")
    ink = np.rint(source["x"].values[:, 0].numpy() * (255 / 16)).astype(np.uint8)
    labels = source["class"].values.tolist()

    @cache
    def scaled(index: int, side: int) -> np.ndarray:
        return np.asarray(Image.fromarray(ink[index]).resize((side, side), Image.Resampling.BICUBIC))

    pictures, maps = np.zeros((2, n, SIDE, SIDE), dtype=np.uint8)
    boxes, captions = [], []
    for picture, semantic in zip(pictures, maps, strict=True):
        chosen = random.randint(len(ink), size=random.randint(1, 4))
        squares = places(len(chosen), SIDE, SIDES, random)
        rows = []
        for index, place in zip(chosen.tolist(), squares, strict=True):
            left, top, side = place
            digit = scaled(index, side)
            picture[top : top + side, left : left + side] = digit
            rows.append(mark(semantic, digit >= INK, place, labels[index]))
        boxes.append(torch.tensor(rows))
        captions.append(caption([f"an {row[0]}" if row[0] == 8 else f"a {row[0]}" for row in rows], squares))
    x = torch.from_numpy(pictures).unsqueeze(1)
    return Split({"x": x, "text": captions, "boxes": boxes, "map": torch.from_numpy(maps)})
