"""One image file to pixels, with Pillow: what it is (`inspect`), its 8-bit pixels at a size (`read`), and those of
a map (`read_numbers`).

Grey of any depth (1, 8 or 16 bits) becomes 8-bit grey, all else RGB. Transparency is composited on white, the EXIF
orientation is applied, of an animation the first frame is taken. `ImageError` carries the reason when a file gives no
pixels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})  # 16-bit grey; "I" is also 32-bit, outside PNG
GREY = DEEP | {"1", "L", "LA"}
SIDEWAYS = frozenset({5, 6, 7, 8})  # values of the EXIF orientation that exchange height and width
ORIENTATION = 0x0112  # the EXIF tag

Source = Path | bytes  # a file, or the content of one


class ImageError(Exception):
    """A file that gives no pixels, and why. `passing`: it may be readable another time (permissions, a failing
    disk).
    """

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.passing = reason, passing


@dataclass(frozen=True)
class Header:
    """height, width: upright, in pixels. grey: stored as grey. animated: more frames than the one that is used."""

    height: int
    width: int
    grey: bool
    animated: bool


def inspect(source: Source) -> Header:
    """The header of an image, without its pixels. Raises `ImageError`."""
    try:
        with _open(source) as image:
            height, width = image.height, image.width
            # A PNG without EXIF in its head would be decoded whole to look for one at its end.
            if (image.format != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION) in SIDEWAYS:
                height, width = width, height
            animated = image.format in ("GIF", "WEBP", "PNG") and getattr(image, "is_animated", False)
            return Header(height, width, image.mode in GREY, animated)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders let errors of many types through
        raise _broken(error) from error


def read(source: Source, size: tuple[int, int], grey: bool) -> tuple[np.ndarray, bool]:
    """The pixels, uint8 (C, *size) with C = 1 if `grey` else 3, and whether transparency was composited on white.

    The image is scaled, antialiased, until it covers `size` (height, width), and what stands out is cropped evenly.
    Raises `ImageError`.
    """
    try:
        with _open(source) as opened:
            if opened.mode == "F" or (opened.mode == "I" and opened.format != "PNG"):
                raise ImageError("32-bit pixels have no standard scale")
            image, transparent = _opaque(_eight_bits(ImageOps.exif_transpose(opened)))
            image = fit(image.convert("L" if grey else "RGB"), size)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(error) from error
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1), transparent


def read_numbers(source: Source, size: tuple[int, int]) -> np.ndarray:
    """Pixels that are numbers from 0 to 255, such as a semantic map's, uint8 `size`; scaled to the nearest and cropped as
    `read` does. Raises `ImageError`, also for colours, which are no numbers.
    """
    try:
        with _open(source) as image:
            if image.mode not in DEEP | {"1", "L", "P"}:
                raise ImageError(
                    f"its pixels are colours ({image.mode}), no numbers of classes: save it as grey or with a palette"
                )
            numbers = np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(error) from error
    if numbers.max(initial=0) > 255:
        raise ImageError(f"its pixels go up to {numbers.max():,}, and numbers of classes to 255")
    whole = Image.fromarray(numbers.astype(np.uint8))
    return np.asarray(ImageOps.fit(whole, size[::-1], Image.Resampling.NEAREST)).copy()


def fit(image: Image.Image, size: tuple[int, int], how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Scaled to cover `size` (height, width), by default with an antialiasing (Lanczos) filter, then cropped at the centre."""
    height, width = size
    if (image.height, image.width) == (height, width):
        return image
    return ImageOps.fit(image, (width, height), how)


def _open(source: Source) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8 bits: 65535 / 257 = 255. Pillow's own conversion would clip it instead."""
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
        case UnidentifiedImageError():
            return ImageError("not an image")
        case OSError(errno=int(), strerror=str(reason)):
            return ImageError(reason, passing=True)
        case _:
            return ImageError("broken")
