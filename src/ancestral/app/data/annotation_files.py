"""Annotations in the metadata of an image folder, other than captions: boxes, semantic maps, conditioning images, classes.

The columns are Hugging Face's: `objects`, {"bbox": [[left, top, width, height], ...], "categories": [class, ...]} in pixels of
the image file; `map_file_name`, a picture whose pixels are numbers of classes, with 0 for the background; and
`conditioning_image_file_name`. All are scaled and cropped in the same way as their image.

Classes are in a column `label`, `labels` or `class`, or in the file `dataset.json` of StyleGAN's data sets,
{"labels": [[image, class], ...]}.
"""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.assemble import count
from ancestral.app.data.bounded import text_of
from ancestral.app.data.captions import ELSEWHERE, LABEL, rows_of
from ancestral.app.data.columns import fit_box
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import ImageError, inspect, read, read_numbers
from ancestral.errors import printable
from ancestral.files import read_json

OBJECTS, MAP, IMAGE = ELSEWHERE
OUTSIDE = "ANCESTRAL_OUTSIDE"  # the variable with further folders that metadata may name, separated as in PATH
DATASET = "dataset.json"
LARGEST = 1e9  # pixels; also excludes NaN and infinity


@dataclass(frozen=True)
class Extras:
    """The annotations of images, by path of the image. All paths are relative to the folder.

    Args:
        objects: (class, (left, top, width, height)) of each object.
        maps: path of the semantic map.
        images: path of the conditioning image.
        samples: paths of the images that have a row of their own.
    """

    objects: dict[str, list[tuple[str, tuple[float, ...]]]] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    samples: set[str] = field(default_factory=set)

    @property
    def files(self) -> set[str]:
        """The pictures that are not samples: maps and conditioning images without a row of their own."""
        return {*self.maps.values(), *self.images.values()} - self.samples


def read_extras(root: Path, metadata: Sequence[str]) -> Extras:
    """Read the annotations of a folder's metadata files. Raises `DataError` if a column cannot be understood."""
    found = Extras()
    for name in metadata:
        for line, row in rows_of(root, name):
            where, here = f"{root / name}, line {line}", posixpath.dirname(name)
            image = _path(here, row.get("file_name"))
            found.samples.add(image)
            for column, files in ((MAP, found.maps), (IMAGE, found.images)):
                if isinstance(value := row.get(column), str) and value:
                    files[image] = _path(here, value)
                    check_inside(root, files[image], f"{where}: {column} names {value}")
            if (objects := row.get(OBJECTS)) is not None:
                found.objects[image] = _objects(objects, where)
    return found


def boxes_of(
    root: Path, images: Sequence[str], extras: Extras, size: tuple[int, int]
) -> tuple[tuple[Tensor, ...] | None, tuple[str, ...], list[str]]:
    """Return the boxes of each image after scaling and cropping to `size`, the names of their classes, and notes."""
    if not extras.objects:
        return None, (), []
    names = sorted({label for image in images for label, _ in extras.objects.get(image, [])}, key=_natural)
    numbers = {label: number for number, label in enumerate(names)}
    rows, lost = [], 0
    for image in images:
        header = inspect(root / image)
        objects = extras.objects.get(image, [])
        fitted = [(numbers[label], fit_box(box, (header.height, header.width), size)) for label, box in objects]
        kept = [(label, *box) for label, box in fitted if box is not None]
        lost += len(fitted) - len(kept)
        rows.append(torch.tensor(kept, dtype=torch.int64).view(-1, 5))
    notes = [f"{count(sum(map(len, rows)), 'box', 'boxes')} in {count(len(names), 'class', 'classes')}"]
    notes += [f"{count(lost, 'box', 'boxes')} left out: outside of the image or smaller than a pixel"] if lost else []
    return tuple(rows), tuple(names), notes


