"""Pictures of claims whose sides are functions, with one panel for each pair of axes.

Dots with two standard errors are the left side. The right side is a line: solid if the sides should be equal, dashed if it is a
bound. Clouds of points have their own panels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image

from ancestral.app.plots import render
from ancestral.app.theory.claims import Clouds, Sides, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2")
COLUMNS = 3


def draw(verdict: Verdict) -> Image.Image | None:
    """Draw the picture of a verdict. Returns None if it has neither functions nor clouds."""
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str, str], list[Sides]] = {}
    for sides in verdict.sides:
        if sides.along is not None:
            panels.setdefault(sides.along.panel(), []).append(sides)
    count = len(panels) + len(verdict.clouds)
    if not count:
        return None
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns, 3.2 * rows), dpi=110, layout="constrained")
    places = iter(figure.subplots(rows, columns, squeeze=False).flat)
    for (axis, of, log), group in panels.items():
        axes = next(places)
        _functions(axes, group)
        axes.set(xlabel=axis, ylabel=of)
        if "x" in log:
            _logarithmic(axes, group)
        if "y" in log:
            axes.set_yscale("log")
    for clouds in verdict.clouds:
        _clouds(next(places), clouds)
    for axes in places:
        axes.set_axis_off()
    return render(figure)


def _functions(axes: Axes, group: list[Sides]) -> None:
    """Plot both sides of a group of comparisons. A left side that occurs several times is drawn once."""
    drawn: list[Sides] = []
    for i, sides in enumerate(group):
        assert sides.along is not None
        colour, at = COLOURS[i % len(COLOURS)], sides.along.at
        style = "-" if sides.relation == "=" else "--"
        width = 1.5 + 2.5 * sum(_coincide(sides, later) for later in group[i + 1 :])  # so that all lines are visible
        axes.plot(at, sides.right, style, color=colour, linewidth=width, alpha=0.65, label=sides.what)
        if not any(other.left.equal(sides.left) for other in drawn):
            axes.errorbar(at, sides.left, 2 * sides.std_err, fmt="o", color=colour, markersize=3.5, elinewidth=1, zorder=3)
        drawn.append(sides)
    axes.legend(fontsize=7.5, framealpha=0.8)
    axes.margins(x=0.03)


def _coincide(one: Sides, other: Sides) -> bool:
    return one.right.shape == other.right.shape and bool(torch.allclose(one.right, other.right, rtol=1e-2, atol=1e-3))


def _logarithmic(axes: Axes, group: list[Sides]) -> None:
    """Make the horizontal axis logarithmic. If there are few points, each has a tick."""
    at = torch.cat([sides.along.at for sides in group if sides.along is not None]).unique().tolist()
    axes.set_xscale("log")
    if len(at) < 10:
        axes.set_xticks(at, [f"{value:g}" for value in at])
        axes.minorticks_off()


def _clouds(axes: Axes, clouds: Clouds) -> None:
    for i, (name, points) in enumerate(clouds.points.items()):
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=4,
            alpha=0.5,
            linewidths=0,
            color=COLOURS[i % len(COLOURS)],
            label=name,
        )
    axes.set(title=clouds.what, aspect="equal", xticks=[], yticks=[])
    axes.title.set_fontsize(9)
    axes.legend(loc="upper left", fontsize=7.5, markerscale=2.5, framealpha=0.8)
