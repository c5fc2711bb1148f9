"""Damages inputs of every kind in many ways, gives each to the reader that users reach, and counts what comes of it.

    python benchmarks/fuzz.py --n 10000                   # of each kind; `--only npy recipe` for some
    python benchmarks/fuzz.py --replay npy 17 --seed 1    # one input, with its traceback
    python benchmarks/fuzz.py --engine atheris --seconds 60    # choices guided by coverage: see guided.py

An input is `read`, or refused in one `sentence` (an `AncestralError`). Everything else is BAD: another exception, more than
`SECONDS` of work or `CLOCK` of waiting, more memory than `MEMORY`, the end of the process, a message of more than one line. Bad
inputs are written to `--corpus`. Each input is made from (seed, kind, number) alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image
from safetensors.torch import save

import ancestral
from ancestral.app import cli
from ancestral.app.data import load
from ancestral.app.recipes.recipe import Recipe, override, parse
from ancestral.errors import AncestralError

SECONDS, CLOCK = 10, 30  # of work of the processor, and by the clock without the time in which others had it
MEMORY = 4 << 30  # bytes beyond those of the process at its start
VARIABLES = {"ANCESTRAL_MEMORY_GB": "1", "ANCESTRAL_CACHE_GB": "2"}

NUMBERS = [
    "0",
    "-1",
    "1e400",
    "NaN",
    "-Infinity",
    "9" * 400,
    "9" * 5000,
    str(2**62),
    str(2**64),
    "0.1",
    "true",
    "null",
    "1e-400",
]
WORDS = [
    "",
    "a" * 10_000,
    "../../etc/passwd",
    "/etc/passwd",
    "\x1b[31mred",
    "a\nerror: forged",
    "\u202egnp",
    "\ud800",
    "\0",
    "é",
]
BRACKETS = ["[" * 3000, "{" * 3000, '{"a":' * 3000, "[" * 100_000 + "]" * 100_000, "- " * 3000]


# mutations


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Change a text or a binary file in one of several ways, once or several times."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0 if out:
                out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + rng.choice((1, 2, 4, 8))] = rng.randbytes(rng.choice((1, 2, 4, 8)))
            case 2:
                del out[at : at + rng.choice((1, 4, 64, 1024))]
            case 3:
                del out[at:]
            case 4:
                out[at:at] = out[at : at + rng.choice((1, 8, 64))] * rng.choice((1, 2, 8))
            case 5:
                out[at : at + 4] = struct.pack("<i", rng.choice((0, -1, 2**31 - 1, -(2**31), 1 << 20)))
            case 6:
                out[at : at + 8] = struct.pack("<q", rng.choice((0, -1, 2**63 - 1, -(2**63), 1 << 40)))
            case _:
                out[at:at] = rng.choice((b"\0", b"'", b"\n", b'"', b"[", b"}", b"\xff\xfe", b"9" * 50))
    return bytes(out)


def worded(text: str, rng: random.Random) -> bytes:
    """Replace parts of a text: numbers by numbers, words by words, or anything by brackets; or damage its bytes."""
    kind = rng.randrange(4)
    if kind == 0:
        return flipped(text.encode(errors="surrogatepass"), rng)
    parts = [part for part in _parts(text) if part[1] > part[0]]
    for start, end in sorted(rng.sample(parts, min(len(parts), rng.choice((1, 1, 2, 3)))), reverse=True):
        new = rng.choice((NUMBERS, WORDS, BRACKETS)[kind - 1])
        text = text[:start] + new + text[end:]
    return text.encode(errors="surrogatepass")


def _parts(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for i, sign in enumerate(text + " "):
        if not (sign.isalnum() or sign in "._-+"):
            yield start, i
            start = i + 1


# the kinds: each makes an input in an empty folder and gives the function that reads it


def npy(folder: Path, rng: random.Random) -> Callable[[], object]:
    shape = rng.choice(
        ("(6, 8, 8)", "(6, 4)", "(-1, 8)", f"({10**30}, 8)", "(0, 8)", "()", "(6, 8, 8, 3)", "(True, 2)", "(2**9,)")
    )
    kind = rng.choice(
        ("|u1", "<f4", "<f8", ">f4", "|O", "|V0", "<U0", "<U9", "<M8[s]", "|b1", "<c8", "(3,)<f4", "<i8", "z", "<f2")
    )
    head = f"{{'descr': '{kind}', 'fortran_order': {rng.choice(('False', 'True', '7'))}, 'shape': {shape}, }}"
    if rng.random() < 0.1:
        head = rng.choice(BRACKETS)[:9000]
    if rng.random() < 0.1:
        head = f"{{'descr': [('a', '<f4'), ('b', '|u1')], 'fortran_order': False, 'shape': {shape}}}"
    text = head.encode() + b" " * ((64 - len(head) - 11) % 64) + b"\n"
    content = b"\x93NUMPY" + rng.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"))
    content += struct.pack("<H", len(text) % 65536) if content[6] == 1 else struct.pack("<I", len(text))
    content += text + rng.randbytes(rng.choice((0, 48, 384, 3072, 4608)))
    file = folder / "x.npy"
    file.write_bytes(content if rng.random() < 0.3 else flipped(content, rng))
    return lambda: load(file)


def npz(folder: Path, rng: random.Random) -> Callable[[], object]:
    n = 8
    arrays: dict[str, np.ndarray] = {"x": np.frombuffer(rng.randbytes(n * 64), np.uint8).reshape(n, 8, 8)}
    extra: dict[str, Callable[[], np.ndarray]] = {
        "y": lambda: np.array(
            rng.choice(([0, 1] * 4, [2**62] * n, ["a\x1b[1m"] * n, [0.5] * n, [[1, 2]] * n, [2**64 - 1] * n))
        ),
        "captions": lambda: np.array(rng.choice((["a b"] * n, [b"\xff"] * n, [1.0] * n, ["\ud800"] * n))),
        "boxes": lambda: np.full((n, 2, 5), rng.choice((0, 1, 3, 2**62, -(2**62)))),
        "maps": lambda: np.full((n, 8, 8), rng.choice((0, 1, 255, 256, -1))),
        "number": lambda: np.full((n,), rng.choice((0.0, np.nan, np.inf, 1e308))),
        "x_test": lambda: np.zeros(rng.choice(((2, 8, 8), (0, 8, 8), (2, 9, 9))), np.uint8),
        "channel_names": lambda: np.array(["a"] * rng.choice((1, 2))),
        "other": lambda: np.zeros(rng.choice(((n,), (n, 3), (n, 0), ()))),
    }
    arrays |= {name: extra[name]() for name in rng.sample(sorted(extra), rng.randrange(5))}
    buffer = io.BytesIO()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(buffer, **arrays)
    content = buffer.getvalue()
    way = rng.randrange(6)
    if way == 0:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))) as archive:
            inner = io.BytesIO()
            np.save(inner, np.zeros((1 << 12, 64)))
            for name in rng.sample(("x.npy", "y.npy", "../../x.npy", "/x.npy", "x", "note.txt", "x.npy\x1b[1m"), 3):
                archive.writestr(name, inner.getvalue() if rng.random() < 0.6 else rng.choice((b"", b"text", b"\x93NUMPY")))
        content = buffer.getvalue()
    if way == 1:  # a flag or a method of the directory
        at = content.rfind(b"PK\1\2") + rng.choice((8, 10, 20, 24))
        content = content[:at] + rng.randbytes(2) + content[at + 2 :]
    file = folder / "x.npz"
    file.write_bytes(flipped(content, rng) if way > 2 else content)
    return lambda: load(file)


def parquet(folder: Path, rng: random.Random) -> Callable[[], object]:
    n = 12
    picture = _picture("PNG", rng)
    columns: dict[str, Callable[[], pa.Array]] = {
        "image": lambda: pa.array(
            [{"bytes": rng.choice((picture, b"", picture[:40])), "path": "/etc/passwd"} for _ in range(n)]
        ),
        "label": lambda: pa.array(rng.choice(([0, 1] * 6, ["a\n"] * n, [None] * n, [2**62] * n, [[1]] * n, [1.5] * n))),
        "text": lambda: pa.array(rng.choice((["a"] * n, [["a", "b"]] * n, [1] * n, [None] * n))),
        "v": lambda: pa.array(rng.choice(([1.0] * n, [None] * n, [float("nan")] * n, [True] * n)), from_pandas=False),
        "w": lambda: pa.array([float(i) for i in range(n)]),
        "lists": lambda: pa.array(rng.choice(([[1.0, 2.0]] * n, [[1.0]] * 6 + [[]] * 6, [["a"]] * n, [None] * n, [[[1]]] * n))),
        "map": lambda: pa.array([{"a": {"b": [i]}} for i in range(n)]),
        "when": lambda: pa.array(range(n), pa.timestamp("s")),
        "\x1b[31mred": lambda: pa.array([1] * n),
        "category": lambda: pa.array(["a", "b"] * 6).dictionary_encode(),
    }
    names = rng.sample(sorted(columns), rng.randrange(1, 6))
    names += [rng.choice(names)] if rng.random() < 0.1 else []
    metadata = rng.choice(
        (
            None,
            {"huggingface": rng.choice(("[" * 5000, "{", '{"info": {"features": {"label": {"names": ["a"]}}}}', "9" * 5000))},
        )
    )
    table = pa.Table.from_arrays([columns[name]() for name in names], names=names).replace_schema_metadata(metadata)
    pq.write_table(
        table, file := folder / "x.parquet", row_group_size=rng.choice((3, 12)), compression=rng.choice(("snappy", "none"))
    )
    if rng.random() < 0.7:
        file.write_bytes(flipped(file.read_bytes(), rng))
    return lambda: load(file)


def csv(folder: Path, rng: random.Random) -> Callable[[], object]:
    separator = rng.choice(",;\t")
    rows = [separator.join(("a", "b", "label"))] + [separator.join((str(i), f"{i / 3:.3f}", "xy"[i % 2])) for i in range(20)]
    (file := folder / "x.csv").write_bytes(worded("\n".join(rows), rng))
    return lambda: load(file)


def metadata(folder: Path, rng: random.Random) -> Callable[[], object]:
    """A folder of pictures with metadata.jsonl or .csv, dataset.json, captions in files, maps and links."""
    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(folder / f"{i}.png")
        Image.new("L", (8, 8), i % 3).save(folder / f"m{i}.png")
    row = {"text": "a b", "label": "c", "angle": 1.5}
    row |= rng.choice(
        (
            {},
            {"objects": {"bbox": [[0, 0, 4, 4]], "categories": ["c"]}},
            {"map_file_name": "M"},
            {"conditioning_image_file_name": "M"},
        )
    )
    rows = [{"file_name": f"{i}.png"} | {k: v if v != "M" else f"m{i}.png" for k, v in row.items()} for i in range(6)]
    match rng.randrange(4):
        case 0:
            text = "file_name,text,label,angle\n" + "\n".join(f"{i}.png,a b,c,1.5" for i in range(6))
            (folder / "metadata.csv").write_bytes(worded(text, rng))
        case 1:
            (folder / "dataset.json").write_bytes(worded(json.dumps({"labels": [[f"{i}.png", i % 2] for i in range(6)]}), rng))
        case 2:
            (folder / "0.txt").write_bytes(worded("a caption of words", rng))
            with contextlib.suppress(OSError):
                os.symlink("/dev/zero", folder / "x.png")
                os.mkfifo(folder / rng.choice(("metadata.jsonl", "1.txt", "dataset.json", "y.png")))
        case _:
            (folder / "metadata.jsonl").write_bytes(worded("\n".join(map(json.dumps, rows)), rng))
    return lambda: load(folder)


def _picture(kind: str, rng: random.Random) -> bytes:
    mode = rng.choice(("L", "RGB", "RGBA", "P", "1", "I;16", "F") if kind in ("TIFF", "PNG") else ("L", "RGB"))
    mode = "I;16" if mode == "F" and kind == "PNG" else mode
    image = Image.frombytes("L", (8, 8), rng.randbytes(64)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"save_all": True, "append_images": [image] * 2} if kind in ("TIFF", "GIF") else {}))
    return buffer.getvalue()


def images(folder: Path, rng: random.Random) -> Callable[[], object]:
    kind, suffix = rng.choice(
        (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp"))
    )
    Image.new("L", (8, 8), 3).save(folder / "good.png")
    Image.new("L", (8, 8), 9).save(folder / "good2.png")
    (folder / f"x.{rng.choice((suffix, suffix, 'png'))}").write_bytes(flipped(_picture(kind, rng), rng))
    return lambda: load(folder)


def shards(folder: Path, rng: random.Random) -> Callable[[], object]:
    buffer = io.BytesIO()
    inner = io.BytesIO()
    np.save(inner, np.frombuffer(rng.randbytes(64), np.uint8).reshape(8, 8))
    arrays = rng.random() < 0.3
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as tar:
        for i in range(6):
            name = rng.choice((f"{i}", f"{i}", f"{i}", f"../{i}", f"/{i}", "a" * 150 + str(i), f"{i}\x1b[1m"))
            sample = inner.getvalue() if arrays else _picture("PNG", rng)
            members = {"npy" if arrays else "png": flipped(sample, rng) if rng.random() < 0.2 else sample}
            members |= {"cls": rng.choice((b"1", b"a", b"9" * 5000, b"\xff"))} if rng.random() < 0.5 else {}
            members |= {"json": worded(json.dumps({"text": "a", "label": 1, "angle": 2.5}), rng)} if rng.random() < 0.5 else {}
            for kind, content in members.items():
                info = tarfile.TarInfo(f"{name}.{kind}")
                info.size = len(content)
                if rng.random() < 0.05:
                    info.type, info.linkname, info.size = (
                        rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)),
                        "/etc/passwd",
                        0,
                    )
                tar.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    for _ in range(rng.choice((0, 0, 1, 2))):  # a damaged header with a right checksum
        at = 512 * rng.randrange(len(content) // 512)
        header = bytearray(content[at : at + 512])
        header[124:136] = rng.choice(
            (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0", b"00000000000\0", b"-0000000010\0")
        )
        header[156] = rng.choice(b"0125xgLKS")
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        content = content[:at] + bytes(header) + content[at + 512 :]
    (file := folder / "x.tar").write_bytes(flipped(content, rng) if rng.random() < 0.4 else content)

    def read() -> object:
        data = load(file)
        return data.x("test")

    return read


def _yaml_text(rng: random.Random) -> str:
    bombs = [
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9))
    ]
    bombs += [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "<<: [{a: 1}, {b: 2}]",
        "train: {lr: 2020-13-40}",
        "model: {family: [1]}",
        "1: 2",
        "[1]: 2",
        "? {a: 1}\n: 2",
    ]
    bombs += [
        "train: {lr: " + "9" * 5000 + "}",
        "train: {lr: 0x" + "f" * 5000 + "}",
        "train: " + "[" * 3000,
        "!!python/object/apply:os.system [id]",
        "a: !!int x",
    ]
    bombs += [
        "!!binary a",
        "!!timestamp x",
        "a: !!float ''",
        "- 1",
        "",
        "null",
        "2001-12-14t21:59:43.1+99:99",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "%YAML 9.9\n---\na: 1",
    ]
    return rng.choice(bombs) if rng.random() < 0.2 else RECIPE


RECIPE = yaml.safe_dump(Recipe.of({"data": {"source": "digits"}, "train": {"budget": "1it"}}).model_dump(mode="json"))


def recipe(folder: Path, rng: random.Random) -> Callable[[], object]:
    (file := folder / "recipe.yaml").write_bytes(
        worded(_yaml_text(rng), rng) if rng.random() < 0.9 else _yaml_text(rng).encode()
    )
    return lambda: Recipe.load(file)


def settings(folder: Path, rng: random.Random) -> Callable[[], object]:
    names = [
        "train.lr",
        "train.batch",
        "data.size",
        "model.family",
        "model.channels",
        "model.schedule",
        "model.condition",
        "train.players",
        "model",
        "train",
        "x.y",
        "data",
        "train.players.a.lr",
    ]
    values = [
        *NUMBERS,
        *WORDS,
        *BRACKETS,
        "[1]",
        "{a: 1}",
        "2020-13-40",
        "!!int x",
        "{family: [1]}",
        "[8,16]",
        "&a [*a]",
        "0x" + "f" * 5000,
        "1:2:3",
        "~",
        "[[[1]]]",
        "'",
    ]
    given = tuple(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.choice((1, 1, 2, 3))))
    (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
    base = yaml.safe_load(RECIPE)
    return lambda: Recipe.of(override(base, parse(given)))


def options(folder: Path, rng: random.Random) -> Callable[[], object]:
    """A whole command, up to the parser's refusal or the end of its check: `--print-recipe` trains nothing."""
    flags = [
        "--for",
        "--size",
        "--axes",
        "--seed",
        "--model",
        "--condition",
        "--hierarchy",
        "--nproc",
        "--device",
        "--out",
        "--recipe",
        "--colour",
    ]
    values = [
        *(word.replace("\0", "") for word in WORDS),
        "1",
        "-1",
        "9" * 30,
        "1e400",
        "2m",
        "64x",
        "nan",
        "a=b",
        "[",
        "cpu",
        "diffusion",
        "class",
        "n h w",
        "inf",
    ]
    words = ["train", "digits", "--print-recipe", "--quiet"]
    for _ in range(rng.choice((1, 2, 3))):
        flag = rng.choice(flags)
        words += [flag, rng.choice([value for value in values if not (flag == "--nproc" and value.strip("9") == "")])]
    if "--out" not in words:
        words += ["--out", str(folder / "run")]
    (folder / "options.json").write_text(json.dumps(words), encoding="utf-8")

    def read() -> None:
        if code := cli._run(words):
            raise AncestralError(f"exit code {code}" if code in (1, 2) else f"exit code {code}\n")

    return read


