"""Decoding of many image files to one array, by a pool of threads. Each page of a TIFF is an image.

The array is uint8, except for pictures of more than 8 bits (`_kept_values`).
Pillow releases the interpreter's lock while it decodes and scales, so processes are not needed.
"""

from __future__ import annotations

import math
import os
import statistics
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ancestral.app.data.assemble import chunks, count
from ancestral.app.data.bounded import MEMORY, memory_limit, rule_of_memory
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import Header, ImageError, Source, each_page, extent, inspect_pages, read, read_values
from ancestral.app.data.streamed import is_large
from ancestral.errors import printable

HALF = 1 << 15  # half of the range of 16 bits
PAGES = 64  # pages that are read while a file is open; each opening finds its way from the first page
DARK = 64  # 16-bit values below this level of 256 probably have fewer bits, such as 12
CHOOSE = "; choose another size with --size"
LONGEST = 300  # characters of a name in a message
WAITING = 1024  # pieces of work that wait for a thread
LARGEST = 64  # the side of a square with as many pixels as an image has at most if the user gives no size
Progress = Callable[[int, int], None]
Allocate = Callable[[tuple[int, ...], "np.dtype[Any]"], np.ndarray | None]  # (shape, type) -> an array of zeros, or None
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Decoded:
    """The images that were decoded.

    Args:
        pixels: uint8 `(n, C, H, W)`, or float32 for pictures whose own values are kept.
        kept: int64 `(n,)`, the index of the file of each image. A file with several pages occurs several times.
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
    *,
    allocate: Allocate | None = None,
    trouble: Sequence[str] = (),
) -> Decoded:
    """Decode every readable image of `sources` at one size, all to grey or all to RGB.

    Args:
        where: the folder or file, for messages.
        names: one name per source, for messages.
        sources: the image files.
        size: (height, width) to which images are scaled and cropped. None: the common size of all images if they have at most
            64x64 pixels, otherwise `common_size` keeps their usual aspect.
        progress: called with (images decoded, images in all).
        allocate: makes the array of the pixels. None, or if it returns None: they are held in memory.
        trouble: why `allocate` returned None, for the error if the images do not fit into memory either.

    Raises:
        DataError: if no image can be read, or if the images would not fit into memory.
    """
    with _pool() as pool:
        inspect = _attempt(inspect_pages)
        inspected = list(_in_order(pool, lambda i: inspect(sources[i]), range(len(sources))))  # read one by one
        pages = [_Page(i, header) for i, found in enumerate(inspected) if isinstance(found, list) for header in found]
        reasons = [f"{name} ({why.reason})" for name, why in zip(names, inspected, strict=True) if isinstance(why, ImageError)]
        if not pages:
            raise DataError(f"no image in {where} can be read: {listed(reasons)}")
        headers = [page.header for page in pages]
        chosen = size or common_size(headers)
        deep = [page for page in pages if page.header.depth > 8]
        extents = [found for _, found in _read(pool, sources, deep, lambda _, image: extent(image))]
        kind, levels, about = _kept_values(headers, extents)
        grey = all(header.grey for header in headers)
        shape = (len(pages), 1 if grey else 3, *chosen)
        found = allocate(shape, np.dtype(kind)) if allocate else None
        pixels = found if found is not None else _allocate(where, shape, kind, trouble)

        def fill(slot: int, image: Source) -> bool:
            if kind == np.float32 or levels:
                values = read_values(image, chosen, grey)
                pixels[slot] = np.rint(values) if levels else values
                return False
            pixels[slot], transparent = read(image, chosen, grey)
            return transparent

        results: list[bool | ImageError] = []
        for _, result in _read(pool, sources, pages, fill):
            results.append(result)
            if progress:
                progress(len(results), len(pages))
    for page, result in zip(pages, results, strict=True):
        if isinstance(result, ImageError):
            on = f", page {page.header.page + 1}" if page.header.pages > 1 else ""
            reasons.append(f"{names[page.file]}{on} ({result.reason})")
    good = [isinstance(result, bool) for result in results]
    if not any(good):
        raise DataError(f"no image in {where} can be read: {listed(reasons)}")
    if not all(good):
        pixels = _packed(pixels, np.flatnonzero(good))
    used = [page for page, fine in zip(pages, good, strict=True) if fine]
    notes = (*_notes([page.header for page in used], size, chosen, sum(result is True for result in results)), *about)
    notes += tuple(_upper_bits([page.header for page in used], pixels))
    if not grey and all(_is_grey(part) for part in chunks(pixels)):
        pixels = pixels[:, :1] if is_large(pixels) else pixels[:, :1].copy()
    passing = any(isinstance(item, ImageError) and item.passing for item in (*inspected, *results))
    kept = np.array([page.file for page in used], dtype=np.int64)
    return Decoded(pixels, kept, tuple(reasons), notes, passing, levels)


@dataclass(frozen=True)
class _Page:
    """An image: a file, by its index, and its page."""

    file: int
    header: Header


def _read(
    pool: ThreadPoolExecutor, sources: Sequence[Source], pages: Sequence[_Page], function: Callable[[int, Image.Image], B]
) -> Iterator[tuple[int, B | ImageError]]:
    """Yield the index of each page, in their order, with what `function` returns for the index and the opened image."""
    starts = [i for i, page in enumerate(pages) if i == 0 or page.file != pages[i - 1].file or page.header.page % PAGES == 0]
    runs = [range(i, j) for i, j in pairwise([*starts, len(pages)])]

    def several(run: range) -> list[B | ImageError]:
        numbers = [pages[i].header.page for i in run]
        return each_page(sources[pages[run[0]].file], numbers, lambda i, image: function(run[i], image))

    for run, found in zip(runs, _in_order(pool, several, runs), strict=True):
        yield from zip(run, found, strict=True)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Write names as `a, b, c`, each as by `printable`. Only the first `most` are written, with the number of the others.

    Of a longer name the first `LONGEST` characters are written.
    """
    shown = ", ".join(printable(name if len(name) <= LONGEST else f"{name[:LONGEST]}...") for name in names[:most])
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


