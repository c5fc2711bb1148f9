"""Columns that are read on demand: data that are larger than memory, or than a disk.

`Rows` is what a source offers: N samples of one shape, of which any may be read. `Streamed` is a column of such rows. It holds
none of them, reads only those that are gathered, and knows how to read ahead (`prefetch`). A selection says which rows of the
source belong to a split: `Chosen` by a list, `Periodic` by a rule that needs no memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.columns import Column, Size
from ancestral.app.data.errors import DataError

HELD = 1 << 29  # bytes; a larger column is never held in memory as a whole
SAMPLE = 2048  # rows that stand for a column that is not held
AHEAD = 1 << 27  # bytes of rows that were read ahead, or are read again soon, at most
PART = 8  # rows that one task of a worker reads


@runtime_checkable
class Rows(Protocol):
    """N rows of one shape that are read on demand.

    Attributes:
        shape: The shape of a row.
        dtype: The type of a row; `object` for texts.
        slow: Whether a row is decoded, so that workers should read it.
        starts: int64 `(g + 1,)`, the first row of each of g groups that lie together, such as shards, and N. None: any order
            of the rows is as fast as another.
        identity: A text that changes with the content of all rows, as far as that is known without reading them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slow: bool
    starts: np.ndarray | None
    identity: str

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of int64 `(n,)` as `(n, *shape)`. Several threads may call it."""
        ...


class Selection(Protocol):
    """Rows of a source, in their order."""

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return the row of each index of the selection."""
        ...

    def groups(self, starts: np.ndarray) -> np.ndarray | None:
        """Return `starts` of `Rows` counted in the selection, or None if it does not keep groups together."""
        ...


