"""Annotations of samples that are arrays: captions, boxes, maps, conditioning images, numbers and columns of other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.columns import Column, Texts, Values
from ancestral.app.data.dataset import Split
from ancestral.app.data.errors import DataError
from ancestral.app.data.numbers import is_number_name, numbers_from
from ancestral.app.data.precision import real

# Names in arrays and files, and the columns to which they belong.
COLUMNS = {
    "captions": "text",
    "boxes": "boxes",
    "maps": "map",
    "conditioning": "image",
    "number": "number",
    "numbers": "number",
}
KNOWN = tuple(COLUMNS)
MOST = 100_000  # classes of boxes, and pixels
NUMBER_NAMES = "number_names"  # k strings: the names of the numbers (N, k)


def joined(split: Split, beside: Mapping[str, Any], where: str, number_names: Sequence[str] = ()) -> Split:
    """Return the samples with their annotations as columns.

    The names that `beside` may have:

    - captions: N strings, or N lists of strings.
    - boxes: whole numbers `(N, k, 5)`, rows (class, left, top, width, height) in pixels. Class -1 marks an unused row.
    - maps: whole numbers `(N, H, W)` from 0, which is the background, to 255.
    - conditioning: uint8 `(N, C, H, W)` or `(N, H, W, C)`.
    - number: `(N,)` or `(N, k)`, with `number_names`.
    - any other name: the column of that name. If no `number` is given, its real numbers `(N,)` or `(N, k)` are also numbers.

    Raises:
        DataError: if a type, a shape or a number of rows is wrong.
    """
    n = len(split)
    columns: dict[str, Any] = {}
    for name, values in beside.items():
        if isinstance(values, Column):
            columns[COLUMNS.get(name, name)] = values
            continue
        if len(values) != n:
            raise DataError(f"{where} has {n:,} samples and {len(values):,} {name}: one per sample is needed")
        columns[COLUMNS.get(name, name)] = _read(split, name, values, where, number_names)
    if "number" not in columns:
        real = {name: beside[name] for name in beside if name in columns and _is_real(name, columns[name])}
        columns |= {"number": numbers_from(real, where, number_names)} if real else {}
    return split.with_columns(columns)


def plain(name: str, values: Any) -> Column | None:
    """Return N strings or numbers as a column, or None if the values are neither."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind == "O" and all(text is None or isinstance(text, str) for text in array):
        return Texts(tuple(array.tolist()))
    if array.dtype.kind in "US":
        return Texts(tuple((np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array).tolist()))
    if array.dtype.kind not in "biuf" or not array.ndim:
        return None
    if array.dtype.kind == "f":
        return Values(torch.from_numpy(real([array])[0].copy()))
    return Values(torch.from_numpy(array.copy() if array.dtype in (np.uint8, np.bool_) else array.astype(np.int64)))


def _read(split: Split, name: str, values: Any, where: str, number_names: Sequence[str]) -> Any:
    """Return the values of one column after a check of type and shape."""
    shape = split["x"].shape
    n, space = shape[0], shape[2:]
    column = COLUMNS.get(name)
    if column == "number":
        return numbers_from({name: values}, where, number_names)
    if column is None:
        if (found := plain(name, values)) is None:
            raise DataError(f"{name} of {where} must hold strings or numbers, found the type {np.asarray(values).dtype}")
        return found
    if column != "text" and len(space) != 2:
        raise DataError(f"{name} of {where} need images, and its samples have shape {shape[1:]}")
    if column == "text":
        return tuple(_texts(text) for text in values)
    array = np.asarray(values)
    if column == "boxes":
        if array.ndim != 3 or array.shape[2] != 5 or array.dtype.kind not in "iu":
            raise DataError(f"boxes of {where} must be whole numbers (N, k, 5), found {array.dtype} {array.shape}")
        if array.size and (top := int(array[..., 0].max())) >= MOST:
            raise DataError(f"boxes of {where} have the class {top}: number the classes from 0, below {MOST:,}")
        if array.size and (far := abs(array[..., 1:].astype(np.float64)).max()) >= MOST:
            raise DataError(f"boxes of {where} lie up to {far:.3g} pixels away: correct them")
        return tuple(row[row[:, 0] >= 0] for row in torch.from_numpy(array.astype(np.int64)))
    if column == "map":
        whole = array.dtype.kind in "iub" and array.shape[1:] == space and array.min() >= 0 and array.max() <= 255
        if not whole:
            raise DataError(f"maps of {where} must be whole numbers from 0 to 255 of shape {(n, *space)}")
        return torch.from_numpy(array.astype(np.uint8))
    array = array if array.ndim == 4 and array.shape[2:] == space else np.moveaxis(array, -1, 1)
    if array.ndim != 4 or array.shape[2:] != space or array.dtype != np.uint8:
        raise DataError(f"conditioning of {where} must be uint8 images of the same size as the samples")
    return torch.from_numpy(np.ascontiguousarray(array))


def _texts(value: Any) -> str | tuple[str, ...] | None:
    """Return one caption, several (a list or an array of strings), or None."""
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
        found = tuple(str(text).strip() for text in value if text is not None and str(text).strip())
        return found if len(found) > 1 else found[0] if found else None
    return None if value is None else str(value).strip() or None


def _is_real(name: str, column: Any) -> bool:
    """Return whether a column holds real numbers `(N,)` or `(N, k)` of which none is infinite and at least one is known."""
    if type(column) is not Values or not is_number_name(name):
        return False
    values = column.values
    return values.is_floating_point() and values.ndim <= 2 and not values.isinf().any() and not values.isnan().all()


def named(*splits: Split | None) -> dict[str, tuple[str, ...]]:
    """Return numbers as names of the classes in boxes and maps, as arguments of `assemble`."""
    boxes = [rows for split in splits if split is not None for rows in split.boxes or () if len(rows)]
    maps = [split.maps for split in splits if split is not None and split.maps is not None]
    top = max((int(rows[:, 0].max()) for rows in boxes), default=-1)
    most = max((int(m.max()) for m in maps), default=0)
    return {
        "box_classes": tuple(str(i) for i in range(top + 1)),
        "map_classes": tuple(str(i) for i in range(1, most + 1)),
    }
