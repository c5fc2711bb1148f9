"""Data in memory: `Split` holds samples as they are stored, `DataSet` hands them out as batches of floats.

Levels stay uint8, a quarter of the memory of float32, and become floats only once a batch is drawn: one
`index_select` and one division, which for small images is faster than any queue of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data.spec import DataSpec
from ancestral.errors import UsageError
from ancestral.names import unknown


@dataclass(frozen=True, eq=False)
class Split:
    """N samples and what is known of each.

    array: `(N, *shape)`, uint8 levels or float32.
    labels: int64 `(N,)`.
    captions: one string a sample, None for a sample without.
    boxes: per sample an int64 `(k, 5)` tensor of rows (class, x, y, w, h): left, top, width and height in pixels.
    maps: uint8 `(N, H, W)`, the class of every pixel plus one, 0 for background.
    """

    array: Tensor
    labels: Tensor | None = None
    captions: tuple[str | None, ...] | None = None
    boxes: tuple[Tensor, ...] | None = None
    maps: Tensor | None = None

    def __len__(self) -> int:
        return self.array.shape[0]

    def take(self, index: Tensor) -> Split:
        """The samples of `index`, int64 `(n,)`, with all that belongs to them."""
        rows = index.tolist()
        return Split(
            array=self.array.index_select(0, index),
            labels=None if self.labels is None else self.labels.index_select(0, index),
            captions=None if self.captions is None else tuple(self.captions[i] for i in rows),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in rows),
            maps=None if self.maps is None else self.maps.index_select(0, index),
        )


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training split, a held-out split that always exists, their description, and what the user should be told."""

    spec: DataSpec
    train: Split
    test: Split
    notes: tuple[str, ...] = ()

    def values(self, array: Tensor) -> Tensor:
        """Stored samples in the units the models see: levels divided by `levels - 1`, float32 in [0, 1]; floats
        unchanged.
        """
        if self.spec.levels is None:
            return array
        return array.to(torch.float32).div_(self.spec.levels - 1)

    def batch(self, index: Tensor, split: Literal["train", "test"] = "train", flip: Tensor | None = None) -> Batch:
        """The samples of `index`, int64 `(n,)`, as float32 `(n, *shape)` with their class labels as conditions.

        flip: bool `(n,)`, which images to mirror left to right.
        Raises `UsageError` for an unknown split or a flip of what is not an image.
        """
        if split not in ("train", "test"):
            raise UsageError(unknown("split", split, ("train", "test")))
        part = self.train if split == "train" else self.test
        x = part.array.index_select(0, index)
        if flip is not None:
            if not self.spec.is_image:
                shape = self.spec.shape
                raise UsageError(f"only images can be flipped, and the samples of {self.spec.name} have shape {shape}")
            x = torch.where(flip.reshape(-1, 1, 1, 1), x.flip(-1), x)
        conditions = {} if part.labels is None else {"class": part.labels.index_select(0, index)}
        return Batch(self.values(x), conditions)
