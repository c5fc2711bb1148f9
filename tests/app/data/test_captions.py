"""Captions from metadata and from files beside the images."""

import json

import numpy as np
import pytest
import torch

from ancestral.app.api import train
from ancestral.app.data import DataError, load
from ancestral.app.data.captions import read_captions
from ancestral.conditioning import Conditioner, TextCondition
from ancestral.noise import StreamNoise

IMAGES = ["a.png", "b/c.png", "d.png"]


def captions(root, metadata=(), sidecars=(), **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_captions(root, IMAGES, metadata, sidecars)


def test_jsonl(tmp_path):
    text = '{"file_name": "a.png", "text": " one "}\n\n{"file_name": "b/c.png", "text": "two\\u2028three"}\n'
    assert captions(tmp_path, ["metadata.jsonl"], metadata_jsonl=text) == (["one", "two\u2028three", None], [])


def test_csv_with_a_byte_order_mark_quotes_and_windows_lines(tmp_path):
    text = '\ufefffile_name,text\r\na.png,"one, ""two"""\r\nd.png,\r\n'
    assert captions(tmp_path, ["metadata.csv"], metadata_csv=text) == (['one, "two"', None, None], [])


def test_paths_are_relative_to_the_metadata(tmp_path):
    text = "file_name,caption\nc.png,inner\n../a.png,outer\n.\\c.png,again\n"
    assert captions(tmp_path, ["b/metadata.csv"], b__metadata_csv=text)[0] == ["outer", ("inner", "again"), None]


def test_metadata_goes_before_a_file_beside_the_image(tmp_path):
    found, _ = captions(
        tmp_path,
        ["metadata.csv"],
        ["a.txt", "d.txt"],
        metadata_csv="file_name,text\na.png,table\n",
        a_txt="beside a",
        d_txt="beside d\n",
    )
    assert found == ["table", None, "beside d"]


def test_an_empty_caption_is_none(tmp_path):
    assert captions(tmp_path, (), ["a.txt"], a_txt="  \n")[0] == [None] * 3


def test_what_is_not_used_is_said(tmp_path):
    text = "file_name,text,mood,,score\na.png,x,1,2,3\nz.png,y,1,2,3\ny.png,y,1,2,3\n"
    assert captions(tmp_path, ["metadata.csv"], metadata_csv=text)[1] == [
        "2 rows of metadata.csv without a readable image: z.png, y.png",
        "columns of metadata.csv not used: mood, score",
    ]


def test_metadata_without_captions_is_no_error(tmp_path):
    found, notes = captions(tmp_path, ["metadata.jsonl"], metadata_jsonl='{"file_name": "a.png", "label": 3}')
    assert (found, notes) == ([None] * 3, ["columns of metadata.jsonl not used: label"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "a.png"}\n{oops\n',
            r"jsonl, line 2: it is not JSON: .*; one JSON object per line",
        ),
        ("metadata.jsonl", "[1]", r"jsonl, line 1: one JSON object is expected, found list$"),
        (
            "metadata.jsonl",
            '{"text": "x"}',
            r"jsonl, line 1: no file_name, the column with the path of the image; found the columns text$",
        ),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "text": ["x", 3]}',
            r"text must be a string or a list of strings, found int$",
        ),
        ("metadata.csv", "name,text\na.png,x\n", r"csv, line 2: no file_name"),
        ("metadata.csv", "file_name,text\na.png\n", r"csv, line 2: the row does not have 2 columns, as the first line"),
        ("metadata.csv", "file_name,text\na.png,x,y\n", r"csv, line 2: the row does not have 2 columns"),
        ("metadata.csv", 'file_name,text\na.png,"x\n', r"csv, line 2: not CSV \(.*\)$"),
        ("metadata.csv", b"file_name,text\na.png,\xff\n", r"csv is not UTF-8 text \(byte 21\): save it as UTF-8$"),
    ],
)
def test_metadata_that_cannot_be_understood(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as caught:
        captions(tmp_path, [name], **{name.replace(".", "_"): text})
    assert str(caught.value).startswith(str(tmp_path / name))


def test_metadata_that_cannot_be_read(tmp_path):
    (tmp_path / "metadata.csv").mkdir()
    with pytest.raises(
        DataError, match=r"metadata\.csv is no regular file, but a folder, a pipe or a device: save the data in a file$"
    ):
        captions(tmp_path, ["metadata.csv"])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["file_name{}text", "File_Name{}TEXT", "Filename{}Caption", " file name{} text "])