class Chosen:
    """The rows of a list, int64 `(n,)`."""

    def __init__(self, chosen: np.ndarray):
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def rows(self, index: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.chosen[index]
        return found

    def groups(self, starts: np.ndarray) -> np.ndarray | None:
        return None


class Between:
    """The rows from `start` up to `stop`."""

    def __init__(self, start: int, stop: int):
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def rows(self, index: np.ndarray) -> np.ndarray:
        found: np.ndarray = index + self.start
        return found

    def groups(self, starts: np.ndarray) -> np.ndarray | None:
        inside = starts[(starts > self.start) & (starts < self.stop)]
        found: np.ndarray = np.concatenate([[self.start], inside, [self.stop]]) - self.start
        return found


class Periodic:
    """The last row of each of the first `count` periods of `period` rows, out of n rows. With `rest`: all other rows."""

    def __init__(self, n: int, period: int, count: int, rest: bool):
        self.n, self.period, self.count, self.rest = n, period, count, rest

    def __len__(self) -> int:
        return self.n - self.count if self.rest else self.count

    def rows(self, index: np.ndarray) -> np.ndarray:
        if not self.rest:
            chosen: np.ndarray = index * self.period + (self.period - 1)
            return chosen
        others: np.ndarray = index + np.minimum(index // (self.period - 1), self.count)
        return others

    def groups(self, starts: np.ndarray) -> np.ndarray | None:
        before: np.ndarray = np.minimum(starts // self.period, self.count)
        others: np.ndarray = starts - before
        return others if self.rest else before


class Streamed(Column):
    """A column whose rows are read when they are gathered.

    Args:
        source: The rows.
        make: Makes a column of rows `(n, *shape)`.
        selection: The rows of the source that belong to the column. None: all.
    """

    kind = "streamed"

    def __init__(self, source: Rows, make: Callable[[Any], Column], selection: Selection | None = None):
        self.source, self.make, self.selection = source, make, selection
        self._ahead: dict[int, tuple[Future[np.ndarray], int]] = {}  # of a row of the source: its task and its place there

    def __len__(self) -> int:
        return len(self.source if self.selection is None else self.selection)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.shape)

    @property
    def row_bytes(self) -> int:
        """The memory of a row in bytes; that of texts is a guess."""
        size = 200 if self.source.dtype == object else self.source.dtype.itemsize
        return size * int(np.prod(self.source.shape, dtype=np.int64))

    @cached_property
    def values(self) -> Any:
        """All rows in memory. Raises `DataError` if they are more than `HELD` bytes."""
        if (need := len(self) * self.row_bytes) > HELD:
            raise DataError(
                f"{len(self):,} samples of {need / 1e9:,.1f} GB are read on demand and do not fit into memory at once: "
                "use data with fewer or smaller samples for this"
            )
        return self.gather(torch.arange(len(self))).values

    def gather(self, index: Tensor) -> Any:
        """Read the rows of `index`, int64 `(n,)`, into memory. Those that were read ahead, or just now, are not read again."""
        rows = self._rows(index)
        if not self.source.slow:
            return self._made(self.source.read(rows))
        rows, back = np.unique(rows, return_inverse=True)
        tasks = self._begin(rows)
        try:
            return self._made(np.stack([task.result()[place] for task, place in tasks])[back])
        except DataError:
            self._ahead.clear()  # a file that is restored is read again
            raise

    def prefetch(self, index: Tensor) -> None:
        """Begin to read the rows of `index` in workers. A later `gather` takes the results. Fast sources ignore it."""
        if self.source.slow:
            self._begin(np.unique(self._rows(index)))

    def _begin(self, rows: np.ndarray) -> list[tuple[Future[np.ndarray], int]]:
        """Return the task and the place in it of each row, after new tasks have begun for rows that are in none."""
        missing = rows[[row not in self._ahead for row in rows.tolist()]]
        for part in (missing[i : i + PART] for i in range(0, len(missing), PART)):
            task = _workers().submit(self.source.read, part)
            self._ahead |= {row: (task, place) for place, row in enumerate(part.tolist())}
        found = [self._ahead[row] for row in rows.tolist()]
        for row in list(self._ahead)[: max(0, len(self._ahead) - max(1, AHEAD // self.row_bytes))]:  # the oldest
            del self._ahead[row]
        return found

    def select(self, index: Tensor) -> Self:
        return type(self)(self.source, self.make, Chosen(self._rows(index)))

    def view(self, selection: Selection) -> Self:
        """Return the rows of a selection of the column, without reading them."""
        whole = self.selection is None
        return type(self)(self.source, self.make, selection if whole else Chosen(self._rows(_all(selection))))

    def resize(self, canvas: Size, size: Size) -> Self:
        return self.changed(lambda column: column.resize(canvas, size), (*self.source.shape[:-2], *size))

    def changed(self, change: Callable[[Column], Column], shape: tuple[int, ...]) -> Self:
        """Return the column with `change` applied to the rows that are gathered, each of which becomes one of `shape`."""
        return type(self)(_Changed(self.source, self.make, change, shape), self.make, self.selection)

    def content(self) -> Tensor:
        """Return the content of a sample of rows, with the number of rows and the identity of the source."""
        about = f"{len(self)} {self.source.identity}".encode()
        sample = self.gather(evenly(len(self), SAMPLE, self.row_bytes)).content().contiguous().view(-1).view(torch.uint8)
        return torch.cat([torch.frombuffer(bytearray(about), dtype=torch.uint8), sample])

    @property
    def groups(self) -> np.ndarray | None:
        """The first row of each group of rows that lie together, and the number of rows; None if there are no groups."""
        starts = self.source.starts
        return starts if starts is None or self.selection is None else self.selection.groups(starts)

    def _rows(self, index: Tensor) -> np.ndarray:
        rows = index.numpy()
        return rows if self.selection is None else self.selection.rows(rows)

    def _made(self, found: np.ndarray) -> Column:
        return self.make(tuple(found.tolist()) if found.dtype == object else torch.from_numpy(found))


class _Changed:
    """The rows of a source after a change, such as another size."""

    def __init__(self, source: Rows, make: Callable[[Any], Column], change: Callable[[Column], Column], shape: tuple[int, ...]):
        self.source, self.make, self.change, self.shape = source, make, change, shape
        self.dtype, self.slow, self.starts, self.identity = source.dtype, True, source.starts, source.identity

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.change(self.make(torch.from_numpy(self.source.read(rows)))).values.numpy()
        return found


class Mapped:
    """The rows of an array, e.g. one that is mapped from a file, after `convert`.

    Args:
        array: `(N, ...)`, or another object whose rows `(n, ...)` an index int64 `(n,)` gives.
        convert: A function of rows. None: they stay.
        starts: As in `Rows`.
        identity: As in `Rows`.
    """

    slow = False

    def __init__(
        self,
        array: Any,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
        starts: np.ndarray | None = None,
        identity: str = "",
    ):
        self.array, self.convert, self.starts, self.identity = array, convert, starts, identity
        first = self.read(np.arange(1))
        self.shape, self.dtype = first.shape[1:], first.dtype

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = np.ascontiguousarray(self.array[rows])
        return found if self.convert is None else self.convert(found)


def is_large(array: np.ndarray) -> bool:
    """Return whether the array is mapped from a file and too large to be held in memory."""
    return array.nbytes > HELD and _is_mapped(array)


def _is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is not None


def _all(selection: Selection) -> Tensor:
    return torch.from_numpy(selection.rows(np.arange(len(selection))))


def evenly(n: int, most: int, each: int = 0) -> Tensor:
    """Return at most `most` evenly spread indices below n, int64. each: bytes of a row; all are at most `HELD / 2` bytes."""
    count = min(n, most, max(64, HELD // 2 // each) if each else most)
    return torch.from_numpy((np.arange(count) * n + n // 2) // count)


def apart(n: int, count: int) -> tuple[Periodic, Periodic]:
    """Return the selections (train, test) of n rows, of which `count` evenly spread ones are held out."""
    period = n // count
    return Periodic(n, period, count, rest=True), Periodic(n, period, count, rest=False)


@cache
def _workers() -> ThreadPoolExecutor:
    """Return the threads that read ahead. Pillow and zlib release the interpreter's lock while they decode."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="ancestral-data")
