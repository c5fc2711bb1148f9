"""Reader of a folder of images, or of one `.npy` file a sample, with the conventions of Hugging Face's imagefolder.

Images are found at any depth, in the order of their relative paths. If every image is in a sub-folder and all are at one level,
the sub-folders are the classes; folders that are common to all images are ignored. Top-level folders `train` and `validation`
or `test`, in any case, are splits, and validation and test together are held out. Captions are read by `captions`; boxes, maps,
conditioning images and labels, which replace the classes of sub-folders, by `annotation_files`. Hidden files are ignored.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import torch

from ancestral.app.data.annotation_files import DATASET, boxes_of, labels_of, maps_of, paired_of, read_extras
from ancestral.app.data.array_folder import samples_of
from ancestral.app.data.arrays import described
from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.captions import ELSEWHERE, METADATA, read_captions
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import Decoded, Progress, listed
from ancestral.app.data.decode_once import decode_once
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import SUFFIXES
from ancestral.app.data.labels import encode
from ancestral.app.data.mapped import levels_of
from ancestral.app.data.numbers import numbers_note, numbers_of
from ancestral.errors import UsageError

TRAIN = ("train", "training")
TEST = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation")
TABLES = (".json", ".jsonl", ".csv", ".tsv")  # files that may hold annotations under another name than `METADATA`
CLASSES = 10  # classes that a note names
_PICTURES = {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "input", "inputs", "source", "x"}
_GO_WITH = {"annotation", "annotations", "label", "labels", "map", "maps", "mask", "masks", "segmentation", "segmentations"}
_GO_WITH |= {"depth", "edges", "output", "outputs", "sketch", "sketches", "target", "targets", "y"}
# Names of two folders, in the order of the alphabet, whose pictures probably go together.
PAIRS = (
    (_PICTURES, _GO_WITH),
    (_GO_WITH, _PICTURES),
    ({"a"}, {"b"}),
    ({"traina"}, {"trainb"}),
    ({"testa"}, {"testb"}),
    ({"high", "hr"}, {"low", "lr"}),
)


@dataclass
class Listing:
    """The files of a folder: sorted posix paths relative to it. other: `name (reason)` of files that are not images.
    states: size and time of modification of each.
    """

    images: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    states: dict[str, tuple[int, int]] = field(default_factory=dict)


def folder(
    path: Path,
    size: tuple[int, int] | None = None,
    progress: Progress | None = None,
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> DataSet:
    """Read the images of a folder as a `DataSet`, (1, H, W) if all are grey and (3, H, W) otherwise.

    Files that are damaged or not images are left out and named in the notes. A folder without images may hold one `.npy` file
    for each sample, all of one shape. They are read as one array of these samples.

    Args:
        path: the folder.
        size: (height, width) of the images. None: `decode` chooses it.
        progress: called with (images decoded, images in all).
        axes: the axes of the array of all `.npy` files, see `arrays`; the first is n.
        shape: the shape of a sample, as in `from_array`.

    Raises:
        DataError: if no image can be used.
    """
    listing = scan(path)
    if not (listing.images or len(listing.arrays) > 1):
        raise DataError(_nothing(path, listing))
    of_arrays = not listing.images
    if not of_arrays:
        if axes is not None:
            raise UsageError(f"axes applies to arrays, .npy and .npz files, not to {path}, which holds images: leave it out")
        listing.other += [f"{name} (not an image)" for name in listing.arrays]
    extras = read_extras(path, listing.metadata)
    found = listing.arrays if of_arrays else listing.images
    names, split_of, strays = _splits([name for name in found if name not in extras.files])
    doubt = ""
    if of_arrays:
        if extras.objects or extras.files:
            raise DataError(f"the metadata of {path} belong to pictures, and its samples are .npy files: save all in one .npz")
        decoded, layout, doubt = samples_of(path, names, axes, shape)
    else:
        decoded, layout = _decode(path, names, listing, size, progress), "images"
    images = [names[i] for i in decoded.kept]
    left_out = [*listing.other, *(f"{name} (outside the split folders)" for name in strays), *decoded.left_out]
    numbers = numbers_of(path, images, listing.metadata)
    read = () if numbers is None else numbers.names
    given, column, about = labels_of(path, images, listing.metadata, listing.labels)
    captions, unused = read_captions(path, images, listing.metadata, listing.sidecars, (*read, *column))
    captioned = sum(text is not None for text in captions)
    classes, labels, unclassed = _classes(images, split_of) if given is None else _given_classes(given, about)
    (array,), levels = levels_of([decoded.pixels], images=layout == "images", levels=decoded.levels)
    shown = (array.shape[-2], array.shape[-1]) if layout == "images" else (0, 0)
    boxes, box_classes, told = boxes_of(path, images, extras, shown)
    maps, map_classes = maps_of(path, images, extras, shown)
    samples = Split(
        {
            "x": array,
            "class": labels,
            "text": captions if captioned else None,
            "boxes": boxes,
            "map": maps,
            "image": paired_of(path, images, extras, shown),
            "number": numbers,
        }
    )
    notes = [described(len(images), layout, tuple(array.shape[1:])) if of_arrays else count(len(images), "image")]
    notes[0] += f" in {count(len(classes), 'class', 'classes')}" if classes else ""
    notes[0] += f", {count(captioned, 'caption')}, {len(images) - captioned:,} without" if captioned else ""
    notes[0] += doubt
    if left_out:
        notes.append(f"left out {count(len(left_out), 'file')}: {listed(sorted(left_out))}")
    tables = [name for name in (item.removesuffix(" (not an image)") for item in listing.other) if name.endswith(TABLES)]
    if tables:
        notes.append(
            f"{listed(tables)} not read: captions and annotations are read from metadata.jsonl or metadata.csv with a column "
            "file_name, and classes from sub-folders, a column label of these or dataset.json"
        )
    notes += [*unclassed, *decoded.notes, *told, *numbers_note(read), *unused]
    train, test = _divide(path, samples, [split_of[image] for image in images])
    if test is not None:
        notes.append(f"held out {len(test):,} of {len(images):,} images: those of the test or validation folder")
    return assemble(
        Path(os.path.abspath(path)).name,
        train,
        test,
        levels=levels,
        classes=classes,
        box_classes=box_classes,
        map_classes=map_classes,
        notes=tuple(notes),
    )


def stack(path: Path, size: tuple[int, int] | None = None, progress: Progress | None = None) -> DataSet:
    """Read the pages of one TIFF as a `DataSet` of images. The arguments are those of `folder`."""
    decoded = decode_once(
        str(path),
        [path.name],
        [path],
        size,
        progress,
        place=str(path.resolve()),
        state=repr(_state(path)[1:]),
    )
    (array,), levels = levels_of([decoded.pixels], images=True, levels=decoded.levels)
    left_out = [f"left out {listed(decoded.left_out)}"] if decoded.left_out else []
    return assemble(path.stem, Split({"x": array}), levels=levels, notes=(*left_out, *decoded.notes))


def _decode(
    path: Path, names: Sequence[str], listing: Listing, size: tuple[int, int] | None, progress: Progress | None
) -> Decoded:
    return decode_once(
        str(path),
        names,
        _Files(path, names),
        size,
        progress,
        place=str(path.resolve()),
        state=repr([(name, listing.states[name]) for name in names]),
    )


def scan(root: Path) -> Listing:
    """List the files below `root`. Links are followed, but no folder is read twice. Raises `DataError` if it is unreadable."""
    listing, seen = Listing(), set()

    def failed(error: OSError) -> None:
        name = Path(error.filename)
        if name == root:
            raise DataError(f"the folder {root} cannot be read ({error.strerror}): check its permissions") from error
        listing.other.append(f"{name.relative_to(root).as_posix()}/ ({error.strerror})")

    for directory, subfolders, files in os.walk(root, onerror=failed, followlinks=True):
        identity = os.path.realpath(directory)
        if identity in seen:
            subfolders.clear()
            continue
        seen.add(identity)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        here = Path(directory).relative_to(root).as_posix()
        for name in files:
            relative = name if here == "." else f"{here}/{name}"
            if name.startswith(".") or name in ("Thumbs.db", "desktop.ini"):
                continue
            suffix = posixpath.splitext(name)[1].lower()
            regular, *state = _state(os.path.join(directory, name))
            listing.states[relative] = state[0], state[1]
            if not regular:
                listing.other.append(f"{relative} (not a regular file)")
            elif suffix in SUFFIXES:
                listing.images.append(relative)
            elif name.lower() in METADATA:
                listing.metadata.append(relative)
            elif name.lower() == DATASET:
                listing.labels.append(relative)
            elif suffix == ".npy":
                listing.arrays.append(relative)
            elif suffix == ".txt":
                listing.sidecars.append(relative)
            else:
                listing.other.append(f"{relative} (not an image)")
    samples = (*listing.images, *listing.arrays) if listing.sidecars else ()
    stems = {posixpath.splitext(name)[0] for name in samples}
    lonely = [name for name in listing.sidecars if posixpath.splitext(name)[0] not in stems]
    listing.other += [f"{name} (not an image)" for name in lonely]
    listing.sidecars = [name for name in listing.sidecars if name not in set(lonely)]
    for names in (listing.images, listing.arrays, listing.metadata, listing.labels, listing.sidecars, listing.other):
        names.sort()
    return listing


def _nothing(path: Path, listing: Listing) -> str:
    found = [*listing.arrays, *(name.removesuffix(" (not an image)") for name in listing.other)]
    readable = [name for name in found if name.endswith((".npy", ".npz", ".parquet", ".csv", ".tsv"))]
    if readable:
        return f"the folder {path} holds no images, but {listed(readable)}: give one of these files instead"
    held = f"only {listed(found)}" if found else "it is empty"
    return f"the folder {path} holds no images ({held}): expected {', '.join(sorted(s[1:] for s in SUFFIXES))} files"


def _state(path: str | Path) -> tuple[bool, int, int]:
    """Return whether a path is no pipe, socket or device, from which reading may never end; its size; time of modification."""
    try:
        status = os.stat(path)
    except OSError:
        return True, 0, 0  # its reader says why
    return stat.S_ISREG(status.st_mode), status.st_size, status.st_mtime_ns


class _Files(Sequence[Path]):
    """The paths of named files of a folder, which are made when they are needed."""

    def __init__(self, root: Path, names: Sequence[str]):
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, i: int) -> Path: ...
    @overload
    def __getitem__(self, i: slice) -> list[Path]: ...
    def __getitem__(self, i: int | slice) -> Path | list[Path]:
        return [self.root / name for name in self.names[i]] if isinstance(i, slice) else self.root / self.names[i]


def _splits(images: Sequence[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the images to use, `"train"`, `"test"` or `""` for each, and the images outside of the split folders.

    Folders are splits only if all top-level folders have names of splits and one is `train`. Beside `car` and `plane`, `train`
    is a class.
    """
    tops = {_top(name) for name in images if "/" in name}
    if not (tops & set(TRAIN) and tops <= {*TRAIN, *TEST}):
        return list(images), dict.fromkeys(images, ""), []
    inside = [name for name in images if "/" in name]
    splits = {name: "train" if _top(name) in TRAIN else "test" for name in inside}
    return inside, splits, [name for name in images if "/" not in name]


