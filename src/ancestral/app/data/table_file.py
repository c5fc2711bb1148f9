"""Reader of a table, a parquet or CSV file: images as Hugging Face writes them, a column of lists, or columns of numbers.

- images: the column `image`, `img` or `images`, otherwise the first that holds bytes or a struct of `bytes` and `path`;
- if there are no images, vectors: the first column of lists of one length, otherwise all columns of numbers side by side;
- labels: the column `label`, `labels` or `class`, with the names that Hugging Face's metadata give its numbers;
- captions: the column `text` or `caption`;
- numbers, if there are images or lists: all other columns of numbers that are not identifiers.

The index that pandas writes is not used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ancestral.app.data.arrays import from_array
from ancestral.app.data.assemble import count
from ancestral.app.data.csv_file import read_csv
from ancestral.app.data.dataset import DataSet
from ancestral.app.data.decode import Progress, listed
from ancestral.app.data.decode_once import decode_once
from ancestral.app.data.errors import DataError
from ancestral.app.data.numbers import is_number_name

if TYPE_CHECKING:
    import pyarrow

INDEX = ("", "Unnamed: 0", "__index_level_0__")  # names that pandas gives the column of its index
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
    if not table.num_rows:
        raise DataError(f"{path} holds no rows: at least 2 are needed, one to train on and one to hold out")
    _check_names(path, table.column_names)
    label = _named(table, LABELS)
    names = _class_names(table, label)
    if images is None or images.column is None:
        return _vectors(path, table, label, names)
    image, text = images.column, _named(table, TEXT)
    status = path.stat()
    decoded = decode_once(
        str(path),
        [f"row {i}" for i in range(len(images))],
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
    notes += [*decoded.notes, *_unused(table, {image, label, text, *numbers})]
    beside: dict[str, Any] = {"captions": captions} if captioned else {}
    if numbers:
        beside["number"] = np.stack([_known(table[column]) for column in numbers], axis=1)[kept]
    labels = None if label is None else _labels(path, table, label)
    return from_array(
        decoded.pixels,
        name=path.stem,
        where=str(path),
        labels=labels and [labels[i] for i in kept],
        class_names=names,
        beside=beside,
        number_names=numbers,
        axes="n c h w",
        levels=decoded.levels,
        notes=tuple(notes),
    )


class _Images(Sequence[bytes]):
    """The images of a parquet file, which are read one row group at a time.

    Attributes:
        column: The name of their column, or None if there are no images.
        others: The table of all other columns.
    """

    def __init__(self, path: Path):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise DataError(f"reading {path} needs pyarrow: run `pip install pyarrow`") from error
        self.path, self._lock = path, Lock()
        self._groups: dict[int, pyarrow.ChunkedArray] = {}  # the last two that were read
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                schema, groups = file.schema_arrow, file.metadata
                _check_names(path, schema.names)
                self.column = _image_column(schema)
                self.others = file.read(columns=[name for name in schema.names if name != self.column])
                rows = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        except (pyarrow.ArrowException, OSError) as error:
            if getattr(error, "errno", None):  # for damaged content pyarrow raises OSError without a number
                reason = getattr(error, "strerror", error)
                raise DataError(f"{path} cannot be read ({reason}): check its permissions") from error
            raise DataError(f"{path} is not a complete parquet file: it is damaged or of another format") from error
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
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                return file.read_row_group(group, columns=[self.column])[self.column]
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.path} is not a complete parquet file: it is damaged or of another format") from error


def _check_names(path: Path, names: list[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has several columns named {twice[0]}: give each a name of its own")


def _vectors(path: Path, table: pyarrow.Table, label: str | None, names: tuple[str, ...]) -> DataSet:
    from pyarrow import types

    kinds = {field.name: field.type for field in table.schema if field.name not in (label, *INDEX)}
    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    is_number = (types.is_integer, types.is_floating, types.is_boolean)
    lists = [name for name, kind in kinds.items() if any(test(kind) for test in is_list)]
    numbers = [name for name, kind in kinds.items() if any(test(kind) for test in is_number)]
    if lists:
        used, values = {lists[0]}, _stacked(path, lists[0], table[lists[0]].to_pylist())
    elif numbers:
        used = set(numbers)
        values = np.stack([_column(path, name, table[name]) for name in numbers], axis=1)
    else:
        found = listed([f"{field.name} ({field.type})" for field in table.schema], 20)
        raise DataError(f"{path} has no column of images, lists or numbers: found {found or 'no column'}")
    extra = _numbers(table, {*used, label}) if lists else []
    texts = [name for name, kind in kinds.items() if types.is_string(kind) or types.is_large_string(kind)]
    hint = [f"for classes from the column {texts[0]}, name it label"] if texts and label is None else []
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
        notes=(*_unused(table, {*used, *extra, label}), *hint),
    )


def _numbers(table: pyarrow.Table, used: set[str | None]) -> list[str]:
    """Return the names of the unused columns of numbers that describe the rows."""
    from pyarrow import types

    is_number = (types.is_integer, types.is_floating, types.is_boolean)
    free = [field for field in table.schema if field.name not in used and is_number_name(field.name)]
    return [
        field.name
        for field in free
        if any(test(field.type) for test in is_number) and np.isfinite(_known(table[field.name])).any()
    ]


def _known(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as float64 `(N,)`. NaN marks a row without a finite value."""
    values = np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
    values[np.isinf(values)] = np.nan
    return values


