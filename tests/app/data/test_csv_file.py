"""Tables as spreadsheets, pandas and other programs write them."""

import numpy as np
import pytest
import torch

from ancestral.app.data import DataError, load


def table(path, head, rows, separator=",", encoding="utf-8"):
    lines = [separator.join(map(str, row)) for row in ([head] if head else []) + rows]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def everything(data):
    x = torch.cat([data.x("train"), data.x("test")])
    return x[x[:, 0].argsort()].tolist()


ROWS = [(i, i / 4 + 0.125, "ab"[i % 2]) for i in range(20)]
NUMBERS = [[float(i), i / 4 + 0.125] for i in range(20)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_of_numbers_are_vectors_and_label_is_the_class(tmp_path, separator):
    suffix = "tsv" if separator == "\t" else "csv"
    data = load(table(tmp_path / f"t.{suffix}", ("age", "income", "label"), ROWS, separator, "utf-8-sig"))
    assert (data.spec.channels, data.spec.classes, everything(data)) == (("age", "income"), ("a", "b"), NUMBERS)
    assert data.notes[0] == "read as 20 vectors of 2 numbers"


def test_a_column_of_words_is_named_with_the_way_to_use_it(tmp_path):
    data = load(table(tmp_path / "t.csv", ("age", "income", "city"), ROWS))
    assert "columns not used: city" in data.notes
    assert "for classes from the column city, name it label" in data.notes


def test_decimal_commas_rows_without_values_and_an_index(tmp_path):
    rows = [(i, i, str(y).replace(".", ","), name) for i, y, name in ROWS]
    data = load(table(tmp_path / "t.csv", ("", "age", "income", "by"), [*rows, ("", "", "", "")], ";"))
    assert (data.spec.channels, everything(data)) == (("age", "income"), NUMBERS)
    assert "columns not used: (an index without a name), by" in data.notes


def test_a_table_without_names(tmp_path):
    data = load(table(tmp_path / "t.csv", None, [row[:2] for row in ROWS]))
    assert (data.spec.channels, everything(data)) == (("column1", "column2"), NUMBERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t\.csv is not a table of equally long rows \(Empty CSV file\): correct it, or save it as \.parquet$"),
        (b"a,b\n1,2\n3\n", r"is not a table of equally long rows \(CSV parse error: Expected 2 columns, got 1.*\): correct"),
        (b"a,b\n", r"t\.csv holds no rows: at least 2 are needed"),
        (b"a,b\n1,2\n3,\n", r"t\.csv, column b: row 1 has no value: fill or drop such rows$"),
        (b"a,b\nx,y\nz,y\n", r"t\.csv has no column of images, lists or numbers: found a \(string\), b \(string\)$"),
        (b"a,b\n\xff,2\n", r"t\.csv is not UTF-8 text \(byte 4\): save it as UTF-8$"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.csv")


def test_large_identifiers_keep_their_values(tmp_path):
    ids = 20_000_000 + np.arange(50)
    data = load(table(tmp_path / "t.csv", ("user", "v"), [(i, 0.5 * (i % 7)) for i in ids]))
    assert [row[0] for row in everything(data)] == ids.tolist()
