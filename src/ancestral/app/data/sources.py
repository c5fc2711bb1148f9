"""The function `load`, which reads every source of data."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ancestral.app.data import toys
from ancestral.app.data.arrays import array_file, from_array, from_columns, named_axes
from ancestral.app.data.dataset import DataSet
from ancestral.app.data.decode import Progress
from ancestral.app.data.digits import digits
from ancestral.app.data.errors import DataError
from ancestral.app.data.fashion_mnist import fashion_mnist
from ancestral.app.data.flowers import flowers
from ancestral.app.data.folder import folder, stack
from ancestral.app.data.hugging_face import PREFIX, from_hub, hugging_face, is_hugging_face, is_saved, saved
from ancestral.app.data.images import SUFFIXES, Header, ImageError, inspect_pages
from ancestral.app.data.resize import resize
from ancestral.app.data.rows import from_rows
from ancestral.app.data.scenes import scenes
from ancestral.app.data.scenes64 import scenes64
from ancestral.app.data.shards import expanded, found_shards, is_folder_of_shards, shards, short_name
from ancestral.app.data.streamed import Rows
from ancestral.app.data.table_file import table_file
from ancestral.app.data.torch_data import from_torch
from ancestral.errors import UsageError
from ancestral.suggest import unknown

BUILT_IN: dict[str, Callable[[Progress | None], DataSet]] = {
    "digits": lambda _: digits(),
    "fashion-mnist": lambda progress: fashion_mnist(progress=progress),
    "flowers": lambda _: flowers(),
    "gaussians": lambda _: toys.gaussians(),
    "moons": lambda _: toys.moons(),
    "rings": lambda _: toys.rings(),
    "scenes": lambda _: scenes(),
    "scenes64": lambda progress: scenes64(progress=progress),
    "swiss-roll": lambda _: toys.swiss_roll(),
}
ARRAYS, TABLES, STACKS = (".npy", ".npz"), (".parquet", ".csv", ".tsv"), (".tif", ".tiff")
FILES = (*ARRAYS, *TABLES, ".tar")


def load(
    source: str | Path | np.ndarray | Tensor | Mapping[str, Any] | Rows | DataSet | Dataset[Any] | DataLoader[Any],
    *,
    size: int | tuple[int, int] | str | None = None,
    labels: Any = None,
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Load data with their description: into memory, or, if they are large or in shards, to be read on demand.

    The same files give the same samples in the same order and the same held-out split on every machine.

    Args:
        source: a built-in name (`built_in()`), which has priority over a file of that name; a folder of images or of one `.npy`
            file a sample (`folder`); an `.npy` or `.npz` file (`array_file`); a `.parquet`, `.csv` or `.tsv` table
            (`table_file`); a TIFF of several pages (`stack`); an array or tensor of N samples (`from_array`); a mapping of
            named columns (`from_columns`); rows that are read on demand (`from_rows`); a torch `Dataset` or `DataLoader`
            (`from_torch`); a data set of Hugging Face, its folder, or `hf:NAME` (`hugging_face`); tar shards (`shards`); or a
            `DataSet`.
        size: size of images: one side, or (height, width), also as "64x128". Images are scaled with antialiasing to cover it
            and cropped at the centre.
        labels: one number or name per sample, for arrays.
        axes: the names of the axes of arrays that `arrays` would read otherwise, such as "n h w c".
        shape: the shape of a sample of other data `(c, ...)`. Arrays without `axes` that can be read so, are.
        progress: called with (done, total) during work that may take long.

    Raises:
        UsageError: if the source is unknown or an option does not apply.
        DataError: if the data cannot be used.
    """
    target = size_of(size)
    if axes is not None:
        named_axes(axes)  # raises UsageError
    if isinstance(source, np.ndarray | Tensor):
        data = from_array(source, labels=labels, axes=axes, shape=shape)
    elif is_hugging_face(source):
        _only_for_arrays("a data set of Hugging Face", labels, None)
        data = hugging_face(source, "", target, axes)
    elif isinstance(source, Dataset | DataLoader):
        data = from_torch(source, axes, shape)
    elif isinstance(source, str) and source.startswith(PREFIX):
        _only_for_arrays(source, labels, None)
        data = from_hub(source, target, axes)
    elif isinstance(source, Rows) or (isinstance(source, Mapping) and isinstance(source.get("x"), Rows)):
        given = source if isinstance(source, Mapping) else {"x": source}
        _only_for_arrays("rows that are read on demand", labels, axes)
        data = from_rows(given)
    elif isinstance(source, Mapping):
        data = from_columns(source, axes=axes, shape=shape, labels=labels)
    elif isinstance(source, DataSet):
        _only_for_arrays(source.spec.name, labels, axes)
        data = source
    elif isinstance(source, str) and source in BUILT_IN:
        _only_for_arrays(source, labels, axes)
        data = BUILT_IN[source](progress)
        if os.path.exists(source):
            note = f"the built-in {source} was used; for the file or folder of that name write ./{source}"
            data = replace(data, notes=(*data.notes, note))
    elif isinstance(source, str | Path):
        data = _from_path(source, target, labels, axes, shape, progress)
    else:
        raise UsageError(
            f"a source is a name, a path, an array, a tensor, a mapping of columns or a DataSet, found {type(source).__name__}"
        )
    return data if target is None else resize(data, target)


