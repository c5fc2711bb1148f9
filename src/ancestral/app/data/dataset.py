"""Data in memory: `Split` holds samples as they are stored, `DataSet` hands them out as batches of floats.

Levels stay uint8, a quarter of the memory of float32, and become floats only once a batch is drawn: one
`index_select` and one division, which for small images is faster than any queue of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Rendering
from ancestral.errors import UsageError
from ancestral.noise import Noise, StreamNoise
from ancestral.suggest import unknown

SplitName = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """N samples and what is known of each.

    array: `(N, *shape)`, uint8 levels or float32.
    labels: int64 `(N,)`.
    captions: one string a sample, None for a sample without.
    boxes: per sample an int64 `(k, 5)` tensor of rows (class, x, y, w, h): left, top, width and height in pixels.
    maps: uint8 `(N, H, W)`, the class of every pixel plus one, 0 for background.
    paired: uint8 `(N, C, H, W)` or float32, an image of the same size that goes with each.
    conditions: what a model's conditions make of these, one tensor `(N, ...)` a kind; see `DataSet.encoded`.
    """

    array: Tensor
    labels: Tensor | None = None
    captions: tuple[str | None, ...] | None = None
    boxes: tuple[Tensor, ...] | None = None
    maps: Tensor | None = None
    paired: Tensor | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def columns(self) -> dict[str, Any]:
        """What is known of the samples, by name; None where nothing is."""
        return {
            "classes": self.labels,
            "captions": self.captions,
            "boxes": self.boxes,
            "maps": self.maps,
            "images": self.paired,
        }

    def take(self, index: Tensor) -> Split:
        """The samples of `index`, int64 `(n,)`, with all that belongs to them."""
        rows = index.tolist()
        return Split(
            array=self.array.index_select(0, index),
            labels=None if self.labels is None else self.labels.index_select(0, index),
            captions=None if self.captions is None else tuple(self.captions[i] for i in rows),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in rows),
            maps=None if self.maps is None else self.maps.index_select(0, index),
            paired=None if self.paired is None else self.paired.index_select(0, index),
            conditions={name: column.index_select(0, index) for name, column in self.conditions.items()},
        )


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training split, a held-out split that always exists, their description, and what the user should be told.

    conditioner: whose conditions the batches hold beside class labels; None: those of no model.
    """

    spec: DataSpec
    train: Split
    test: Split
    notes: tuple[str, ...] = ()
    conditioner: Conditioner | None = None

    def encoded(self, conditioner: Conditioner) -> DataSet:
        """The same data, whose batches hold the conditions of a model. Raises UsageError for a condition that they lack."""
        train, test = (replace(part, conditions=conditioner.columns(part.columns)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, conditioner=conditioner)

    def values(self, array: Tensor) -> Tensor:
        """Stored samples in the units the models see: levels divided by `levels - 1`, float32 in [0, 1]; floats
        unchanged.
        """
        if self.spec.levels is None:
            return array
        return array.to(torch.float32).div_(self.spec.levels - 1)

    def batch(self, index: Tensor, split: SplitName = "train", flip: Tensor | None = None, noise: Noise | None = None) -> Batch:
        """The samples of `index`, int64 `(n,)`, as float32 `(n, *shape)` with their conditions, class labels among them.

        flip: bool `(n,)`, which images to mirror left to right. noise: for conditions that are drawn, such as what of an image
        is hidden; None: the same draws at every call.
        Raises `UsageError` for an unknown split or a flip of what is not an image.
        """
        if split not in ("train", "test"):
            raise UsageError(unknown("split", split, ("train", "test")))
        part = self.train if split == "train" else self.test
        x = part.array.index_select(0, index)
        conditions = {} if part.labels is None else {"class": part.labels.index_select(0, index)}
        conditions |= {name: column.index_select(0, index) for name, column in part.conditions.items()}
        if flip is not None:
            if not self.spec.is_image:
                shape = self.spec.shape
                raise UsageError(f"only images can be flipped, and the samples of {self.spec.name} have shape {shape}")
            x = torch.where(flip.reshape(-1, 1, 1, 1), x.flip(-1), x)
            conditions = conditions if self.conditioner is None else self.conditioner.mirror(conditions, flip)
        x = self.values(x)
        if self.conditioner is not None:
            conditions |= self.conditioner.derive(x, noise or StreamNoise(len(x), 0, 0))
        return Batch(x, conditions)

    def asked(self, index: Tensor) -> dict[str, Tensor]:
        """What the held-out samples of `index` would ask of a model, as conditions for `sample`; nothing where no model's
        conditions are encoded.
        """
        if self.conditioner is None or not len(self.conditioner.kinds):
            return {}
        conditions = self.batch(index, "test").conditions
        return {name: value for name, value in conditions.items() if name in self.conditioner.kinds}

    def shown(self, index: Tensor) -> list[Rendering]:
        """What `asked` asks for, as a person can see it; empty where nothing is asked."""
        raw = self.asked(index)
        if self.conditioner is None or not raw:
            return []
        captions = self.test.captions
        return self.conditioner.shown(raw, None if captions is None else [captions[i] for i in index.tolist()])
