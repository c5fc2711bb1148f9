"""The pictures of a report, each as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ancestral.app import pictures
from ancestral.app.data import DataSet
from ancestral.app.evaluation import Evaluator, Subject
from ancestral.app.evaluation.samples import at_levels
from ancestral.app.pictures import grid, is_picture
from ancestral.app.plots import COLOURS, plain
from ancestral.conditioning import Rendering
from ancestral.metrics import nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID, FEW, POINTS = 64, 12, 2000  # samples of pictures, of arrays and signals, of vectors
ACROSS, NEIGHBOURS, ROWS = 6, 4, 8


def is_table(data: DataSet) -> bool:
    """Return whether the samples are columns of a table, which are drawn together with the real data."""
    return len(data.spec.shape) == 1 and (data.spec.shape[0] != 2 or bool(data.spec.channels))


def samples(x: Tensor, data: DataSet, renderings: Sequence[Rendering] = ()) -> bytes:
    """Draw the first samples, or the samples with `renderings` of their conditions, or columns of a table over real data."""
    if renderings and is_picture(data.spec):
        return _png(grid(x[: len(renderings)], data.spec, columns=ACROSS, renderings=renderings))
    if is_table(data):
        held = data.x("test")
        n = min(len(x), len(held), POINTS)
        return _png(grid(torch.cat([held[:n], x[:n]]), data.spec, rows=("real data", "samples")))
    if len(data.spec.shape) > 1 and not is_picture(data.spec):
        return _png(grid(x[:FEW], data.spec, columns=ACROSS))
    return _png(grid(x[: GRID if is_picture(data.spec) else POINTS], data.spec))


def real(data: DataSet) -> bytes | None:
    """Draw held-out samples in the same way. None for tables, which are drawn over them."""
    return None if is_table(data) else samples(data.x("test"), data)


def film(frames: Sequence[Tensor], data: DataSet) -> tuple[bytes, bytes] | None:
    """Draw the way of samples from noise as an animated WebP, and its last picture as PNG. None if it has one state."""
    if len(frames) < 2:
        return None
    drawn = pictures.film([at_levels(x, data) if i == len(frames) - 1 else x for i, x in enumerate(frames)], data.spec)
    return pictures.animation(drawn), _png(drawn[-1])


def neighbours(subject: Subject, evaluator: Evaluator) -> bytes | None:
    """Draw eight samples, each with the training samples whose features are nearest to its right. None for vectors."""
    data = evaluator.data
    if len(data.spec.shape) == 1:
        return None
    x, found = subject.samples.x[:ROWS], subject.features(evaluator.extractors[0], evaluator.n)[:ROWS]
    rows = []
    for i, feature in enumerate(found):
        order = np.argsort(((evaluator.train_features - feature) ** 2).sum(1))[:NEIGHBOURS]
        rows.append(torch.cat([x[i : i + 1], evaluator.reference.train[torch.from_numpy(order)]]))
    across = [] if is_picture(data.spec) else ["sample", "nearest", *[""] * (NEIGHBOURS - 1)]
    return _png(grid(torch.cat(rows), data.spec, columns=1 + NEIGHBOURS, across=across))


def distances(subject: Subject, evaluator: Evaluator) -> bytes:
    """Draw histograms of the distances of samples and held-out data to the training set. Without copies they coincide."""
    ours = nearest(subject.features(evaluator.extractors[0], evaluator.n), evaluator.train_features)[0]
    theirs = nearest(evaluator.test_features, evaluator.train_features)[0]
    figure, axes = _figure(4.6, 2.2)
    bins = np.linspace(0, float(np.quantile(np.concatenate([ours, theirs]), 0.99)) or 1.0, 50).tolist()
    axes.hist(theirs, bins=bins, density=True, alpha=0.45, color="#57534e", label="held-out data")
    axes.hist(ours, bins=bins, density=True, histtype="step", linewidth=1.6, color=COLOURS[0], label="samples")
    axes.set(xlabel="distance to the nearest training sample", yticks=[])
    axes.legend(frameon=False)
    return _save(figure)


def losses(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes | None:
    """Plot the loss of each model against minutes. Each has its own axes, since losses of different kinds differ in meaning.

    models: the rows of metrics.jsonl of each model, by its name.
    """
    curves = {name: _curve(rows, "total") for name, rows in models.items()}
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return None
    from matplotlib.figure import Figure

    palette = colours(list(models))
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(3.6 * columns, 2.3 * rows), dpi=150, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, lines) in zip(places, curves.items(), strict=False):
        colour = palette[name]
        for i, (label, points) in enumerate(lines.items()):
            minutes, values = np.array(points).T
            axes.plot(minutes / 60, values, color=colour, alpha=1 if i == 0 else 0.5, linewidth=1, label=label)
        if all(value > 0 for points in lines.values() for _, value in points):
            axes.set_yscale("log")
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=7)
        axes.set_title(plain(name), fontsize=9)
        axes.set_xlabel("minutes", fontsize=8)
        axes.set_ylabel("loss", fontsize=8)
        _plain(axes)
    for axes in list(figure.axes)[len(curves) :]:
        axes.set_visible(False)
    return _save(figure)


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each model, the same in every picture."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(names))}


def quality_against_time(subjects: Sequence[Subject]) -> bytes | None:
    """Plot the kernel distance during training against minutes. None if it was not measured."""
    figure, axes = _figure(6.4, 3.0)
    drawn = False
    smallest = 0.0
    palette = colours([s.name for s in subjects])
    for subject in subjects:
        rows = [(row["seconds"] / 60, row[key], row["live/std_err"]) for row in subject.rows if (key := _live(row))]
        if rows:
            drawn = True
            minutes, values, errors = np.array(rows).T
            smallest = max(smallest, float(np.median(errors)))
            axes.errorbar(
                minutes,
                values,
                errors,
                color=palette[subject.name],
                marker="o",
                markersize=3,
                linewidth=1.2,
                capsize=2,
                label=plain(subject.name),
            )
    if not drawn:
        return None
    axes.set(xlabel="minutes of training", ylabel="kernel distance")
    axes.set_yscale("symlog", linthresh=2 * smallest)  # an unbiased distance of 0 has negative estimates
    axes.axhline(0, color="#57534e", linewidth=0.8, linestyle=":")
    axes.legend(frameon=False)
    return _save(figure)


def quality_against_cost(subjects: Sequence[Subject]) -> bytes | None:
    """Plot the distance against seconds per sample, with a point for each setting of each sampler. Lower left is better."""
    figure, axes = _figure(6.4, 3.2)
    drawn = False
    palette = colours([s.name for s in subjects])
    for s in subjects:
        colour = palette[s.name]
        costs = sorted(s.costs, key=lambda cost: cost.seconds)
        if costs:
            drawn = True
            seconds, values = [cost.seconds for cost in costs], [cost.distance for cost in costs]
            axes.plot(seconds, values, color=colour, marker="o", markersize=4, linewidth=1, label=plain(s.name))
            for cost in costs:
                axes.annotate(cost.setting, (cost.seconds, cost.distance), (4, 4), textcoords="offset points", fontsize=7)
    if not drawn:
        return None
    metric = subjects[0].evaluation.headline
    if metric.real is not None and metric.real.value > 0:
        axes.axhline(metric.real.value, color="#57534e", linewidth=0.8, linestyle=":")
        axes.annotate("real data", (axes.get_xlim()[0], metric.real.value), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(xlabel="seconds per sample", ylabel=metric.name, xscale="log", yscale="log")
    axes.legend(frameon=False)
    return _save(figure)


def ranking(subjects: Sequence[Subject]) -> bytes:
    """Plot the headline distance of all subjects with error bars of two standard errors. A line marks real data."""
    figure, axes = _figure(6.4, 0.9 + 0.32 * len(subjects))
    metric = subjects[0].evaluation.headline
    for i, s in enumerate(reversed(subjects)):
        value = s.evaluation.headline.value
        colour = "#dc2626" if s.copies else "#78716c" if s.baseline else COLOURS[0]
        axes.errorbar(value.value, i, xerr=2 * (value.std_err or 0), fmt="o", color=colour, markersize=5, capsize=3)
    if metric.real is not None:
        axes.axvline(metric.real.value, color="#57534e", linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"{metric.name} (dotted: real data)", xscale="log" if metric.value.value > 0 else "linear")
    axes.set_yticks(range(len(subjects)), [plain(s.name) for s in reversed(subjects)])
    axes.set_ylim(-0.6, len(subjects) - 0.4)
    return _save(figure)


def _curve(rows: Sequence[Mapping[str, Any]], term: str) -> dict[str, list[tuple[float, float]]]:
    """Return points (seconds, value) of each player's term."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for key, value in row.items():
            if key.endswith(f"/{term}") and value is not None:
                lines.setdefault(key.partition("/")[0], []).append((row["seconds"], value))
    return lines


def _live(row: Mapping[str, Any]) -> str | None:
    return next((key for key, value in row.items() if key.startswith("live/kid") and value is not None), None)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, which="both")
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)


def _readable(axes: Axes) -> None:
    """Label logarithmic axes with a few plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "symlog":
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def _save(figure: Figure) -> bytes:
    for axes in figure.axes:
        _readable(axes)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
