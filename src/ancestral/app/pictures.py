"""Pictures of samples of every kind: tiles of images, and the plots of `plots` for all else; strips and animations of paths."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ancestral.app import plots
from ancestral.app.data import DataSet, DataSpec
from ancestral.conditioning.render import Rendering, colour
from ancestral.files import write_atomically
from ancestral.version import __version__

SIDE = 48  # smallest side of a tile in pixels
READABLE = 96  # smallest side of a tile with words and boxes
LINE, LETTER, LINES = 12, 5.2, 4  # height of a line and width of a letter in pixels, and largest number of lines
FRAMES, PLOTS, FILM = 60, 24, 9  # frames of an animation, and of one of plots; signals in it
LAST = 1500  # milliseconds for which an animation shows its last frame
CHECKS = 8  # side of the squares behind transparent pictures in pixels
GAP = 128  # grey between tiles
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="ancestral {version}" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"/></rdf:RDF></x:xmpmeta>'
)


def is_picture(spec: DataSpec) -> bool:
    """Return whether the samples are pictures as files show them: grey, colour, or colour with transparency.

    Other arrays of images, such as fields of real numbers and those of 2 or 5 channels, are drawn as channels with scales.
    """
    if not spec.is_image or spec.shape[0] not in (1, 3, 4):
        return False
    if spec.kind != "real":
        return True
    if spec.range is None:  # a saved model does not know the range of its data
        return spec.shape[0] == 3
    return spec.shape[0] < 4 and spec.range[0] >= -1 and spec.range[1] <= 1


def to_uint8(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Convert images `(n, c, h, w)` to uint8 `(n, h, w, c)`, scaled from the range of the data. NaN becomes grey."""
    low, high = spec.range or (float(x.min()), float(x.max()))
    scaled: np.ndarray = ((plots.numbers(x) - low) / max(high - low, 1e-12)).clip(0, 1)
    levels: np.ndarray = np.nan_to_num(scaled * 255, nan=GAP).round().astype(np.uint8)
    return levels.transpose(0, 2, 3, 1)


def one(x: Tensor, spec: DataSpec) -> Image.Image:
    """Return one image `(c, h, w)` as a picture of its own size."""
    image = to_uint8(x[None], spec)[0]
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def picture(x: Tensor, data: DataSet | DataSpec, columns: int | None = None) -> Image.Image:
    """Draw samples as one picture, as `ancestral sample --out samples.png` does: tiles, lines of signals, or points.

    Args:
        x: The samples `(n, *shape)`, in the units of the data.
        data: The data, or their description.
        columns: The number of columns. None: a square grid.
    """
    return grid(x, data if isinstance(data, DataSpec) else data.spec, columns)


def grid(
    x: Tensor,
    spec: DataSpec,
    columns: int | None = None,
    renderings: Sequence[Rendering] = (),
    rows: Sequence[str] = (),
    across: Sequence[str] = (),
    ranges: plots.Limits | None = None,
) -> Image.Image:
    """Draw n samples as one picture, in the way of their kind.

    Pictures are tiles; other arrays have a panel for each channel; signals have axes; vectors are points in the plane or named
    histograms and pairs of columns.

    Args:
        x: the samples, in the units of the data.
        spec: the description of the data.
        columns: number of columns. None: a square grid.
        renderings: the rendered condition of each sample, drawn with images and signals.
        rows: the label of each row. Vectors have a colour for each label.
        across: the label of each column. The vectors of a row are then a path.
        ranges: the range of each channel. None: that of the data, which for signals and vectors is widened to hold x.
    """
    if is_picture(spec):
        return asked(to_uint8(x, spec), renderings, columns) if renderings else tiles(to_uint8(x, spec), columns, rows, across)
    if spec.is_image:
        return plots.channels(x, spec, columns or math.ceil(math.sqrt(len(x))), rows, across, ranges)
    if len(spec.shape) == 2:
        return plots.signals(x, spec, columns, rows, across, [of_one.words for of_one in renderings], ranges)
    return plots.vectors(x, spec, rows, joined=bool(across), ranges=ranges)


