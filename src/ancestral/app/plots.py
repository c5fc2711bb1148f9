"""Plots of samples that are no pictures: the channels of arrays, signals, points in the plane and tables.

Each channel or column is drawn in its own range and under its own name, with axes in the units of the data.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ancestral.app.data.spec import DataSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

DPI = 100
PANELS = 64  # axes of signals in one picture
CHANNELS = 12  # channels of an array in one picture
MARGINALS, PAIRS, MOST = 30, 4, 5  # histograms, and columns of a pair plot beside them or of one without them
LONG = 128  # steps from which a signal has wide axes
ALIKE = 3.0  # largest ratio of the spans of channels that share their axes
WIDEST, NARROW = 640, 96  # pixels of the panel of a channel
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#4d7c0f", "#be185d", "#57534e", "#0f766e")

Limits = np.ndarray  # (C, 2): the least and the largest value of each channel


def names(spec: DataSpec) -> tuple[str, ...]:
    """Return the name of each channel, or its number."""
    noun = "column" if len(spec.shape) == 1 else "channel"
    return spec.channels or tuple(f"{noun} {i + 1}" for i in range(spec.shape[0]))


def of_data(spec: DataSpec) -> Limits | None:
    """Return the range of each channel of the training data, or None if it is not known."""
    if spec.limits:
        return np.array(spec.limits, dtype=np.float64)
    if spec.range is not None and (spec.kind != "real" or spec.shape[0] == 1):
        return np.tile(np.array(spec.range, dtype=np.float64), (spec.shape[0], 1))
    return None


def limits(x: Tensor, spec: DataSpec) -> Limits:
    """Return the range of each channel of the training data and of the samples x together."""
    parts = [values[np.isfinite(values)] for values in numbers(x).swapaxes(0, 1).reshape(spec.shape[0], -1)]
    found = np.array([(part.min(), part.max()) if len(part) else (0.0, 1.0) for part in parts], dtype=np.float64)
    return found if (data := of_data(spec)) is None else union([found, data])


def union(several: Iterable[Limits]) -> Limits:
    """Return the smallest ranges that hold all given ones."""
    both = np.stack(list(several))
    return np.stack([both[..., 0].min(0), both[..., 1].max(0)], 1)


def channels(
    x: Tensor, spec: DataSpec, columns: int, rows: Sequence[str] = (), across: Sequence[str] = (), ranges: Limits | None = None
) -> Image.Image:
    """Draw arrays `(n, c, h, w)`: a panel for each channel, in which all samples stand as tiles, with its name and its scale.

    Args:
        x: the arrays.
        spec: the description of the data.
        columns: number of samples in a row.
        rows: the label of each row of samples.
        across: the label of each column of samples.
        ranges: the ranges of the scales. None: those of the data, or of x if they are not known.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    values, count = numbers(x), min(spec.shape[0], CHANNELS)
    data = of_data(spec)
    known = ranges if ranges is not None else data if data is not None else limits(x, spec)
    n, _, h, w = values.shape
    sheet = np.full((count, math.ceil(n / columns) * (h + 1) - 1, columns * (w + 1) - 1), np.nan)
    for i, sample in enumerate(values):
        top, left = i // columns * (h + 1), i % columns * (w + 1)
        sheet[:, top : top + h, left : left + w] = sample[:count]
    zoom = min(math.ceil(48 / min(h, w)), WIDEST / sheet.shape[2])
    wide, tall = (max(NARROW, side * zoom) / DPI for side in (sheet.shape[2], sheet.shape[1]))
    left, bar, top, gap = 0.1 + 0.07 * max(map(len, rows), default=0), 0.85, 0.28 + 0.18 * bool(across), 0.08
    beside = min(3 if count != 4 else 2, count)
    below = math.ceil(count / beside)
    width, height = left + beside * (wide + bar), below * (tall + top + gap) + 0.2 * (count < spec.shape[0])
    figure = Figure(figsize=(width, height), dpi=DPI)
    colours = colormaps["viridis"].with_extremes(bad="white")
    for c in range(count):
        x_at, y_at = left + c % beside * (wide + bar), height - (c // beside + 1) * (tall + top + gap) + gap
        axes = figure.add_axes((x_at / width, y_at / height, wide / width, tall / height))
        low, high = _open(known[c])
        smooth = "nearest" if zoom >= 1 else "antialiased"
        image = axes.imshow(sheet[c], cmap=colours, vmin=low, vmax=high, interpolation=smooth)
        axes.set_title(plain(names(spec)[c]), fontsize=9, pad=4 + 12 * bool(across))
        axes.spines[:].set_visible(False)
        at = [k * (w + 1) + w / 2 - 0.5 for k in range(columns)] if across else []
        axes.set_xticks(at, list(map(plain, across)), fontsize=7)
        axes.set_yticks(
            [k * (h + 1) + h / 2 - 0.5 for k in range(len(rows))] if c % beside == 0 else [],
            list(map(plain, rows)) if c % beside == 0 else [],
            fontsize=8,
        )
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        beyond = (np.nanmin(sheet[c]) < low) + 2 * (np.nanmax(sheet[c]) > high)
        scale = figure.add_axes(((x_at + wide + 0.06) / width, y_at / height, 0.11 / width, tall / height))
        figure.colorbar(image, cax=scale, extend=("neither", "min", "max", "both")[beyond])
        _few_ticks(scale, "y", max(2, min(5, int(tall * 2))), (low, high))
    if count < spec.shape[0]:
        figure.text(0.01, 0.01, f"the first {count} of {spec.shape[0]:,} channels", fontsize=8)
    return render(figure)


def signals(
    x: Tensor,
    spec: DataSpec,
    columns: int | None = None,
    rows: Sequence[str] = (),
    across: Sequence[str] = (),
    words: Sequence[str] = (),
    ranges: Limits | None = None,
) -> Image.Image:
    """Draw signals `(n, c, l)`: axes for each, or for each of its channels if their ranges are unlike.

    All samples have the same axes, which hold every value. The other arguments are those of `channels`; words: the title of
    each sample.
    """
    from matplotlib.figure import Figure

    c, length = spec.shape
    known = ranges if ranges is not None else limits(x, spec)
    shared = c == 1 or (c <= len(COLOURS) and np.ptp(known) <= ALIKE * np.diff(known).min())
    each = 1 if shared else min(c, PANELS)
    columns = min(len(x), columns or min(math.ceil(math.sqrt(len(x))), 8 if length <= LONG else 4))
    n = len(x) if rows else min(len(x), max(1, PANELS // each // columns) * columns)
    wide, tall, gap = (3.2 if length > LONG and columns <= 4 else 1.6), (1.05 if shared else 0.9), 0.08
    title = 0.2 if words else 0.0
    cut = {f"the first {n} of {len(x)} samples": n < len(x), f"the first {each} of {c} channels": not shared and each < c}
    note = ", ".join(words for words, needed in cut.items() if needed)
    left, top = 0.62 + 0.2 * bool(rows), 0.1 + 0.2 * bool(across) + 0.25 * (shared and c > 1) + 0.22 * bool(note)
    cell = each * (tall + gap) + title + 0.08 * (not shared)
    width, height = left + columns * (wide + gap) + 0.1, top + math.ceil(n / columns) * cell + 0.36
    figure = Figure(figsize=(width, height), dpi=DPI)

    def aside(words: str, inches: float) -> None:
        figure.text(0.08 / width, inches / height, plain(words), rotation=90, va="center", fontsize=8)

    for i, signal in enumerate(numbers(x[:n])):
        row, column = divmod(i, columns)
        bottom = height - top - row * cell - title
        for j in range(each):
            place = left + column * (wide + gap), bottom - (j + 1) * (tall + gap) + gap
            axes = figure.add_axes((place[0] / width, place[1] / height, wide / width, tall / height))
            for k in range(c) if shared else [j]:
                axes.plot(signal[k], linewidth=1, color=COLOURS[k if shared else 0])
            low, high = _wide((known[:, 0].min(), known[:, 1].max()) if shared else known[j])
            axes.set(xlim=(0, max(1, length - 1)), ylim=(low, high))
            axes.spines[:].set_color("#a8a29e")
            _few_ticks(axes, "x", 4 if j == each - 1 and i + columns >= n else 0, (0, length), True)
            _few_ticks(axes, "y", 3 if column == 0 else 0, (low, high))
            if column == 0 and not shared:
                axes.set_ylabel("\n".join(map(plain, textwrap.wrap(names(spec)[j], 16)[:2])), fontsize=7)
            if j == 0 and i < len(words):
                axes.set_title(plain(_short(words[i], int(wide * 15))), fontsize=7, pad=3)
            if i == column and j == 0 and across:
                axes.set_title(plain(_short(across[column], int(wide * 13))), fontsize=8, pad=3)
        if column == 0 and rows:
            aside(rows[row], height - top - (row + 0.5) * cell)
    figure.text((left + 0.5 * columns * wide) / width, 0.06 / height, "step", fontsize=8, ha="center")
    if shared and not rows:
        aside(names(spec)[0] if c == 1 and spec.channels else "value", height / 2)
    if shared and c > 1:
        figure.legend(
            figure.axes[0].lines,
            list(map(plain, names(spec))),
            loc="upper center",
            ncols=min(c, 6),
            fontsize=8,
            frameon=False,
            borderaxespad=0.1,
        )
    if note:
        figure.text(0.08 / width, 1 - 0.16 / height, note, fontsize=8)
    return render(figure)


def vectors(
    x: Tensor, spec: DataSpec, rows: Sequence[str] = (), joined: bool = False, title: str = "", ranges: Limits | None = None
) -> Image.Image:
    """Draw vectors `(n, d)`: points in the plane, or named histograms of the columns with a pair plot.

    Args:
        x: the vectors.
        spec: the description of the data.
        rows: the label of each of equal parts of x, which have a colour each; labels may repeat.
        joined: whether the vectors of a part are a path, which is drawn as a line.
        title: the words above.
        ranges: the ranges of the axes. None: of the data and of x.
    """
    from matplotlib.figure import Figure

    known = ranges if ranges is not None else limits(x, spec)
    groups: dict[str, list[np.ndarray]] = {}
    for label, part in zip(rows or ("",), numbers(x).reshape(max(1, len(rows)), -1, spec.shape[0]), strict=True):
        groups.setdefault(label, []).append(part)
    spans = known[:, 1] - known[:, 0]
    legend = len(groups) > 1
    if len(spans) == 2 and not spec.channels and spans.max() <= ALIKE * spans.min():
        side = 2.6 if title else 4.8  # with a title it is one of several plots side by side
        figure = Figure(figsize=(side + 1.2 * legend, side), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        _scatter(axes, groups, 0, 1, joined)
        low, high = known[:, 0].min(), known[:, 1].max()
        margin = 0.05 * (high - low)
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        axes.set(xlabel=names(spec)[0], ylabel=names(spec)[1])
        axes.tick_params(labelsize=8)
        if title:
            axes.set_title(plain(title), fontsize=10)
    else:
        figure = _table(groups, spec, known, joined, title)
    if legend:
        handles, labels = figure.axes[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    return render(figure)


def _table(groups: dict[str, list[np.ndarray]], spec: DataSpec, known: Limits, joined: bool, title: str) -> Figure:
    """Draw the columns of a table: a pair plot of few; of many, histograms above a pair plot of the first that vary."""
    from matplotlib.figure import Figure

    d = spec.shape[0]
    data = of_data(spec)
    if d <= MOST:
        side = max(1.6 * d, 3.0)
        figure = Figure(figsize=(side + 0.8, side + 0.4), dpi=DPI, layout="constrained")
        _pairs(figure, groups, spec, known, data, range(d), joined)
    else:
        shown = min(d, MARGINALS)
        across, below = 6, math.ceil(shown / 6)
        figure = Figure(figsize=(10.2, 1.15 * below + 6.4), dpi=DPI, layout="constrained")
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15 * below + 0.3, 6.1))
        above, under = parts[0, 0], parts[1, 0]
        for i, axes in enumerate(above.subplots(below, across, squeeze=False).flat):
            if i < shown:
                _marginal(axes, groups, i, known, data)
                axes.set_title(plain(_short(names(spec)[i], 20)), fontsize=8, pad=3)
            else:
                axes.set_axis_off()
        if shown < d:
            above.supxlabel(f"the first {shown} of {d:,} columns", fontsize=8)
        vary = [i for i in range(d) if known[i, 1] > known[i, 0] and (data is None or data[i, 1] > data[i, 0])]
        _pairs(under, groups, spec, known, data, vary[:PAIRS] or range(PAIRS), joined)
    if title:
        figure.suptitle(plain(title), fontsize=10)
    return figure


def _pairs(
    figure: FigureBase,
    groups: dict[str, list[np.ndarray]],
    spec: DataSpec,
    known: Limits,
    data: Limits | None,
    chosen: Sequence[int],
    joined: bool,
) -> None:
    """Draw a histogram of each chosen column on the diagonal, and each pair of columns below it."""
    k = len(chosen)
    grid = figure.subplots(k, k, squeeze=False)
    for row, a in enumerate(chosen):
        for column, b in enumerate(chosen):
            axes = grid[row, column]
            if column > row:
                axes.set_axis_off()
                continue
            if row == column:
                _marginal(axes, groups, a, known, data)
            else:
                _scatter(axes, groups, b, a, joined)
                axes.set(xlim=_wide(known[b]), ylim=_wide(known[a]))
                _few_ticks(axes, "x", 3 if row == k - 1 else 0, known[b])
                _few_ticks(axes, "y", 4 if column == 0 else 0, known[a])
            if row == k - 1:
                axes.set_xlabel(plain(_short(names(spec)[b], 22)), fontsize=8)
            if column == 0 and row > 0:
                axes.set_ylabel(plain(_short(names(spec)[a], 22)), fontsize=8)


def _marginal(axes: Axes, groups: dict[str, list[np.ndarray]], i: int, known: Limits, data: Limits | None) -> None:
    """Draw a histogram of column i. The range of the data is grey."""
    values = {label: np.concatenate(parts)[:, i] for label, parts in groups.items()}
    every = np.concatenate(list(values.values()))
    edges, whole = _edges(every[np.isfinite(every)], *_open(known[i]))
    if data is not None:
        axes.axvspan(*_open(data[i]), color="#f5f5f4", zorder=0)
    one = {"histtype": "bar", "rwidth": 0.8} if whole else {"histtype": "stepfilled"}
    fill: dict[str, Any] = {"alpha": 0.7, **one} if len(values) == 1 else {"histtype": "step", "linewidth": 1.3}
    for k, (label, column) in enumerate(values.items()):
        fill |= {"color": COLOURS[k % len(COLOURS)], "label": plain(label)}
        axes.hist(column[np.isfinite(column)], bins=edges, density=True, **fill)
    low, high = _wide(known[i])
    axes.set(xlim=(min(low, edges[0]), max(high, edges[-1])), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    _few_ticks(axes, "x", 3, known[i], whole)


def _scatter(axes: Axes, groups: dict[str, list[np.ndarray]], a: int, b: int, joined: bool) -> None:
    """Plot column b against column a, each group in its colour."""
    for k, (label, parts) in enumerate(groups.items()):
        colour = COLOURS[k % len(COLOURS)]
        points = np.concatenate(parts)
        size = max(1.0, min(12.0, 4000 / len(points)))
        axes.scatter(points[:, a], points[:, b], s=size, alpha=0.6, linewidths=0, color=colour, label=plain(label))
        for part in parts if joined else ():
            axes.plot(part[:, a], part[:, b], linewidth=0.8, color=colour)


def _edges(values: np.ndarray, low: float, high: float) -> tuple[list[float], bool]:
    """Return the edges of at most 30 bins, and whether the values are whole numbers with a bin for each."""
    if len(values) and high - low < 2**31 and bool((values == np.rint(values)).all()):
        width = math.ceil((high - low + 1) / 30)  # whole, so that all bins hold equally many numbers
        count = math.ceil((math.floor(high) - math.ceil(low) + 1) / width)
        return [math.ceil(low) - 0.5 + width * i for i in range(count + 1)], width == 1
    return np.linspace(low, high, 31).tolist(), False


def _open(pair: Any) -> tuple[float, float]:
    """Return a range that is not empty."""
    low, high = map(float, pair)
    half = 0.5 * max(1.0, 1e-6 * abs(low))
    return (low - half, high + half) if high - low <= 1e-12 * abs(low) else (low, high)


def _wide(pair: Any) -> tuple[float, float]:
    low, high = _open(pair)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _few_ticks(axes: Axes, axis: Literal["x", "y"], count: int, pair: Any, whole: bool = False) -> None:
    """Label an axis with a few numbers; those of a range that reaches 10,000 in thousands (k), millions (M) or more."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    one = axes.xaxis if axis == "x" else axes.yaxis
    if not count:
        one.set_ticks([])
        return
    low, high = _open(pair)
    top = max(abs(low), abs(high))
    size, sign = next(((size, sign) for size, sign in UNITS if top >= 10 * size), (1.0, ""))
    digits = max(4, 2 + math.ceil(math.log10(max(1.0, top / (high - low)))))
    one.set_major_locator(MaxNLocator(count, integer=whole, min_n_ticks=1))
    one.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:.{digits}g}{sign}" if value else "0"))
    axes.tick_params(axis=axis, labelsize=7, length=2)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def plain(name: str) -> str:
    """Return a name as words, in which matplotlib sees no formula and no sign that hides it from a legend."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in name).replace("$", r"\$")
    return f"\N{THIN SPACE}{shown}" if shown.startswith("_") else shown


def numbers(x: Tensor) -> np.ndarray:
    """Return float32, but keep float64: it is used for numbers that float32 cannot tell apart."""
    return (x if x.dtype == torch.float64 else x.float()).cpu().numpy()


def render(figure: Figure) -> Image.Image:
    """Return the figure as a picture."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