def test_tables_of_any_separator_and_case_with_an_empty_last_row(tmp_path, head, separator):
    text = "\n".join([head.format(separator), separator.join(["a.png", "one"]), separator]) + "\n\n"
    assert captions(tmp_path, ["metadata.csv"], metadata_csv=text) == (["one", None, None], [])


def test_the_columns_found_are_listed(tmp_path):
    with pytest.raises(DataError, match=r"found the columns name, text, mood$"):
        captions(tmp_path, ["metadata.csv"], metadata_csv="name;text;mood\na.png;x;y\n")


def test_several_captions_of_an_image_are_all_kept(tmp_path):
    text = "file_name,text\na.png,one\nd.png,other\na.png,two\na.png,one\n"
    found, notes = captions(tmp_path, ["metadata.csv"], ["a.txt"], metadata_csv=text, a_txt="beside")
    assert found == [("one", "two"), None, "other"]
    assert notes == ["1 image with several captions: one of them is drawn each time"]
    text = '{"file_name": "a.png", "text": ["one", " two ", ""]}'
    assert captions(tmp_path, ["metadata.jsonl"], metadata_jsonl=text)[0] == [("one", "two"), None, None]


def test_training_draws_one_of_several_captions_each_time(tmp_path, picture):
    texts = {i: ["red", "green", "blue"][: 1 + i % 3] for i in range(12)}
    for i in texts:
        picture(tmp_path / f"{i:02}.png", i)
    lines = [json.dumps({"file_name": f"{i:02}.png", "text": words}) for i, words in texts.items()]
    (tmp_path / "Metadata.jsonl").write_text("\n".join(lines))
    data = load(tmp_path)
    assert data.spec.captions == 11
    condition = TextCondition(8)
    conditioner = Conditioner({"text": condition})
    conditioner.fit(data.train.all_columns)
    known = {word: tuple(condition.read([word])[0].tolist()) for word in ("red", "green", "blue")}
    encoded = data.encoded(conditioner).train
    index = torch.arange(len(encoded))
    drawn = [data.encoded(conditioner).batch(index, noise=StreamNoise(11, 0, k)).conditions["text"] for k in range(40)]
    for i, row in enumerate(data.train["text"].rows):
        words = {row} if isinstance(row, str) else set(row)
        assert {tuple(raw[i].tolist()) for raw in drawn} == {known[word] for word in words}
    first = data.encoded(conditioner).batch(index).conditions["text"]
    assert {tuple(raw.tolist()) for raw in first} == {known["red"]}
    assert encoded.take(index[:3]).choices["text"][1].shape[0] == 3


def test_several_captions_in_arrays_and_tables(tmp_path):
    several = [["one", "two"], ["three"], [], ["four", "five"]]
    x = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    rows = load({"x": x, "text": several}).train["text"].rows
    assert set(rows) <= {("one", "two"), "three", None, ("four", "five")}
    single = load({"x": x, "text": ["a", "b", None, "d"]})
    assert single.train["text"].rows == single.train["text"].values
    assert single.spec.fingerprint != load({"x": x, "text": [["a", "e"], "b", None, "d"]}).spec.fingerprint


def test_tables_of_other_names_are_mentioned(tmp_path, picture):
    for i in range(3):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "train.csv").write_text("image,class\n0.png,1")
    assert any(
        note.startswith("train.csv not read: captions and annotations are read from metadata.jsonl")
        for note in load(tmp_path).notes
    )


def test_a_run_learns_from_several_captions(tmp_path, picture):
    for i in range(12):
        picture(tmp_path / "set" / f"{i}.png", i)
    rows = [f"{i}.png;{word} picture" for i in range(12) for word in ("dark", "grey")]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(["file_name;text", *rows]))
    settings = ("train.batch=4", "train.previews=1", "model.channels=[8, 16]", "model.blocks=1")
    model = train(
        tmp_path / "set", budget="2it", out=tmp_path / "run", condition="text", settings=settings, quiet=True, device="cpu"
    )
    assert model.sample(2, {"text": ["dark picture", "grey picture"]}, steps=2).shape == (2, 1, 8, 8)
