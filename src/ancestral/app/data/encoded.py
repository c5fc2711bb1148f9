"""Rows of image or `.npy` files that lie in other files, such as the members of tar shards, and are decoded when they are read.

All rows get one form, which a sample of them decides: the size and the colours of images as for a folder, or the axes and the
levels of arrays. A damaged row is replaced by the next one that can be read, so that training never stops for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ancestral.app.data.arrays import AXES, arranged, named_axes, numeric, usual_axes
from ancestral.app.data.assemble import count
from ancestral.app.data.decode import CHOOSE, common_size, cropped, listed
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import ImageError, inspect, read
from ancestral.app.data.levels import quantise
from ancestral.app.data.mapped import converter
from ancestral.app.data.npy import ArrayError, array_of
from ancestral.app.data.streamed import evenly

LOOKED_AT = 512  # evenly spread rows that decide the form of all
NEXT = 100  # rows that are tried in place of a damaged one
Contents = Callable[[np.ndarray], Sequence[bytes]]  # the contents of the files of int64 `(n,)` rows


@dataclass(frozen=True)
class Form:
    """The form of all rows, and how one is decoded.

    Args:
        shape: The shape of a row.
        dtype: The type of a row.
        levels: The number of levels, None for real numbers.
        decode: Decodes the content of one file. Raises ImageError.
        notes: Notes for the user.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    levels: int | None
    decode: Callable[[bytes], np.ndarray]
    notes: tuple[str, ...]


class Encoded:
    """Rows that are decoded when they are read (`Rows`).

    Attributes:
        damaged: Why a row could not be read, by row, of those that were read so far.
    """

    slow = True

    def __init__(self, where: str, n: int, contents: Contents, form: Form, starts: np.ndarray | None, identity: str):
        self.where, self.contents, self.form, self.starts, self.identity = where, contents, form, starts, identity
        self.shape, self.dtype = form.shape, form.dtype
        self.damaged: dict[int, str] = {}
        self._n, self._lock = n, Lock()

    def __len__(self) -> int:
        return self._n

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *self.shape), self.dtype)
        for i, (row, content) in enumerate(zip(rows.tolist(), self.contents(rows), strict=True)):
            found[i] = self._decoded(row, content)
        return found

    def _decoded(self, row: int, content: bytes) -> np.ndarray:
        for other in range(row, row + NEXT):
            if other > row:
                (content,) = self.contents(np.array([other % self._n]))
            try:
                return self.form.decode(content)
            except ImageError as error:
                with self._lock:
                    self.damaged[other % self._n] = error.reason
        raise DataError(
            f"{NEXT} samples of {self.where} from number {row} on cannot be read ({self.damaged[row]}): replace them"
        )

    @property
    def trouble(self) -> list[str]:
        """A note on the damaged rows that were found so far, or no note."""
        if not self.damaged:
            return []
        found = [f"number {row} ({reason})" for row, reason in sorted(self.damaged.items())]
        return [f"{count(len(found), 'sample')} of {self.where} cannot be read, and the next was taken: {listed(found)}"]


def form_of(where: str, n: int, contents: Contents, arrays: bool, size: tuple[int, int] | None, axes: str | None) -> Form:
    """Return the form of n rows, which `LOOKED_AT` evenly spread ones decide.

    Args:
        where: The source, for messages.
        n: The number of rows.
        contents: The contents of the files.
        arrays: Whether they are `.npy` files, otherwise images.
        size: The size to which images are scaled and cropped. None: as for a folder.
        axes: The names of the axes of all arrays, as in `from_array`. None: decided.

    Raises:
        DataError: If none of the rows can be read.
    """
    seen = [found for part in evenly(n, LOOKED_AT).split(64) for found in contents(part.numpy())]
    return _of_arrays(where, seen, axes) if arrays else _of_images(where, seen, size)


def _of_images(where: str, seen: Sequence[bytes], size: tuple[int, int] | None) -> Form:
    headers = []
    for content in seen:
        try:
            headers.append(inspect(content))
        except ImageError as error:
            reason = error.reason
    if not headers:
        raise DataError(f"none of {count(len(seen), 'image')} of {where} that were tried can be read ({reason})")
    chosen = size or common_size(headers)
    grey = all(header.grey for header in headers)
    notes = []
    changed = sum((header.height, header.width) != chosen for header in headers)
    if changed:
        notes.append(f"resized to {chosen[0]}x{chosen[1]}" + ("" if size else CHOOSE))
    notes += cropped([(header.height, header.width) for header in headers], chosen)
    if not grey and (some := sum(header.grey for header in headers)):
        notes.append(f"grey and coloured images: all become RGB ({some:,} of {len(headers):,} that were looked at are grey)")
    if any(header.depth > 8 or header.upper_bits for header in headers):
        notes.append("pictures of more than 8 bits: reduced to 256 levels; save them as .npy to keep their own values")
    shape = (1 if grey else 3, *chosen)
    return Form(shape, np.dtype(np.uint8), 256, lambda content: read(content, chosen, grey)[0], tuple(notes))


def _of_arrays(where: str, seen: Sequence[bytes], axes: str | None) -> Form:
    rows, reason = [], ""
    for content in seen:
        try:
            rows.append(_array(content))
        except ImageError as error:
            reason = error.reason
    if not rows:
        raise DataError(f"none of {count(len(seen), 'array')} of {where} that were tried can be read ({reason})")
    raw = rows[0].shape
    stack = numeric(np.stack([row for row in rows if row.shape == raw]), where)
    chosen, doubt = (axes, "") if axes is not None else usual_axes(stack, where, None)
    ordered = arranged(stack, chosen, where)
    layout = AXES[named_axes(chosen)]
    (samples,), levels = quantise([ordered], layout == "images")
    convert = converter(ordered, samples.numpy(), levels)

    def decode(content: bytes) -> np.ndarray:
        row = _array(content)
        if row.shape != raw:
            raise ImageError(f"shape {row.shape} instead of {raw}")
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise ImageError("values that are not finite")
        found = arranged(row[None], chosen, where)
        try:
            converted: np.ndarray = (found if convert is None else convert(found))[0]
            return converted
        except DataError as error:
            raise ImageError(str(error)) from error

    notes = (f'arrays read with the axes "{chosen}"{doubt}',)
    return Form(tuple(samples.shape[1:]), samples.numpy().dtype, levels, decode, notes)


def _array(content: bytes) -> np.ndarray:
    """Read an `.npy` file of numbers. Raises ImageError."""
    try:
        found = array_of(content)
    except ArrayError as error:
        raise ImageError(f"an array that {error}") from error
    if found.dtype.kind not in "biuf":
        raise ImageError(f"an array of the type {found.dtype}, not of numbers")
    return found
