"""Data sets of rows that Python gives on demand: an own format, a database, or samples that exist only as a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ancestral.app.data.assemble import assemble
from ancestral.app.data.columns import Column, Numbers, Pictures, Texts, Values
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError
from ancestral.app.data.levels import check_finite
from ancestral.app.data.streamed import Rows, Streamed

NAMES = ("x", "class", "text", "number", "class_names", "number_names", "name")


def from_rows(columns: Mapping[str, Any]) -> DataSet:
    """Make a `DataSet` of columns that are read on demand, e.g. `{"x": images, "class": labels, "class_names": ["a", "b"]}`.

    Args:
        columns: `Rows` by name, all of one length: `x`, of shape `(d,)`, `(c, l)` or `(c, h, w)`, uint8 with 256 levels or real
            numbers; `class`, int64 of shape (); `text`, objects of shape (); `number`, real numbers of shape `(k,)`. Beside
            them `class_names`, which a column `class` needs, `number_names`, and `name`, the name of the data.

    Raises:
        DataError: if a column has another form, or is unknown.
    """
    if wrong := [name for name in columns if name not in NAMES]:
        raise DataError(f"columns that are read on demand are {listed(NAMES, 9)}; found {listed(wrong)}")
    given = {name: rows for name, rows in columns.items() if name in ("x", "class", "text", "number")}
    if wrong := [name for name, rows in given.items() if not isinstance(rows, Rows)]:
        raise DataError(
            f"the column {wrong[0]} must be rows that are read on demand, since x is: give an object like that of x"
        )
    x, classes = given["x"], tuple(map(str, columns.get("class_names", ())))
    if len(x.shape) not in (1, 2, 3) or x.dtype.kind not in "uf" or (x.dtype.kind == "u" and x.dtype != np.uint8):
        raise DataError(f"rows must be uint8 or real numbers of shape (d,), (c, l) or (c, h, w), found {x.dtype} {x.shape}")
    if ("class" in given) != bool(classes):
        raise DataError("a column class and the names of the classes, class_names, belong together: give both or neither")
    if x.dtype.kind == "f":
        check_finite(x.read(np.arange(min(len(x), 64))), "the rows")
    makers: dict[str, Any] = {
        "x": Pictures if len(x.shape) == 3 else Values,
        "class": Values,
        "text": Texts,
        "number": lambda values: _numbers(values, columns),
    }
    samples = Split({name: Streamed(rows, makers[name]) for name, rows in given.items()})
    levels = 256 if x.dtype == np.uint8 else None
    return assemble(str(columns.get("name", "rows")), samples, levels=levels, classes=classes)


def _numbers(values: Any, columns: Mapping[str, Any]) -> Column:
    return Numbers(values, tuple(map(str, columns.get("number_names", ()))))