def maps_of(root: Path, images: Sequence[str], extras: Extras, size: tuple[int, int]) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return the maps of the images, uint8 `(n, *size)`, and the names of their classes."""
    if not extras.maps:
        return None, ()
    _all(root, images, extras.maps, MAP)
    out = np.zeros((len(images), *size), dtype=np.uint8)
    for i, image in enumerate(images):
        try:
            out[i] = read_numbers(root / extras.maps[image], size)
        except ImageError as error:
            raise DataError(f"the map {root / extras.maps[image]} cannot be read: {error.reason}") from error
    return torch.from_numpy(out), tuple(str(i) for i in range(1, int(out.max()) + 1))


def paired_of(root: Path, images: Sequence[str], extras: Extras, size: tuple[int, int]) -> Tensor | None:
    """Return the conditioning images of the images, uint8 `(n, c, *size)`, or None if there are none."""
    if not extras.images:
        return None
    _all(root, images, extras.images, IMAGE)
    files = [root / extras.images[image] for image in images]
    try:
        grey = all(inspect(file).grey for file in files)
        return torch.from_numpy(np.stack([read(file, size, grey)[0] for file in files]))
    except ImageError as error:
        raise DataError(f"an image in the column {IMAGE} of {root} cannot be read: {error.reason}") from error


def labels_of(
    root: Path, images: Sequence[str], metadata: Sequence[str], datasets: Sequence[str]
) -> tuple[list[str | int] | None, tuple[str, ...], str]:
    """Read the classes of the images from a column of the metadata or from `dataset.json`.

    Args:
        root: the folder. All names are posix paths relative to it.
        images: names of the images.
        metadata: names of the metadata files.
        datasets: names of the files `dataset.json`.

    Returns:
        The label of each image, [] if the labels cannot be used, and None if there are none; the columns of the metadata that
        were looked at; and where the labels come from, or why they cannot be used.

    Raises:
        DataError: if `dataset.json` has another form.
    """
    found: dict[str, object] = {}
    used: dict[str, None] = {}  # in order
    columns: dict[str, None] = {}
    for name in metadata:
        for _, row in rows_of(root, name):
            if (column := next((key for key in LABEL if row.get(key) not in (None, "")), None)) is not None:
                columns[column] = used[f"the column {column} of {name}"] = None
                found[_path(posixpath.dirname(name), row.get("file_name"))] = row[column]
    if not found:
        for name in datasets:
            used[name] = None
            found |= {_path(posixpath.dirname(name), image): label for image, label in _dataset(root, name)}
        if datasets and not found:
            return [], (), f"{listed(list(used))}: no labels, so the images have no classes"
    if not found:
        return None, (), ""
    where = listed(list(used))
    if missing := [image for image in images if image not in found]:
        return [], tuple(columns), f"no classes: {where} has no label for {count(len(missing), 'image')}, e.g. {missing[0]}"
    labels = [_label(found[image]) for image in images]
    if wrong := next((image for image, label in zip(images, labels, strict=True) if label is None), None):
        why = f"{where} gives {wrong} the label {found[wrong]}, which is neither a whole number nor a name"
        return [], tuple(columns), f"no classes: {why}"
    known = [label for label in labels if label is not None]
    return known if all(isinstance(v, int) for v in known) else [str(v) for v in known], tuple(columns), where


def _dataset(root: Path, name: str) -> Iterator[tuple[str, object]]:
    """Yield (image, label) of a `dataset.json`, nothing if its labels are null."""
    try:
        pairs = read_json(text_of(root / name))["labels"]
        yield from ((str(image), label) for image, label in pairs or ())
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'{root / name} must be {{"labels": [[image, class], ...]}}, as for StyleGAN: correct or remove it'
        ) from error


def _label(value: object) -> str | int | None:
    """Return a whole number or a name, None for other values."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = value.strip() if isinstance(value, str) else ""
    if text or isinstance(value, int | float):
        try:
            number = float(text or value)  # type: ignore[arg-type]  # a number if there is no text
        except (ValueError, OverflowError):
            return printable(text) or None
        if math.isfinite(number):
            return int(number) if number.is_integer() and abs(number) < 1 << 53 else None
    return printable(text) or None


def _all(root: Path, images: Sequence[str], files: dict[str, str], column: str) -> None:
    if missing := [image for image in images if image not in files]:
        raise DataError(
            f"{count(len(missing), 'image')} of {root} without {column}, which other images have: {listed(missing)}"
        )
    if absent := [name for name in dict.fromkeys(files[image] for image in images) if not (root / name).is_file()]:
        raise DataError(f"the metadata of {root} name files that do not exist: {listed(absent)}")


def _objects(objects: Any, where: str) -> list[tuple[str, tuple[float, ...]]]:
    try:
        pairs = zip(objects["categories"], objects["bbox"], strict=True)
        found = [(printable(str(label)), tuple(float(v) for v in box)) for label, box in pairs]
    except (KeyError, TypeError, ValueError, OverflowError):
        found = [("", ())]
    if any(len(box) != 4 or not all(abs(v) < LARGEST for v in box) for _, box in found):
        raise DataError(f'{where}: objects must be {{"bbox": [[left, top, width, height], ...], "categories": [class, ...]}}')
    return found


def check_inside(root: Path, name: str, what: str) -> None:
    """Raise DataError if a file that metadata name lies outside of the folder, also through a link, and is not allowed.

    Args:
        root: the folder.
        name: the path of the file, relative to the folder.
        what: which metadata name it, for the message.
    """
    allowed = [str(root), *filter(None, os.environ.get(OUTSIDE, "").split(os.pathsep))]
    file = os.path.realpath(root / name)
    if not any(Path(file).is_relative_to(os.path.realpath(os.path.expanduser(folder))) for folder in allowed):
        raise DataError(
            f"{what}, which is outside of {root}: move it there, or set {OUTSIDE}={os.path.dirname(file)} to allow that folder"
        )


def _path(folder: str, name: object) -> str:
    return posixpath.normpath(posixpath.join(folder, str(name).replace("\\", "/")))


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1 << 62, name)