def weights(folder: Path, rng: random.Random) -> Callable[[], object]:
    """A saved model whose config.json or safetensors header is damaged."""
    model = MODEL / "model.safetensors"
    for file in MODEL.iterdir():
        shutil.copy(file, folder / file.name)
    if rng.random() < 0.5:
        (folder / "config.json").write_bytes(worded((MODEL / "config.json").read_text(encoding="utf-8"), rng))
    else:
        content = model.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = worded(content[8 : 8 + length].decode(), rng) if rng.random() < 0.7 else content[8 : 8 + length]
        size = len(header) if rng.random() < 0.8 else rng.choice((0, 2**63, 2**64 - 1, len(content) * 2, 10**9))
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + header + content[8 + length :])
    return lambda: ancestral.load(folder)


def tensors(folder: Path, rng: random.Random) -> Callable[[], object]:
    (folder / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(flipped(save({"a": torch.zeros(3)}, {"x": "y"}), rng))
    return lambda: ancestral.load(folder)


KINDS = (npy, npz, parquet, csv, metadata, images, shards, recipe, settings, options, weights, tensors)
MODEL = Path()  # a saved model, made by `prepare`


def prepare(place: Path) -> None:
    """Make what the kinds damage."""
    global MODEL  # noqa: PLW0603
    MODEL = place / "model"
    model = ancestral.train("moons", budget="1it", out=place / "run", quiet=True, device="cpu", settings=("train.previews=0",))
    model.save(MODEL)


# one input


class Late(BaseException):
    """An input took too long."""


def outcome(read: Callable[[], object]) -> str:
    """Return "read", "sentence", or what is bad."""
    start = time.monotonic() - waited()

    def late(number: int, frame: object) -> None:
        left = CLOCK - (time.monotonic() - waited() - start)
        if left <= 0:
            raise Late
        signal.setitimer(signal.ITIMER_REAL, left)

    signal.signal(signal.SIGALRM, late)
    signal.alarm(CLOCK)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except AncestralError as error:
        signal.alarm(0)
        said = str(error)
        return "sentence" if said.isprintable() and said.strip() else f"BAD message {said[:200]!r}"
    except Late:
        return f"BAD more than {CLOCK} seconds"
    except Exception as error:
        signal.alarm(0)
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "ancestral" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return f"BAD {type(error).__name__} at {where}, {Path(last.filename).name}:{last.lineno}: {str(error)[:100]!r}"
    finally:
        signal.alarm(0)
    return "read"


def waited() -> float:
    """Return the seconds in which this process was ready and others had the processor; 0 if the system does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def run(
    kind: Callable[..., Callable[[], object]], n: int, seed: int, corpus: Path, seconds: float
) -> tuple[Counter[str], int, float]:
    """Try n inputs of a kind. Returns the outcomes, how many were tried, and the longest time of one in seconds."""
    counts: Counter[str] = Counter()
    slowest, end, done = 0.0, time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        log.touch()
        while done < n and time.monotonic() < end:
            log.write_text("", encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's warning of threads; the child uses none of them
                child = os.fork()
            if not child:
                try:
                    _try_all(kind, range(done, n), seed, Path(place), log, end)
                finally:
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            rows = [line.split(" ", 2) for line in log.read_text(encoding="utf-8").splitlines()]
            if status or not rows:  # the process ended in the middle of the next input
                rows.append([str(done + len(rows)), "0", f"BAD the process ended with signal {status & 127}"])
            for number, took, found in rows:
                slowest, done = max(slowest, float(took)), int(number) + 1
                if found.startswith("BAD") and counts[found] < 3:
                    kept = corpus / kind.__name__ / f"{seed}-{number}"
                    kept.mkdir(parents=True, exist_ok=True)
                    kind(kept, random.Random(f"{seed} {kind.__name__} {number}"))
                    (kept / "outcome").write_text(f"{found}\n", encoding="utf-8")
                counts[found] += 1
    return counts, done, slowest


def _try_all(kind: Callable[..., Callable[[], object]], numbers: range, seed: int, place: Path, log: Path, end: float) -> None:
    """Try inputs by their numbers and write a line for each: number, seconds, outcome."""
    bound_memory()
    with log.open("w", encoding="utf-8", errors="replace", buffering=1) as lines:
        for i in numbers:
            if time.monotonic() > end:
                return
            (folder := place / str(i)).mkdir()
            read = kind(folder, random.Random(f"{seed} {kind.__name__} {i}"))
            start, work = time.monotonic(), time.process_time()
            found = outcome(read)
            if (work := time.process_time() - work) > SECONDS:
                found = f"BAD {work:.0f} seconds of work"
            print(i, f"{time.monotonic() - start:.3f}", " ".join(found.split()), file=lines)
            shutil.rmtree(folder)
            if i % 200 == 0:
                gc.collect()
                shutil.rmtree(os.environ["ANCESTRAL_CACHE"], ignore_errors=True)


def bound_memory() -> None:
    """Limit the memory of this process to `MEMORY` more than it has."""
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def guided(name: str, seed: int, corpus: Path, seconds: float) -> tuple[Counter[str], int, float]:
    """Let atheris choose inputs of a kind. Returns the same as `run`."""
    with tempfile.TemporaryDirectory() as place:
        out, log = Path(place) / "row.json", Path(place) / "log"
        program = [sys.executable, str(Path(__file__).with_name("guided.py")), name, "--out", str(out)]
        program += ["--seconds", str(seconds), "--seed", str(seed), "--corpus", str(corpus)]
        with log.open("wb") as said:
            code = subprocess.run(program, stdout=said, stderr=said, check=False).returncode
        if code:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return Counter({f"BAD the process ended with {code}: {last}": 1}), 1, 0.0
        row = json.loads(out.read_bytes())
    return Counter(row["counts"]), sum(row["counts"].values()), row["slowest"]


def main() -> None:
    """Try inputs of all kinds and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--seconds", type=float, default=600, help="most seconds for a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("random", "atheris"), default="random", help="what chooses the inputs")
    parser.add_argument(
        "--only", nargs="+", choices=[kind.__name__ for kind in KINDS], default=[kind.__name__ for kind in KINDS]
    )
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder for bad inputs")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "NUMBER"), help="one input, with its traceback")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, VARIABLES, ANCESTRAL_CACHE=f"{place}/cache"):
        prepare(Path(place))
        if arguments.replay:
            name, number = arguments.replay
            kind = next(kind for kind in KINDS if kind.__name__ == name)
            (folder := Path(place) / "input").mkdir()
            print(kind(folder, random.Random(f"{arguments.seed} {name} {number}"))())
            return
        rows, bad = [], 0
        for kind in KINDS:
            if kind.__name__ not in arguments.only:
                continue
            if arguments.engine == "atheris":
                counts, done, slowest = guided(kind.__name__, arguments.seed, arguments.corpus, arguments.seconds)
            else:
                counts, done, slowest = run(kind, arguments.n, arguments.seed, arguments.corpus, arguments.seconds)
            worst = {what: count for what, count in counts.items() if what.startswith("BAD")}
            bad += sum(worst.values())
            rows.append(
                {
                    "kind": kind.__name__,
                    "inputs": done,
                    "read": counts["read"],
                    "sentence": counts["sentence"],
                    "bad": sum(worst.values()),
                    "slowest": slowest,
                }
            )
            print(f"{kind.__name__}: {done:,} tried, {sum(worst.values()):,} bad", file=sys.stderr, flush=True)
            for what, count in sorted(worst.items(), key=lambda item: -item[1]):
                print(f"{kind.__name__}: {count} x {what}", file=sys.stderr, flush=True)
    print("| input | tried | read | one sentence | bad | slowest, s |\n|---|---|---|---|---|---|")
    for row in rows:
        figures = " | ".join(f"{row[name]:,}" for name in ("inputs", "read", "sentence", "bad"))
        print(f"| {row['kind']} | {figures} | {row['slowest']:.2f} |")
    total = {name: sum(row[name] for row in rows) for name in ("inputs", "read", "sentence", "bad")}
    print(f"| all | {total['inputs']:,} | {total['read']:,} | {total['sentence']:,} | {total['bad']:,} | |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
