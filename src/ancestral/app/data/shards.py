"""Reader of tar shards in WebDataset's naming, such as `data/part-*.tar` or `data/part-{000..099}.tar`.

The members of one sample have the same name up to the first dot, the KEY, and lie in one shard:

- `KEY.png`, `.jpg`, `.jpeg` or `.webp`, an image, or `KEY.npy`, an array: the sample;
- `KEY.cls`: its class, a whole number or a name;
- `KEY.txt`: its caption;
- `KEY.json`: an object with `text` or `caption`, with `label`, `labels`, `class` or `cls`, and with numbers.

The shards are read once for an index of the samples, which stays in the user's cache until the files change. Nothing else is
held: a sample is read from its place in its shard when a batch needs it. Shards whose names begin with `train` and with `test`,
`val` or another name of `folder.TEST` are splits.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import math
import os
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.bounded import check_memory, open_regular
from ancestral.app.data.cache import NoRoomError, cache_dir, make_room, touch
from ancestral.app.data.captions import LABEL, TEXT
from ancestral.app.data.columns import Numbers, Pictures, Texts, Values
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import Progress, listed
from ancestral.app.data.encoded import Encoded, form_of
from ancestral.app.data.errors import DataError
from ancestral.app.data.folder import CLASSES, TEST, TRAIN
from ancestral.app.data.labels import encode
from ancestral.app.data.numbers import is_number_name, numbers_note
from ancestral.app.data.streamed import HELD, Between, Mapped, Streamed, apart
from ancestral.errors import UsageError
from ancestral.files import read_json, write_atomically

FORMAT = 1  # version of the cached index
IMAGES = ("png", "jpg", "jpeg", "webp")
SMALL = ("cls", "txt", "json")
LARGEST_TEXT = 1 << 16  # bytes of a member with a class, a caption or numbers
MOST = 1_000_000  # shards that braces may stand for
TOLD = 5  # examples of a kind of trouble
Label = int | str


def expanded(pattern: str) -> list[Path] | None:
    """Return the sorted `.tar` files that a pattern with braces, `*`, `?` or `[]` names, None if it is no such pattern.

    Braces hold a range, `{000..099}`, or alternatives, `{a,b}`.
    """
    if not pattern.lower().endswith(".tar") or not re.search(r"[*?\[{]", pattern) or os.path.exists(pattern):
        return None
    if _count(pattern) > MOST:
        raise UsageError(f"the braces of {pattern!r} stand for more than {MOST:,} names: give fewer, or use *")
    names = {name for part in _braces(os.path.expanduser(pattern)) for name in glob.glob(part, recursive=True)}
    return [Path(name) for name in sorted(names)]


def _braces(pattern: str) -> Iterator[str]:
    """Yield the patterns that the first braces of a pattern stand for, and those of the others."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        yield pattern
        return
    inside = found[1]
    if limits := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", inside):
        first, last = limits.groups()
        parts = [f"{i:0{len(first)}}" for i in range(int(first), int(last) + 1)]
    else:
        parts = inside.split(",")
    for part in parts:
        yield from _braces(pattern[: found.start()] + part + pattern[found.end() :])


def _count(pattern: str) -> int:
    """Return how many patterns the braces of a pattern stand for."""
    total = 1
    for inside in re.findall(r"\{([^{}]*)\}", pattern):
        limits = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", inside)
        total *= max(1, int(limits[2]) - int(limits[1]) + 1) if limits else 1 + inside.count(",")
    return total


def short_name(source: str) -> str:
    """Return a name for the data of a pattern, without its special characters: `data/part-{000..099}.tar` is `part`."""
    stem = os.path.basename(source)[: -len(".tar")] if source.lower().endswith(".tar") else os.path.basename(source)
    plain = re.sub(r"\{[^{}]*\}|\[[^\]]*\]|[*?]", "", stem).strip("-_. ")
    return plain or os.path.basename(os.path.dirname(os.path.abspath(source))) or "shards"


