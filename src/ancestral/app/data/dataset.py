"""Data in memory: `Split` holds samples as named columns, `DataSet` hands them out as batches of floats.

Levels stay uint8, a quarter of the memory of float32, and become floats only once a batch is drawn: one
`index_select` and one division, which for small images is faster than any queue of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ancestral.app.data.columns import Column, column
from ancestral.app.data.hashing import COVERED, extended
from ancestral.app.data.spec import DataSpec
from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Rendering
from ancestral.errors import UsageError
from ancestral.noise import Noise, StreamNoise
from ancestral.suggest import unknown

SplitName = Literal["train", "test"]


class Split:
    """N samples as named columns, e.g. `Split({"x": images, "class": labels, "number": angles})`.

    `split["class"]` is a `Column`, `split["class"].values` what it holds; `"class" in split` tells whether it is there.

    Args:
        columns: by name a `Column`, or values of N rows, of which `columns.column` makes one; None is left out. `x` is needed.
        conditions: what a model's conditions make of the columns, one tensor `(N, ...)` a kind; see `DataSet.encoded`.

    Raises:
        UsageError: columns of different lengths.
    """

    def __init__(self, columns: Mapping[str, Any], conditions: Mapping[str, Tensor] | None = None):
        self._columns = {name: column(name, values) for name, values in columns.items() if values is not None}
        self.conditions = dict(conditions or {})
        n = len(self)
        if wrong := {name: len(values) for name, values in self._columns.items() if len(values) != n}:
            found = ", ".join(f"{name} has {rows:,}" for name, rows in wrong.items())
            raise UsageError(f"every column needs a row for each of {n:,} samples, and {found}")

    def __len__(self) -> int:
        return len(self._columns["x"])

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        """The names of the columns."""
        return iter(self._columns)

    def value(self, name: str) -> Any:
        """What the column of that name holds, None where there is none."""
        return self._columns[name].values if name in self._columns else None

    @property
    def columns(self) -> dict[str, Any]:
        """What the columns hold, by name: what conditions read."""
        return {name: column.values for name, column in self._columns.items()}

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the images that boxes and maps go with. Raises UsageError where samples are no images."""
        shape = tuple(self._columns["x"].values.shape)
        if len(shape) != 4:
            raise UsageError(f"only images can be mirrored or resized, and these samples have shape {shape[1:]}")
        return shape[2], shape[3]

    def with_columns(self, columns: Mapping[str, Any]) -> Split:
        """The same samples with these columns more, or in the place of those of the same name; None takes one away."""
        return Split({**self._columns, **columns}, self.conditions)

    def take(self, index: Tensor) -> Split:
        """The samples of `index`, int64 `(n,)`, with all that belongs to them."""
        return Split(
            {name: column.gather(index) for name, column in self._columns.items()},
            {name: rows.index_select(0, index) for name, rows in self.conditions.items()},
        )

    def mirror(self, rows: Tensor) -> Split:
        """All columns where the images of `rows`, bool `(N,)`, are mirrored left to right; nothing is encoded any more."""
        return Split({name: column.mirror(rows, self.canvas) for name, column in self._columns.items()})

    def resize(self, size: tuple[int, int]) -> Split:
        """All columns where images are scaled to cover `size` and cropped at the centre; nothing is encoded any more."""
        return Split({name: column.resize(self.canvas, size) for name, column in self._columns.items()})

    # Read access in short.

    @property
    def array(self) -> Tensor:
        """The samples as they are stored, `(N, *shape)`, uint8 levels or float32."""
        return cast(Tensor, self._columns["x"].values)

    @property
    def labels(self) -> Tensor | None:
        """Int64 `(N,)`."""
        return cast(Tensor | None, self.value("class"))

    @property
    def captions(self) -> tuple[str | None, ...] | None:
        """One string a sample, None for a sample without."""
        return cast(tuple[str | None, ...] | None, self.value("text"))

    @property
    def boxes(self) -> tuple[Tensor, ...] | None:
        """Int64 `(k, 5)` rows (class, left, top, width, height) in pixels, of each sample."""
        return cast(tuple[Tensor, ...] | None, self.value("boxes"))

    @property
    def maps(self) -> Tensor | None:
        """The class of every pixel plus one, 0 for background: uint8 `(N, H, W)`."""
        return cast(Tensor | None, self.value("map"))

    @property
    def paired(self) -> Tensor | None:
        """The image that goes with each sample, uint8 or float32 `(N, C, H, W)`."""
        return cast(Tensor | None, self.value("image"))


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

    def part(self, split: SplitName = "train") -> Split:
        """The split of that name. Raises UsageError for an unknown one."""
        if split not in ("train", "test"):
            raise UsageError(unknown("split", split, ("train", "test")))
        return self.train if split == "train" else self.test

    def x(self, split: SplitName = "train", rows: Tensor | None = None) -> Tensor:
        """The samples of a split, or those of `rows`, int64 `(n,)`, in the units the models see: float32 `(n, *shape)`."""
        stored = self.part(split)["x"]
        return self.values((stored if rows is None else stored.gather(rows)).values)

    def column(self, name: str, split: SplitName = "train") -> Any:
        """What the column `name` of a split holds as it is stored; None where the data have none."""
        return self.part(split).value(name)

    def labels(self, split: SplitName = "train") -> Tensor | None:
        """The class labels of a split, int64 `(N,)`; None where the data have no classes."""
        return self.part(split).labels

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the samples and of all that the encoded conditions read: that of the `spec`, and of columns that
        it does not cover.
        """
        sources = set() if self.conditioner is None else self.conditioner.sources - COVERED
        return extended(self.spec.fingerprint, {name: self.train[name] for name in sources})

    def encoded(self, conditioner: Conditioner) -> DataSet:
        """The same data, whose batches hold the conditions of a model. Raises UsageError for a condition that they lack."""
        parts = (self.train, self.test)
        train, test = (Split({name: part[name] for name in part}, conditioner.columns(part.columns)) for part in parts)
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
        part = self.part(split)
        samples = part["x"].gather(index)
        conditions = {"class": part["class"].gather(index).values} if "class" in part else {}
        conditions |= {name: column.index_select(0, index) for name, column in part.conditions.items()}
        if flip is not None:
            if not self.spec.is_image:
                shape = self.spec.shape
                raise UsageError(f"only images can be flipped, and the samples of {self.spec.name} have shape {shape}")
            samples = samples.mirror(flip, part.canvas)
            conditions = conditions if self.conditioner is None else self.conditioner.mirror(conditions, flip)
        x = self.values(samples.values)
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
