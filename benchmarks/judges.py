"""Judges of control: networks that were trained on real data and say what a picture shows.

`Reader` finds digits and their boxes in `scenes`, and is kept in the cache under the fingerprint of the data that it learned
from. `Attributes` tells the category, style and skin tone of emoji.
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

from ancestral.data import DataSet
from ancestral.data.cache import cache_dir
from ancestral.evaluation.extractors.base import BATCH
from ancestral.files import write_atomically
from ancestral.runtime import Runtime

J = TypeVar("J", bound=nn.Module)

FORMAT = 1
CELL = 4  # pixels of a cell of the reader's map
NEAR = 3  # pixels from a digit's centre to those of the cells that answer for it; digits stand at least 8 apart
SEEN = 100_000  # scenes in the reader's training


class Digit(NamedTuple):
    """A digit and the smallest box that holds its ink, in pixels."""

    name: int
    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, row: Tensor) -> Digit:
        """From a box of the data: class, left, top, width, height."""
        name, left, top, width, height = row.tolist()
        return cls(name, left, top, left + width, top + height)

    def overlap(self, other: Digit) -> float:
        """Intersection over union of the boxes."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        both = max(across, 0) * max(down, 0)
        areas = [(d.right - d.left) * (d.bottom - d.top) for d in (self, other)]
        return both / max(sum(areas) - both, 1e-6)

    def seen_from(self, other: Digit) -> str:
        """Where its centre lies from the other's, in the words of the captions of `scenes`."""
        dx = other.left + other.right - self.left - self.right
        dy = other.top + other.bottom - self.top - self.bottom
        if abs(dx) >= abs(dy):
            return "left of" if dx > 0 else "right of"
        return "above" if dy > 0 else "below"


class Reader(nn.Module):
    """Finds digits: `(n, 1, h, w)` -> for each cell of 4x4 pixels the logits of ten digits and of none, and how far the edges
    of the digit's box are from the cell's centre (Tian et al. 2019, arXiv:1904.01355, with one size of cells).
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 64, 64, 128, 128)
        convolutions = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.SiLU()) for a, b in pairwise(widths)]
        self.body = nn.Sequential(nn.PixelUnshuffle(2), *convolutions[:2], nn.MaxPool2d(2), *convolutions[2:])
        self.head = nn.Conv2d(128, 11 + 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(n, 256)` of the whole picture: mean and maximum of each map."""
        maps = self.body(x)
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)

    def cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(n, h/4, w/4, 11)`, the last of none, and distances `(n, h/4, w/4, 4)` of left, top, right, bottom."""
        out = self.head(F.dropout(self.body(x), 0.2, self.training)).permute(0, 2, 3, 1)
        return out[..., :11], out[..., 11:]

    def read(self, x: Tensor, runtime: Runtime) -> list[list[Digit]]:
        """The digits of each picture, of which no two overlap by more than 0.3; the most certain stay."""
        found = []
        with torch.inference_mode(), runtime.autocast():
            parts = [self.cells(part) for part in x.split(BATCH)]
        logits, distances = (torch.cat(p).float() for p in zip(*parts, strict=True))
        certain, names = logits.softmax(-1)[..., :10].max(-1)
        edges = centres(*certain.shape[1:]) + distances * CELL
        there = logits.softmax(-1)[..., 10] < 0.5
        for i in range(len(x)):
            order = certain[i][there[i]].argsort(descending=True)
            digits: list[Digit] = []
            for name, box in zip(names[i][there[i]][order].tolist(), edges[i][there[i]][order].tolist(), strict=True):
                digit = Digit(name, *box)
                if all(digit.overlap(other) <= 0.3 for other in digits):
                    digits.append(digit)
            found.append(digits)
        return found


def reader(data: DataSet, runtime: Runtime) -> Reader:
    """The reader that learned from the training split."""
    x = data.values(data.train.array)
    middles = centres(x.shape[-2] // CELL, x.shape[-1] // CELL)
    names, edges = torch.full((len(x), *middles.shape[:2]), 10), torch.zeros(len(x), *middles.shape)
    for i, boxes in enumerate(data.train.boxes or ()):
        for digit in map(Digit.of, boxes):
            box = torch.tensor(digit[1:])
            near = ((box[:2] + box[2:]) / 2 - middles[..., :2]).abs().amax(-1) <= NEAR
            names[i][near] = digit.name
            edges[i][near] = ((box - middles) / CELL)[near]

    def loss(model: Reader, rows: Tensor) -> Tensor:
        logits, distances = model.cells(x[rows])
        there = names[rows] < 10
        wrong = F.cross_entropy(logits.flatten(0, 2).float(), names[rows].flatten())
        return wrong + F.smooth_l1_loss(distances[there].float(), edges[rows][there])

    return learned("reader", Reader(), data, loss, SEEN, runtime)


def centres(height: int, width: int) -> Tensor:
    """Of cells `(height, width)`, x, y, x, y in pixels: `(height, width, 4)`."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return CELL * (torch.stack([x, y, x, y], -1) + 0.5)


def relations(caption: str) -> list[tuple[int, str, int]]:
    """(3, "left of", 7) and so on, as a caption of `scenes` says; nothing where it names one digit."""
    first, *others = re.findall(r"\d", caption)
    said = re.findall(r"left of|right of|above|below", caption)
    return [(int(first), relation, int(other)) for relation, other in zip(said, others, strict=True)]


def holds(caption: str, digits: list[Digit]) -> tuple[bool, bool]:
    """Whether the digits are just those of a caption of `scenes`, and whether they also stand as it says."""
    said = relations(caption)
    names = [int(name) for name in re.findall(r"\d", caption)]
    if sorted(names) != sorted(digit.name for digit in digits):
        return False, False
    return True, any(
        [digit.name for digit in order] == names
        and all(order[0].seen_from(other) == relation for other, (_, relation, _) in zip(order[1:], said, strict=True))
        for order in permutations(digits)
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
        """By attribute, whether pictures have the value asked for; those of which None is asked are left out."""
        found = {}
        for attribute, column in values.items():
            known = [i for i, value in enumerate(column) if value is not None]
            told = self.models[attribute].predict(features[known]) if known else []
            found[attribute] = torch.tensor([column[i] == value for i, value in zip(known, told, strict=True)])
        return found


def learned(name: str, model: J, data: DataSet, loss: Callable[[J, Tensor], Tensor], seen: int, runtime: Runtime) -> J:
    """The model after so many samples of the training split, or from the cache. loss: of the rows of a batch."""
    file: Path = cache_dir() / "judges" / f"{name}-{FORMAT}-{data.spec.fingerprint}.safetensors"
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
