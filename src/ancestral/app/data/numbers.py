"""Numbers that belong to samples: columns of metadata or of a table, or further arrays of a file."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ancestral.app.data.bounded import check_memory
from ancestral.app.data.captions import ELSEWHERE, TEXT, rows_of
from ancestral.app.data.columns import Numbers, numbered
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError

IDENTIFIERS = ("id", "index", "idx", "uid", "uuid", "row", "unnamed: 0", "__index_level_0__")  # no property of a sample
NO_NUMBERS = frozenset({"file_name", "label", "labels", "class", *TEXT, *ELSEWHERE, *IDENTIFIERS})


def is_number_name(name: str) -> bool:
    """Return whether a column of that name may hold numbers that describe samples: it is neither a label nor an identifier."""
    return bool(name) and name.lower() not in NO_NUMBERS and not name.lower().endswith("_id")


def numbers_of(root: Path, images: Sequence[str], metadata: Sequence[str]) -> Numbers | None:
    """Return the numeric columns of a folder's metadata with a row for each of `images`, or None if there are none.

    A column is numeric if each value is a finite number or empty (unknown), and at least one is a number. All numbers of an
    image without a row are unknown.
    """
    found: dict[str, dict[str, float]] = {}  # by column and image
    other: set[str] = set()
    for name in metadata:
        for _, row in rows_of(root, name):
            image = posixpath.normpath(posixpath.join(posixpath.dirname(name), str(row.get("file_name")).replace("\\", "/")))
            for column, value in row.items():
                if not is_number_name(column) or value is None or value == "":
                    continue
                if (number := _number(value)) is None:
                    other.add(column)
                else:
                    found.setdefault(column, {})[image] = number
    known = set(images)
    names = [column for column in found if column not in other and not known.isdisjoint(found[column])]
    if not names:
        return None
    check_memory(f"the metadata of {root}", 40.0 * len(images) * len(names), f"{len(names):,} columns of numbers need")
    rows = [[found[name].get(image, math.nan) for name in names] for image in images]
    return Numbers(torch.tensor(rows, dtype=torch.float64), tuple(names))


def numbers_from(arrays: Mapping[str, Any], where: str, names: Sequence[str] = ()) -> Numbers:
    """Join arrays `(N,)` or `(N, k)` of numbers, in which NaN marks an unknown number.

    Args:
        arrays: the arrays by name.
        where: the source, for messages.
        names: names of all numbers. Default: the names of the arrays, followed by 1, 2, ... if an array holds several numbers.

    Raises:
        DataError: if values are not numbers or infinite, or if the number of names is wrong.
    """
    columns: list[np.ndarray] = []
    found: list[str] = []
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
            raise DataError(f"{name} of {where} must be numbers (N,) or (N, k), found {array.dtype} {array.shape}")
        array = array.astype(np.float64).reshape(len(array), -1)
        if np.isinf(array).any():
            row = int(np.isinf(array).any(1).argmax())
            raise DataError(f"{name} of {where} is infinite at index {row}: write finite numbers, or NaN for unknown ones")
        columns.append(array)
        found += numbered("number" if name == "numbers" else name, array.shape[1])
    if names and len(names) != len(found):
        raise DataError(f"{where} holds {len(found)} numbers per sample and {len(names)} names: one name per number is needed")
    return Numbers(torch.from_numpy(np.concatenate(columns, axis=1)), tuple(str(name) for name in names or found))


def numbers_note(names: Sequence[str]) -> list[str]:
    """Return a note for the user, e.g. `2 numbers per sample: angle, size`, or no note if there are no numbers."""
    return [f"{len(names):,} number{'s' if len(names) > 1 else ''} per sample: {listed(names)}"] if names else []


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
