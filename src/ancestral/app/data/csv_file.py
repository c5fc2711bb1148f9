"""Reader of a CSV file, whose columns are then used like those of a parquet file.

The separator is a comma, a semicolon or a tab: the one that occurs most often in the first line. If every cell of the first
line is a number, the file has no names of columns. With another separator than a comma, decimal commas are read too.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestral.app.data.bounded import check_memory, open_regular
from ancestral.app.data.captions import SEPARATORS
from ancestral.app.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow

HEAD = 1 << 16  # characters in which the first two lines are looked for


def read_csv(path: Path) -> pyarrow.Table:
    """Read the rows of a CSV file. Rows without any value are dropped. Raises `DataError`."""
    import pyarrow.csv

    try:
        with open_regular(path) as opened, io.TextIOWrapper(opened, encoding="utf-8-sig") as file:
            check_memory(str(path), 8.0 * os.fstat(opened.fileno()).st_size)
            lines = file.read(HEAD).splitlines()
        head, first = (*lines, "", "")[:2]
        separator = max(SEPARATORS, key=head.count)
        cells = next(csv.reader([head], delimiter=separator), [])
        nameless = bool(cells) and all(map(_is_number, cells))
        table = pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(column_names=[f"column{i + 1}" for i in range(len(cells))] if nameless else None),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(decimal_point="," if separator != "," and "," in first and "." not in first else "."),
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except (pyarrow.ArrowException, csv.Error, ValueError) as error:
        reason = (str(error).splitlines() or ["an unknown reason"])[0]
        raise DataError(f"{path} is not a table of equally long rows ({reason}): correct it, or save it as .parquet") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error
    known = np.stack([_is_known(column).to_numpy() for column in table.columns])
    return table.filter(pyarrow.array(known.any(0)))


def _is_known(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    from pyarrow import compute, types

    return compute.not_equal(column, "") if types.is_string(column.type) else column.is_valid()


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