def _column(path: Path, name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
    if column.null_count:
        missing = column.is_null().to_pylist().index(True)
        raise DataError(f"{path}, column {name}: row {missing} has no value: fill or drop such rows")
    return np.asarray(column.to_pylist(), dtype=np.float64)


def _stacked(path: Path, name: str, rows: Sequence[Any]) -> np.ndarray:
    length = len(rows[0]) if rows[0] is not None else None
    for i, row in enumerate(rows):
        if row is None or len(row) != length:
            found = f"{length or 'none'} in row 0 and {'none' if row is None else len(row)} in row {i}"
            raise DataError(f"{path}, column {name}: the lists must be of one length, found {found}")
    try:
        return np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}, column {name}: the lists must hold only numbers") from error


def _image_column(schema: pyarrow.Schema) -> str | None:
    """Return the name of the column of images, or None."""
    from pyarrow import types

    def holds_bytes(kind: pyarrow.DataType) -> bool:
        if types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    columns = [field.name for field in schema if holds_bytes(field.type)]
    return next((name for name in IMAGES if name in columns), columns[0] if columns else None)


def _labels(path: Path, table: pyarrow.Table, label: str) -> list[Any]:
    labels: list[Any] = table[label].to_pylist()
    if None in labels:
        raise DataError(f"{path}, column {label}: row {labels.index(None)} has no label: fill or drop such rows")
    return labels


def _captions(path: Path, table: pyarrow.Table, text: str) -> tuple[Any, ...]:
    """Return the caption, a list of several captions or None of each row."""
    captions = table[text].to_pylist()
    for row, caption in enumerate(captions):
        for one in caption if isinstance(caption, list) else [caption]:
            if one is not None and not isinstance(one, str):
                raise DataError(f"{path}, column {text}: row {row} must hold a string, found {type(one).__name__}")
    return tuple(caption if isinstance(caption, list) else (caption or "").strip() or None for caption in captions)


def _class_names(table: pyarrow.Table, label: str | None) -> tuple[str, ...]:
    """Return the names of a Hugging Face ClassLabel from the schema's metadata, `()` if there are none."""
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _named(table: pyarrow.Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.column_names), None)


def _unused(table: pyarrow.Table, used: set[str | None]) -> tuple[str, ...]:
    unused = [name or "(an index without a name)" for name in table.column_names if name not in used]
    return (f"columns not used: {listed(unused)}",) if unused else ()
