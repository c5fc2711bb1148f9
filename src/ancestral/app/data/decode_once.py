"""Decoding of images with a cache: the result of `decode` stays in the user's cache until the files change."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ancestral.app.data.cache import cache_dir
from ancestral.app.data.decode import Decoded, Progress, decode
from ancestral.app.data.images import Source
from ancestral.files import write_atomically

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
    prefix = hashlib.blake2b(repr((place, size)).encode(errors="surrogateescape"), digest_size=8).hexdigest()
    key = hashlib.blake2b(repr((FORMAT, state)).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    path = cache_dir() / "images" / f"{prefix}-{key}.npz"
    if found := _recall(path):
        return found
    decoded = decode(where, names, sources, size, progress)
    if decoded.passing:
        return decoded
    words = json.dumps([decoded.left_out, decoded.notes, decoded.levels])
    try:
        write_atomically(path, lambda file: np.savez(file, pixels=decoded.pixels, kept=decoded.kept, words=np.array(words)))
        for old in path.parent.glob(f"{prefix}-*.npz"):
            if old != path:
                old.unlink()
    except OSError as error:
        note = f"the decoded images are not cached: {path.parent} cannot be written ({error.strerror})"
        return replace(decoded, notes=(*decoded.notes, note))
    return decoded


def _recall(path: Path) -> Decoded | None:
    """Return the cached result, or None if there is none or it is damaged."""
    try:
        with path.open("rb") as file:  # np.load does not close a damaged file that it opened itself
            arrays = np.load(file, allow_pickle=False)
            left_out, notes, levels = json.loads(str(arrays["words"]))
            return Decoded(arrays["pixels"], arrays["kept"], tuple(left_out), tuple(notes), levels=levels)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
