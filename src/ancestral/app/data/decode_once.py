"""Decoding of images with a cache: the result of `decode` stays in the user's cache until the files change.

Small data are one `.npz` file. Data of more than `HELD` bytes are decoded row by row into an `.npy` file that is mapped into
memory, so that neither decoding nor later reading needs memory for all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ancestral.app.data.assemble import chunks
from ancestral.app.data.cache import BUDGET, NoRoomError, budget, cache_dir, make_room, mapped_file, touch
from ancestral.app.data.decode import CHOOSE, Decoded, Progress, decode
from ancestral.app.data.images import Source
from ancestral.app.data.streamed import HELD, is_large
from ancestral.files import read_json, write_atomically

FORMAT = 3  # version of the cached files and of the rules that make them; files of another version are not read


def decode_once(
    where: str,
    names: Sequence[str],
    sources: Sequence[Source],
    size: tuple[int, int] | None,
    progress: Progress | None,
    *,
    place: str,
    state: str,
) -> Decoded:
    """Return the result of `decode`, from the cache if it is there. If the cache cannot be written, a note says so.

    `place` is the absolute path of the source, whose older entries at the same size are removed. `state` is a text that changes
    when the files change (their names, sizes and times of modification). The other arguments are those of `decode`.
    """
    prefix = _prefix(place, size)
    key = hashlib.blake2b(repr((FORMAT, state)).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    path = cache_dir() / "images" / f"{prefix}-{key}.npz"
    if found := _recall(path):
        touch(path)
        return _said(found, path)
    unsized = cache_dir() / "images" / f"{_prefix(place, None)}-{key}.npz"
    if size is not None and (found := _recall(unsized)) and found.pixels.shape[2:] == size:  # the size that was chosen
        touch(unsized)
        return _said(replace(found, notes=tuple(note.removesuffix(CHOOSE) for note in found.notes)), unsized)
    raw = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    trouble: list[str] = []

    def allocate(shape: tuple[int, ...], kind: np.dtype[np.generic]) -> np.ndarray | None:
        """Return a mapped array for large data, or None."""
        need = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if need <= HELD:
            return None
        try:
            make_room(need, path.with_suffix(""))
            return mapped_file(raw, shape, kind)
        except NoRoomError as error:
            trouble.append(str(error))
        except OSError as error:
            trouble.append(f"{path.parent} cannot be written ({error.strerror})")
        return None

    try:
        decoded = decode(where, names, sources, size, progress, allocate=allocate, trouble=trouble)
        if decoded.passing:
            return decoded
        words = json.dumps([decoded.left_out, decoded.notes, decoded.levels])
        try:
            decoded = _kept(path, raw, decoded, words)
        except NoRoomError as error:
            trouble.append(str(error))
        except OSError as error:
            trouble.append(f"{path.parent} cannot be written ({error.strerror})")
    finally:
        with contextlib.suppress(OSError):  # a map of it that is still used goes on
            raw.unlink()
    if trouble:
        return replace(decoded, notes=(*decoded.notes, f"the decoded images are not cached: {trouble[-1]}"))
    return _said(decoded, path)


def _prefix(place: str, size: tuple[int, int] | None) -> str:
    return hashlib.blake2b(repr((place, size)).encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _kept(path: Path, raw: Path, decoded: Decoded, words: str) -> Decoded:
    """Store decoded images in the cache, and return them. raw: the mapped file into which large ones were decoded."""
    pixels = decoded.pixels
    if not is_large(pixels):
        make_room(pixels.nbytes, path.with_suffix(""))
        write_atomically(path, lambda file: np.savez(file, pixels=pixels, kept=decoded.kept, words=np.array(words)))
    else:
        file = path.with_suffix(".npy")
        if isinstance(pixels, np.memmap) and pixels.shape == np.load(raw, mmap_mode="r").shape:
            pixels.flush()
            os.replace(raw, file)
        else:  # some images were damaged, or all are grey
            copy = path.with_name(f".{path.stem}-copy.{os.getpid()}.tmp")
            target, start = mapped_file(copy, pixels.shape, pixels.dtype), 0
            for part in chunks(pixels):
                target[start : start + len(part)] = part
                start += len(part)
            os.replace(copy, file)
        write_atomically(path, lambda file: np.savez(file, kept=decoded.kept, words=np.array(words)))
        decoded = replace(decoded, pixels=np.load(file, mmap_mode="r"))
    prefix = path.stem.partition("-")[0]
    for old in path.parent.glob(f"{prefix}-*"):
        if old.stem != path.stem:
            old.unlink()
    return decoded


def _said(decoded: Decoded, path: Path) -> Decoded:
    """Return the images with a note on the place that large ones take on the disk."""
    if not is_large(decoded.pixels):
        return decoded
    note = (
        f"decoded once into {decoded.pixels.nbytes / 1e9:,.1f} GB on the disk, in {path.parent}, where decoded data may take "
        f"{budget() / 1e9:,.1f} GB ({BUDGET} sets it)"
    )
    return replace(decoded, notes=(*decoded.notes, note))


def _recall(path: Path) -> Decoded | None:
    """Return the cached result, or None if there is none or it is damaged."""
    try:
        with path.open("rb") as file:  # np.load does not close a damaged file that it opened itself
            arrays = np.load(file, allow_pickle=False)
            left_out, notes, levels = read_json(str(arrays["words"]))
            pixels = arrays["pixels"] if "pixels" in arrays else np.load(path.with_suffix(".npy"), mmap_mode="r")
            kept = arrays["kept"]
            return Decoded(pixels, kept, tuple(left_out), tuple(notes), levels=levels) if len(pixels) == len(kept) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
