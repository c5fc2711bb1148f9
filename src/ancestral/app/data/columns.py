"""The columns of a data set. A column holds one property of every sample and has a name.

A column knows how to gather its rows, and how they change when the images of the samples are mirrored or resized. A kind of
condition (`ancestral.conditioning`) names the column that it reads and knows how to encode it. These names have a meaning:

    x        the samples                                   `Pictures`, or `Values` for signals and vectors
    class    int64 labels `(N,)`                           `Values`
    text     one string per sample, or None                `Texts`
    boxes    int64 `(k, 5)` rows (class, x, y, w, h)       `Boxes`
    map      uint8 `(N, H, W)`, 0 for background           `Maps`
    image    an image that goes with each sample           `Pictures`
    number   real numbers `(N, k)`, NaN where unknown      `Numbers`

A column may have any other name. A condition whose `source` is that name reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ancestral.app.data.images import fit
from ancestral.app.data.precision import real
from ancestral.conditioning.vocabulary import well_formed

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, eq=False)
class Column:
    """One property of every sample.

    Args:
        values: one row for each of N samples.
    """

    values: Any
    kind: ClassVar[str]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows and, for tensors, the shape of a row."""
        return tuple(self.values.shape) if isinstance(self.values, Tensor) else (len(self),)

    def gather(self, index: Tensor) -> Self:
        """Return the rows of `index`, int64 `(n,)`, as a column in memory."""
        raise NotImplementedError

    def prefetch(self, index: Tensor) -> None:
        """Take the hint that the rows of `index` are gathered next. Columns in memory ignore it."""

    def select(self, index: Tensor) -> Self:
        """Return the same rows as `gather`, without reading those of a column that is read on demand."""
        return self.gather(index)

    def mirror(self, rows: Tensor, canvas: Size) -> Self:
        """Return the column after a left-right flip of the images that `rows`, bool `(N,)`, marks. canvas: their size."""
        return self

    def resize(self, canvas: Size, size: Size) -> Self:
        """Return the column after images of size `canvas` are scaled to cover `size` and cropped at the centre."""
        return self

    def content(self) -> Tensor:
        """Return a tensor that depends on all the content of the column, for fingerprints."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Values(Column):
    """A tensor `(N, ...)` that neither mirroring nor resizing of images changes: labels, vectors, measurements."""

    values: Tensor
    kind: ClassVar[str] = "values"

    def gather(self, index: Tensor) -> Self:
        return replace(self, values=self.values.index_select(0, index))

    def content(self) -> Tensor:
        return self.values

    def where(self, rows: Tensor, changed: Tensor) -> Self:
        """Return the column with the values of `changed` in the rows that `rows`, bool `(N,)`, marks."""
        return replace(self, values=torch.where(rows.view(-1, *[1] * (self.values.ndim - 1)), changed, self.values))


@dataclass(frozen=True, eq=False)
class Numbers(Values):
    """Real numbers `(N, k)` or `(N,)`, stored `(N, k)` in the precision of `real`. NaN marks an unknown number.

    Args:
        names: one name for each of the k numbers. Default: `number`, or `number1`, `number2`, ...
    """

    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "numbers"

    def __post_init__(self) -> None:
        values = self.values.detach().cpu()
        values = values if values.dtype == torch.float64 or not values.is_floating_point() else values.float()
        values = torch.from_numpy(*real([values.numpy()]))
        object.__setattr__(self, "values", values[:, None] if values.ndim == 1 else values)
        object.__setattr__(self, "names", tuple(self.names) or numbered("number", self.values.shape[1]))


class Pictures(Values):
    """Images `(N, C, H, W)`, uint8 levels or float32."""

    kind = "pictures"

    def mirror(self, rows: Tensor, canvas: Size) -> Self:
        return self.where(rows, self.values.flip(-1))

    def resize(self, canvas: Size, size: Size) -> Self:
        """Scale with an antialiasing filter. Levels are taken as 256."""
        planes = self.values.flatten(0, 1).numpy()
        out = np.stack([np.asarray(fit(Image.fromarray(plane), size)) for plane in planes])
        return replace(self, values=torch.from_numpy(out).reshape(*self.values.shape[:2], *size))


class Maps(Values):
    """A whole number for every pixel, uint8 `(N, H, W)`."""

    kind = "maps"

    def mirror(self, rows: Tensor, canvas: Size) -> Self:
        return self.where(rows, self.values.flip(-1))

    def resize(self, canvas: Size, size: Size) -> Self:
        """Scale by the nearest pixel, because numbers of classes cannot be averaged."""
        out = [np.asarray(fit(Image.fromarray(plane), size, Image.Resampling.NEAREST)) for plane in self.values.numpy()]
        return replace(self, values=torch.from_numpy(np.stack(out)))


@dataclass(frozen=True, eq=False)
class Texts(Column):
    """One string per sample, or None. Mirroring does not change the words "left" and "right" in a text.

    A row may also be several strings. Then `values` has the first, and training draws one of `rows` each time. Lone surrogates,
    which are no characters, become U+FFFD.
    """

    values: tuple[str | None, ...]
    others: tuple[tuple[str, ...], ...] = ()  # the further texts of each sample, () if no sample has any
    replaced: int = field(default=0, init=False)  # texts of the source in which a lone surrogate was replaced
    kind: ClassVar[str] = "texts"

    def __post_init__(self) -> None:
        given = [(row,) if row is None or isinstance(row, str) else tuple(map(str, row)) or (None,) for row in self.values]
        rows = [tuple(text if text is None else well_formed(text) for text in row) for row in given]
        changed = sum(text != other for row, new in zip(given, rows, strict=True) for text, other in zip(row, new, strict=True))
        object.__setattr__(self, "replaced", changed)
        if any(len(row) > 1 for row in rows):
            object.__setattr__(self, "others", tuple(row[1:] for row in rows))
        object.__setattr__(self, "values", tuple(row[0] for row in rows))

    @property
    def rows(self) -> tuple[str | tuple[str, ...] | None, ...]:
        """The text of each sample, or all its texts if it has several."""
        if not any(self.others):
            return self.values
        return tuple((str(v), *more) if more else v for v, more in zip(self.values, self.others, strict=True))

    def gather(self, index: Tensor) -> Self:
        rows = self.rows
        return type(self)(tuple(rows[i] for i in index.tolist()))

    def content(self) -> Tensor:
        return torch.frombuffer(bytearray(repr(self.rows).encode()), dtype=torch.uint8)


@dataclass(frozen=True, eq=False)
class Boxes(Column):
    """Boxes of each sample: int64 `(k, 5)` rows (class, left, top, width, height), in pixels."""

    values: tuple[Tensor, ...]
    kind: ClassVar[str] = "boxes"

    def gather(self, index: Tensor) -> Self:
        return replace(self, values=tuple(self.values[i] for i in index.tolist()))

    def mirror(self, rows: Tensor, canvas: Size) -> Self:
        return replace(self, values=tuple(_mirrored(b, canvas[1]) if m else b for b, m in zip(self.values, rows, strict=True)))

    def resize(self, canvas: Size, size: Size) -> Self:
        """Scale and crop boxes in the same way as the image. A box is dropped if less than a pixel of it remains."""
        fitted = ([(label, fit_box(box, canvas, size)) for label, *box in rows.tolist()] for rows in self.values)
        kept = ([(label, *box) for label, box in rows if box is not None] for rows in fitted)
        return replace(self, values=tuple(torch.tensor(rows, dtype=torch.int64).view(-1, 5) for rows in kept))

    def content(self) -> Tensor:
        return torch.cat([torch.tensor([len(rows) for rows in self.values]), *(rows.flatten() for rows in self.values)])


KINDS: dict[str, type[Column]] = {"text": Texts, "boxes": Boxes, "map": Maps, "image": Pictures, "number": Numbers}
STANDARD = ("x", "class", *KINDS)  # the names with a meaning


def column(name: str, values: Any) -> Column:
    """Return values as the column `name`. A `Column` is returned as it is, and `KINDS` decides the class of other values."""
    if isinstance(values, Column):
        return values
    if name in KINDS:
        return KINDS[name](tuple(values) if KINDS[name] in (Texts, Boxes) else values)
    if isinstance(values, Tensor):
        return Pictures(values) if name == "x" and values.ndim == 4 else Values(values)
    return Texts(tuple(values))


def numbered(name: str, k: int) -> tuple[str, ...]:
    """Return the names of k numbers: `name` for one, and `name1`, `name2`, ... for several."""
    return (name,) if k == 1 else tuple(f"{name}{i + 1}" for i in range(k))


def fit_box(box: Iterable[float], canvas: Size, size: Size) -> tuple[int, int, int, int] | None:
    """Fit a box (left, top, width, height) to an image that is scaled from `canvas` to cover `size` and cropped at the centre.

    Returns:
        The box in whole pixels, or None if less than a pixel of it remains.
    """
    x, y, w, h = box
    scale = max(size[0] / canvas[0], size[1] / canvas[1])
    dy, dx = (scale * canvas[0] - size[0]) / 2, (scale * canvas[1] - size[1]) / 2
    left, right = (round(min(max(scale * v - dx, 0), size[1])) for v in (x, x + w))
    top, bottom = (round(min(max(scale * v - dy, 0), size[0])) for v in (y, y + h))
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    out = boxes.clone()
    out[:, 1] = width - boxes[:, 1] - boxes[:, 3]
    return out
