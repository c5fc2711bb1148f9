"""Reader of one image file, with Pillow: its header (`inspect`), its 8-bit pixels at a size (`read`), the values of a picture
of more than 8 bits (`extent`, `read_values`), or the numbers of a map (`read_numbers`).

`read` makes 8-bit grey of grey of any depth (1, 8 or 16 bits), and 8-bit RGB of other modes. Transparency is
composited on white, the EXIF orientation is applied, and the first frame of an animation is used. `ImageError` says why a file
cannot be read.

A TIFF may have several pages. `inspect_pages` describes each, and `each_page` applies one of the other readers to some of them.
Without these the first page is read.

Large pictures need much memory while they are decoded, so all threads together decode at most `TOGETHER` pixels at a time, and
a picture has at most `most_pixels()`.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ancestral.errors import UsageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})  # 16-bit grey; in formats other than PNG "I" is also 32-bit
GREY = DEEP | {"1", "L", "LA"}
DEEP_COLOURS = re.compile(r"(RGBA?|RGBX);16[BLN]")  # how bytes of 16-bit colours lie in a file, as Pillow's decoders name it
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
SIDEWAYS = frozenset({5, 6, 7, 8})  # values of the EXIF orientation that exchange height and width
ORIENTATION = 0x0112  # the EXIF tag
SUBFILE, SMALLER_OR_MASK = 254, 0b101  # the tag of a page of a TIFF, and its bits that say that the page is no picture
MEGAPIXELS = "ANCESTRAL_MEGAPIXELS"  # the variable that sets the most pixels of a picture, in millions
TOGETHER = 1 << 25  # pixels that all threads decode at a time; each needs up to 20 bytes
PAGES = 65_536  # of a TIFF at most; Pillow needs time that grows with their square
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
BAND = 1 << 22  # pixels that are composited at a time
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the first bytes of a TIFF and of a BigTIFF

Source = Path | bytes | Image.Image  # a file, the content of one, or an opened image at its current page
A = TypeVar("A")


class ImageError(Exception):
    """An image file cannot be read.

    Args:
        reason: why.
        passing: whether the reason may be temporary (permissions, a failing disk).
    """

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.passing = reason, passing


@dataclass(frozen=True)
class Header:
    """The header of an image file, or of one page of a TIFF.

    Args:
        height: height of the upright image in pixels.
        width: width of the upright image in pixels.
        grey: whether it is stored as grey.
        animated: whether it has more than one frame.
        depth: bits of its values if they are more than 8: 16, or 32 for whole and real numbers of 32 bits. Otherwise 8.
        page: the page of a TIFF, from 0.
        pages: the number of pages of a TIFF, otherwise 1.
        upper_bits: whether it has 16-bit values of which only the upper 8 bits can be read (`depth` is 8).
    """

    height: int
    width: int
    grey: bool
    animated: bool
    depth: int = 8
    page: int = 0
    pages: int = 1
    upper_bits: bool = False


def inspect(source: Source) -> Header:
    """Read the header of an image, without its pixels. Raises `ImageError`."""
    return _using(source, lambda image: _header(image, _pages(image)))


def inspect_pages(source: Source) -> list[Header]:
    """Read the headers of all pictures in a file: one, or the pages of a TIFF.

    Pages that are marked as a smaller copy or as a mask of another page are left out. Raises `ImageError`.
    """

    def headers(image: Image.Image) -> list[Header]:
        found = []
        pages = _pages(image)
        for page in range(pages):
            if page:
                image.seek(page)
                if int(getattr(image, "tag_v2", {}).get(SUBFILE, 0)) & SMALLER_OR_MASK:
                    continue
            found.append(_header(image, pages))
        return found

    return _using(source, headers)


def each_page(source: Source, pages: Sequence[int], function: Callable[[int, Image.Image], A]) -> list[A | ImageError]:
    """Apply a function to pages of one file, which is opened once.

    Args:
        source: the file.
        pages: the numbers of the pages, in ascending order.
        function: called with the index in `pages` and the image at that page.

    Returns:
        What the function returns for each page, or why the page cannot be read.
    """

    def attempt(i: int, image: Image.Image) -> A | ImageError:
        try:
            image.seek(pages[i])
            return function(i, image)
        except MemoryError:
            raise
        except Exception as error:
            return _broken(error)

    try:
        return _using(source, lambda image: [attempt(i, image) for i in range(len(pages))])
    except ImageError as broken:
        return [broken] * len(pages)


def read(source: Source, size: tuple[int, int], grey: bool) -> tuple[np.ndarray, bool]:
    """Read an image, scale it with antialiasing to cover `size` (height, width), and crop it at the centre.

    Returns:
        The pixels, uint8 `(C, *size)` with C = 1 if `grey` else 3, and whether transparency was composited on white.

    Raises:
        ImageError: if the file cannot be read.
    """

    def pixels(opened: Image.Image) -> tuple[np.ndarray, bool]:
        if _depth(opened) == 32:
            raise ImageError("32-bit pixels have no standard scale beside pictures of 8 or 16 bits")
        with _decoding(opened):
            image, transparent = _opaque(_eight_bits(_upright(opened)))
            array = np.asarray(fit(image.convert("L" if grey else "RGB"), size))
        return array[None] if grey else array.transpose(2, 0, 1), transparent

    return _using(source, pixels)


def extent(source: Source) -> tuple[float, float, bool]:
    """Return the lowest and the highest value of a picture, and whether all are whole. Raises `ImageError`."""

    def found(image: Image.Image) -> tuple[float, float, bool]:
        with _decoding(image):
            values = _values(image)
            return float(values.min()), float(values.max()), bool((values == np.rint(values)).all())

    return _using(source, found)


def read_values(source: Source, size: tuple[int, int], grey: bool) -> np.ndarray:
    """Read a picture of more than 8 bits in its own values, scaled and cropped as by `read`.

    Args:
        source: the picture.
        size: height and width.
        grey: whether the result has one channel, which only grey pictures can have, or three.

    Returns:
        float32 `(C, *size)` with C = 1 if `grey` else 3.

    Raises:
        ImageError: if the file cannot be read, or has values that are not finite.
    """

    def scaled(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(channel)
        lowest, highest = image.getextrema()
        return np.asarray(fit(image, size)).clip(lowest, highest)  # the filter overshoots at edges

    def found(image: Image.Image) -> np.ndarray:
        with _decoding(image):
            return np.stack([scaled(channel) for channel in _values(image)])

    values = _using(source, found)
    return values if grey else np.broadcast_to(values, (3, *size))


def _values(image: Image.Image) -> np.ndarray:
    """Read the values of an upright picture, float32 `(C, H, W)`, C = 1 for grey. Raises `ImageError`."""
    found = _colours(image) if _has_deep_colours(image) else np.asarray(_upright(image))[None]
    values = found.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("values that are not finite")
    return values


def _upright(image: Image.Image) -> Image.Image:
    """Return the picture as its EXIF orientation shows it: a copy, or the same picture if it is upright."""
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def _colours(image: Image.Image) -> np.ndarray:
    """Read 16-bit colours, `(3, H, W)`. Transparency is composited on white.

    Pillow keeps the upper byte of a 16-bit colour. Told that bytes have the other order, it keeps the lower one.
    """
    with Image.open(image.fp, formats=_formats()) as other:  # type: ignore[attr-defined]  # an opened image has its file
        other.seek(image.tell())
        other.tile = [tile._replace(args=_other_order(tile.args)) for tile in other.tile]
        lower = np.asarray(_upright(other))
    values: np.ndarray = (np.asarray(_upright(image)).astype(np.uint16) << 8 | lower).transpose(2, 0, 1)
    colours = values[:3]
    if image.mode != "RGBA":
        return colours
    opacity = values[3] / 65535
    return np.asarray(np.rint(colours * opacity + 65535 * (1 - opacity)))


def _other_order(args: Any) -> Any:
    """Return the arguments of a decoder of 16-bit colours, with the bytes of a value in the other order."""
    if isinstance(args, tuple):
        return (_other_order(args[0]), *args[1:])
    return args[:-1] + OTHER_ORDER[args[-1]]


def _has_deep_colours(image: Image.Image) -> bool:
    tiles = getattr(image, "tile", ())
    modes = [tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in tiles]
    return bool(modes) and all(DEEP_COLOURS.fullmatch(str(mode)) for mode in modes)


def read_numbers(source: Source, size: tuple[int, int]) -> np.ndarray:
    """Read pixels that are numbers from 0 to 255, such as those of a semantic map, as uint8 `size`.

    They are scaled by the nearest pixel and cropped at the centre. Raises `ImageError`, also if pixels are colours.
    """

    def plain(image: Image.Image) -> np.ndarray:
        if image.mode not in DEEP | {"1", "L", "P"}:
            raise ImageError(
                f"its pixels are colours ({image.mode}), not numbers of classes: save it as grey or with a palette"
            )
        with _decoding(image):
            return np.asarray(image)

    numbers = _using(source, plain)
    if numbers.max(initial=0) > 255:
        raise ImageError(f"its pixels go up to {numbers.max():,}, and numbers of classes must be at most 255")
    whole = Image.fromarray(numbers.astype(np.uint8))
    return np.asarray(ImageOps.fit(whole, size[::-1], Image.Resampling.NEAREST)).copy()


def fit(image: Image.Image, size: tuple[int, int], how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Scale an image to cover `size` (height, width), by default with an antialiasing (Lanczos) filter, and crop its centre."""
    height, width = size
    if (image.height, image.width) == (height, width):
        return image
    return ImageOps.fit(image, (width, height), how)