def _in_order(pool: ThreadPoolExecutor, function: Callable[[A], B], arguments: Sequence[A]) -> Iterator[B]:
    """Yield the results of a function in the order of its arguments. At most `WAITING` of them are ahead of their use."""
    waiting: deque[Future[B]] = deque()
    for argument in arguments:
        if len(waiting) >= WAITING:
            yield waiting.popleft().result()
        waiting.append(pool.submit(function, argument))
    while waiting:
        yield waiting.popleft().result()


def _attempt(function: Callable[[A], B]) -> Callable[[A], B | ImageError]:
    def attempt(argument: A) -> B | ImageError:
        try:
            return function(argument)
        except ImageError as broken:
            return broken

    return attempt


def common_size(headers: Sequence[Header]) -> tuple[int, int]:
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


def _kept_values(
    headers: Sequence[Header], extents: Sequence[tuple[float, float, bool] | ImageError]
) -> tuple[type[np.generic], int | None, list[str]]:
    """Return how pixels are stored: the type of the array, the number of levels if they are counts from 0, and notes.

    Pictures of more than 8 bits keep their own values, as counts if these are whole and at most 255, otherwise as real
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


def _allocate(where: str, shape: tuple[int, ...], kind: type[np.generic], trouble: Sequence[str]) -> np.ndarray:
    """Allocate an array `shape` for the pixels. Raises `DataError` if it needs more memory than is allowed."""
    n, channels, height, width = shape
    each = np.dtype(kind).itemsize
    need, limit = math.prod(shape) * each, memory_limit()
    if need > limit:
        fits = int((limit / (n * channels * each)) ** 0.5) // 8 * 8
        advice = f"choose a smaller size, for example {fits} (train, compare: --size {fits})" if fits else "use fewer images"
        raise DataError(
            f"{count(n, 'image')} of {where} at {height}x{width} need {need / 1e9:.1f} GB of memory, more than the "
            f"{limit / 1e9:.1f} GB that are allowed ({rule_of_memory()}): {advice}, or set {MEMORY} to more gigabytes"
            + "".join(f"; on the disk {why}" for why in trouble)
        )
    return np.empty(shape, dtype=kind)


def _packed(pixels: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the rows `good`, in ascending order, which are moved to the front in place."""
    for i, j in enumerate(good.tolist()):
        if i != j:
            pixels[i] = pixels[j]
    return pixels[: len(good)]


def _notes(
    headers: Sequence[Header], asked: tuple[int, int] | None, size: tuple[int, int], transparent: int
) -> tuple[str, ...]:
    """Return notes for the user about what was done to the images."""
    height, width = size
    changed = sum((header.height, header.width) != size for header in headers)
    enlarged = sum(header.height < height or header.width < width for header in headers)
    animated = sum(header.animated for header in headers)
    notes = []
    if changed:
        notes.append(f"resized to {height}x{width}" + ("" if asked else CHOOSE))
    notes += cropped([(header.height, header.width) for header in headers], size)
    if enlarged:
        notes.append(f"{count(enlarged, 'image')} smaller than {height}x{width} enlarged")
    if transparent:
        notes.append(f"{count(transparent, 'image')} with transparency composited on white")
    if animated:
        notes.append(f"{count(animated, 'animated image')}: the first frame is used")
    if paged := [header.page for header in headers if header.pages > 1]:
        notes.append(f"{count(len(paged), 'page')} of TIFFs with several pages: each page is an image")
    return tuple(notes)


def _upper_bits(headers: Sequence[Header], pixels: np.ndarray) -> list[str]:
    """Return a note if there are pictures of 16-bit values of which only the upper 8 bits were read."""
    if not (some := sum(header.upper_bits for header in headers)):
        return []
    note = f"{count(some, 'image')} with 16-bit values of a kind that Pillow reads in 8 bits: reduced to 256 levels"
    if (top := int(pixels.max())) < DARK and some == len(headers):
        note += f"; they use only {top + 1} of these levels, so save them as .npy to keep their own values"
    return [note]


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 0] == pixels[:, 2]).all())
