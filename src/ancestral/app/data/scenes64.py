"""The data set `scenes64`: pictures composed of emoji, with exact captions, boxes and semantic maps.

A scene has one to three of Twitter's emoji of animals and plants, food, objects and activities, scaled to 16-32 pixels, without
overlap on a plain or textured background of 64x64 pixels. Held-out scenes are new combinations of the same emoji, so training
captions contain every word of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import Progress
from ancestral.app.data.emoji import Emoji, read_emoji
from ancestral.app.data.placement import caption, mark, places

SIDE, SIDES = 64, (16, 32)  # side of a scene, and smallest and largest side of an emoji, in pixels
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float64)
SOLID = 128  # smallest alpha of a pixel that belongs to its emoji
CLASSES = {"Animals & Nature": "nature", "Food & Drink": "food", "Objects": "object", "Activities": "activity"}


def scenes64(
    train: int = 10_000, test: int = 1_000, *, emoji: Sequence[Emoji] | None = None, progress: Progress | None = None
) -> DataSet:
    """Compose images (3, 64, 64) with 256 levels. Each has a caption, boxes and a map; scenes have no class labels.

    A box has one of four classes and is the smallest that contains the emoji's solid pixels. A solid pixel in a map has the
    value of the class plus one. Captions name the emoji in the order of the boxes: `a tiger left of a teapot`.

    Args:
        train: number of training scenes.
        test: number of held-out scenes.
        emoji: the emoji to use. None: those of the user's cache.
        progress: called with (scenes done, scenes in all).

    Raises:
        DataError: if there are no emoji in the cache.
    """
    emoji = read_emoji(CLASSES) if emoji is None else emoji
    names = tuple(CLASSES.values())
    splits = [
        compose(emoji, train, np.random.RandomState(0), progress),
        compose(emoji, test, np.random.RandomState(1)),
    ]
    return assemble("scenes64", *splits, levels=256, box_classes=names, map_classes=names)


def compose(emoji: Sequence[Emoji], n: int, random: np.random.RandomState, progress: Progress | None = None) -> Split:
    """Compose n scenes. The class of each object is drawn before its emoji, so that the four classes are equally frequent."""
    by_class = [[e for e in emoji if e.group == group] for group in CLASSES]
    pictures, maps = np.zeros((n, SIDE, SIDE, 3), dtype=np.uint8), np.zeros((n, SIDE, SIDE), dtype=np.uint8)
    boxes, captions = [], []

    @cache
    def scaled(one: Emoji, side: int) -> Image.Image:
        return one.picture.resize((side, side), Image.Resampling.LANCZOS)

    for i in range(n):
        labels = random.randint(len(by_class), size=random.randint(1, 4)).tolist()
        chosen = [by_class[label][random.randint(len(by_class[label]))] for label in labels]
        squares = places(len(chosen), SIDE, SIDES, random)
        scene, rows = Image.fromarray(ground(random)), []
        for label, one, place in zip(labels, chosen, squares, strict=True):
            left, top, side = place
            sprite = scaled(one, side)
            scene.paste(sprite, (left, top), sprite)
            rows.append(mark(maps[i], np.asarray(sprite)[..., 3] >= SOLID, place, label))
        pictures[i] = np.asarray(scene)
        boxes.append(torch.tensor(rows))
        captions.append(caption([one.spoken for one in chosen], squares))
        if progress and (i + 1) % 100 == 0:
            progress(i + 1, n)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
    return Split({"x": x, "text": captions, "boxes": boxes, "map": torch.from_numpy(maps)})


def ground(random: np.random.RandomState) -> np.ndarray:
    """Draw a background, uint8 (SIDE, SIDE, 3): one colour, or stripes, checks or clouds of two similar ones, equally often."""
    first = random.uniform(40, 230, size=3)
    second = first + random.uniform(-50, 50, size=3)
    angle, phase, period = random.uniform((0, 0, 6), (np.pi, 2 * np.pi, 24)).tolist()
    cells = random.randint(256, size=(8, 8)).astype(np.uint8)
    u, v = X * math.cos(angle) + Y * math.sin(angle), Y * math.cos(angle) - X * math.sin(angle)
    share = (
        lambda: np.zeros_like(u),
        lambda: (1 + np.sin(2 * math.pi / period * u + phase)) / 2,
        lambda: (np.floor(2 / period * u) + np.floor(2 / period * v)) % 2,
        lambda: np.asarray(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255,
    )[random.randint(4)]()
    levels: np.ndarray = np.rint(first + share[..., None] * (second - first)).clip(0, 255)
    return levels.astype(np.uint8)