def exists(source: str) -> bool:
    """Return whether there is a file or a folder of that name, or a shard that fits the pattern; True for `hf:NAME`."""
    return source.startswith(PREFIX) or bool(expanded(source)) or os.path.exists(os.path.expanduser(source))


def is_name(source: str) -> bool:
    """Return whether a source is no path but the name of built-in data, or of a data set on the hub (`hf:NAME`)."""
    return source in BUILT_IN or source.startswith(PREFIX)


def name_of(source: str | Path) -> str:
    """Return a short name for the data of a name, a path or a pattern."""
    if str(source).startswith(PREFIX):
        return str(source).removeprefix(PREFIX).rpartition("/")[2].replace(":", "-")
    return Path(source).resolve().stem if expanded(str(source)) is None else short_name(str(source))


def built_in() -> tuple[str, ...]:
    """Return the names of the built-in data sets."""
    return tuple(BUILT_IN)


def _from_path(
    source: str | Path,
    size: tuple[int, int] | None,
    labels: Any,
    axes: str | None,
    shape: tuple[int, ...] | None,
    progress: Progress | None,
) -> DataSet:
    if expanded(str(source)) is not None:
        _only_for_arrays(str(source), labels, None)
        return shards(found_shards(str(source)), short_name(str(source)), size, axes, progress)
    path = Path(os.path.expanduser(source))
    try:
        mode = path.stat().st_mode
        is_folder = stat.S_ISDIR(mode) and source != ""
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _unknown(source, path) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    if not is_folder and source != "" and not stat.S_ISREG(mode):
        raise DataError(f"{path} is neither a file nor a folder, but a pipe or a device: save the data in a file")
    suffix = "" if is_folder else path.suffix.lower()
    if suffix in ARRAYS:
        return array_file(path, axes, labels, shape)
    _only_for_arrays(str(source), labels, None if is_folder or suffix == ".tar" else axes)
    if is_folder and is_saved(path):
        return saved(path, size, axes)
    if is_folder and is_folder_of_shards(path):
        paths = sorted(path / name for name in os.listdir(path) if not name.startswith("."))
        return shards(paths, Path(os.path.abspath(path)).name, size, axes, progress)
    if suffix == ".tar":
        return shards([path], path.stem, size, axes, progress)
    if is_folder:
        return folder(path, size, progress, axes, shape)
    if suffix in TABLES:
        return table_file(path, size, progress)
    if suffix in STACKS and len(_pages(path)) > 1:
        return stack(path, size, progress)
    raise _unknown(source, path)


def size_of(size: int | Sequence[int] | str | None) -> tuple[int, int] | None:
    """Return (height, width) of one side, of a pair, or of "64" and "64x128". Raises UsageError for anything else."""
    if size is None:
        return None
    pair: Any = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list) else size
    if isinstance(size, str) and re.fullmatch(r"\d{1,6}(x\d{1,6})?", size):
        height, _, width = size.partition("x")
        pair = (int(height), int(width or height))
    whole = isinstance(pair, tuple) and len(pair) == 2 and all(type(n) is int for n in pair)
    if not whole or min(pair) < 1:
        raise UsageError(f"size must be a positive whole number of pixels or a pair (height, width), found {size!r}")
    return pair[0], pair[1]


def _pages(path: Path) -> list[Header]:
    try:
        return inspect_pages(path)
    except ImageError as error:
        raise DataError(f"{path} cannot be read: {error.reason}") from error


def _only_for_arrays(source: str, labels: Any, axes: str | None) -> None:
    for name, value in (("labels", labels), ("axes", axes)):
        if value is not None:
            raise UsageError(f"{name} applies to arrays, .npy and .npz files, not to {source}: leave it out")


def _unknown(source: str | Path, path: Path) -> UsageError:
    """Return the error for a source that is not a built-in name, a folder or a file of a known type."""
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return UsageError(f"{source} is a single image: give the folder that holds the images")
        kinds = ", ".join(FILES)
        return UsageError(
            f"{source} is a file of an unknown type: expected {kinds} or a folder of images; convert it to one of these"
        )
    if isinstance(source, Path) or os.sep in source or source.startswith(("~", ".")) or path.suffix:
        parent = path.parent
        names = sorted(os.listdir(parent)) if parent.is_dir() and os.access(parent, os.R_OK) else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean '{parent / near[0]}'?" if near else f"looked in {parent.absolute()}"
        return UsageError(f"there is no file or folder {str(source)!r}: {hint}")
    kinds = f"{', '.join(FILES[:-1])} or {FILES[-1]}"
    return UsageError(f"{unknown('source', source, BUILT_IN)}; otherwise give a folder of images or a {kinds} file")
