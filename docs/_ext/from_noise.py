"""The moving picture of the README: samples of several runs on their way from noise, each row with its label.

    python docs/_ext/from_noise.py --out from-noise.webp "flowers=runs/flowers" "points=runs/moons,runs/rings"

Each argument is a row: its label, and one run or several. Runs of points have one tile each; those of pictures and signals
share the other tiles of the row. All frames show the same seeds, and all rows have the same number of steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import animation, is_picture, to_uint8
from ancestral.app.plots import COLOURS
from ancestral.app.training.run import Run

ACROSS, TILE, GAP, LABEL, FINER = 8, 88, 4, 118, 3  # tiles of a row; pixels; drawn larger by FINER
STEPS, POINTS = 28, 700
PAPER, INK = (255, 255, 255), (28, 25, 23)


class Row(NamedTuple):
    label: str
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, text: str) -> Row:
        label, _, runs = text.partition("=")
        return cls(label, tuple(Run.existing(run) for run in runs.split(",")))

    def frames(self, seed: int) -> list[list[Image.Image]]:
        """Return the tiles of the row at each step."""
        points = [run for run in self.runs if is_points(run.spec)]
        others = len(self.runs) - len(points)
        share = (ACROSS - len(points)) // others if others else 0
        parts = [tiles(run, 1 if run in points else share, seed) for run in self.runs]
        return [[tile for part in parts for tile in part[i]] for i in range(STEPS + 1)]


def is_points(spec: DataSpec) -> bool:
    return spec.shape == (2,)


def tiles(run: Run, n: int, seed: int) -> list[list[Image.Image]]:
    """Return n tiles of a run at each step. Of a model with classes, each tile has the next class."""
    spec, model = run.spec, run.load_model("cpu")
    drawn = POINTS if is_points(spec) else n
    condition = {"class": [i % len(spec.classes) for i in range(drawn)]} if "class" in model.conditioner.kinds else None
    found = []
    for state in model.trajectory(drawn, condition, seeds=range(seed, seed + drawn), steps=STEPS):
        x = state.x.cpu()
        if is_picture(spec):
            found.append([Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in to_uint8(x, spec)])
            found[-1] = [image.convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC) for image in found[-1]]
        elif is_points(spec):
            found.append([scatter(x.numpy(), spec)])
        else:
            found.append([curves(signal.numpy(), spec) for signal in x])
    return found


def scatter(x: np.ndarray, spec: DataSpec) -> Image.Image:
    side = TILE * FINER
    sheet = Image.new("RGB", (side, side), (250, 250, 249))
    draw = ImageDraw.Draw(sheet)
    low, high = spec.range or (-2.0, 2.0)
    for a, b in (x - low) / (high - low) * side:
        draw.ellipse((a - 3, side - b - 3, a + 3, side - b + 3), fill=COLOURS[0])
    return sheet.resize((TILE, TILE), Image.Resampling.LANCZOS)


def curves(x: np.ndarray, spec: DataSpec) -> Image.Image:
    """Draw the channels of a signal, each scaled to four of its deviations."""
    side = TILE * FINER
    sheet = Image.new("RGB", (side, side), (250, 250, 249))
    draw = ImageDraw.Draw(sheet)
    for channel, mean, std, colour in zip(x, spec.mean, spec.std, COLOURS, strict=False):
        heights = side / 2 - (channel - mean) / (4 * std) * side / 2
        places = np.linspace(0.04, 0.96, len(channel)) * side
        draw.line(list(zip(places.tolist(), heights.tolist(), strict=True)), fill=colour, width=2 * FINER - 1, joint="curve")
    return sheet.resize((TILE, TILE), Image.Resampling.LANCZOS)


def sheet(labels: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    font = ImageFont.load_default(14)
    picture = Image.new("RGB", (LABEL + ACROSS * (TILE + GAP), len(rows) * (TILE + GAP)), PAPER)
    draw = ImageDraw.Draw(picture)
    for i, (label, row) in enumerate(zip(labels, rows, strict=True)):
        top = i * (TILE + GAP)
        draw.multiline_text((2, top + TILE / 2), label.replace(", ", ",\n"), INK, font, anchor="lm", spacing=4)
        for j, tile in enumerate(row):
            picture.paste(tile, (LABEL + j * (TILE + GAP), top))
    return picture


def main(rows: Sequence[str], out: Path, seed: int) -> None:
    found = [Row.of(text) for text in rows]
    films = [row.frames(seed) for row in found]
    frames = [sheet([row.label for row in found], [film[i] for film in films]) for i in range(STEPS + 1)]
    out.write_bytes(animation(frames, 90))
    print(f"{out}: {len(frames)} frames, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="LABEL=RUN[,RUN]")
    parser.add_argument("--out", type=Path, default=Path("from-noise.webp"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.rows, options.out, options.seed)
