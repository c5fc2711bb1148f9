"""Reader of Hugging Face `datasets`: a `Dataset` or `DatasetDict`, a folder made by `save_to_disk`, or `hf:NAME` from the hub.

Columns are found by their features: the first `Image`, or else the first array or list of numbers of one length, is the sample;
the first `ClassLabel`, or else the column `label`, `labels` or `class`, its class; the column `text` or `caption` its caption;
other columns of numbers are its numbers. A `DatasetDict` has the splits `train` and `validation` or `test`.

Rows are read from the Arrow files when a batch needs them. Streamed data sets (`IterableDataset`) are not read: they shuffle
in a buffer that a continued run would fill anew, so its samples would be others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.app.data.annotation_files import check_inside
from ancestral.app.data.arrays import arranged, named_axes, numeric, usual_axes
from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.bounded import open_regular
from ancestral.app.data.columns import Column, Numbers, Pictures, Texts, Values
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import listed
from ancestral.app.data.encoded import Encoded, form_of
from ancestral.app.data.errors import DataError
from ancestral.app.data.folder import CLASSES, TEST, TRAIN
from ancestral.app.data.labels import encode
from ancestral.app.data.levels import quantise
from ancestral.app.data.mapped import converter
from ancestral.app.data.numbers import is_number_name, numbers_note
from ancestral.app.data.streamed import HELD, SAMPLE, Mapped, Streamed, evenly
from ancestral.app.data.table_file import LABELS, TEXT

PREFIX = "hf:"


def is_hugging_face(source: object) -> bool:
    """Return whether an object is one of the library's data sets, without importing the library."""
    return any(parent.__module__.partition(".")[0] == "datasets" for parent in type(source).__mro__)


def is_saved(folder: Path) -> bool:
    """Return whether a folder was made by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def saved(folder: Path, size: tuple[int, int] | None = None, axes: str | None = None) -> DataSet:
    """Read a folder made by `save_to_disk`. Raises DataError if it is damaged or the library is missing."""
    try:
        found = _library(str(folder)).load_from_disk(str(folder))
    except DataError:
        raise
    except Exception as error:  # errors of many types
        raise DataError(f"the data set in {folder} cannot be read ({_first_line(error)}): save it again") from error
    return hugging_face(found, folder.resolve().name, size, axes, root=folder)


def from_hub(source: str, size: tuple[int, int] | None = None, axes: str | None = None) -> DataSet:
    """Download a data set, or take it from the library's cache. source: `hf:NAME` or `hf:NAME:CONFIGURATION`."""
    name, _, configuration = source.removeprefix(PREFIX).partition(":")
    try:
        found = _library(source).load_dataset(name, configuration or None)
    except DataError:
        raise
    except Exception as error:  # errors of many types
        raise DataError(
            f"the data set {name} cannot be loaded ({_first_line(error)}): check its name and the network, or load it where "
            "there is a network, save it with save_to_disk, and give that folder"
        ) from error
    return hugging_face(found, name.rpartition("/")[2], size, axes)


