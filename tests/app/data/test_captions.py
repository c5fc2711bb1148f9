"""Captions from metadata and from files beside the images."""

import pytest

from ancestral.app.data import DataError
from ancestral.app.data.captions import read_captions

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
    assert captions(tmp_path, ["b/metadata.csv"], b__metadata_csv=text)[0] == ["outer", "again", None]


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
            r"jsonl, line 2: not JSON \(.*\); one JSON object per line",
        ),
        ("metadata.jsonl", "[1]", r"jsonl, line 1: one JSON object is expected, found list$"),
        ("metadata.jsonl", '{"text": "x"}', r"jsonl, line 1: no file_name, the column with the path of the image$"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": ["x"]}', r"line 1: text must be a string, found list$"),
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
    with pytest.raises(DataError, match=r"metadata\.csv cannot be read \(Is a directory\): check its permissions$"):
        captions(tmp_path, ["metadata.csv"])
