"""The data set `flowers`: small colour pictures of six kinds of flowers, drawn by a formula.

A flower is seen from above. In polar coordinates (r, theta) of its own plane, which is shifted, turned and tilted, a ring of n
petals of radius R is the set

    r < R (b + (1 - b) |cos(n (theta - theta_0) / 2)|^p)

with b the share of R at which petals meet and p their pointedness. Behind it are leaves, in its middle a disc. So the right
number of petals of each kind is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split

SIDE, FINER = 24, 2  # side of a picture in pixels, and points a pixel along each side
LEAVES = 2
CHUNK = 100
Array = NDArray[np.float64]


class Flower(NamedTuple):
    """Shape and colours (hue, saturation, value in [0, 1]) of a kind.

    petals: number in a ring. rings: how many, each smaller than the one below it. join: b. pointed: p. petal: colour of petals,
    whose hue varies by `spread`. core: radius of the middle as a share of the flower's. middle: colour of the middle.
    """

    petals: int
    rings: int
    join: float
    pointed: float
    petal: tuple[float, float, float]
    spread: float
    core: float
    middle: tuple[float, float, float]


KINDS = {
    "daisy": Flower(12, 1, 0.25, 0.55, (0.12, 0.06, 0.98), 0.02, 0.30, (0.13, 0.90, 0.95)),
    "sunflower": Flower(16, 2, 0.35, 0.80, (0.125, 0.90, 0.98), 0.02, 0.42, (0.07, 0.75, 0.33)),
    "poppy": Flower(4, 1, 0.55, 0.35, (0.99, 0.88, 0.90), 0.02, 0.22, (0.75, 0.30, 0.12)),
    "cosmos": Flower(8, 1, 0.30, 0.50, (0.90, 0.50, 0.96), 0.04, 0.20, (0.12, 0.85, 0.90)),
    "forget-me-not": Flower(5, 1, 0.35, 0.50, (0.60, 0.55, 0.95), 0.03, 0.17, (0.14, 0.80, 1.00)),
    "dahlia": Flower(10, 3, 0.40, 0.70, (0.80, 0.65, 0.75), 0.06, 0.12, (0.85, 0.60, 0.45)),
}


def flowers(train: int = 4_800, test: int = 600) -> DataSet:
    """Draw images (3, 24, 24) with 256 levels in six classes of equal size."""
    return assemble(
        "flowers",
        _drawn(train, np.random.RandomState(0)),
        _drawn(test, np.random.RandomState(1)),
        levels=256,
        classes=tuple(KINDS),
    )


def _drawn(n: int, random: np.random.RandomState) -> Split:
    labels = np.arange(n) % len(KINDS)
    pictures = np.empty((n, 3, SIDE, SIDE), dtype=np.uint8)
    for k, kind in enumerate(KINDS.values()):
        of_kind = np.flatnonzero(labels == k)
        for first in range(0, len(of_kind), CHUNK):
            chosen = of_kind[first : first + CHUNK]
            pictures[chosen] = _pictures(kind, len(chosen), random)
    return Split({"x": torch.from_numpy(pictures), "class": torch.from_numpy(labels)})


def _pictures(kind: Flower, n: int, random: np.random.RandomState) -> NDArray[np.uint8]:
    """Return n pictures of a kind, uint8 (n, 3, SIDE, SIDE). Coordinates are from -1 to 1, y downwards."""

    def uniform(low: float, high: float) -> Array:
        return random.uniform(low, high, size=(n, 1, 1))

    points = (np.arange(SIDE * FINER) + 0.5) * (2 / (SIDE * FINER)) - 1
    x, y = points[None, None, :], points[None, :, None]

    light = uniform(0, 2 * np.pi)
    shade = 0.5 + 0.36 * (x * np.cos(light) + y * np.sin(light))
    canvas = _rgb(uniform(0.22, 0.38), 0.55, 0.16 + 0.22 * shade)

    x, y = x - uniform(-0.12, 0.12), y - uniform(-0.12, 0.12)
    for _ in range(LEAVES):
        along, across = _turned(x, y, uniform(0, 2 * np.pi))
        width = 0.3 * np.sin(np.clip(along / 1.15, 0, 1) * np.pi)
        green = _rgb(0.33, 0.65, 0.42 + 0.10 * _inside(0.03 - np.abs(across)))
        canvas = _over(canvas, green, _inside(width - np.abs(across)) * (along > 0))

    across_x, across_y = _turned(x, y, uniform(0, np.pi))
    across_y = across_y / uniform(0.78, 1)
    r, theta = np.hypot(across_x, across_y), np.arctan2(across_y, across_x)
    radius = uniform(0.72, 0.90)
    theta = theta - uniform(0, 2 * np.pi / kind.petals)
    hue = kind.petal[0] + kind.spread * uniform(-1, 1)
    saturation, value = kind.petal[1] * uniform(0.85, 1.10), kind.petal[2] * uniform(0.92, 1.05)
    for ring in range(kind.rings):
        size = radius * (1 - 0.27 * ring)
        middle = np.abs(np.cos(kind.petals * theta / 2 - ring * np.pi / 2))  # 1 on the middle line of a petal
        edge = size * (kind.join + (1 - kind.join) * middle**kind.pointed)
        out = np.minimum(r / size, 1)
        bright = value * (0.62 + 0.38 * np.clip(0.8 * out + 0.35 * middle, 0, 1))
        canvas = _over(canvas, _rgb(hue, saturation * (1.15 - 0.35 * out), bright), _inside(edge - r))
    core = radius * kind.core * uniform(0.9, 1.1)
    h, s, v = kind.middle
    canvas = _over(canvas, _rgb(h, s, v * (1 - 0.25 * np.minimum(r / core, 1))), _inside(core - r))

    pixels: Array = canvas.reshape(3, n, SIDE, FINER, SIDE, FINER).mean(axis=(3, 5)).swapaxes(0, 1)
    return np.rint(255 * pixels).astype(np.uint8)


def _turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def _inside(distance: Array) -> Array:
    """Return how much of a point is covered, in [0, 1]: an edge is blurred over one point."""
    covered: Array = np.clip(distance * (SIDE * FINER / 2) + 0.5, 0, 1)
    return covered


def _over(below: Array, above: Array, cover: Array) -> Array:
    return below + cover * (above - below)


def _rgb(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """Return the colours (3, ...) of hue, saturation and value. The hue has the period 1.

    A channel is V (1 - S min(max(k, 0), max(4 - k, 0), 1)) with k = (n + 6 H) mod 6, and n = 5, 3, 1 for red, green, blue.
    """
    saturation, value = np.clip(saturation, 0, 1), np.clip(value, 0, 1)
    k = [np.mod(n + 6 * np.asarray(hue), 6) for n in (5, 3, 1)]
    return np.stack([value * (1 - saturation * np.clip(np.minimum(a, 4 - a), 0, 1)) for a in k])