def hugging_face(
    source: Any,
    name: str = "",
    size: tuple[int, int] | None = None,
    axes: str | None = None,
    root: Path | None = None,
) -> DataSet:
    """Read a `datasets.Dataset` or `DatasetDict` as a `DataSet` that is read on demand.

    Args:
        source: The data set.
        name: The name of the data. "": that of the data set.
        size: (height, width) of images. None: chosen as for a folder.
        axes: The names of the axes of all arrays; the first is n.
        root: The folder in which the files must lie that rows name. None: anywhere, as the library found them.

    Raises:
        DataError: If it is streamed, or has no column of images or numbers.
    """
    notes: list[str] = []
    if isinstance(source, Mapping):
        lower = {str(key).lower(): key for key in source}
        train = next((source[lower[key]] for key in TRAIN if key in lower), None)
        held_out = [source[lower[key]] for key in TEST if key in lower]
        if train is None:
            raise DataError(f"the data set has the splits {listed(list(source))}, and none is called train: give one of them")
        if unused := [key for lowered, key in lower.items() if lowered not in (*TRAIN, *TEST)]:
            notes.append(f"splits not used: {listed(unused)}")
        test = _joined(held_out) if held_out else None
    else:
        train, test = source, None
    if not hasattr(train, "num_rows"):
        raise DataError(
            "a streamed data set of Hugging Face has no fixed order, so a run of it could not be continued: load it without "
            "streaming=True"
        )
    name = name or str(getattr(train.info, "dataset_name", None) or getattr(train.info, "builder_name", None) or "dataset")
    reader = _Reader(train, name, size, axes, root)
    samples, held = reader.split(train), None if test is None else reader.split(test)
    if held is not None:
        x = held["x"]
        assert isinstance(x, Streamed)
        notes.append(f"held out {len(held):,} samples: those of the split test or validation")
        if len(held) > (most := max(1, min(10_000, HELD // x.row_bytes))):
            held = held.take(evenly(len(held), most))
            notes[-1] += f", of which {most:,} evenly spread ones are used"
    data = assemble(name, samples, held, levels=reader.levels, classes=reader.classes, notes=(*reader.notes, *notes))
    return data.noted(*data.trouble)


class _Reader:
    """Reads splits of one data set, all in the form that the training split decides."""

    def __init__(self, train: Any, name: str, size: tuple[int, int] | None, axes: str | None, root: Path | None):
        from datasets import ClassLabel, Image

        features = dict(train.features)
        self.name, self.root = name, root
        self.image = next((key for key, kind in features.items() if isinstance(kind, Image)), None)
        used = [self.image]
        numbers = [key for key, kind in features.items() if _is_number(kind)]
        self.label = next((key for key, kind in features.items() if isinstance(kind, ClassLabel)), None)
        self.label = self.label or next((key for key in LABELS if key in features), None)
        self.text = next((key for key in TEXT if key in features), None)
        where = f"the data set {name}"
        n = train.num_rows
        if n < 2:
            raise DataError(f"{where} holds {count(n, 'sample')}: at least 2 are needed, one to train on and one to hold out")
        if self.image is not None:
            self.form = form_of(where, n, _Contents(train, self.image, root), False, size, axes)
            self.levels, told = self.form.levels, self.form.notes
        else:
            arrays = [key for key, kind in features.items() if key not in (self.label, self.text) and _is_array(kind)]
            if not arrays:
                found = listed([f"{key} ({type(kind).__name__})" for key, kind in features.items()], 20)
                raise DataError(f"{where} has no column of images or of arrays of numbers: found {found}")
            self.array = arrays[0]
            used = [self.array]
            told = self._look(train, where, axes)
        self.numbers = tuple(key for key in numbers if key not in (self.label, *used) and is_number_name(key))
        self.classes: tuple[str, ...] = ()
        if isinstance(kind := features.get(self.label), ClassLabel):
            self.classes = tuple(map(str, kind.names))
        self.numbered: dict[Any, int] = {}  # of classes that are not a `ClassLabel`
        if self.label is not None and not self.classes:
            known = _whole(train, self.label)
            (codes,), self.classes = encode([known], where)
            self.numbered = dict(zip(known, codes.tolist(), strict=True))
        self.notes = [f"{count(n, 'row')} of the data set of Hugging Face {name}"]
        self.notes += [f"classes: {listed(self.classes, CLASSES)}"] if self.classes else []
        self.notes += [*told, *numbers_note(self.numbers)]
        rest = [key for key in features if key not in (self.label, self.text, *used, *self.numbers)]
        self.notes += [f"columns not used: {listed(rest)}"] if rest else []

    def _look(self, train: Any, where: str, axes: str | None) -> tuple[str, ...]:
        """Decide the axes and the levels of arrays by a sample."""
        stack = numeric(_Rows(train, self.array)[evenly(train.num_rows, SAMPLE).numpy()], where)
        chosen, doubt = (axes, "") if axes is not None else usual_axes(stack, where, None)
        ordered = arranged(stack, chosen, where)
        (samples,), self.levels = quantise([ordered], "h" in named_axes(chosen))
        convert = converter(ordered, samples.numpy(), self.levels)

        def conversion(rows: np.ndarray) -> np.ndarray:
            found = arranged(rows, chosen, where)
            return found if convert is None else convert(found)

        self.convert: Callable[[np.ndarray], np.ndarray] = conversion
        return (f'arrays read with the axes "{chosen}"{doubt}',)

    def split(self, table: Any) -> Split:
        """Return the columns of a split."""
        columns: dict[str, Column] = {}
        if self.image is not None:
            contents = _Contents(table, self.image, self.root)
            source = Encoded(f"the data set {self.name}", table.num_rows, contents, self.form, None, "")
            columns["x"] = Streamed(source, Pictures)
        else:
            rows = Mapped(_Rows(table, self.array), self.convert)
            columns["x"] = Streamed(rows, Pictures if len(rows.shape) == 3 else Values)
        if self.label is not None:
            known = _whole(table, self.label)
            given = known if not self.numbered else [self.numbered[value] for value in known if value in self.numbered]
            if len(given) != table.num_rows:
                raise DataError(f"the data set {self.name} has classes in a split that its training split lacks")
            (labels,), _ = encode([given], f"the data set {self.name}", self.classes)
            columns["class"] = Values(labels)
        if self.text is not None:
            columns["text"] = Streamed(_Captions(table, self.text), Texts)
        if self.numbers:
            names = self.numbers
            columns["number"] = Streamed(_Numbers(table, names), lambda values: Numbers(values, names))
        return Split(columns)


class _Contents:
    """The files of a column of images."""

    def __init__(self, table: Any, column: str, root: Path | None):
        from datasets import Image

        self.root = root
        self.table, self.column = (
            table.select_columns([column]).cast_column(column, Image(decode=False)).with_format(None),
            column,
        )

    def __call__(self, rows: np.ndarray) -> list[bytes]:
        return [self._content(cell) for cell in self.table[rows.tolist()][self.column]]

    def _content(self, cell: dict[str, Any] | None) -> bytes:
        if cell is None or (cell.get("bytes") is None and not cell.get("path")):
            return b""
        content: bytes | None = cell.get("bytes")
        if content is not None:
            return content
        if self.root is not None:
            check_inside(self.root, cell["path"], f"the data set in {self.root} names {cell['path']}")
        try:
            with open_regular(Path(cell["path"])) as file:
                return file.read()
        except (OSError, DataError, ValueError):
            return b""  # counted as damaged


class _Rows:
    """The rows of a column of arrays."""

    def __init__(self, table: Any, column: str):
        self.table, self.column = table.select_columns([column]).with_format("numpy"), column

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = self.table[rows.tolist()][self.column]
        try:
            return np.stack(list(found))
        except (ValueError, TypeError) as error:
            raise DataError(f"the arrays of the column {self.column} differ in shape: make them equal") from error


class _Captions:
    """The texts of a column, or lists of texts, as `Rows`."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(object)
    slow = False
    starts: np.ndarray | None = None
    identity = ""

    def __init__(self, table: Any, column: str):
        self.table, self.column = table.select_columns([column]).with_format(None), column

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows), dtype=object)
        for i, text in enumerate(self.table[rows.tolist()][self.column]):
            several = tuple(one for one in (text if isinstance(text, list) else [text]) if one)
            found[i] = several if len(several) > 1 else several[0] if several else None
        return found


class _Numbers:
    """Columns of numbers as `Rows`; NaN where one is missing."""

    dtype = np.dtype(np.float64)
    slow = False
    starts: np.ndarray | None = None
    identity = ""

    def __init__(self, table: Any, names: tuple[str, ...]):
        self.table, self.names = table.select_columns(list(names)).with_format(None), names
        self.shape: tuple[int, ...] = (len(names),)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = self.table[rows.tolist()]
        columns = [[np.nan if value is None else value for value in found[name]] for name in self.names]
        values = np.array(columns, dtype=np.float64).T
        values[np.isinf(values)] = np.nan
        return np.ascontiguousarray(values)


def _whole(table: Any, column: str) -> list[Any]:
    """Return all values of a column of labels."""
    values: list[Any] = table.select_columns([column]).with_format(None)[:][column]
    if None in values:
        raise DataError(f"the column {column} of the data set has no label in row {values.index(None)}: fill or drop such rows")
    return values


def _joined(tables: list[Any]) -> Any:
    from datasets import concatenate_datasets

    return tables[0] if len(tables) == 1 else concatenate_datasets(tables)


def _is_number(kind: Any) -> bool:
    return str(getattr(kind, "dtype", "")).startswith(("int", "uint", "float", "bool")) and type(kind).__name__ == "Value"


def _is_array(kind: Any) -> bool:
    """Return whether a feature is an array or a list of numbers."""
    if type(kind).__name__ in ("Array2D", "Array3D"):
        return True
    inner = getattr(kind, "feature", None)
    return inner is not None and (_is_number(inner) or _is_array(inner))


def _library(what: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"reading {what} needs Hugging Face datasets: run `pip install 'ancestral[datasets]'`") from error
    return datasets


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
