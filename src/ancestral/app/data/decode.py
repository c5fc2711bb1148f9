"""Decoding of many image files to one array, by a pool of threads.

The array is uint8, except for grey pictures of more than 8 bits (`_kept_values`).
Pillow releases the interpreter's lock while it decodes and scales, so processes are not needed.
"""

from __future__ import annotations

import math
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
from ancestral.app.data.images import Header, ImageError, Source, extent, inspect, read, read_values

HALF = 1 << 15  # half of the range of 16 bits
LARGEST = 64  # the side of a square with as many pixels as an image has at most if the user gives no size
Progress = Callable[[int, int], None]
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Decoded:
    """The images that were decoded.

    Args:
        pixels: uint8 `(n, C, H, W)`, or float32 for grey pictures whose own values are kept.
        kept: int64 `(n,)`, the indices of the decoded files.
        left_out: `name (reason)` of the other files.
        notes: notes for the user about what was done to the images.
        passing: whether one of the reasons may be temporary, such as missing permissions.
        levels: the number of levels if the pixels are counts from 0, None if the pixels themselves decide (`quantise`).
    """

    pixels: np.ndarray
    kept: np.ndarray
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    passing: bool = False
    levels: int | None = None


def decode(
    where: str,
    names: Sequence[str],
    sources: Sequence[Source],
    size: tuple[int, int] | None,
    progress: Progress | None = None,
) -> Decoded:
    """Decode every readable image of `sources` at one size, all to grey or all to RGB.

    Args:
        where: the folder or file, for messages.
        names: one name per source, for messages.
        sources: the images.
        size: (height, width) to which images are scaled and cropped. None: the common size of all images if its sides are at
            they have at most 64x64 pixels, otherwise `_size` keeps their usual aspect.
        progress: called with (images decoded, images in all).

    Raises:
        DataError: if no image can be read, or if the images would not fit into memory.
    """
    with _pool() as pool:
        headers = list(pool.map(_attempt(inspect), sources))
        valid = [header for header in headers if isinstance(header, Header)]
        if not valid:
            raise DataError(f"no image in {where} can be read: {listed(_reasons(names, headers))}")
        chosen = size or _size(valid)
        rows = [i for i, header in enumerate(headers) if isinstance(header, Header)]
        kind, levels, about = _kept_values(valid, list(pool.map(_attempt(extent), (sources[i] for i in _deep(headers)))))
        grey = all(header.grey for header in valid)
        pixels = _allocate(where, len(valid), 1 if grey else 3, chosen, kind)

        def fill(slot: int) -> bool:
            if kind == np.float32 or levels:
                values = read_values(sources[rows[slot]], chosen)
                pixels[slot] = np.rint(values) if levels else values
                return False
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
    notes = (*_notes([headers[i] for i in kept], size, chosen, sum(result is True for result in results)), *about)
    if not grey and all(_is_grey(part) for part in chunks(pixels)):
        pixels = pixels[:, :1].copy()
    passing = any(isinstance(item, ImageError) and item.passing for item in outcome)
    return Decoded(pixels, kept, tuple(_reasons(names, outcome)), notes, passing, levels)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Write names as `a, b, c`. Only the first `most` are written, with the number of the others."""
    shown = ", ".join(name.encode(errors="replace").decode() for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads that stop if the work is interrupted. Inside, Pillow's warning of a huge image is an error."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about damaged metadata do not help the user
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
    """Return the common size of the images if it has at most 64x64 pixels, otherwise a size of multiples of 8.

    Its shorter side is the median shorter side, at most 64, and its aspect is the median aspect. If it would have more than
    64x64 pixels, it is scaled down to them, but no side becomes shorter than 8 pixels.
    """
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and math.prod(only := next(iter(sizes))) <= LARGEST**2:
        return only
    shorter = min(LARGEST, int(statistics.median(min(header.height, header.width) for header in headers)))
    shorter = max(8, shorter - shorter % 8)
    aspect = statistics.median(header.height / header.width for header in headers)
    longest = max(aspect, 1 / aspect)
    side = max(8.0, min(shorter, LARGEST / longest**0.5))  # in exact numbers, the shorter side
    short, long = (max(8, 8 * round(v / 8)) for v in (side, side * longest))
    return (long, short) if aspect > 1 else (short, long)


def cropped(images: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[str]:
    """Return a note if images of these sizes lose 1 % or more of their pixels when they cover `size` and are cropped."""
    cut = [1 - min(h / size[0], w / size[1]) ** 2 * math.prod(size) / (h * w) for h, w in images]
    share = statistics.fmean(cut)
    if share < 0.01:
        return []
    tall = [h / w > size[0] / size[1] for (h, w), part in zip(images, cut, strict=True) if part > 0]
    edges = "top and bottom" if all(tall) else "the edges" if any(tall) else "left and right"
    return [f"cropped at {edges} to the aspect of {size[0]}x{size[1]}: {share:.0%} of the pixels are cut away"]


def _deep(headers: Sequence[Header | ImageError]) -> list[int]:
    """Return the indices of the pictures of more than 8 bits."""
    return [i for i, header in enumerate(headers) if isinstance(header, Header) and header.depth > 8]


def _kept_values(
    headers: Sequence[Header], extents: Sequence[tuple[float, float, bool] | ImageError]
) -> tuple[type[np.generic], int | None, list[str]]:
    """Return how pixels are stored: the type of the array, the number of levels if they are counts from 0, and notes.

    Grey pictures of more than 8 bits keep their own values, as counts if these are whole and at most 255, otherwise as real
    numbers. Two kinds are reduced to 8 bits: 16-bit pictures that fill more than half of 16 bits, for which 256 levels are
    enough, and those beside pictures of 8 bits, which have a common scale of 8 and 16 bits.

    Args:
        headers: those of the readable pictures.
        extents: lowest value, highest value and whether all are whole, of the pictures of more than 8 bits.
    """
    if len(extents) < len(headers):
        beside = "16-bit pictures beside pictures of 8 bits: reduced to 256 levels, of which 65,535 is the highest"
        return np.uint8, None, [beside] if any(header.depth == 16 for header in headers) else []
    known = [item for item in extents if not isinstance(item, ImageError)]
    if not known:
        return np.float32, None, []
    low, high = min(item[0] for item in known), max(item[1] for item in known)
    bits = max(header.depth for header in headers)
    found = f"{bits}-bit pictures with values from {low:,.6g} to {high:,.6g}"
    if bits == 16 and high > HALF:
        return np.uint8, None, [f"{found}: reduced to 256 levels"]
    if all(whole for *_, whole in known) and low >= 0 and high <= 255:
        return np.uint8, max(2, round(high) + 1), [f"{found}: kept as {round(high) + 1:,} levels"]
    return np.float32, None, [f"{found}: kept as real numbers"]


def _allocate(where: str, n: int, channels: int, size: tuple[int, int], kind: type[np.generic]) -> np.ndarray:
    """Allocate an array for the pixels. Raises `DataError` if it needs more than half of the free memory."""
    each = np.dtype(kind).itemsize
    need, free = n * channels * size[0] * size[1] * each, psutil.virtual_memory().available
    if need > free / 2:
        fits = int((free / 2 / (n * channels * each)) ** 0.5) // 8 * 8
        advice = f"choose a smaller size, for example {fits} (train, compare: --size {fits})" if fits else "use fewer images"
        raise DataError(
            f"{count(n, 'image')} of {where} at {size[0]}x{size[1]} need {need / 1e9:.1f} GB, more than half of the "
            f"{free / 1e9:.1f} GB of memory that is free: {advice}"
        )
    return np.empty((n, channels, *size), dtype=kind)


def _notes(
    headers: Sequence[Header | ImageError], asked: tuple[int, int] | None, size: tuple[int, int], transparent: int
) -> tuple[str, ...]:
    """Return notes for the user about what was done to the images."""
    valid = [header for header in headers if isinstance(header, Header)]
    height, width = size
    changed = sum((header.height, header.width) != size for header in valid)
    enlarged = sum(header.height < height or header.width < width for header in valid)
    animated = sum(header.animated for header in valid)
    notes = []
    if changed:
        notes.append(f"resized to {height}x{width}" + ("" if asked else "; choose another size with --size"))
    notes += cropped([(header.height, header.width) for header in valid], size)
    if enlarged:
        notes.append(f"{count(enlarged, 'image')} smaller than {height}x{width} enlarged")
    if transparent:
        notes.append(f"{count(transparent, 'image')} with transparency composited on white")
    if animated:
        notes.append(f"{count(animated, 'animated image')}: the first frame is used")
    if paged := [header.pages for header in valid if header.pages > 1]:
        files = f"{count(len(paged), 'TIFF')} of several pages (up to {max(paged):,})"
        notes.append(f"{files}: only the first page is used; save each page as a file, or all as one .npy, to use them")
    return tuple(notes)


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 0] == pixels[:, 2]).all())
