"""Readers of pictures: networks that were trained on real data and say what a picture shows.

`Reader` finds the things and their boxes in `scenes` and `scenes64`, and is kept in the cache under the fingerprint of the data
that it learned from. `Attributes` tells the category, style and skin tone of emoji.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, permutations
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.app.data import DataSet
from ancestral.app.data.cache import cache_dir
from ancestral.app.evaluation.extractors.base import BATCH
from ancestral.files import write_atomically
from ancestral.runtime import Runtime

J = TypeVar("J", bound=nn.Module)

FORMAT = 1
CELLS = 8  # of the reader's map, a side
NEAR = 0.75  # cells from a thing's centre to those of the cells that answer for it; things stand at least 2 apart
SEEN = 100_000  # scenes in a reader's training


class Thing(NamedTuple):
    """A digit, or an emoji of a class, and the smallest box that holds it, in pixels."""

    name: int
    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, row: Tensor) -> Thing:
        """From a box of the data: class, left, top, width, height."""
        name, left, top, width, height = row.tolist()
        return cls(name, left, top, left + width, top + height)

    def overlap(self, other: Thing) -> float:
        """Intersection over union of the boxes."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        both = max(across, 0) * max(down, 0)
        areas = [(t.right - t.left) * (t.bottom - t.top) for t in (self, other)]
        return both / max(sum(areas) - both, 1e-6)

    def seen_from(self, other: Thing) -> str:
        """Return its position relative to the other, in the words of the captions of `scenes`."""
        dx = other.left + other.right - self.left - self.right
        dy = other.top + other.bottom - self.top - self.bottom
        if abs(dx) >= abs(dy):
            return "left of" if dx > 0 else "right of"
        return "above" if dy > 0 else "below"