def is_folder_of_shards(path: Path) -> bool:
    """Return whether a folder holds `.tar` files and nothing else, hidden files aside."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return bool(names) and all(name.lower().endswith(".tar") for name in names)


def shards(
    paths: Sequence[Path],
    name: str,
    size: tuple[int, int] | None = None,
    axes: str | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Read the samples of shards as a `DataSet` that is read on demand.

    Args:
        paths: The shards, in their order.
        name: The name of the data.
        size: (height, width) of images. None: chosen as for a folder.
        axes: The names of the axes of all arrays; the first is n.
        progress: Called with (shards indexed, shards in all).

    Raises:
        DataError: If a shard cannot be read, or if no sample can be used.
    """
    paths, first_test = _in_splits(paths)
    index = _index(paths, progress)
    n, where = len(index.rows), f"{count(len(paths), 'shard')} of {name}"
    if n < 2:
        raise DataError(
            f"{where} hold {count(n, 'sample')}, and at least 2 are needed: members KEY.png, KEY.jpg, KEY.webp or KEY.npy, "
            f"with KEY.cls, KEY.txt and KEY.json" + "".join(f"; {note}" for note in index.notes)
        )
    form = form_of(where, n, index.contents, index.arrays, size, axes)
    source = Encoded(where, n, index.contents, form, index.starts, index.identity)
    of_index = partial(Mapped, index.rows, starts=index.starts, identity=index.identity)
    columns: dict[str, Streamed] = {"x": Streamed(source, Pictures if len(form.shape) == 3 else Values)}
    classes: tuple[str, ...] = ()
    notes = [f"{count(n, 'sample')} in {count(len(paths), 'tar shard')}"]
    if index.labels and not index.unlabelled:
        (codes,), classes = encode([index.labels], "the shards")
        classes_of = codes.numpy()
        columns["class"] = Streamed(of_index(convert=lambda rows: classes_of[rows["label"]]), Values)
        notes[0] += f" in {count(len(classes), 'class', 'classes')}"
    if index.captioned:
        columns["text"] = Streamed(_Captions(index), Texts)
        notes[0] += f", {count(index.captioned, 'caption')}, {n - index.captioned:,} without"
    if index.numbers:
        columns["number"] = Streamed(of_index(convert=lambda rows: rows["numbers"].astype(np.float32)), _Named(index.numbers))
    if classes:
        notes.append(f"classes: {listed(classes, CLASSES)}")
    elif index.labels:
        notes.append(f"no classes: {count(index.unlabelled, 'sample')} without one, e.g. {index.example}")
    notes += [*form.notes, *numbers_note(index.numbers), *index.notes]
    samples = Split(columns)
    test = None
    if first_test is not None:
        train, test, told = _named_splits(samples, int(index.starts[first_test]), n)
        notes.append(told)
    else:
        train = samples
    data = assemble(name, train, test, levels=form.levels, classes=classes, notes=tuple(notes))
    return data.noted(*data.trouble)


def _in_splits(paths: Sequence[Path]) -> tuple[list[Path], int | None]:
    """Return the training shards before the test shards, with the number of the former; None if their names are no splits."""
    words = [re.split(r"[^a-z]", path.name.lower())[0] for path in paths]
    if not ({*words} & {*TRAIN} and {*words} & {*TEST} and {*words} <= {*TRAIN, *TEST}):
        return list(paths), None
    train = [path for path, word in zip(paths, words, strict=True) if word in TRAIN]
    return [*train, *(path for path, word in zip(paths, words, strict=True) if word in TEST)], len(train)


