"""Data sets. `Split` holds samples as named columns, and `DataSet` returns them as batches of floats.

Levels stay uint8, which takes a quarter of the memory of float32. They become floats only when a batch is drawn, by one
`index_select` and one division. For small images this is faster than any queue of workers. Data that are larger than memory
have the same interface: their columns are `Streamed` and read the rows of a batch. A part in memory stands for such data where
all samples would be needed (`DataSet.sampled`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.columns import Column, Texts, column
from ancestral.app.data.hashing import COVERED, extended
from ancestral.app.data.order import EpochSampler, Order, ShardOrder
from ancestral.app.data.spec import DataSpec
from ancestral.app.data.streamed import SAMPLE, Selection, Streamed, evenly
from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Rendering
from ancestral.errors import UsageError, printable
from ancestral.noise import Noise, StreamNoise
from ancestral.suggest import unknown

SplitName = Literal["train", "test"]
KEPT = 10_000  # samples of a split that stand for it in memory


class Split:
    """N samples as named columns, e.g. `Split({"x": images, "class": labels, "number": angles})`.

    `split["class"]` is a `Column`, and `split["class"].values` are its values. `"class" in split` tests whether it exists.

    Args:
        columns: a `Column`, or N rows of values, for each name. None is left out. `x` is needed.
        conditions: the encoded conditions of a model, one tensor `(N, ...)` for each kind; see `DataSet.encoded`.
        choices: for kinds with several values per sample, their number `(N,)` and all values `(N, k, ...)`.
        conditioner: the conditioner that encodes the samples of a batch, if the samples are read on demand.

    Raises:
        UsageError: if columns have different lengths.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        conditions: Mapping[str, Tensor] | None = None,
        choices: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        conditioner: Conditioner | None = None,
    ):
        self._columns = {name: column(name, values) for name, values in columns.items() if values is not None}
        self.conditioner = conditioner
        self.conditions = dict(conditions or {})
        self.choices = dict(choices or {})
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
        """Iterate over the names of the columns."""
        return iter(self._columns)

    def value(self, name: str) -> Any:
        """Return the values of the column `name`, or None if there is no such column."""
        return self._columns[name].values if name in self._columns else None

    @property
    def streamed(self) -> bool:
        """Whether the samples are read on demand."""
        return isinstance(self._columns["x"], Streamed)

    @property
    def columns(self) -> dict[str, Any]:
        """The values of the columns by name. Conditions read these."""
        return {name: column.values for name, column in self._columns.items()}

    @property
    def all_columns(self) -> dict[str, Any]:
        """The same as `columns`, but with every text of samples that have several, and without the samples themselves.

        Conditions are fitted to these. Of samples that are read on demand these are the columns of a sample of them.
        """
        if self.streamed:
            some = evenly(len(self), KEPT)
            others = {name: column.gather(some) for name, column in self._columns.items() if name != "x"}
            return {name: values for name, values in Split({"x": some, **others}).all_columns.items() if name != "x"}
        every = {name: column for name, column in self._columns.items() if isinstance(column, Texts) and any(column.others)}
        texts = {name: (*column.values, *(text for more in column.others for text in more)) for name, column in every.items()}
        return self.columns | texts

    def encoded(self, conditioner: Conditioner) -> Split:
        """Return the same samples with a model's conditions. Of several texts of a sample, the first is its condition.

        The conditions of samples that are read on demand are encoded with each batch.
        """
        if self.streamed:
            lazy = Split(self._columns, conditioner=conditioner)
            lazy.gathered(torch.arange(1))  # raises UsageError if a column is missing
            return lazy
        choices = {}
        for name in conditioner.kinds:
            source = conditioner.source(name)
            column = self._columns.get(source or "")
            if source is not None and isinstance(column, Texts) and any(column.others):
                rows = [(value, *more) for value, more in zip(column.values, column.others, strict=True)]
                most = max(map(len, rows))
                padded = [text for row in rows for text in (row + (row[0],) * (most - len(row)))]
                values = conditioner.columns({**self.columns, source: padded}, only=name)[name]
                choices[name] = torch.tensor([len(row) for row in rows]), values.unflatten(0, (len(rows), most))
        conditions = conditioner.columns(self.columns) | {name: values[:, 0] for name, (_, values) in choices.items()}
        return Split(self._columns, conditions, choices)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the images. Raises UsageError if the samples are not images."""
        shape = self._columns["x"].shape
        if len(shape) != 4:
            raise UsageError(f"only images can be mirrored or resized, and these samples have shape {shape[1:]}")
        return shape[2], shape[3]

    def with_columns(self, columns: Mapping[str, Any]) -> Split:
        """Return the same samples with these columns added or replaced. None removes a column."""
        return Split({**self._columns, **columns}, self.conditions, self.choices, self.conditioner)

    def take(self, index: Tensor) -> Split:
        """Return the samples of `index`, int64 `(n,)`, with all their columns and conditions."""
        return self._with({name: column.select(index) for name, column in self._columns.items()}, index)

    def gathered(self, index: Tensor, names: Collection[str] | None = None) -> Split:
        """Return the same as `take` in memory: rows that are read on demand are read. names: the columns, by default all."""
        columns = {name: c.gather(index) for name, c in self._columns.items() if names is None or name in names}
        return self._with(columns, index) if self.conditioner is None else Split(columns).encoded(self.conditioner)

    def view(self, selection: Selection) -> Split:
        """Return the samples of a selection."""
        index = torch.empty(0, dtype=torch.int64)
        if any(not isinstance(column, Streamed) for column in self._columns.values()):
            index = torch.from_numpy(selection.rows(np.arange(len(selection))))
        columns = self._columns.items()
        return Split({name: c.view(selection) if isinstance(c, Streamed) else c.gather(index) for name, c in columns})

    def sample(self, most: int = SAMPLE) -> Split:
        """Return at most `most` evenly spread samples, in memory, which stand for the split. A split in memory is returned."""
        x = self._columns["x"]
        return self.gathered(evenly(len(x), most, x.row_bytes)) if isinstance(x, Streamed) else self

    def _with(self, columns: Mapping[str, Column], index: Tensor) -> Split:
        """Return the columns with the conditions of `index`."""
        return Split(
            columns,
            {name: rows.index_select(0, index) for name, rows in self.conditions.items()},
            {name: (counts[index], values[index]) for name, (counts, values) in self.choices.items()},
        )

    def mirror(self, rows: Tensor) -> Split:
        """Flip the images that `rows`, bool `(N,)`, marks from left to right. Encoded conditions are dropped."""
        return Split({name: column.mirror(rows, self.canvas) for name, column in self._columns.items()})

    def resize(self, size: tuple[int, int]) -> Split:
        """Scale the images to cover `size` and crop them at the centre. Encoded conditions are dropped."""
        return Split({name: column.resize(self.canvas, size) for name, column in self._columns.items()})

    # Short names for the standard columns.

    @property
    def array(self) -> Tensor:
        """The stored samples `(N, *shape)`, uint8 levels or float32."""
        return cast(Tensor, self._columns["x"].values)

    @property
    def labels(self) -> Tensor | None:
        """The class labels, int64 `(N,)`."""
        return cast(Tensor | None, self.value("class"))

    @property
    def captions(self) -> tuple[str | None, ...] | None:
        """One string per sample, or None."""
        return cast(tuple[str | None, ...] | None, self.value("text"))

    @property
    def boxes(self) -> tuple[Tensor, ...] | None:
        """The boxes of each sample: int64 `(k, 5)` rows (class, left, top, width, height) in pixels."""
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
    """A training split and a held-out split, which always exists, with their description.

    Args:
        spec: the description of the data.
        train: the samples to train on.
        test: the held-out samples.
        notes: notes for the user about how the data were read.
        conditioner: the conditioner of a model. Batches hold its conditions beside class labels. None: no further conditions.
    """

    spec: DataSpec
    train: Split
    test: Split
    notes: tuple[str, ...] = ()
    conditioner: Conditioner | None = None

    def part(self, split: SplitName = "train") -> Split:
        """Return the split `split`. Raises UsageError for an unknown name."""
        if split not in ("train", "test"):
            raise UsageError(unknown("split", split, ("train", "test")))
        return self.train if split == "train" else self.test

    def x(self, split: SplitName = "train", rows: Tensor | None = None) -> Tensor:
        """Return the samples of a split, or of its `rows`, int64 `(n,)`, in model units: float32 `(n, *shape)`."""
        stored = self.part(split)["x"]
        return self.values((stored if rows is None else stored.gather(rows)).values)

    def column(self, name: str, split: SplitName = "train") -> Any:
        """Return the stored values of the column `name` of a split, or None if there is no such column."""
        return self.part(split).value(name)

    def labels(self, split: SplitName = "train") -> Tensor | None:
        """Return the class labels of a split, int64 `(N,)`, or None if the data have no classes."""
        return self.part(split).labels

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the samples and of all columns that the encoded conditions read.

        It extends the fingerprint of the `spec` by the columns that the latter does not cover.
        """
        sources = set() if self.conditioner is None else self.conditioner.sources - COVERED
        return extended(self.spec.fingerprint, {name: self.train[name] for name in sources})

    def encoded(self, conditioner: Conditioner) -> DataSet:
        """Return the same data with a model's conditions in its batches. Raises UsageError if the data lack a condition."""
        train, test = (part.encoded(conditioner) for part in (self.train, self.test))
        return replace(self, train=train, test=test, conditioner=conditioner)

    def values(self, array: Tensor) -> Tensor:
        """Return stored samples in model units: levels become float32 in [0, 1] by division by `levels - 1`; floats stay."""
        if self.spec.levels is None:
            return array
        return array.to(torch.float32).div_(self.spec.levels - 1)

    def stored(self, x: Tensor) -> Tensor:
        """Return samples in model units as they are stored: uint8 levels or numbers. It is the inverse of `values`."""
        x = x.detach().cpu().contiguous()
        return x if self.spec.levels is None else x.mul(self.spec.levels - 1).round().clamp(0, 255).to(torch.uint8)

    def vectors(self, x: Tensor) -> np.ndarray:
        """Return samples as float32 `(n, d)`, whose distances are root mean squares in standard deviations of the data."""
        by_channel = (-1, *[1] * (x.ndim - 2))
        mean, std = (torch.tensor(v, dtype=torch.float64).view(by_channel) for v in (self.spec.mean, self.spec.std))
        z = ((x - mean) / std).flatten(1)
        flat: np.ndarray = (z / z.shape[1] ** 0.5).float().numpy()
        return flat

    def batch(self, index: Tensor, split: SplitName = "train", flip: Tensor | None = None, noise: Noise | None = None) -> Batch:
        """Return the samples of `index` as float32 `(n, *shape)` with their conditions, which include class labels.

        Args:
            index: int64 `(n,)`.
            split: train or test.
            flip: bool `(n,)`, the images to mirror from left to right.
            noise: the randomness of conditions that are drawn, such as the hidden part of an image or one of several texts.
                None: the same draws at every call, and the first text.

        Raises:
            UsageError: if the split is unknown, or `flip` is given and the samples are not images.
        """
        part = self.part(split)
        if part.streamed:
            part = part.gathered(
                index, {"x", "class"} if self.conditioner is None else {"x", "class", *self.conditioner.sources}
            )
            index = torch.arange(len(index))
        samples = part["x"].gather(index)
        conditions = {"class": part["class"].gather(index).values} if "class" in part else {}
        conditions |= {name: column.index_select(0, index) for name, column in part.conditions.items()}
        if noise is not None:
            for name, (counts, values) in part.choices.items():
                n = counts[index]
                conditions[name] = values[index, (noise.uniform().cpu() * n).long().clamp(max=n - 1)]
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

    def noted(self, *notes: str) -> DataSet:
        """Return the same data with further notes."""
        return replace(self, notes=(*self.notes, *map(printable, notes)))

    @property
    def trouble(self) -> list[str]:
        """Notes on samples that could not be read so far, and were replaced."""
        sources = {id(c.source): c.source for part in (self.train, self.test) if isinstance(c := part["x"], Streamed)}
        return [note for source in sources.values() for note in getattr(source, "trouble", ())]

    def prefetch(self, index: Tensor, split: SplitName = "train") -> None:
        """Take the hint that `batch` is called next with these rows. If they must be decoded, workers begin with it."""
        self.part(split)["x"].prefetch(index)

    def order(self, seed: int) -> Order:
        """Return the order in which training takes the samples, which depends only on (seed, epoch, position).

        It is a permutation of all samples, or, for samples in shards, one that keeps reads local (`ShardOrder`).
        """
        x = self.train["x"]
        groups = x.groups if isinstance(x, Streamed) else None
        return EpochSampler(len(self.train), seed) if groups is None else ShardOrder(groups, seed)

    @cached_property
    def sampled(self) -> DataSet:
        """The data in memory: the same data, or, if they are read on demand, evenly spread samples of each split (`KEPT`)."""
        if not (self.train.streamed or self.test.streamed):
            return self
        train, test = (part.sample(KEPT) for part in (self.train, self.test))
        notes = self.notes
        if len(train) < len(self.train):
            told = f"{len(train):,} of {len(self.train):,} training samples, evenly spread, stand for all in comparisons"
            notes = (*notes, told)
        return replace(self, train=train, test=test, notes=notes)

    def asked(self, index: Tensor) -> dict[str, Tensor]:
        """Return the conditions of the held-out samples of `index` as `sample` takes them, {} if no conditions are encoded."""
        if self.conditioner is None or not len(self.conditioner.kinds):
            return {}
        conditions = self.batch(index, "test").conditions
        return {name: value for name, value in conditions.items() if name in self.conditioner.kinds}

    def render(self, index: Tensor) -> list[Rendering]:
        """Return the conditions of `asked` as pictures and words for people, [] if there are none."""
        raw = self.asked(index)
        if self.conditioner is None or not raw:
            return []
        captions = self.test.captions
        return self.conditioner.render(raw, None if captions is None else [captions[i] for i in index.tolist()])