def _top(name: str) -> str:
    return name.split("/", maxsplit=1)[0].lower()


def _classes(images: Sequence[str], split_of: dict[str, str]) -> tuple[tuple[str, ...], torch.Tensor | None, list[str]]:
    """Return class names, labels and notes, from the folders below the split and below those that all images share.

    The notes name the classes, and ask about two folders that look like pairs of pictures (`PAIRS`).
    """
    folders = [image.split("/")[1 if split_of[image] else 0 : -1] for image in images]
    shared = 0
    while all(len(parts) > shared for parts in folders) and len({parts[shared] for parts in folders}) == 1:
        shared += 1
    depths = {len(parts) - shared for parts in folders}
    if depths == {1}:
        (labels,), classes = encode([[parts[-1] for parts in folders]], "the folders")
        notes = [f"classes: {listed(classes, CLASSES)}"]
        pair = classes if len(classes) == 2 else [name for name in classes if name.lower() in ("traina", "trainb")]
        first, second = pair if len(pair) == 2 else ("", "")
        if any(first.lower() in ones and second.lower() in others for ones, others in PAIRS):
            notes.append(
                f"are the folders {first} and {second} pairs rather than classes? If so, give the folder of one of them, or "
                f"write metadata.jsonl with each pair: the picture as file_name, the other as {ELSEWHERE[1]} or {ELSEWHERE[2]}"
            )
        return classes, labels, notes
    if depths == {0}:
        return (), None, []
    return (), None, ["no classes: the images do not all lie in sub-folders at one level"]


def _given_classes(labels: Sequence[str | int], about: str) -> tuple[tuple[str, ...], torch.Tensor | None, list[str]]:
    """Return the same as `_classes` for labels of the metadata, [] if there are none."""
    if not labels:
        return (), None, [about]
    (encoded,), classes = encode([labels], "the metadata")
    return classes, encoded, [f"classes from {about}: {listed(classes, CLASSES)}"]


def _divide(path: Path, samples: Split, splits: Sequence[str]) -> tuple[Split, Split | None]:
    if "test" not in splits:
        return samples, None
    in_test = torch.tensor([split == "test" for split in splits])
    if bool(in_test.all()):
        raise DataError(f"no image in the training folder of {path} can be read: at least 1 is needed there")
    return samples.take((~in_test).nonzero()[:, 0]), samples.take(in_test.nonzero()[:, 0])
