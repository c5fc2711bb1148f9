"""Parquet files as Hugging Face and pandas write them."""

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet as pq

from ancestral.app.data import DataError, load


def png(colour, size=(8, 8), mode="L"):
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "png")
    return file.getvalue()


def write(path, columns, metadata=None):
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data.parquet"


def hugging_face(colours):
    return [{"bytes": png(colour), "path": f"{colour}.png"} for colour in colours]


def by_colour(data, what):
    """The label or caption of each image, by its grey level."""
    pairs = {}
    for split in (data.train, data.test):
        pairs |= dict(zip(split.array[:, 0, 0, 0].tolist(), getattr(split, what), strict=True))
    return pairs


def test_images_with_labels_and_captions_as_hugging_face_writes_them(file):
    columns = {
        "id": list(range(10)),
        "image": hugging_face(range(10)),
        "label": [i % 2 for i in range(10)],
        "text": [f"grey {i}" if i != 3 else None for i in range(10)],
    }
    write(file, columns, {"info": {"features": {"label": {"names": ["even", "odd"], "_type": "ClassLabel"}}}})
    data = load(file)
    assert (data.spec.name, data.spec.shape, data.spec.classes) == ("data", (1, 8, 8), ("even", "odd"))
    assert {k: int(v) for k, v in by_colour(data, "labels").items()} == {i: i % 2 for i in range(10)}
    assert by_colour(data, "captions") == {i: f"grey {i}" if i != 3 else None for i in range(10)}
    assert data.notes == (
        "read as 10 images of 8x8 in 1 channel",
        "9 captions, 1 without",
        "columns not used: id",
        "held out 1 of 10 samples, the same share of each class",
    )


def test_images_as_plain_bytes_resized_with_some_left_out(file):
    pictures = [png((i, 0, 0), (20, 30), "RGB") for i in range(6)] + [b"no", None]
    write(file, {"picture": pictures, "class": list("aabbccdd")})
    data = load(file, size=(4, 6))
    assert data.spec.shape == (3, 4, 6)
    assert {k: data.spec.classes[v] for k, v in by_colour(data, "labels").items()} == dict(enumerate("aabbcc"))
    assert "left out 2 rows: row 6 (not an image), row 7 (not an image)" in data.notes
    assert "resized to 4x6" in data.notes


def test_decoded_rows_are_kept(file, monkeypatch):
    write(file, {"img": hugging_face(range(5))})
    first = load(file)
    monkeypatch.setattr("ancestral.app.data.decode_once.decode", None)
    assert load(file).spec == first.spec


def test_columns_of_numbers_are_vectors(file):
    columns = {
        "a": np.linspace(0, 1, 20),
        "name": ["x"] * 20,
        "b": pa.array(range(20), pa.int32()),
        "labels": ["u", "v"] * 10,
        "c": [True, False] * 10,
    }
    data = load(write(file, columns))
    assert (data.spec.shape, data.spec.kind, data.spec.classes) == ((3,), "real", ("u", "v"))
    assert torch.equal(data.train.array[:, 2] == 0, data.train.labels == 1)
    assert data.notes[:2] == ("read as 20 vectors of 3 numbers", "columns not used: name")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.int8(), 3)])
def test_a_column_of_lists_is_vectors(file, kind):
    data = load(write(file, {"n": list(range(20)), "x": pa.array([[i, i + 1, -i] for i in range(20)], kind)}))
    assert data.spec.shape == (3,)
    assert torch.equal(data.train.array[:, 0], -data.train.array[:, 2])
    assert "1 number per sample: n" in data.notes


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"a": pa.array([], pa.float32())},
            r"holds no rows: at least 2 are needed, one to train on and one to hold out",
        ),
        ({"s": ["a", "b"]}, r"has no column of images, lists or numbers: found s \(string\)$"),
        ({"a": [1.0, None]}, r"column a: row 1 has no value: fill or drop such rows$"),
        ({"a": [1.0, float("nan")]}, r"holds 1 value that is not a finite float32 .* at index \(1, 0\)"),
        ({"a": [1.0, 2.0], "label": [1, None]}, r"column label: row 1 has no label: fill or drop such rows$"),
        ({"x": [[1, 2], [3]]}, r"column x: the lists must be of one length, found 2 in row 0 and 1 in row 1$"),
        ({"x": [[1, 2], None]}, r"found 2 in row 0 and none in row 1$"),
        ({"x": [None, [1]]}, r"found none in row 0 and 1 in row 1$"),
        ({"x": [["a"], ["b"]]}, r"column x: the lists must hold only numbers, found string$"),
        ({"x": [[[1], [2]], [[3], [4, 5]]]}, r"column x: the lists must hold only numbers, found list<.*>$"),
        ({"image": [b"no", b"no"]}, r"^no image in .* can be read: row 0 \(not an image\), row 1 \(not an image\)$"),
        ({"image": [png(1), png(2)], "text": [1, 2]}, r"column text: row 0 must hold a string, found int$"),
        ({"image": [png(1), png(2)], "label": [0.5, 1]}, r"must be whole numbers or names, found 0\.5 at index 0$"),
    ],
)
def test_tables_that_cannot_be_used(file, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        load(write(file, columns))
    assert str(file) in str(caught.value)


def test_class_names_that_do_not_fit_the_labels(file):
    metadata = {"info": {"features": {"label": {"names": ["only"]}}}}
    with pytest.raises(DataError, match=r"must be whole numbers from 0 to 0, one for each class name$"):
        load(write(file, {"x": [1.0, 2.0], "label": [0, 1]}, metadata))


@pytest.mark.parametrize("cut", [0, 3, 40, -20])
def test_damaged_files(file, cut):
    write(file, {"x": np.arange(100.0)})
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"data\.parquet is not a complete parquet file: it is damaged or of another format$"):
        load(file)


def test_a_file_that_cannot_be_read(file, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    write(file, {"x": np.arange(100.0)})
    monkeypatch.setattr(pq, "ParquetFile", denied)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\): check its permissions$"):
        load(file)


def test_without_pyarrow_the_command_is_said(file, monkeypatch):
    file.write_bytes(b"")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"^reading .*data\.parquet needs pyarrow: run `pip install pyarrow`$"):
        load(file)