class Reader(nn.Module):
    """Finds things of so many kinds in square pictures `(n, channels, side, side)`: for each of 8x8 cells the logits of the
    kinds and of none, and how far the edges of the thing's box are from the cell's centre, in cells (Tian et al. 2019,
    arXiv:1904.01355, with one size of cells).
    """

    def __init__(self, channels: int, side: int, kinds: int):
        super().__init__()
        self.kinds, self.cell = kinds, side // CELLS
        folded = self.cell // 2
        widths = (channels * folded**2, 64, 64, 128, 128)
        convolutions = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.SiLU()) for a, b in pairwise(widths)]
        self.body = nn.Sequential(nn.PixelUnshuffle(folded), *convolutions[:2], nn.MaxPool2d(2), *convolutions[2:])
        self.head = nn.Conv2d(128, kinds + 1 + 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(n, 256)` of the whole picture: mean and maximum of each map."""
        maps = self.body(x)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(n, 8, 8, kinds + 1)`, the last of none, and distances `(n, 8, 8, 4)` of left, top, right, bottom."""
        out = self.head(F.dropout(self.body(x), 0.2, self.training)).permute(0, 2, 3, 1)
        return out[..., : self.kinds + 1], out[..., self.kinds + 1 :]

    def middles(self) -> Tensor:
        """Return the centres of the cells as x, y, x, y in pixels, `(8, 8, 4)`."""
        y, x = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
        return self.cell * (torch.stack([x, y, x, y], -1) + 0.5)

    def read(self, x: Tensor, runtime: Runtime) -> list[list[Thing]]:
        """The things in each picture, of which no two overlap by more than 0.3; the most certain stay."""
        found = []
        with torch.inference_mode(), runtime.autocast():
            parts = [self.cells(part) for part in x.split(BATCH)]
        logits, distances = (torch.cat(p).float() for p in zip(*parts, strict=True))
        certain, names = logits.softmax(-1)[..., :-1].max(-1)
        edges = self.middles() + distances * self.cell
        there = logits.softmax(-1)[..., -1] < 0.5
        for i in range(len(x)):
            order = certain[i][there[i]].argsort(descending=True)
            things: list[Thing] = []
            for name, box in zip(names[i][there[i]][order].tolist(), edges[i][there[i]][order].tolist(), strict=True):
                thing = Thing(name, *box)
                if all(thing.overlap(other) <= 0.3 for other in things):
                    things.append(thing)
            found.append(things)
        return found


def reader(data: DataSet, seen: int, runtime: Runtime) -> Reader:
    """The reader that learned from so many samples of the training split."""
    x = data.values(data.train.array)
    model = Reader(*data.spec.shape[:2], len(data.spec.box_classes))
    middles = model.middles()
    names, edges = torch.full((len(x), CELLS, CELLS), model.kinds), torch.zeros(len(x), *middles.shape)
    for i, boxes in enumerate(data.train.boxes or ()):
        for thing in map(Thing.of, boxes):
            box = torch.tensor(thing[1:])
            near = ((box[:2] + box[2:]) / 2 - middles[..., :2]).abs().amax(-1) <= NEAR * model.cell
            names[i][near] = thing.name
            edges[i][near] = ((box - middles) / model.cell)[near]

    def loss(model: Reader, rows: Tensor) -> Tensor:
        logits, distances = model.cells(x[rows])
        there = names[rows] < model.kinds
        wrong = F.cross_entropy(logits.flatten(0, 2).float(), names[rows].flatten())
        return wrong + F.smooth_l1_loss(distances[there].float(), edges[rows][there])

    return learned("reader", model, data, loss, seen, runtime)


def said(caption: str) -> list[str]:
    """Return the positions of the first thing relative to each of the others in a caption of scenes."""
    return re.findall(r"left of|right of|above|below", caption)


def relations(caption: str) -> list[tuple[int, str, int]]:
    """(3, "left of", 7) and so on, as a caption of `scenes` says; nothing where it names one digit."""
    first, *others = re.findall(r"\d", caption)
    return [(int(first), relation, int(other)) for relation, other in zip(said(caption), others, strict=True)]


def present(names: Sequence[int], things: Sequence[Thing]) -> list[bool]:
    """Return for each thing that a caption names whether it is present. Each present thing counts for one name."""
    left, found = [thing.name for thing in things], []
    for name in names:
        found.append(name in left)
        if found[-1]:
            left.remove(name)
    return found


def holds(names: Sequence[int], places: Sequence[str], things: Sequence[Thing]) -> tuple[bool, bool]:
    """Whether the things are just those of a caption, and whether they also stand as it says.

    names: of the things, in the caption's order. places: where the first stands, seen from each of the others.
    """
    if sorted(names) != sorted(thing.name for thing in things):
        return False, False
    return True, any(
        [thing.name for thing in order] == list(names)
        and all(order[0].seen_from(other) == place for other, place in zip(order[1:], places, strict=True))
        for order in permutations(things)
    )


class Attributes:
    """Attributes of pictures by logistic regression on an extractor's features.

    features: of training pictures `(n, d)`. values: of each attribute; None: not to be learned from.
    """

    def __init__(self, features: np.ndarray, values: Mapping[str, Sequence[str | None]]):
        self.models = {}
        for attribute, column in values.items():
            known = [i for i, value in enumerate(column) if value is not None]
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
            self.models[attribute] = model.fit(features[known], [column[i] for i in known])

    def right(self, features: np.ndarray, values: Mapping[str, Sequence[str | None]]) -> dict[str, Tensor]:
        """Return by attribute whether pictures have the requested value. Pictures with the value None are left out."""
        found = {}
        for attribute, column in values.items():
            known = [i for i, value in enumerate(column) if value is not None]
            predicted = self.models[attribute].predict(features[known]) if known else []
            found[attribute] = torch.tensor([column[i] == value for i, value in zip(known, predicted, strict=True)])
        return found


def learned(name: str, model: J, data: DataSet, loss: Callable[[J, Tensor], Tensor], seen: int, runtime: Runtime) -> J:
    """The model after so many samples of the training split, or from the cache. loss: of the rows of a batch."""
    file: Path = cache_dir() / "readers" / f"{name}-{FORMAT}-{seen}-{data.spec.fingerprint}.safetensors"
    if file.exists():
        model.load_state_dict(load_file(file))
        return model.eval()
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    runtime.place(model)
    steps = max(1, seen // 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(data.train), (128,))
        with runtime.autocast():
            value = loss(model, rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    write_atomically(file, save({key: value.contiguous() for key, value in model.state_dict().items()}))
    return model.eval()
