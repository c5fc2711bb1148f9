"""Reader of one image file, with Pillow: its header (`inspect`), its 8-bit pixels at a size (`read`), the values of a picture
of more than 8 bits (`extent`, `read_values`), or the numbers of a map (`read_numbers`).

`read` makes 8-bit grey of grey of any depth (1, 8 or 16 bits), and 8-bit RGB of other modes. Transparency is
composited on white, the EXIF orientation is applied, and the first frame of an animation is used. `ImageError` says why a file
cannot be read.

A TIFF may have several pages. `inspect_pages` describes each, and `each_page` applies one of the other readers to some of them.
Without these the first page is read.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})  # 16-bit grey; in formats other than PNG "I" is also 32-bit
GREY = DEEP | {"1", "L", "LA"}
DEEP_COLOURS = re.compile(r"(RGBA?|RGBX);16[BLN]")  # how bytes of 16-bit colours lie in a file, as Pillow's decoders name it
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
SIDEWAYS = frozenset({5, 6, 7, 8})  # values of the EXIF orientation that exchange height and width
ORIENTATION = 0x0112  # the EXIF tag
SUBFILE, SMALLER_OR_MASK = 254, 0b101  # the tag of a page of a TIFF, and its bits that say that the page is no picture
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
    return _using(source, _header)


def inspect_pages(source: Source) -> list[Header]:
    """Read the headers of all pictures in a file: one, or the pages of a TIFF.

    Pages that are marked as a smaller copy or as a mask of another page are left out. Raises `ImageError`.
    """

    def headers(image: Image.Image) -> list[Header]:
        found = []
        for page in range(_pages(image)):
            if page:
                image.seek(page)
                if int(getattr(image, "tag_v2", {}).get(SUBFILE, 0)) & SMALLER_OR_MASK:
                    continue
            found.append(_header(image))
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
        image, transparent = _opaque(_eight_bits(ImageOps.exif_transpose(opened)))
        array = np.asarray(fit(image.convert("L" if grey else "RGB"), size))
        return array[None] if grey else array.transpose(2, 0, 1), transparent

    return _using(source, pixels)


def extent(source: Source) -> tuple[float, float, bool]:
    """Return the lowest and the highest value of a picture, and whether all are whole. Raises `ImageError`."""
    values = _values(source)
    return float(values.min()), float(values.max()), bool((values == np.rint(values)).all())


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

    values = np.stack([scaled(channel) for channel in _values(source)])
    return values if grey else np.broadcast_to(values, (3, *size))


def _values(source: Source) -> np.ndarray:
    """Read the values of an upright picture, float32 `(C, H, W)`, C = 1 for grey. Raises `ImageError`."""
    found = _using(source, lambda image: _colours(image) if _has_deep_colours(image) else _upright(image)[None])
    values = found.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("values that are not finite")
    return values


def _upright(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(image))


def _colours(image: Image.Image) -> np.ndarray:
    """Read 16-bit colours, `(3, H, W)`. Transparency is composited on white.

    Pillow keeps the upper byte of a 16-bit colour. Told that bytes have the other order, it keeps the lower one.
    """
    with Image.open(image.fp) as other:  # type: ignore[attr-defined]  # an opened image has its file
        other.seek(image.tell())
        other.tile = [tile._replace(args=_other_order(tile.args)) for tile in other.tile]
        lower = _upright(other)
    values: np.ndarray = (_upright(image).astype(np.uint16) << 8 | lower).transpose(2, 0, 1)
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
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return function(image)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unidentified(source)) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise _broken(error) from error


def _unidentified(source: Path | bytes) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            begin = file.read(4)
    else:
        begin = source[:4]
    if begin in TIFF:
        return "a TIFF of a kind that Pillow does not read: save it as .npy"
    return "not an image"


def _header(image: Image.Image) -> Header:
    height, width = image.height, image.width
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:  # Pillow checks only the first page
        raise Image.DecompressionBombError
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
        pages=_pages(image),
        upper_bits=_depth(image) == 8 and ";16" in str(getattr(image, "tile", "")),
    )


def _pages(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def _depth(image: Image.Image) -> int:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return 32
    return 16 if image.mode in DEEP or _has_deep_colours(image) else 8


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey to 8 bits: 65535 / 257 = 255. Pillow's own conversion would clip it instead."""
    if image.mode not in DEEP:
        return image
    return Image.fromarray(np.rint(np.asarray(image).astype(np.float64) / 257).astype(np.uint8))


def _opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    if not image.has_transparency_data:
        return image, False
    image = image.convert("RGBA")
    lowest, _ = image.getchannel("A").getextrema()
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB"), lowest != 255


def _broken(error: Exception) -> ImageError:
    match error:
        case ImageError():
            return error
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return ImageError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels")
        case OSError(errno=int(), strerror=str(reason)):
            return ImageError(reason, passing=True)
        case _:
            return ImageError("broken")
