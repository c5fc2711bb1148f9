"""Many image files to one uint8 array, by a pool of threads.

Pillow releases the interpreter's lock while it decodes and scales, so threads are enough.
"""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
from PIL import Image

from ancestral.app.data.assemble import chunks, count
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import Header, ImageError, Source, inspect, read

LARGEST = 64  # pixels: the side that is not exceeded unless the user asks
Progress = Callable[[int, int], None]
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Decoded:
    """pixels: uint8 `(n, C, H, W)`. kept: int64 `(n,)`, which of the files they are.
    left_out: `name (reason)` of the others. passing: whether one of the reasons may pass, such as missing permissions.
    notes: what was done to the images, for the user.
    """

    pixels: np.ndarray
    kept: np.ndarray
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    passing: bool = False


def decode(
    where: str,
    names: Sequence[str],
    sources: Sequence[Source],
    size: tuple[int, int] | None,
    progress: Progress | None = None,
) -> Decoded:
    """Every image of `sources` that can be read, at one size and all grey or all RGB.

    where: the folder or file, for messages. names: one a source, for messages.
    size: (height, width) that each is scaled and cropped to; None keeps a size common to all of at most 64 pixels a
    side, and otherwise chooses a square of the median shorter side, at most 64, a multiple of 8.
    progress: called with (images decoded, images in all).
    Raises `DataError` when no image can be read or they would not fit into memory.
    """
    with _pool() as pool:
        headers = list(pool.map(_attempt(inspect), sources))
        valid = [header for header in headers if isinstance(header, Header)]
        if not valid:
            raise DataError(f"no image in {where} can be read: {listed(_reasons(names, headers))}")
        chosen = size or _size(valid)
        grey = all(header.grey for header in valid)
        pixels = _allocate(where, len(valid), 1 if grey else 3, chosen)
        rows = [i for i, header in enumerate(headers) if isinstance(header, Header)]

        def fill(slot: int) -> bool:
            pixels[slot], transparent = read(sources[rows[slot]], chosen, grey)
            return transparent

        results: list[bool | ImageError] = []
        for result in pool.map(_attempt(fill), range(len(rows))):
            results.append(result)
            if progress:
                progress(len(results), len(rows))
    outcome: list[Header | bool | ImageError] = list(headers)
    for row, result in zip(rows, results, strict=True):
        outcome[row] = result
    kept = np.array([i for i in rows if isinstance(outcome[i], bool)], dtype=np.int64)
    if not len(kept):
        raise DataError(f"no image in {where} can be read: {listed(_reasons(names, outcome))}")
    if len(kept) < len(rows):
        pixels = pixels[[isinstance(result, bool) for result in results]]
    notes = _notes([headers[i] for i in kept], size, chosen, sum(result is True for result in results))
    if not grey and all(_is_grey(part) for part in chunks(pixels)):
        pixels = pixels[:, :1].copy()
    passing = any(isinstance(item, ImageError) and item.passing for item in outcome)
    return Decoded(pixels, kept, tuple(_reasons(names, outcome)), notes, passing)


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b, c` with at most `most` of them, and how many more there are."""
    shown = ", ".join(name.encode(errors="replace").decode() for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that stop when the work is interrupted; within, Pillow's warning of a huge image is an error."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on damaged metadata, which are of no use to the reader
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function: Callable[[A], B]) -> Callable[[A], B | ImageError]:
    def attempt(argument: A) -> B | ImageError:
        try:
            return function(argument)
        except ImageError as broken:
            return broken

    return attempt


def _reasons(names: Sequence[str], outcome: Sequence[object]) -> list[str]:
    return [f"{name} ({item.reason})" for name, item in zip(names, outcome, strict=True) if isinstance(item, ImageError)]


def _size(headers: Sequence[Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and max(only := next(iter(sizes))) <= LARGEST:
        return only
    side = min(LARGEST, int(statistics.median(min(header.height, header.width) for header in headers)))
    side = max(8, side - side % 8)
    return side, side


def _allocate(where: str, n: int, channels: int, size: tuple[int, int]) -> np.ndarray:
    """An array for the pixels, if it takes at most half of the memory that is free."""
    need, free = n * channels * size[0] * size[1], psutil.virtual_memory().available
    if need > free / 2:
        fits = int((free / 2 / (n * channels)) ** 0.5) // 8 * 8
        advice = f"choose a smaller size, for example --size {fits}" if fits else "use fewer images"
        raise DataError(
            f"{count(n, 'image')} of {where} at {size[0]}x{size[1]} need {need / 1e9:.1f} GB, more than half of the "
            f"{free / 1e9:.1f} GB of memory that is free: {advice}"
        )
    return np.empty((n, channels, *size), dtype=np.uint8)


def _notes(
    headers: Sequence[Header | ImageError], asked: tuple[int, int] | None, size: tuple[int, int], transparent: int
) -> tuple[str, ...]:
    """What was done to the images, for the user."""
    valid = [header for header in headers if isinstance(header, Header)]
    height, width = size
    changed = sum((header.height, header.width) != size for header in valid)
    enlarged = sum(header.height < height or header.width < width for header in valid)
    animated = sum(header.animated for header in valid)
    notes = []
    if changed:
        notes.append(f"resized to {height}x{width}" + ("" if asked else "; --size chooses"))
    if enlarged:
        notes.append(f"{count(enlarged, 'image')} smaller than {height}x{width} enlarged")
    if transparent:
        notes.append(f"{count(transparent, 'image')} with transparency composited on white")
    if animated:
        notes.append(f"{count(animated, 'animated image')}: the first frame is used")
    return tuple(notes)


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 0] == pixels[:, 2]).all())
