"""Captions of an image folder.

They are in `metadata.jsonl` or `metadata.csv` with the columns `file_name` and `text`, as in Hugging Face's imagefolder, or in
`.txt` files beside the images. If an image has both, the caption in the metadata is used.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

from ancestral.app.data.assemble import count
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv")
TEXT = ("text", "caption")  # the first of these columns that exists is used
ELSEWHERE = ("objects", "map_file_name", "conditioning_image_file_name")  # read by `annotation_files`
Row = tuple[int, dict[str, object]]  # line number and row


def read_captions(
    root: Path, images: Sequence[str], metadata: Sequence[str], sidecars: Sequence[str], read: Sequence[str] = ()
) -> tuple[list[str | None], list[str]]:
    """Return a caption or None for each of `images`, and notes about unused parts of the metadata.

    Args:
        root: the folder. All names are posix paths relative to it.
        images: names of the images.
        metadata: names of the metadata files.
        sidecars: names of the `.txt` files.
        read: further columns of the metadata that are used.

    Raises:
        DataError: if a file cannot be understood.
    """
    found: dict[str, str | None] = {}
    for sidecar in sidecars:
        found[_stem(sidecar)] = _text(root / sidecar).strip() or None
    captions = {image: found.get(_stem(image)) for image in images}
    notes: list[str] = []
    for name in metadata:
        missing: list[str] = []
        unused: set[str] = set()
        for image, text, others in _rows(root, name):
            unused |= others.difference(read)
            if image not in captions:
                missing.append(image)
            elif text is not None:
                captions[image] = text
        if missing:
            notes.append(f"{count(len(missing), 'row')} of {name} without a readable image: {listed(missing)}")
        if unused:
            notes.append(f"columns of {name} not used: {listed(sorted(unused))}")
    return [captions[image] for image in images], notes


def _rows(root: Path, name: str) -> Iterator[tuple[str, str | None, set[str]]]:
    """Yield (image, caption, names of the other columns) of every row. Image paths are relative to `root`."""
    for line, row in rows_of(root, name):
        image = row.get("file_name")
        if not isinstance(image, str) or not image:
            raise DataError(f"{root / name}, line {line}: no file_name, the column with the path of the image")
        column = next((key for key in TEXT if key in row), None)
        text = None if column is None else row[column]
        if text is not None and not isinstance(text, str):
            raise DataError(f"{root / name}, line {line}: {column} must be a string, found {type(text).__name__}")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), image.replace("\\", "/")))
        others = {str(key) for key in row if key and key not in ("file_name", column, *ELSEWHERE)}
        yield path, (text or "").strip() or None, others


def rows_of(root: Path, name: str) -> Iterator[Row]:
    """Yield the rows of a metadata file, each with its line number."""
    return (_jsonl if name.endswith(".jsonl") else _csv)(str(root / name), _text(root / name))


def _jsonl(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{name}, line {number}: not JSON ({error}); one JSON object per line is expected") from error
            if not isinstance(row, dict):
                raise DataError(f"{name}, line {number}: one JSON object is expected, found {type(row).__name__}")
            yield number, row


def _csv(name: str, text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():  # DictReader marks rows that are too long or too short so
                head = len(reader.fieldnames or ())
                raise DataError(f"{name}, line {reader.line_num}: the row does not have {head} columns, as the first line has")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.reader.line_num}: not CSV ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]
