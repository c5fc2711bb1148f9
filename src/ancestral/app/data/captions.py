"""Captions of an image folder.

They are in `metadata.jsonl`, `metadata.csv` or `metadata.tsv` with the columns `file_name` and `text`, as in Hugging Face's
imagefolder, or in `.txt` files beside the images. If an image has both, the caption in the metadata is used. Several rows of
one image, or a list of texts, give it several captions. Columns with a meaning are found in any case, and the separator of a
table is a comma, a semicolon or a tab.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ancestral.app.data.assemble import count
from ancestral.app.data.bounded import text_of
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError
from ancestral.files import read_json

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
TEXT = ("text", "caption")  # the first of these columns that exists is used
ELSEWHERE = ("objects", "map_file_name", "conditioning_image_file_name")  # read by `annotation_files`
LABEL = ("label", "labels", "class")  # read by `annotation_files`
COLUMNS = frozenset({"file_name", *TEXT, *ELSEWHERE, *LABEL})
SEPARATORS = ",;\t"
Row = tuple[int, dict[str, object]]  # line number and row


def read_captions(
    root: Path, images: Sequence[str], metadata: Sequence[str], sidecars: Sequence[str], read: Sequence[str] = ()
) -> tuple[list[str | tuple[str, ...] | None], list[str]]:
    """Return the caption, several captions or None for each of `images`, and notes about the metadata.

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
        found[_stem(sidecar)] = text_of(root / sidecar).strip() or None
    captions: dict[str, dict[str, None]] = {image: {} for image in images}  # in order, each once
    notes: list[str] = []
    for name in metadata:
        missing: list[str] = []
        unused: set[str] = set()
        for image, texts, others in _rows(root, name):
            unused |= others.difference(read)
            if image not in captions:
                missing.append(image)
            else:
                captions[image] |= dict.fromkeys(texts)
        if missing:
            notes.append(f"{count(len(missing), 'row')} of {name} without a readable image: {listed(missing)}")
        if unused:
            notes.append(f"columns of {name} not used: {listed(sorted(unused))}")
    if several := sum(len(texts) > 1 for texts in captions.values()):
        notes.append(f"{count(several, 'image')} with several captions: one of them is drawn each time")
    return [_row([*captions[image]]) or (found.get(_stem(image)) if found else None) for image in images], notes


def _row(texts: Sequence[str]) -> str | tuple[str, ...] | None:
    return tuple(texts) if len(texts) > 1 else texts[0] if texts else None


def _rows(root: Path, name: str) -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield (image, captions, names of the other columns) of every row. Image paths are relative to `root`."""
    for line, row in rows_of(root, name):
        image = row.get("file_name")
        if not isinstance(image, str) or not image:
            columns = "the columns " + listed([str(key) for key in row], 20) if row else "no columns"
            raise DataError(f"{root / name}, line {line}: no file_name, the column with the path of the image; found {columns}")
        column = next((key for key in TEXT if key in row), None)
        text = None if column is None else row[column]
        texts: list[Any] = text if isinstance(text, list) else [] if text is None else [text]
        if wrong := [type(one).__name__ for one in texts if not isinstance(one, str)]:
            raise DataError(f"{root / name}, line {line}: {column} must be a string or a list of strings, found {wrong[0]}")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), image.replace("\\", "/")))
        others = {str(key) for key in row if key and key not in ("file_name", column, *ELSEWHERE)}
        yield path, [one.strip() for one in texts if one.strip()], others


def rows_of(root: Path, name: str) -> Iterator[Row]:
    """Yield the rows of a metadata file, each with its line number. Columns in `COLUMNS` have their names in lower case."""
    rows = (_jsonl if name.lower().endswith(".jsonl") else _csv)(str(root / name), text_of(root / name))
    return ((line, {_column(key): value for key, value in row.items()}) for line, row in rows)


def _column(name: str) -> str:
    plain = name.strip().lower().replace(" ", "_")
    return "file_name" if plain == "filename" else plain if plain in COLUMNS else name


def _jsonl(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = read_json(line)
            except ValueError as error:
                raise DataError(f"{name}, line {number}: {error}; one JSON object per line is expected") from error
            if not isinstance(row, dict):
                raise DataError(f"{name}, line {number}: one JSON object is expected, found {type(row).__name__}")
            yield number, row


def _csv(name: str, text: str) -> Iterator[Row]:
    head, _, _ = text.partition("\n")
    separator = max(SEPARATORS, key=head.count)  # the comma if none occurs
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if not any(row.values()):  # empty cells only, as spreadsheets leave them at the end
                continue
            if None in row or None in row.values():  # DictReader marks rows that are too long or too short so
                columns = len(reader.fieldnames or ())
                raise DataError(
                    f"{name}, line {reader.line_num}: the row does not have {columns} columns, as the first line has"
                )
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.reader.line_num}: not CSV ({error})") from error


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]
