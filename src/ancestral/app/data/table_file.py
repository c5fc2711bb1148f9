"""Reader of a table, a parquet or CSV file: images as Hugging Face writes them, a column of lists, or columns of numbers.

- images: the column `image`, `img` or `images`, otherwise the first that holds bytes or a struct of `bytes` and `path`;
- if there are no images, vectors: the first column of lists of one length, otherwise all columns of numbers side by side;
- labels: the column `label`, `labels` or `class`, with the names that Hugging Face's metadata give its numbers;
- captions: the column `text` or `caption`;
- numbers, if there are images or lists: all other columns of numbers that are not identifiers.

The index that pandas writes is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ancestral.app.data.arrays import from_array
from ancestral.app.data.assemble import count
from ancestral.app.data.bounded import check_memory, open_regular
from ancestral.app.data.csv_file import read_csv
from ancestral.app.data.dataset import DataSet
from ancestral.app.data.decode import Progress, listed
from ancestral.app.data.decode_once import decode_once
from ancestral.app.data.errors import DataError
from ancestral.app.data.numbers import is_number_name
from ancestral.errors import AncestralError
from ancestral.files import read_json

if TYPE_CHECKING:
    import pyarrow

INDEX = ("", "Unnamed: 0", "__index_level_0__")  # names that pandas gives the column of its index
ROWS, ROWS_OF_LISTS = 1 << 16, 64  # read at a time; the size of a list or an image is known only when it is read
IMAGES, LABELS, TEXT = ("image", "img", "images"), ("label", "labels", "class"), ("text", "caption")


def table_file(path: Path, size: tuple[int, int] | None = None, progress: Progress | None = None) -> DataSet:
    """Read the rows of a parquet or CSV file as a `DataSet`.

    Args:
        path: the file.
        size: (height, width) of images, as in `folder`.
        progress: called with (images decoded, images in all).

    Raises:
        DataError: if the file cannot be read, has no usable column, or has rows that do not fit.
    """
    images = _Images(path) if path.suffix.lower() == ".parquet" else None
    table = images.others if images is not None else read_csv(path)
    schema = images.schema if images is not None else table.schema
    if not (len(images) if images is not None else table.num_rows):
        raise DataError(f"{path} holds no rows: at least 2 are needed, one to train on and one to hold out")
    _check_names(path, schema.names)
    label = _named(table, LABELS)
    names = _class_names(schema, label)
    if images is None or images.column is None:
        return _vectors(path, table, schema, label, names)
    image, text = images.column, _named(table, TEXT)
    status = path.stat()
    decoded = decode_once(
        str(path),
        _RowNames(len(images)),
        images,
        size,
        progress,
        place=str(path.resolve()),
        state=repr((image, status.st_size, status.st_mtime_ns)),
    )
    kept = decoded.kept.tolist()
    captions = None if text is None else _captions(path, table, text)
    captions = captions and tuple(captions[i] for i in kept)
    captioned = sum(caption is not None for caption in captions or ())
    notes = [f"{captioned:,} captions, {len(kept) - captioned:,} without"] if text else []
    if decoded.left_out:
        notes.append(f"left out {count(len(decoded.left_out), 'row')}: {listed(decoded.left_out)}")
    numbers = _numbers(table, {image, label, text})
    notes += [*decoded.notes, *_unused(schema, {image, label, text, *numbers})]
    beside: dict[str, Any] = {"captions": captions} if captioned else {}
    if numbers:
        beside["number"] = np.stack([_known(table[column]) for column in numbers], axis=1)[kept]
    labels = None if label is None else _labels(path, table, label)
    return from_array(
        decoded.pixels,
        name=path.stem,
        where=str(path),
        labels=None if labels is None else labels[kept],
        class_names=names,
        beside=beside,
        number_names=numbers,
        axes="n c h w",
        levels=decoded.levels,
        notes=tuple(notes),
    )


class _RowNames(Sequence[str]):
    """The names `row 0`, `row 1`, ..., which are made when they are needed."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [f"row {j}" for j in range(*i.indices(self.n))]
        if i >= self.n:
            raise IndexError(i)
        return f"row {i}"