def _using(source: Source, function: Callable[[Image.Image], A]) -> A:
    """Return what `function` returns for the opened image. Raises `ImageError`."""
    if isinstance(source, Image.Image):
        return function(source)
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise ImageError("not a regular file")  # reading from a pipe or a device may never end
        most_pixels()
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            return function(image)
    except (MemoryError, UsageError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unidentified(source)) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise _broken(error) from error


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read. Pillow would start another program for some others, such as EPS."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def most_pixels() -> int | None:
    """Return how many pixels a picture may have, None for any: Pillow's limit, which `$ANCESTRAL_MEGAPIXELS` sets."""
    if given := os.environ.get(MEGAPIXELS):
        try:
            Image.MAX_IMAGE_PIXELS = max(1, int(float(given) * 1e6))
        except (ValueError, OverflowError):
            raise UsageError(f"{MEGAPIXELS} must be a number of millions, e.g. 200, found {given!r}") from None
    return Image.MAX_IMAGE_PIXELS


def _check_pixels(image: Image.Image) -> int:
    """Return the number of pixels of an opened picture. Raises `ImageError` if they are too many."""
    pixels = image.height * image.width
    if (most := Image.MAX_IMAGE_PIXELS) is not None and pixels > most:  # Pillow checks only the first page
        raise ImageError(f"{pixels:,} pixels, more than {most:,}: {MEGAPIXELS} sets the limit")
    return pixels