def tiles(images: np.ndarray, columns: int | None = None, rows: Sequence[str] = (), across: Sequence[str] = ()) -> Image.Image:
    """Draw uint8 images `(n, h, w, c)` as a grid with small gaps. Small images are enlarged without smoothing.

    Transparent pixels show a pattern of light squares. rows, across: the labels of rows and columns.
    """
    n, h, w, _ = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    count = math.ceil(n / columns)
    zoom = zoom_of(h, w)
    gap = 1 if zoom == 1 else 2
    images = opaque(images.repeat(zoom, 1).repeat(zoom, 2))
    h, w, c = images.shape[1:]
    sheet = np.full((count * (h + gap) + gap, columns * (w + gap) + gap, c), GAP, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image
    picture = Image.fromarray(sheet[..., 0] if c == 1 else sheet)
    return _labelled(picture, rows, across, (h + gap, w + gap)) if rows or across else picture


def opaque(images: np.ndarray) -> np.ndarray:
    """Return uint8 images `(n, h, w, c)` without transparency: on a pattern of light squares."""
    if images.shape[-1] != 4:
        return images
    y, x = np.indices(images.shape[1:3]) // CHECKS
    squares = np.where((y + x) % 2, 204, 255)[..., np.newaxis]
    alpha = images[..., 3:] / 255
    mixed: np.ndarray = alpha * images[..., :3] + (1 - alpha) * squares
    return mixed.round().astype(np.uint8)


def _labelled(sheet: Image.Image, rows: Sequence[str], across: Sequence[str], cell: tuple[int, int]) -> Image.Image:
    """Return the grid with labels left of its rows and above its columns. cell: height and width of a tile with its gap."""
    font = ImageFont.load_default(LINE - 2)
    beside = [textwrap.wrap(label, 24)[:LINES] for label in rows]
    above = [textwrap.wrap(label, max(4, int(cell[1] / LETTER)))[:LINES] for label in across]
    left = 6 + max((math.ceil(font.getlength(line)) for lines in beside for line in lines), default=-6)
    top = LINE * max(map(len, above), default=0)
    picture = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    picture.paste(sheet, (left, top))
    draw = ImageDraw.Draw(picture)
    for i, lines in enumerate(beside):
        for k, line in enumerate(lines):
            draw.text((3, top + (i + 0.5) * cell[0] + LINE * (k - (len(lines) - 1) / 2)), line, "black", font, anchor="lm")
    for j, lines in enumerate(above):
        for k, line in enumerate(lines):
            draw.text((left + (j + 0.5) * cell[1], top - LINE * (len(lines) - 1 - k)), line, "black", font, anchor="md")
    return picture


def stacked(parts: Mapping[str, Image.Image]) -> Image.Image:
    """Put pictures below each other, each below its caption."""
    font, height = ImageFont.load_default(LINE), LINE + 6
    width = max(max(part.width, math.ceil(font.getlength(name)) + 6) for name, part in parts.items())
    sheet = Image.new("RGB", (width, sum(part.height + height for part in parts.values())), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for name, part in parts.items():
        draw.text((3, top + height - 3), name, "black", font, anchor="ls")
        sheet.paste(part, (0, top + height))
        top += part.height + height
    return sheet


def zoom_of(height: int, width: int) -> int:
    """Return how many times `tiles` enlarges images of this size."""
    return max(1, math.ceil(SIDE / min(height, width)))


def asked(images: np.ndarray, renderings: Sequence[Rendering], columns: int | None = None) -> Image.Image:
    """Draw uint8 images `(n, h, w, c)` as a grid with their conditions: pictures on the left, boxes on them, words below."""
    images = opaque(images)
    n, h, w = images.shape[:3]
    zoom = max(1, math.ceil(READABLE / min(h, w)))
    size, gap = (w * zoom, h * zoom), 4
    columns = columns or math.ceil(math.sqrt(n))
    beside = max(len(of_one.pictures) for of_one in renderings)
    width = (1 + beside) * (size[0] + 1)
    words = [textwrap.wrap(of_one.words, max(8, int(width / LETTER)))[:LINES] for of_one in renderings]
    height = size[1] + LINE * max(map(len, words))
    sheet = Image.new("RGB", (columns * (width + gap) + gap, math.ceil(n / columns) * (height + gap) + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE - 2)
    for i, (image, of_one) in enumerate(zip(images, renderings, strict=True)):
        left, top = gap + i % columns * (width + gap), gap + i // columns * (height + gap)
        given = [p.mul(255).round().byte().permute(1, 2, 0).numpy() for p in of_one.pictures]
        for j, part in enumerate([*given, image]):
            tile = Image.fromarray(part[..., 0] if part.shape[-1] == 1 else part[..., :3]).convert("RGB")
            sheet.paste(tile.resize(size, Image.Resampling.NEAREST), (left + j * (size[0] + 1), top))
        x = left + beside * (size[0] + 1)
        for number, name, *box in of_one.boxes:
            a, b, wide, tall = (round(share * size[k % 2]) for k, share in enumerate(box))
            draw.rectangle((x + a, top + b, x + a + wide - 1, top + b + tall - 1), outline=colour(number))
            draw.text((x + a + 2, top + b), name, colour(number), font, stroke_width=1, stroke_fill="black")
        for j, line in enumerate(words[i]):
            draw.text((left, top + size[1] + j * LINE), line, "black", font)
    return sheet


def save_grid(
    x: Tensor,
    path: Path,
    spec: DataSpec,
    columns: int | None = None,
    renderings: Sequence[Rendering] = (),
    rows: Sequence[str] = (),
    across: Sequence[str] = (),
) -> None:
    """Write the picture of `grid` as PNG, atomically."""
    save(grid(x, spec, columns, renderings, rows, across), path)


def save(picture: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a picture of samples as PNG, atomically. text: its text chunks by name. None: the mark of generated media."""
    write_atomically(path, png(picture, marked() if text is None else text))


def marked(*, edited: bool = False) -> dict[str, str]:
    """Return the text chunk of a PNG by which other programs know generated media (IPTC, "Digital Source Type").

    edited: whether parts of the picture were given, as in inpainting.
    """
    kind = "compositeWithTrainedAlgorithmicMedia" if edited else "trainedAlgorithmicMedia"
    return {"XML:com.adobe.xmp": XMP.format(kind=kind, version=__version__)}


def png(picture: Image.Image, text: Mapping[str, str] | None = None) -> bytes:
    """Return a picture as the content of a PNG file. text: its text chunks by name."""
    buffer, info = BytesIO(), PngInfo()
    for name, value in (text or {}).items():
        info.add_itxt(name, value, zip=name != "XML:com.adobe.xmp")  # programs search files for uncompressed XMP
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def strip(
    frames: Sequence[Tensor], spec: DataSpec, columns: int = 8, rows: int = 8, ends: tuple[str, str] = ("noise", "samples")
) -> Image.Image:
    """Draw the path of a few samples as one picture: a row for each sample, or plots side by side. ends: the outer labels."""
    columns = columns if len(spec.shape) > 1 or spec.shape[0] <= 2 else 3
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)]
    titles = [ends[0], *[""] * (len(chosen) - 2), ends[1]][-len(chosen) :]
    ranges = _ranges(chosen, spec)
    if len(spec.shape) > 1:
        rows = min(rows, len(chosen[0]))
        x = torch.stack([frame[:rows].cpu() for frame in chosen], 1).flatten(0, 1)
        return grid(x, spec, len(chosen), across=titles, ranges=ranges)
    drawn = [plots.vectors(x, spec, title=title or " ", ranges=ranges) for x, title in zip(chosen, titles, strict=True)]
    sheet = Image.new("RGB", (sum(plot.width for plot in drawn), drawn[0].height), "white")
    for i, plot in enumerate(drawn):
        sheet.paste(plot, (sum(before.width for before in drawn[:i]), 0))
    return sheet


def film(frames: Sequence[Tensor], spec: DataSpec) -> list[Image.Image]:
    """Draw the path of samples as the frames of an animation, which all have the same axes."""
    count = min(FRAMES if is_picture(spec) else PLOTS, len(frames))
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]
    few = [x[:FILM] if len(spec.shape) == 2 else x[:64] if spec.is_image else x for x in chosen]
    return [grid(x, spec, ranges=_ranges(few, spec)) for x in few]


def _ranges(frames: Sequence[Tensor], spec: DataSpec) -> plots.Limits | None:
    """Return the ranges of all frames together, but at most three times as wide as at the end, where the path is data.

    Arrays of channels keep the ranges of the data.
    """
    if spec.is_image and (is_picture(spec) or plots.of_data(spec) is not None):
        return None
    ends = plots.union([plots.limits(frames[0], spec), plots.limits(frames[-1], spec)])
    data = plots.of_data(spec)
    least = data if data is not None else plots.limits(frames[-1], spec)
    span = least[:, 1] - least[:, 0]
    return np.stack([np.maximum(ends[:, 0], least[:, 0] - span), np.minimum(ends[:, 1], least[:, 1] + span)], 1)


def animation(frames: Sequence[Image.Image], milliseconds: int = 80) -> bytes:
    """Return an animated WebP that shows its last frame for a second and a half."""
    buffer = BytesIO()
    first, *others = frames
    durations = _durations(frames, milliseconds)
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=80)
    return buffer.getvalue()


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int = 80) -> None:
    """Write an animated GIF that shows its last frame for a second and a half, atomically."""
    buffer, durations = BytesIO(), _durations(frames, milliseconds)
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    write_atomically(path, buffer.getvalue())


def _durations(frames: Sequence[Image.Image], milliseconds: int) -> list[int]:
    return [milliseconds] * (len(frames) - 1) + [LAST]
