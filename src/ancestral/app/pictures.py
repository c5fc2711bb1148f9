"""Pictures of samples: grids, curves, point clouds, and animations of their paths."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ancestral.conditioning.render import Rendering, colour
from ancestral.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ancestral.app.data.spec import DataSpec

SIDE = 48  # smallest side of a tile in pixels
READABLE = 96  # smallest side of a tile with words and boxes
LINE, LETTER, LINES = 12, 5.2, 4  # height of a line and width of a letter in pixels, and largest number of lines


def to_uint8(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Convert images `(n, c, h, w)` in the units of the data to uint8 `(n, h, w, c)`, scaled from the range of the data."""
    low, high = spec.range or (float(x.min()), float(x.max()))
    scaled = ((_real(x) - low) / max(high - low, 1e-12)).clamp(0, 1).mul(255).round()
    return scaled.byte().permute(0, 2, 3, 1).cpu().numpy()


def grid(x: Tensor, spec: DataSpec, columns: int | None = None, renderings: Sequence[Rendering] = ()) -> Image.Image:
    """Draw n samples as one picture: tiles for images, curves for signals, a scatter plot for points.

    Args:
        x: the samples, in the units of the data.
        spec: the description of the data.
        columns: number of columns. None: a square grid.
        renderings: the rendered condition of each sample, drawn with images and signals.
    """
    if spec.is_image:
        return asked(to_uint8(x, spec), renderings, columns) if renderings else tiles(to_uint8(x, spec), columns)
    if len(spec.shape) == 2:
        return _curves(x, spec, columns, [of_one.words for of_one in renderings])
    return _scatter(x, spec)


def tiles(images: np.ndarray, columns: int | None = None) -> Image.Image:
    """Draw uint8 images `(n, h, w, c)` as a grid with small gaps. Small images are enlarged without smoothing."""
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    zoom = zoom_of(h, w)
    gap = 1 if zoom == 1 else 2
    images = images.repeat(zoom, 1).repeat(zoom, 2)
    h, w = h * zoom, w * zoom
    sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return Image.fromarray(sheet[..., 0] if c == 1 else sheet[..., :4])


def zoom_of(height: int, width: int) -> int:
    """Return how many times `tiles` enlarges images of this size."""
    return max(1, math.ceil(SIDE / min(height, width)))


def asked(images: np.ndarray, renderings: Sequence[Rendering], columns: int | None = None) -> Image.Image:
    """Draw uint8 images `(n, h, w, c)` as a grid with their conditions: pictures on the left, boxes on them, words below."""
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


def save_grid(x: Tensor, path: Path, spec: DataSpec, columns: int | None = None, renderings: Sequence[Rendering] = ()) -> None:
    """Write the picture of `grid` as PNG, atomically."""
    buffer = BytesIO()
    grid(x, spec, columns, renderings).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def strip(frames: Sequence[Tensor], spec: DataSpec, columns: int = 8, rows: int = 8) -> Image.Image:
    """Draw the path of a few samples as one picture: rows of images with noise on the left, or plots side by side."""
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)]
    if spec.is_image:
        pictures = np.stack([to_uint8(x[:rows], spec) for x in chosen], 1)
        return tiles(pictures.reshape(-1, *pictures.shape[2:]), columns=len(chosen))
    plots = [grid(x, spec) for x in chosen]
    sheet = Image.new("RGB", (sum(plot.width for plot in plots), plots[0].height), "white")
    for i, plot in enumerate(plots):
        sheet.paste(plot, (sum(before.width for before in plots[:i]), 0))
    return sheet


def _scatter(x: Tensor, spec: DataSpec) -> Image.Image:
    """Plot the first two coordinates. The axes show the range of the data."""
    from matplotlib.figure import Figure

    points = _real(x).flatten(1).cpu().numpy()
    figure = Figure(figsize=(4.8, 4.8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    size = max(0.5, min(12.0, 4000 / len(points)))
    axes.scatter(points[:, 0], points[:, min(1, points.shape[1] - 1)], s=size, alpha=0.6, linewidths=0)
    if spec.range is not None:
        low, high = spec.range
        margin = 0.05 * (high - low)
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axes.set_aspect("equal")
    return render(figure)


def _curves(x: Tensor, spec: DataSpec, columns: int | None = None, words: Sequence[str] = ()) -> Image.Image:
    from matplotlib.figure import Figure

    signals = _real(x).cpu().numpy()
    columns = columns or math.ceil(math.sqrt(len(signals)))
    rows = math.ceil(len(signals) / columns)
    figure = Figure(figsize=(1.6 * columns, 1.1 * rows), dpi=100, layout="constrained")
    for axes, signal in zip(figure.subplots(rows, columns, squeeze=False).flat, signals, strict=False):
        axes.plot(signal.T, linewidth=1)
        if spec.range is not None:
            axes.set_ylim(*spec.range)
        axes.set(xticks=[], yticks=[])
    for axes, title in zip(figure.axes, words, strict=False):
        axes.set_title(title, fontsize=7)
    return render(figure)


def _real(x: Tensor) -> Tensor:
    """Return float32, but keep float64: it is used for numbers that float32 cannot tell apart."""
    return x if x.dtype == torch.float64 else x.float()


def render(figure: Figure) -> Image.Image:
    """Return the figure as a picture."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int = 80) -> None:
    """Write an animated GIF that shows its last frame for a second and a half."""
    durations = [milliseconds] * (len(frames) - 1) + [1500]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