_turn, _busy = Condition(), [0]  # the pixels that all threads decode now


@contextmanager
def _decoding(image: Image.Image) -> Iterator[None]:
    """Wait until the picture can be decoded beside those of other threads. Raises `ImageError` if it is too large."""
    pixels = _check_pixels(image)
    with _turn:
        _turn.wait_for(lambda: not _busy[0] or _busy[0] + pixels <= TOGETHER)
        _busy[0] += pixels
    try:
        yield
    finally:
        with _turn:
            _busy[0] -= pixels
            _turn.notify_all()


def _unidentified(source: Path | bytes) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            begin = file.read(4)
    else:
        begin = source[:4]
    if begin in TIFF:
        return "a TIFF of a kind that Pillow does not read: save it as .npy"
    return "not an image"


def _header(image: Image.Image, pages: int) -> Header:
    _check_pixels(image)
    height, width = image.height, image.width
    # If a PNG has no EXIF in its head, Pillow would decode the whole file to look for one at its end.
    if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION) in SIDEWAYS:
        height, width = width, height
    return Header(
        height,
        width,
        grey=image.mode in GREY or image.mode == "F",
        animated=image.format in ("GIF", "WEBP", "PNG") and getattr(image, "is_animated", False),
        depth=_depth(image),
        page=image.tell() if image.format == "TIFF" else 0,
        pages=pages,
        upper_bits=_depth(image) == 8 and ";16" in str(getattr(image, "tile", "")),
    )


def _pages(image: Image.Image) -> int:
    """Return the number of pages of a TIFF that was just opened, otherwise 1. Raises `ImageError` if it is above `PAGES`."""
    if image.format != "TIFF":
        return 1
    try:
        for page in range(1, PAGES + 1):
            image.seek(page)
    except EOFError:
        image.seek(0)
        return page
    raise ImageError(f"more than {PAGES:,} pages")


def _depth(image: Image.Image) -> int:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return 32
    return 16 if image.mode in DEEP or _has_deep_colours(image) else 8


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8 bits: 65535 / 257 = 255. Pillow's own conversion would clip it instead."""
    if image.mode not in DEEP:
        return image
    values = np.asarray(image)
    out = np.empty(values.shape, dtype=np.uint8)
    for i in range(0, len(values), step := max(1, BAND // values.shape[1])):
        out[i : i + step] = np.rint(values[i : i + step].astype(np.float64) / 257)
    return Image.fromarray(out)


def _opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    if not image.has_transparency_data:
        return image, False
    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    out = Image.new("RGB", image.size)
    for top in range(0, image.height, step := max(1, BAND // image.width)):
        part = image.crop((0, top, image.width, min(top + step, image.height)))
        out.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), (0, top))
    return out, lowest != 255


def _broken(error: Exception) -> ImageError:
    match error:
        case ImageError():
            return error
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return ImageError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels: {MEGAPIXELS} sets the limit")
        case OSError(errno=int(), strerror=str(reason)):
            return ImageError(reason, passing=True)
        case _:
            return ImageError("broken")