def _named_splits(samples: Split, first: int, n: int) -> tuple[Split, Split, str]:
    """Return the splits of samples of which those from number `first` on are held out, and a note."""
    if not 0 < first < n:
        raise DataError("the shards of one of the splits train and test hold no samples: at least 1 is needed there")
    train, test, most = samples.view(Between(0, first)), samples.view(Between(first, n)), 10_000
    told = f"held out {n - first:,} of {n:,} samples: those of the test or validation shards"
    x = test["x"]
    assert isinstance(x, Streamed)
    if n - first > (most := max(1, min(most, HELD // x.row_bytes))):
        test = test.view(apart(n - first, most)[1])
        told += f", of which {len(test):,} evenly spread ones are used"
    return train, test, told


@dataclass(frozen=True)
class _Named:
    """Makes a column of numbers with these names."""

    names: tuple[str, ...]

    def __call__(self, values: Any) -> Numbers:
        return Numbers(values, self.names)


# the index


@dataclass
class _Trouble:
    """Members that are not used: their number and examples, by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] += 1
        if len(known := self.examples.setdefault(reason, [])) < TOLD:
            known.append(example)

    def notes(self) -> list[str]:
        """Return one note for each reason."""
        notes = []
        for reason, n in self.counts.items():
            more = [""] * (n - len(self.examples[reason]))
            notes.append(
                f"{count(n, 'member')} of the shards not used, {reason}: {listed([*self.examples[reason], *more], TOLD)}"
            )
        return notes


@dataclass(frozen=True)
class _Index:
    """The place of each sample in the shards, and all that is known about it without decoding.

    Args:
        paths: The shards.
        rows: A structured array `(N,)`, mapped from the cache: `offset` and `length` of the member in its shard, the code
            `label`, `text` and `text_length` of the caption in `text`, and `numbers` `(k,)`.
        text: uint8, the captions, one after the other.
        starts: int64 `(shards + 1,)`, the first sample of each shard, and N.
        labels: The class of each code.
        unlabelled: The number of samples without a class.
        example: The name of one of them.
        captioned: The number of samples with a caption.
        numbers: The names of the numbers.
        arrays: Whether the samples are `.npy` files.
        identity: A hash of the names of the shards and of the index.
        notes: Notes for the user.
    """

    paths: list[Path]
    rows: np.ndarray
    text: np.ndarray
    starts: np.ndarray
    labels: list[Label]
    unlabelled: int
    example: str
    captioned: int
    numbers: tuple[str, ...]
    arrays: bool
    identity: str
    notes: tuple[str, ...]

    def contents(self, rows: np.ndarray) -> list[bytes]:
        """Return the contents of samples, int64 `(n,)`. A shard is opened once for all of its samples."""
        places = self.rows[rows]
        of_shard = np.searchsorted(self.starts, rows, side="right") - 1
        found = [b""] * len(rows)
        for shard in np.unique(of_shard).tolist():
            try:
                with self.paths[shard].open("rb") as file:
                    for i in np.flatnonzero(of_shard == shard).tolist():
                        file.seek(int(places["offset"][i]))
                        found[i] = file.read(int(places["length"][i]))
            except OSError as error:
                raise DataError(f"the shard {self.paths[shard]} cannot be read ({error.strerror}): restore it") from error
        return found


class _Captions:
    """The captions of an index as `Rows`."""

    shape: tuple[int, ...] = ()
    dtype = np.dtype(object)
    slow = False

    starts: np.ndarray | None

    def __init__(self, index: _Index):
        self.index, self.starts, self.identity = index, index.starts, index.identity

    def __len__(self) -> int:
        return len(self.index.rows)

    def read(self, rows: np.ndarray) -> np.ndarray:
        places, found = self.index.rows[rows], np.empty(len(rows), dtype=object)
        for i, (start, length) in enumerate(zip(places["text"].tolist(), places["text_length"].tolist(), strict=True)):
            found[i] = bytes(self.index.text[start : start + length]).decode() if length else None
        return found


def _index(paths: list[Path], progress: Progress | None) -> _Index:
    """Return the index of the shards, from the cache if they have not changed. If it cannot be kept there, a note says so."""
    states = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"the shard {path} cannot be read ({error.strerror}): check its name and permissions") from error
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"the shard {path} is no regular file, but a folder, a pipe or a device: remove it")
        states.append((str(path.resolve()), status.st_size, status.st_mtime_ns))
    key = hashlib.blake2b(repr((FORMAT, states)).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    stem = cache_dir() / "shards" / key
    if (found := _recall(stem, paths)) is not None:
        touch(stem.with_suffix(".json"))
        return found
    rows, text = (stem.with_name(f".{key}-{kind}.{os.getpid()}.tmp") for kind in ("rows", "text"))
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        facts = _written(paths, rows, text, progress)
        make_room(rows.stat().st_size + text.stat().st_size, stem)
        os.replace(rows, stem.with_suffix(".rows"))
        os.replace(text, stem.with_suffix(".text"))
        write_atomically(stem.with_suffix(".json"), json.dumps(facts).encode())
    except NoRoomError as error:
        raise DataError(f"the index of the shards does not fit into the cache: {error}") from error
    except OSError as error:
        raise DataError(
            f"the index of the shards cannot be written to {stem.parent} ({error.strerror}): make room there, or set "
            "ANCESTRAL_CACHE to another folder"
        ) from error
    finally:
        for file in (rows, text):
            file.unlink(missing_ok=True)
    written = _recall(stem, paths)
    assert written is not None
    return written


def _recall(stem: Path, paths: list[Path]) -> _Index | None:
    """Return the cached index, or None if there is none or it is damaged."""
    try:
        facts = read_json(stem.with_suffix(".json").read_bytes())
        numbers = tuple(facts["numbers"])
        rows, text = (
            np.memmap(file, kind, mode="r") if file.stat().st_size else np.empty(0, kind)
            for file, kind in ((stem.with_suffix(".rows"), _row(len(numbers))), (stem.with_suffix(".text"), np.dtype(np.uint8)))
        )
        if len(rows) != facts["starts"][-1] or len(text) != facts["text"]:
            return None
        starts = np.array(facts["starts"], dtype=np.int64)
        told = {name: facts[name] for name in ("labels", "unlabelled", "example", "captioned", "arrays", "identity")}
        return _Index(paths, rows, text, starts, numbers=numbers, notes=tuple(facts["notes"]), **told)
    except (OSError, ValueError, KeyError):
        return None


def _row(numbers: int) -> np.dtype[Any]:
    """Return the type of a row of the index."""
    fields = [("offset", "<i8"), ("length", "<i8"), ("label", "<i4"), ("text_length", "<i4"), ("text", "<i8")]
    return np.dtype([*fields, ("numbers", "<f8", (numbers,))])


@dataclass
class _Sample:
    """What the members of a key say."""

    offset: int = -1
    length: int = 0
    array: bool = False
    label: Label | None = None
    text: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def _written(paths: list[Path], rows_file: Path, text_file: Path, progress: Progress | None) -> dict[str, Any]:
    """Write the index, shard by shard, to two files. Returns what else belongs to it."""
    trouble, digest = _Trouble(), hashlib.blake2b(digest_size=16)
    codes: dict[Label, int] = {}
    numbers: tuple[str, ...] | None = None
    starts, placed, unlabelled, captioned, example = [0], 0, 0, 0, ""
    arrays: bool | None = None
    with rows_file.open("wb") as rows_out, text_file.open("wb") as text_out:
        for done, path in enumerate(paths, start=1):
            samples = _samples(path, trouble)
            if numbers is None and samples:  # those of the first shard
                names = {name: None for sample in samples.values() for name in sample.numbers}
                numbers = tuple(names)
            if arrays is None and samples:
                arrays = sum(sample.array for sample in samples.values()) * 2 > len(samples)
            row = _row(len(numbers or ()))
            check_memory(str(path), len(samples) * row.itemsize, "the numbers of its samples need")
            table = np.zeros(len(samples), row)
            texts: list[bytes] = []
            used = 0
            for key, sample in samples.items():
                if sample.array != arrays:
                    trouble.add("an image beside arrays" if arrays else "an array beside images", f"{path.name}/{key}")
                    continue
                text = sample.text.encode(errors="replace")
                code = -1
                if sample.label is None:
                    unlabelled, example = unlabelled + 1, example or f"{path.name}/{key}"
                else:
                    code = codes.setdefault(sample.label, len(codes))
                known = [sample.numbers.get(name, math.nan) for name in numbers or ()]
                table[used] = (sample.offset, sample.length, code, len(text), placed, known)
                texts.append(text)
                placed, used, captioned = placed + len(text), used + 1, captioned + bool(text)
            content, said = table[:used].tobytes(), b"".join(texts)
            rows_out.write(content)
            text_out.write(said)
            for part in (path.name.encode(errors="surrogateescape"), content, said):
                digest.update(len(part).to_bytes(8, "little") + part)
            starts.append(starts[-1] + used)
            if progress:
                progress(done, len(paths))
    digest.update(json.dumps([list(codes), numbers]).encode())
    labels: list[Label] = list(codes)
    if not all(isinstance(label, int) for label in labels):
        labels = [str(label) for label in labels]
    return {
        "starts": starts,
        "text": placed,
        "labels": labels,
        "unlabelled": unlabelled,
        "example": example,
        "captioned": captioned,
        "numbers": numbers or (),
        "arrays": bool(arrays),
        "identity": digest.hexdigest(),
        "notes": trouble.notes(),
    }


def _samples(path: Path, trouble: _Trouble) -> dict[str, _Sample]:
    """Return the samples of a shard by their keys."""
    found: dict[str, _Sample] = {}
    try:
        with open_regular(path) as opened, tarfile.open(fileobj=cast(IO[bytes], _Bounded(opened)), mode="r:") as file:
            for member in _members(file, path, trouble):
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if base.startswith("."):
                    continue
                key, kind = f"{folder}/{stem}" if folder else stem, suffix.lower()
                if kind in IMAGES or kind == "npy":
                    sample = found.setdefault(key, _Sample())
                    if sample.offset >= 0:
                        trouble.add("a second sample of the same key", f"{path.name}/{member.name}")
                        continue
                    sample.offset, sample.length, sample.array = member.offset_data, member.size, kind == "npy"
                elif kind not in SMALL:
                    trouble.add("of another kind", f"{path.name}/{member.name}")
                elif member.size > LARGEST_TEXT:
                    trouble.add(f"larger than {LARGEST_TEXT:,} bytes", f"{path.name}/{member.name}")
                else:
                    part = file.extractfile(member)
                    content = part.read() if part else b""
                    if why := _add(found.setdefault(key, _Sample()), kind, content):
                        trouble.add(why, f"{path.name}/{member.name}")
    except tarfile.ReadError as error:
        with path.open("rb") as again:
            start = again.read(6)
        if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
            raise DataError(
                f"the shard {path} is compressed, and its samples must be found in place: unpack it to .tar"
            ) from error
        raise DataError(f"the shard {path} is not a tar file: it is damaged or of another format") from error
    except OSError as error:
        raise DataError(f"the shard {path} cannot be read ({error.strerror}): check its permissions") from error
    except (ValueError, OverflowError, RecursionError, KeyError) as error:  # tarfile's errors for its first header
        raise DataError(f"the shard {path} is not a tar file: it is damaged or of another format") from error
    for key in [key for key, sample in found.items() if sample.offset < 0]:
        trouble.add("without an image or array of the same key", f"{path.name}/{key}")
        del found[key]
    return found


class _Bounded:
    """A file of which no more is read than it has: Python takes memory for all that is asked for, and a header asks for any."""

    def __init__(self, file: BinaryIO):
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self.tell, self.seek, self.name = file.tell, file.seek, ""

    def read(self, n: int) -> bytes:
        return self.file.read(max(0, min(n, self.size - self.file.tell())))


def _members(file: tarfile.TarFile, path: Path, trouble: _Trouble) -> Iterator[tarfile.TarInfo]:
    """Yield the files in a shard. A shard that ends early gives those before, and their place is a trouble."""
    end, place = path.stat().st_size, -1
    while True:
        try:
            member = file.next()
        except OSError:
            raise
        except Exception:  # tarfile's parser of headers raises errors of many types
            trouble.add("after which the shard is damaged", path.name)
            return
        if member is not None and (file.offset <= place or member.size < 0):  # it would be read forever
            trouble.add("after which the shard is damaged", path.name)
            return
        place = file.offset
        file.members = []  # type: ignore[attr-defined]  # tarfile would keep all
        if member is None:
            return
        if member.isfile():
            if member.offset_data + member.size > end:
                trouble.add("cut off at the end of the shard", f"{path.name}/{member.name}")
                return
            yield member


def _add(sample: _Sample, kind: str, content: bytes) -> str:
    """Add the content of a small member to its sample. Returns why it cannot be used, "" if it can."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "not UTF-8 text"
    if kind == "txt":
        sample.text = text or sample.text
    elif kind == "cls":
        sample.label = _label(text) if text else sample.label
    else:
        try:
            values = read_json(text)
        except ValueError:
            return "not JSON"
        if not isinstance(values, dict):
            return "not a JSON object"
        if isinstance(said := next((values[name] for name in TEXT if name in values), None), str):
            sample.text = sample.text or said.strip()
        given = next((values[name] for name in (*LABEL, "cls") if name in values), None)
        if sample.label is None and isinstance(given, int | str) and not isinstance(given, bool):
            sample.label = _label(given) if isinstance(given, str) else given
        sample.numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and is_number_name(name) and name.lower() != "cls" and math.isfinite(value)
        }
    return ""


def _label(text: str) -> Label:
    """Return a class as a whole number if it is written as one."""
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else text


def found_shards(source: str) -> list[Path]:
    """Return the shards of a pattern. Raises UsageError if there are none."""
    if not (paths := expanded(source)):
        place = os.path.dirname(os.path.abspath(os.path.expanduser(source)))
        raise UsageError(f"no file fits the pattern {source!r}: looked in {place}")
    missing = itertools.islice((path for path in paths if not path.is_file()), 1)
    if (wrong := next(missing, None)) is not None:
        raise DataError(f"{wrong} is not a file: a shard is a .tar file")
    return paths
