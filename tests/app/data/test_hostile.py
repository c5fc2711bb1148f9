"""Damaged and hostile inputs: each is refused in one sentence, in bounded time and memory. Small forms of what once failed."""

import io
import json
import os
import struct
import tarfile
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ancestral.app.data import DataError, images, load, npy, table_file
from ancestral.app.data.bounded import check_memory, text_of
from ancestral.app.data.captions import read_captions
from ancestral.app.data.hugging_face import hugging_face
from ancestral.app.data.labels import encode
from ancestral.app.data.numbers import numbers_of
from ancestral.app.recipes.recipe import Recipe, override, parse
from ancestral.app.recipes.yaml_text import read_yaml
from ancestral.errors import AncestralError, UsageError
from ancestral.files import read_json


def refused(source, match, **options):
    """The one sentence with which a source is refused."""
    with pytest.raises(AncestralError, match=match) as caught:
        load(source, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


def array_bytes(descr, shape, values=b"", version=1):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + size + text + values


# arrays


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x93NUMPY\x01\x00\x04\x00'''\n", r"its header cannot be read$"),  # TokenError
        (b"\x93NUMPY\x01\x00\x05\x00{'a'\n", r"its header cannot be read$"),  # SyntaxError
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, r"its header cannot be read$"),  # MemoryError
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31), r"its header cannot be read$"),
        (b"\x93NUMPY\x09\x00\x04\x00{}  ", r"is of version 9\.0 of the format, which is unknown: save it again$"),
        (array_bytes("<f4", (10**30, 8)), r"header says the shape \(10+, 8\) of the type float32, which are 3e\+31 bytes"),
        (array_bytes("<f4", (1 << 40,)), r"which are 4,398,046,511,104 bytes, and it holds 0 bytes$"),
        (array_bytes("<f4", (-1, 8)), r"is damaged: its header says the shape \(-1, 8\)"),
        (array_bytes("<f4", f"({'9' * 5000},)"), r"its header cannot be read$"),
        (array_bytes("<f4", (0, 10**30)), r"is damaged: its header says the shape"),
        (array_bytes("|V0", (4, 4)), r"is damaged: its header says the shape \(4, 4\) of the type \|V0"),
        (
            array_bytes("(3,)<f4", (4, 4), bytes(192)),
            r"is damaged: its header says the shape \(4, 4\) of the type \('<f4', \(3,\)\)",
        ),
        (array_bytes("|O", (4,), b"cos\nsystem\n"), r"holds Python objects, which are not loaded"),
        (array_bytes([("a", "<f4"), ("b", "|O")], (4,), b"x" * 99), r"holds Python objects, which are not loaded"),
        (array_bytes("<M8[s]", (4, 4), bytes(128)), r"must hold numbers, found the type datetime64"),
        (array_bytes("<f4", (4, 4), bytes(8)), r"which are 64 bytes, and it holds 8 bytes$"),
        (b"PK\x05\x06" + bytes(18), r"holds no array of data"),
        (b"PK\x03\x04", r"not a complete \.npz file$"),
        (b"PK\1\2" + bytes(42) + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, 46, 0, 0), r"not a complete \.npz file$"),
    ],
)
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_arrays_with_a_header_of_any_content(tmp_path, content, match, name):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, match)


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (8, 1, r"is encrypted \(array x\): save it without"),
        (10, 14, r"is compressed in a way that numpy does not write \(array x\)"),
    ],
)
def test_zips_that_are_encrypted_or_of_another_method(tmp_path, at, value, match):
    content = bytearray(zipped(tmp_path / "x.npz", {"x.npy": array_bytes("<f4", (4, 4), bytes(64))}).read_bytes())
    place = content.rfind(b"PK\1\2") + at
    content[place : place + 2] = struct.pack("<H", value)
    (tmp_path / "x.npz").write_bytes(content)
    refused(tmp_path / "x.npz", match)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_refused(tmp_path, method):
    refused(
        zipped(tmp_path / "x.npz", {"x.npy": array_bytes("<f4", (4, 4), bytes(64))}, method),
        r"in a way that numpy does not write",
    )


def test_members_that_are_no_arrays_are_left_out(tmp_path):
    x = array_bytes("|u1", (8, 4, 4), bytes(range(128)))
    data = load(zipped(tmp_path / "x.npz", {"x.npy": x, "notes.txt": b"text", "y": b"", "../../z.npy": b"PK"}))
    assert data.spec.shape == (1, 4, 4)
    assert not (tmp_path.parent / "z.npy").exists()


def test_a_small_zip_that_grows_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """128 MiB of zeros in 1 MB, and a directory that says that it is small."""
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("x.npy", "w") as member:
        member.write(array_bytes("<f8", (1 << 18, 64)))
        for _ in range(8):
            member.write(bytes(1 << 24))
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.1")
    tracemalloc.start()
    refused(
        file, r"x\.npz is too large: its arrays need 0\.1 GB of memory, and 0\.1 GB are allowed \(by ANCESTRAL_MEMORY_GB\): use"
    )
    content = bytearray(file.read_bytes())
    place = content.rfind(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", 1000)
    file.write_bytes(content)
    refused(file, r"x\.npz is damaged or of another format: it is not a complete \.npz file$")
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


def test_the_limit_can_be_raised_and_must_be_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr("ancestral.app.data.bounded.SMALL", 0)
    np.save(tmp_path / "x.npy", np.zeros((10, 4), np.float32))
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.0000001")
    refused(tmp_path / "x.npy", r"set ANCESTRAL_MEMORY_GB to more gigabytes$")
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "1")
    assert len(load(tmp_path / "x.npy").train) == 9
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "much")
    refused(tmp_path / "x.npy", r"^ANCESTRAL_MEMORY_GB must be a number of gigabytes, e\.g\. 16, found 'much'$")
    monkeypatch.delenv("ANCESTRAL_MEMORY_GB")
    with pytest.raises(DataError, match=r"are allowed \(half of what is free\)"):
        check_memory("x", 1e18)


def test_boxes_of_a_huge_class_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((10, 1, 8, 8), np.uint8), boxes=np.full((10, 2, 5), 2**62))
    refused(tmp_path / "x.npz", r"have the class 4611686018427387904: number the classes from 0")


def test_a_long_label_takes_its_own_memory_only():
    """An array of strings would take as much for each label as for the longest: 4 MB x 2,000."""
    tracemalloc.start()
    (codes,), names = encode([["a" * 10**6, *["b"] * 2000]], "here")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    assert codes.tolist() == [0, *[1] * 2000]
    assert names[1] == "b"


# JSON, metadata and captions


def pictures(folder, n=3):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        Image.new("L", (8, 8), 40 * i).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"a": ' + "9" * 400 + "}", "", "nul", "\ud800"]
)
def test_json_of_any_content_is_a_value_error_of_one_line(text):
    with pytest.raises(ValueError) as caught:
        read_json(text)
    assert len(str(caught.value).splitlines()) == 1
    assert "sys." not in str(caught.value)


@pytest.mark.parametrize(
    "box", ["[NaN,0,1,1]", "[1e400,0,1,1]", f"[{'9' * 400},0,1,1]", f"[{'9' * 99},0,1,1]", "[1]", "7", "{}"]
)
def test_boxes_that_are_no_numbers(tmp_path, box):
    row = f'{{"file_name": "0.png", "objects": {{"bbox": [{box}], "categories": ["a"]}}}}'
    (pictures(tmp_path) / "metadata.jsonl").write_text(row)
    refused(tmp_path, r"metadata\.jsonl, line 1: (objects must be|it has a number of 400 digits)")


@pytest.mark.parametrize("name", ["metadata.jsonl", "dataset.json"])
def test_metadata_that_is_nested_too_deep(tmp_path, name):
    (pictures(tmp_path) / name).write_text('{"labels":' + "[" * 100_000)
    refused(tmp_path, name)


def test_many_captions_and_columns_of_one_image_take_linear_time(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "1")
    rows = [{"file_name": "0.png", "text": f"caption {i}", f"column{i}": i} for i in range(20_000)]
    (pictures(tmp_path) / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    start = time.monotonic()
    (captions, *_), _ = read_captions(tmp_path, ["0.png"], ["metadata.jsonl"], [])
    assert len(captions) == 20_000
    with pytest.raises(DataError, match=r"20,000 columns of numbers need"):
        numbers_of(tmp_path, [*map(str, range(20_000)), "0.png"], ["metadata.jsonl"])
    assert time.monotonic() - start < 8


# only regular files, and only those of the folder


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "dataset.json", "0.txt", "x.png", "x.npy"])
def test_a_pipe_in_a_folder_is_not_opened(tmp_path, name):
    os.mkfifo(pictures(tmp_path) / name)
    assert any(f"{name} (not a regular file)" in note for note in load(tmp_path).notes)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "x.parquet", "x.tar", "x.tif"])
def test_a_pipe_or_a_device_as_a_source_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, r"is neither a file nor a folder, but a pipe or a device")
    (tmp_path / name).unlink()
    os.symlink("/dev/zero", tmp_path / name)
    refused(tmp_path / name, r"is neither a file nor a folder, but a pipe or a device")


def test_a_pipe_among_shards_or_as_a_recipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    refused(tmp_path, r"the shard .* is no regular file")
    os.mkfifo(tmp_path / "recipe.yaml")
    with pytest.raises(UsageError, match=r"^cannot read the recipe: .* is no regular file"):
        Recipe.load(tmp_path / "recipe.yaml")
    with pytest.raises(DataError, match=r"is no regular file"):
        text_of(tmp_path / "recipe.yaml")
    with pytest.raises(DataError, match=r"is no regular file"):
        npy.read_arrays(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("column", ["map_file_name", "conditioning_image_file_name"])
@pytest.mark.parametrize("way", ["up", "absolute", "link", "link of a folder", "backslashes"])
def test_metadata_name_no_file_outside_of_the_folder(tmp_path, monkeypatch, column, way):
    pictures(secret := tmp_path / "secret")
    folder = pictures(tmp_path / "set")
    names = {
        "up": "../secret/0.png",
        "absolute": str(secret / "0.png"),
        "link": "link.png",
        "link of a folder": "linked/0.png",
        "backslashes": "..\\secret\\0.png",
    }
    if way.startswith("link"):
        os.symlink(secret if "/" in names[way] else secret / "0.png", folder / names[way].partition("/")[0])
    rows = [{"file_name": f"{i}.png", column: names[way]} for i in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    refused(
        folder, rf"line 1: {column} names .*, which is outside of .*: move it there, or set ANCESTRAL_OUTSIDE=.*secret to al"
    )
    monkeypatch.setenv("ANCESTRAL_OUTSIDE", f"{tmp_path / 'other'}{os.pathsep}{secret}")
    if way in ("up", "absolute", "backslashes"):
        assert load(folder).train["map" if column[0] == "m" else "image"] is not None
    monkeypatch.setenv("ANCESTRAL_OUTSIDE", str(tmp_path / "sec"))
    refused(folder, r"which is outside of")


def test_a_saved_data_set_names_no_file_outside_of_its_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    pictures(secret := tmp_path / "secret")
    table = pa.table({"image": pa.array([{"bytes": None, "path": str(secret / "0.png")}] * 4)})
    features = datasets.Features({"image": datasets.Image()})
    made = datasets.Dataset(
        datasets.table.InMemoryTable(table.cast(features.arrow_schema)), datasets.DatasetInfo(features=features)
    )
    with pytest.raises(DataError, match=r"the data set in .*saved names .*secret/0\.png, which is outside of"):
        hugging_face(made, root=tmp_path / "saved")  # as `load` reads the folder of save_to_disk
    monkeypatch.setenv("ANCESTRAL_OUTSIDE", str(secret))
    assert hugging_face(made, root=tmp_path / "saved").spec.shape == (1, 8, 8)


# tables


def test_tables_with_columns_of_one_name_or_nested_metadata(tmp_path):
    table = pa.Table.from_arrays([pa.array([1.0, 2.0])] * 2, names=["a\nerror: b"] * 2)
    pq.write_table(table, tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", r"several columns named a\\nerror: b")
    deep = {"huggingface": "[" * 100_000}
    pq.write_table(pa.table({"v": [1.0, 2.0, 3.0], "label": [0, 1, 0]}).replace_schema_metadata(deep), tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").spec.classes == ("0", "1")


def test_a_small_table_of_many_rows_is_refused_before_it_is_read(tmp_path, monkeypatch):
    pq.write_table(pa.table({"v": np.zeros(3_000_000)}), file := tmp_path / "x.parquet", row_group_size=3_000_000)
    assert file.stat().st_size < 20_000
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.02")
    refused(file, r"its 3,000,000 rows of 1 column need 0\.0 GB of memory, and 0\.0 GB are allowed")


def test_texts_of_a_table_that_is_not_used_are_not_read(tmp_path, monkeypatch):
    """4,000 rows of a text of 100 kB in a small file: 400 MB if each had its own."""
    once = pa.DictionaryArray.from_arrays(np.zeros(4000, np.int32), ["a" * 100_000])
    pq.write_table(pa.table({"v": np.arange(4000.0), "text": once, "s": once}), tmp_path / "x.parquet", store_schema=False)
    assert pq.read_schema(tmp_path / "x.parquet").field("s").type == pa.string()
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.05")
    before = pa.total_allocated_bytes()
    assert len(load(tmp_path / "x.parquet").train) == 3600
    assert pa.total_allocated_bytes() - before < 1 << 25


def test_pictures_of_a_table_that_grow_are_refused(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    cell = {"bytes": buffer.getvalue() + bytes(1 << 20), "path": "/etc/passwd"}
    pq.write_table(pa.table({"image": [cell] * 200}), file := tmp_path / "x.parquet")
    assert file.stat().st_size < 1 << 21
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.1")
    refused(file, r"its rows need more than 0\.1 GB")


def test_numbers_of_a_table_are_no_python_objects(tmp_path, monkeypatch):
    pq.write_table(pa.table({"v": np.arange(1000.0), "flag": [True, None] * 500, "n": [1, None] * 500}), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    known = table_file._known(table["flag"])
    assert known[0] == 1
    assert np.isnan(known[1])
    assert table_file._known(table["n"])[0] == 1


# pictures


def test_a_picture_that_would_start_another_program_is_no_image(tmp_path):
    (pictures(tmp_path) / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert any("x.png (not an image)" in note for note in load(tmp_path).notes)


def test_large_pictures_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(images, "TOGETHER", 100)
    seen, most = [], []

    def decode(size):
        with images._decoding(Image.new("L", (size, 1))):
            seen.append(size)
            most.append(sum(seen))
            time.sleep(0.01)
            seen.remove(size)

    threads = [threading.Thread(target=decode, args=(size,)) for size in (60, 60, 60, 500, 30, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert all(total <= 100 or total == 500 for total in most)
    assert images._busy == [0]


def test_a_tiff_of_too_many_pages_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "PAGES", 3)
    for n in (3, 4):
        pages = [Image.new("L", (8, 8), i) for i in range(n)]
        pages[0].save(pictures(tmp_path) / f"{n}.tif", save_all=True, append_images=pages[1:])
    notes = load(tmp_path).notes
    assert any("4.tif (more than 3 pages)" in note for note in notes)
    assert notes[0].startswith("6 images")


# shards


def test_a_shard_of_chained_headers_or_negative_sizes_ends(tmp_path):
    def header(kind, size):
        head = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
        head[124:136], head[156:157], head[148:156] = size, kind, b" " * 8
        head[148:156] = f"{sum(head):06o}\0 ".encode()
        return bytes(head)

    chained = header(b"L", b"00000000000\0") * 3000
    negative = header(b"0", b"\xff" * 11 + b"\x00")
    huge = [header(kind, b"77777777777\0") for kind in (b"L", b"x", b"g", b"S")]  # 8 GB, which are not there
    tracemalloc.start()
    for content in (chained, negative * 10, header(b"0", b"\x80" + b"\xff" * 11), *huge):
        (tmp_path / "x.tar").write_bytes(content + bytes(1024))
        refused(tmp_path / "x.tar", r"x")
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


def test_numbers_of_shards_that_fill_the_memory_are_refused(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(100):
            content = json.dumps({f"n{i}-{j}": 1.0 for j in range(300)}).encode()
            for name, part in ((f"{i}.png", b"no image"), (f"{i}.json", content)):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    monkeypatch.setenv("ANCESTRAL_MEMORY_GB", "0.01")
    refused(tmp_path / "x.tar", r"the numbers of its samples need 0\.0 GB")


def test_braces_of_a_pattern_are_counted_before_they_are_written():
    refused("part-{0..99999999999}.tar", r"stand for more than 1,000,000 names")
    refused("{a,b}" * 30 + ".tar", r"stand for more than 1,000,000 names")


# recipes and settings

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: " + "9" * 5000, r"^a number has 5,000 digits, and at most 100 are read$"),
        ("a: 0x" + "f" * 5000, r"^a number has 5,002 digits"),
        ("[" * 3000, r"^it is nested deeper than 50 levels$"),
        ("- " * 3000, r"^it is nested deeper than 50 levels$"),
        (BOMB, r"^it holds more than 20,000 values$"),
        ("a: &a [*a]", r"^a value holds itself$"),
        ("a: &a {<<: *a}", r"^a value holds itself$"),
        ("2020-13-40", r"^it holds a date, a number or a tag that does not exist$"),
        ("!!int x", r"^it holds a date, a number or a tag that does not exist$"),
        ("!!bool x", r"^it holds a date, a number or a tag that does not exist$"),
        ("!!timestamp x", r"^it holds a date, a number or a tag that does not exist$"),
        ("!!python/object/apply:os.system [id]", r"^could not determine a constructor for the tag"),
        ("? [a]\n: b", r"^found unhashable key, line 1$"),
        ("\0", r"^unacceptable character #x0000"),
        ("a: [", r", line 1$"),
        ("x" * 300_000, r"^it has 300,000 characters, and at most 262,144 are read$"),
    ],
)
def test_yaml_of_any_content_is_a_value_error_of_one_line(text, match):
    start = time.monotonic()
    with pytest.raises(ValueError, match=match) as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 2


def test_yaml_within_the_limits_is_read():
    assert read_yaml("a: &a [1, 2.5, x]\nb: *a\nc: {<<: {d: 1}, e: 2020-12-24}")["b"] == [1, 2.5, "x"]


@pytest.mark.parametrize(
    "setting",
    [
        "train.lr=2020-13-40",
        f"train.lr={'9' * 5000}",
        "train.lr=" + "[" * 3000,
        f"train.lr='{'x' * 100_000}'",
        "train=[1]",
        "train={1: 2}",
        "train.players={1: {lr: 2}}",
        f"train.seed={2**70}",
        "model={family: [1]}",
        "model={family: {a: 1}}",
        "model.family=[1]",
    ],
)
def test_settings_of_any_content_are_refused_in_one_sentence(setting):
    with pytest.raises(UsageError) as caught:
        Recipe.of(override({"data": {"source": "digits"}, "train": {"budget": "1it"}}, parse((setting,))))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("- 1")
    with pytest.raises(
        UsageError, match=r"recipe\.yaml is no recipe: it holds a list in place of the sections data, model, train$"
    ):
        Recipe.load(tmp_path / "recipe.yaml")


# names


def test_control_characters_of_names_are_escaped(tmp_path):
    pictures(tmp_path / "cl\x1b[31mass\u202e")
    pictures(tmp_path / "b")
    (tmp_path / "b" / "x\nerror: forged.zip").touch()
    data = load(tmp_path)
    assert data.spec.classes == ("b", r"cl\x1b[31mass\u202e")
    assert all(note.isprintable() for note in data.notes)
    assert r"x\nerror: forged.zip" in " ".join(data.notes)
    odd = tmp_path / "a\x1b[31m"
    pictures(odd)
    assert load(odd).spec.name == r"a\x1b[31m"
    with pytest.raises(UsageError) as caught:
        raise UsageError("a\x1b[31m" + "b" * 10_000)
    assert str(caught.value).startswith(r"a\x1b[31mb")
    assert len(str(caught.value)) < 5000
