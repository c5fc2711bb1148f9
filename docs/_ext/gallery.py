"""`{gallery} GROUP`: a picture of every kind of data, report or edit, drawn by the functions that the commands use.

The data are made up here, and stand in place of samples, so that the page needs no trained model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from docutils import nodes
from drawn import key, places
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ancestral.app.data import DataSet, load
from ancestral.app.data.arrays import from_columns
from ancestral.app.data.scenes import DIGITS, scenes
from ancestral.app.pictures import film, grid, save_animation, stacked, strip
from ancestral.conditioning import Conditioner, LayoutCondition, TextCondition

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A kind of picture. draw writes it to a path. command: what makes such a picture of a run."""

    name: str
    group: str
    caption: str
    command: str
    draw: Callable[[Path], None]


ENTRIES: list[Entry] = []


def entry(group: str, name: str, command: str, caption: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a function that returns a picture, or the frames of an animation, as an entry."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        def draw(path: Path) -> None:
            made = function()
            if isinstance(made, bytes):
                path.write_bytes(made)
            elif isinstance(made, Image.Image):
                made.save(path)
            else:
                save_animation(made, path)

        ENTRIES.append(Entry(name, group, caption, command, draw))
        return function

    return register


def blobs(n: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """Bright spots of random place and width, `(n, side, side)` in [0, 1]."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:side, :side]
    places, widths = random.uniform(0.2, 0.8, (n, 2)) * side, random.uniform(0.1, 0.2, n) * side
    return np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2 / w**2) for (a, b), w in zip(places, widths, strict=True)])


def waves(n: int, channels: int, length: int, seed: int = 0) -> np.ndarray:
    """Sines of random phase, frequency and height, `(n, channels, length)`."""
    random = np.random.RandomState(seed)
    phase, frequency, height = (random.uniform(*ends, (n, channels, 1)) for ends in ((0, 1), (1, 4), (0.5, 2)))
    return height * np.sin(2 * np.pi * (phase + frequency * np.arange(length) / length))


def fields() -> DataSet:
    scales = np.array([[30, -5], [1e5, 0], [0.01, 0], [300, 100], [1, -0.5]])
    x = np.stack([scale * blobs(200, seed=i) + offset for i, (scale, offset) in enumerate(scales)], 1)
    names = ["temperature, °C", "pressure, Pa", "humidity", "wind, m/s", "vorticity"]
    return from_columns({"x": x.astype(np.float32), "channel_names": names}, axes="n c h w")


def sensors() -> DataSet:
    x = waves(200, 3, 96) * [[1], [50], [1e4]] + [[0], [300], [0]]
    names = ["acceleration, m/s²", "temperature, K", "load, N"]
    return from_columns({"x": x.astype(np.float32), "channel_names": names}, axes="n c l")


def table(columns: int) -> DataSet:
    """People: ages in years, incomes, a yes or no, an identifier and a constant; of more columns, factors beside."""
    random = np.random.RandomState(0)
    age, hidden = random.randint(18, 90, 2000), random.randn(2000, 3)
    income = np.exp(9.5 + age / 60 + 0.4 * random.randn(2000))
    known = {
        "age": age,
        "income": income,
        "owner": income > 40_000,
        "person": 20_000_000 + np.arange(2000),
        "planet": 0 * age + 3,
    }
    for i in range(columns - 5):
        known[f"factor {i + 1}"] = (hidden[:, i % 3] + random.randn(2000)) * 10.0 ** (i % 5 - 2)
    values = np.stack([column.astype(np.float64) for column in known.values()], 1)[:, :columns]
    return from_columns({"x": values, "channel_names": list(known)[:columns]}, axes="n d")


def noised(data: DataSet, n: int, count: int = 9) -> list[torch.Tensor]:
    """The way of n samples out of noise, by the variance-preserving forward process."""
    x, spec = data.x("train")[:n], data.spec
    mean, std = (torch.tensor(v).view(-1, *[1] * (x.ndim - 2)) for v in (spec.mean, spec.std))
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    shares = torch.linspace(0, 1, count).tolist()
    return [(mean + share**0.5 * (x - mean) + (1 - share) ** 0.5 * std * eps).to(x.dtype) for share in shares]


def of(data: DataSet, n: int, **how: Any) -> Image.Image:
    return grid(data.x("train")[:n], data.spec, **how)


SAMPLE = "ancestral sample runs/mine"


@entry("samples", "classes.png", f"{SAMPLE} --class 0,1,2,3 -n 16", "Grey pictures, a column for each requested class")
def _() -> Image.Image:
    data = load("digits")
    rows = torch.stack([torch.nonzero(data.labels() == c)[:4, 0] for c in range(4)], 1).flatten()
    return grid(data.x("train", rows), data.spec, 4, across=[f"class {c}" for c in range(4)])


@entry("samples", "legend.png", f'{SAMPLE} --prompt "three" --legend', "Pictures with the texts and boxes of their conditions")
def _() -> Image.Image:
    data = scenes(20, 12)
    kinds = {"text": TextCondition(8), "layout": LayoutCondition(DIGITS, 3, (32, 32), (32, 32), 8)}
    conditioner = Conditioner(kinds)
    conditioner.fit(data.train.columns)
    rows = torch.arange(6)
    return grid(data.x("test", rows), data.spec, 6, data.encoded(conditioner).render(rows))


@entry("samples", "transparent.png", SAMPLE, "Colour pictures with transparency, on a pattern of squares")
def _() -> Image.Image:
    colours = np.stack([blobs(64, 24, seed=i) for i in range(4)], 1)
    colours[:, 3] = blobs(64, 24, seed=9) > 0.2
    return of(load((255 * colours).astype(np.uint8)), 16, columns=8)


@entry("samples", "field.png", SAMPLE, "Real numbers in one channel, with their scale")
def _() -> Image.Image:
    return of(load((40 * blobs(200) - 7).astype(np.float32)), 16, columns=8)


@entry("samples", "channels.png", SAMPLE, "Five channels: a panel for each, with its name and its scale")
def _() -> Image.Image:
    return of(fields(), 16)


@entry("samples", "signal.png", SAMPLE, "Signals of one channel. All have the same axes")
def _() -> Image.Image:
    return of(load(waves(200, 1, 64).astype(np.float32)), 8, columns=4)


@entry("samples", "long-signal.png", SAMPLE, "Long signals")
def _() -> Image.Image:
    return of(load(waves(100, 1, 2000).astype(np.float32)), 6)


@entry("samples", "alike-channels.png", SAMPLE, "Signals whose channels have similar ranges share their axes")
def _() -> Image.Image:
    named = from_columns({"x": waves(200, 3, 64).astype(np.float32), "channel_names": ["x", "y", "z"]}, axes="n c l")
    return of(named, 8, columns=4)


@entry("samples", "unlike-channels.png", SAMPLE, "Signals whose channels have different ranges: axes for each channel")
def _() -> Image.Image:
    return of(sensors(), 4, columns=4)


@entry("samples", "points.png", SAMPLE, "Points in the plane")
def _() -> Image.Image:
    return of(load("moons"), 2000)


@entry("samples", "table-2.png", SAMPLE, "A table of two columns")
def _() -> Image.Image:
    return of(table(2), 1000)


@entry("samples", "table-5.png", SAMPLE, "A table of five columns: one is yes or no, one is constant")
def _() -> Image.Image:
    return of(table(5), 1000)


@entry("samples", "table-30.png", SAMPLE, "A table of thirty columns: all histograms, and pairs of the first columns that vary")
def _() -> Image.Image:
    return of(table(30), 1000)


@entry("paths", "pictures-path.png", f"{SAMPLE} --trajectory way.png", "Pictures come out of noise")
def _() -> Image.Image:
    data = load("digits")
    return strip(noised(data, 4), data.spec)


@entry("paths", "channels-path.png", f"{SAMPLE} --trajectory way.png", "Arrays with channels come out of noise")
def _() -> Image.Image:
    data = fields()
    return strip(noised(data, 3), data.spec, columns=6)


@entry("paths", "signals-path.png", f"{SAMPLE} --trajectory way.png", "Signals come out of noise")
def _() -> Image.Image:
    data = sensors()
    return strip(noised(data, 1), data.spec, columns=5)


@entry("paths", "table-path.png", f"{SAMPLE} --trajectory way.png", "A table comes out of noise")
def _() -> Image.Image:
    data = table(3)
    return strip(noised(data, 500), data.spec)


@entry(
    "paths",
    "points-path.gif",
    f"{SAMPLE} --trajectory way.gif",
    "Points come out of noise, as an animation that stops at its end for a second and a half",
)
def _() -> Sequence[Image.Image]:
    data = load("moons")
    return film(noised(data, 1000), data.spec)


@entry("edits", "vary.png", f"{SAMPLE} --vary three.png", "Variations, below the given picture")
def _() -> Image.Image:
    data = load("digits")
    rows = torch.nonzero(data.labels() == 3)[:17, 0]
    x = data.x("train", rows)
    return stacked({"given": grid(x[:1], data.spec), "samples": grid(x[1:], data.spec, 8)})


@entry(
    "edits", "inpaint.png", f"{SAMPLE} --inpaint three.png --mask half.png", "Filled in, below the given picture with its hole"
)
def _() -> Image.Image:
    data = load("digits")
    x = data.x("train", torch.nonzero(data.labels() == 3)[:17, 0])
    hole = torch.where(torch.arange(8) < 4, x, 0.5)
    filled = torch.where(torch.arange(8) < 4, x[:1], x[1:])
    return stacked({"given": grid(hole[:1], data.spec), "samples": grid(filled, data.spec, 8)})


@entry("edits", "upscale.png", f"{SAMPLE} --upscale small.png", "Enlarged, below the given small picture")
def _() -> Image.Image:
    data = load("digits")
    x = data.x("train", torch.nonzero(data.labels() == 3)[:16, 0])
    small = torch.nn.functional.avg_pool2d(x[:1], 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return stacked({"given": grid(small, data.spec), "samples": grid(x, data.spec, 8)})


@entry(
    "edits", "table-reconstruction.png", f"{SAMPLE} --reconstruct people.parquet", "Rows of a table and their reconstructions"
)
def _() -> Image.Image:
    data = table(3)
    x = data.x("train")[:200]
    near = x + 0.2 * torch.tensor(data.spec.std) * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return grid(torch.cat([x, near]), data.spec, rows=("data", "reconstruction"))


def reported() -> tuple[list[Any], Any]:
    """Two evaluated subjects, held-out digits with little and much noise, and their evaluator."""
    from ancestral.app.evaluation import Evaluator, Samples, Subject
    from ancestral.app.evaluation.subject import Cost

    data = load("digits")
    evaluator, random = Evaluator(data, n=300, extractors=["random"]), torch.Generator().manual_seed(0)
    subjects = []
    for name, noise, level in (("diffusion", 0.05, 1.0), ("vae", 0.2, 1.5)):
        x = data.x("test").repeat(2, 1, 1, 1)[:300]
        x = (x + noise * torch.randn(x.shape, generator=random)).clamp(0, 1)
        seconds = np.linspace(5, 120, 24)
        rows = [
            {
                "seconds": s,
                "model/total": level * (0.3 + np.exp(-s / 20)),
                "live/kid-random": level * np.exp(-s / 30),
                "live/std_err": 0.02,
            }
            for s in seconds
        ]
        costs = tuple(Cost(f"{steps} steps", steps / 1000, level * (0.2 + 1 / steps), None) for steps in (5, 10, 20, 50))
        subject = Subject(name, Samples(x), rows=rows, costs=costs)
        evaluator.evaluate(subject)
        subjects.append(subject)
    return subjects, evaluator


def report_entries() -> None:
    """Register the figures of a report."""
    from ancestral.app.report import figures

    kept = SimpleNamespace(made=None)

    def prepared() -> tuple[list[Any], Any]:
        kept.made = kept.made or reported()
        return kept.made

    for function, caption, arguments in (
        (figures.ranking, "The distance of each subject to the data", lambda s, e: (s,)),
        (figures.losses, "The losses during training", lambda s, e: ({one.name: one.rows for one in s},)),
        (figures.quality_against_time, "Quality against time, after training with --evaluate-every", lambda s, e: (s,)),
        (figures.quality_against_cost, "Quality against the cost of sampling", lambda s, e: (s,)),
        (figures.neighbours, "Samples beside their nearest training samples", lambda s, e: (s[0], e)),
        (
            figures.distances,
            "Distances to the training data: copies would be nearer than held-out data",
            lambda s, e: (s[1], e),
        ),
    ):
        name = f"{function.__name__.replace('_', '-')}.png"
        entry("report", name, "ancestral compare runs/one runs/two", caption)(
            lambda function=function, arguments=arguments: function(*arguments(*prepared()))
        )
    entry("report", "table.png", "ancestral report runs/people", "Samples of the columns of a table, over the real data")(
        lambda: figures.samples(noised(table(3), 600)[7], table(3))
    )


report_entries()


class Gallery(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        root, _ = places(self)
        found: list[nodes.Node] = []
        for one in (one for one in ENTRIES if one.group == self.arguments[0]):
            path = root / f"{key('gallery', one.name)}-{one.name}"
            if not path.exists():
                begun = time.monotonic()
                one.draw(path)
                logger.info("drew %s in %.1f s", one.name, time.monotonic() - begun)
            image = nodes.image(uri=f"/{path.relative_to(self.env.srcdir)}", alt=one.caption)
            caption = nodes.caption("", "", nodes.Text(f"{one.caption}. "), nodes.literal("", one.command))
            found.append(nodes.figure("", image, caption))
        return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