class _Images(Sequence[bytes]):
    """The images of a parquet file, which are read one row group at a time.

    Attributes:
        column: The name of their column, or None if there are no images.
        others: The table of all other columns that may be used.
        schema: The names and types of all columns.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, Lock()
        self._groups: dict[int, pyarrow.ChunkedArray] = {}  # the last two that were read
        with _parquet(path) as (file, schema):
            self.schema = schema
            groups = file.metadata
            _check_names(path, schema.names)
            self.column = _image_column(schema)
            rows = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
            if min(rows, default=0) < 0 or sum(rows) != groups.num_rows:
                raise DataError(f"{path} is not a complete parquet file: it is damaged or of another format")
            used = [field.name for field in schema if field.name != self.column and _is_usable(field)]
            self.others = _read(path, file, used)
        self._starts = np.cumsum([0, *rows])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, i: int) -> bytes: ...
    @overload
    def __getitem__(self, i: slice) -> list[bytes]: ...
    def __getitem__(self, i: int | slice) -> bytes | list[bytes]:
        """Return the bytes of an image file. For a missing image they are empty, so that `decode` leaves it out."""
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        group = int(np.searchsorted(self._starts, i, side="right")) - 1
        with self._lock:
            if group not in self._groups:
                self._groups[group] = self._read(group)
                for old in list(self._groups)[:-2]:
                    del self._groups[old]
            cells = self._groups[group]
        cell = cells[i - int(self._starts[group])].as_py()
        return (cell.get("bytes") if isinstance(cell, dict) else cell) or b""

    def _read(self, group: int) -> pyarrow.ChunkedArray:
        assert self.column is not None
        with _parquet(self.path) as (file, _):
            return _read(self.path, file, [self.column], group)[self.column]


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[pyarrow.parquet.ParquetFile, pyarrow.Schema]]:
    """Open a parquet file, in which equal texts are held once. Also give its schema as it was written. Raises `DataError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {path} needs pyarrow: run `pip install pyarrow`") from error
    try:
        with open_regular(path) as opened:
            schema = pyarrow.parquet.read_schema(opened)
            texts = [field.name for field in schema if _is_text(field.type)]
            with pyarrow.parquet.ParquetFile(opened, read_dictionary=texts) as file:
                yield file, schema
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, AncestralError):
            raise
        if getattr(error, "errno", None):  # for damaged content pyarrow raises OSError without a number
            reason = getattr(error, "strerror", error)
            raise DataError(f"{path} cannot be read ({reason}): check its permissions") from error
        raise DataError(f"{path} is not a complete parquet file: it is damaged or of another format") from error


def _read(path: Path, file: pyarrow.parquet.ParquetFile, columns: list[str], group: int | None = None) -> pyarrow.Table:
    """Read columns of a parquet file or of a row group, up to the limit on memory: a few bytes may stand for many values."""
    import pyarrow

    about, schema = file.metadata, file.schema_arrow
    if not columns:
        return pyarrow.table({})
    groups = range(about.num_row_groups) if group is None else [group]
    rows = sum(about.row_group(i).num_rows for i in groups)
    check_memory(str(path), 8.0 * rows * len(columns), f"its {rows:,} rows of {count(len(columns), 'column')} need")
    short = all(_is_number(schema.field(name).type) or _is_text(schema.field(name).type) for name in columns)
    parts, before = [], pyarrow.total_allocated_bytes()
    for part in file.iter_batches(batch_size=ROWS if short else ROWS_OF_LISTS, row_groups=list(groups), columns=columns):
        parts.append(part)
        check_memory(str(path), pyarrow.total_allocated_bytes() - before, "its rows need more than")
    if sum(part.num_rows for part in parts) != rows:
        raise DataError(f"{path} is not a complete parquet file: it is damaged or of another format")
    return pyarrow.Table.from_batches(parts, None if parts else pyarrow.schema([schema.field(name) for name in columns]))


def _check_names(path: Path, names: list[str]) -> None:
    twice, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise DataError(f"{path} has several columns named {listed([twice])}: give each a name of its own")


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_number(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_usable(field: pyarrow.Field) -> bool:
    """Return whether a column may be read: numbers, lists, labels and captions. Others are only named."""
    return _is_number(field.type) or _is_list(field.type) or field.name in (*LABELS, *TEXT)


def _vectors(path: Path, table: pyarrow.Table, schema: pyarrow.Schema, label: str | None, names: tuple[str, ...]) -> DataSet:
    kinds = {field.name: field.type for field in schema if field.name not in (label, *INDEX)}
    lists = [name for name, kind in kinds.items() if _is_list(kind)]
    numbers = [name for name, kind in kinds.items() if _is_number(kind)]
    if lists:
        used, values = {lists[0]}, _stacked(path, lists[0], table[lists[0]])
    elif numbers:
        used = set(numbers)
        values = np.stack([_column(path, name, table[name]) for name in numbers], axis=1)
    else:
        found = listed([f"{field.name} ({field.type})" for field in schema], 20)
        raise DataError(f"{path} has no column of images, lists or numbers: found {found or 'no column'}")
    extra = _numbers(table, {*used, label}) if lists else []
    texts = [name for name, kind in kinds.items() if _is_text(kind)]
    hint = [f"for classes from the column {listed(texts[:1])}, name it label"] if texts and label is None else []
    return from_array(
        values,
        name=path.stem,
        where=str(path),
        labels=None if label is None else _labels(path, table, label),
        class_names=names,
        beside={"number": np.stack([_known(table[column]) for column in extra], axis=1)} if extra else None,
        number_names=extra,
        axes="n d",
        channels=[] if lists else numbers,
        notes=(*_unused(schema, {*used, *extra, label}), *hint),
    )


def _numbers(table: pyarrow.Table, used: set[str | None]) -> list[str]:
    """Return the names of the unused columns of numbers that describe the rows."""
    free = [field for field in table.schema if field.name not in used and is_number_name(field.name)]
    return [field.name for field in free if _is_number(field.type) and np.isfinite(_known(table[field.name])).any()]


def _known(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as float64 `(N,)`. NaN marks a row without a finite value."""
    values: np.ndarray = column.to_numpy().astype(np.float64)
    values[np.isinf(values)] = np.nan
    return values


def _column(path: Path, name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
    if column.null_count:
        missing = int(column.is_null().to_numpy().argmax())
        raise DataError(f"{path}, column {name}: row {missing} has no value: fill or drop such rows")
    return np.asarray(column.to_numpy().astype(np.float64))


def _stacked(path: Path, name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
    from pyarrow import compute

    if not _is_number(column.type.value_type):
        raise DataError(f"{path}, column {name}: the lists must hold only numbers, found {column.type.value_type}")
    lengths = np.asarray(compute.fill_null(compute.list_value_length(column), -1).to_numpy())
    if lengths[0] < 0 or (lengths != lengths[0]).any():
        other = int((lengths != lengths[0]).argmax())
        said = ["none" if n < 0 else str(n) for n in (lengths[0], lengths[other])]
        raise DataError(
            f"{path}, column {name}: the lists must be of one length, found {said[0]} in row 0 and {said[1]} in row {other}"
        )
    return np.asarray(_known(compute.list_flatten(column)).reshape(len(lengths), -1))


def _image_column(schema: pyarrow.Schema) -> str | None:
    """Return the name of the column of images, or None."""
    from pyarrow import types

    def holds_bytes(kind: pyarrow.DataType) -> bool:
        if types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    columns = [field.name for field in schema if holds_bytes(field.type)]
    return next((name for name in IMAGES if name in columns), columns[0] if columns else None)


def _labels(path: Path, table: pyarrow.Table, label: str) -> np.ndarray:
    column = table[label]
    if column.null_count:
        missing = int(column.is_null().to_numpy().argmax())
        raise DataError(f"{path}, column {label}: row {missing} has no label: fill or drop such rows")
    if _is_number(column.type):
        return np.asarray(column.to_numpy())
    return _values(column)


def _values(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Return the values of a column as an array of objects. Equal texts are one object where the column holds them once."""
    from pyarrow import compute, types

    found, start = np.empty(len(column), dtype=object), 0
    for chunk in column.chunks:
        end = start + len(chunk)
        if types.is_dictionary(chunk.type):
            words = np.empty(len(chunk.dictionary) + 1, dtype=object)  # the last is None
            words[:-1] = chunk.dictionary.to_pylist()
            found[start:end] = words[compute.fill_null(chunk.indices, len(words) - 1).to_numpy()]
        else:
            found[start:end] = np.fromiter(chunk.to_pylist(), object, len(chunk))
        start = end
    return found


def _captions(path: Path, table: pyarrow.Table, text: str) -> tuple[Any, ...]:
    """Return the caption, a list of several captions or None of each row."""
    captions = _values(table[text])
    for row, caption in enumerate(captions):
        for one in caption if isinstance(caption, list) else [caption]:
            if one is not None and not isinstance(one, str):
                raise DataError(f"{path}, column {text}: row {row} must hold a string, found {type(one).__name__}")
    return tuple(caption if isinstance(caption, list) else (caption or "").strip() or None for caption in captions)


def _class_names(schema: pyarrow.Schema, label: str | None) -> tuple[str, ...]:
    """Return the names of a Hugging Face ClassLabel from the schema's metadata, `()` if there are none."""
    try:
        features = read_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _named(table: pyarrow.Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.column_names), None)


def _unused(schema: pyarrow.Schema, used: set[str | None]) -> tuple[str, ...]:
    unused = [name or "(an index without a name)" for name in schema.names if name not in used]
    return (f"columns not used: {listed(unused)}",) if unused else ()
