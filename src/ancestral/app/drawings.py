"""Pictures of the theory for data in the plane: density, score, and the paths of Langevin dynamics and of the ODE.

All pictures show y = x_t / alpha, which is the data plus noise of scale u = sigma / alpha, for every schedule. They use the
units of the data, in which the score is the model's score divided by the scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ancestral.app.plots import render
from ancestral.likelihood import ode_log_prob
from ancestral.noise import SampleNoise
from ancestral.oracles import MixtureOracle
from ancestral.schedules import U_RANGE, Cosine, Level, Schedule
from ancestral.solvers import Denoise, RungeKutta4
from ancestral.solvers.langevin import langevin_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELLS = 72  # cells of the density per side
ARROWS = 17  # arrows of the score per side
LANGEVIN = 300  # steps of size 0.1 u^2
FLOW = 60  # steps of the ODE
LEAST = 0.01


@dataclass(frozen=True)
class Plane:
    """Data in the plane, given by a denoiser.

    Args:
        denoise: the denoiser.
        schedule: its schedule.
        mean: `(2,)`, the offset from model units to the units of the data.
        std: `(2,)`, the scale from model units to the units of the data.
        oracle: the exact density, if known. None: the density is that of the probability flow.
    """

    denoise: Denoise
    schedule: Schedule
    mean: Tensor
    std: Tensor
    oracle: MixtureOracle | None = None

    @classmethod
    def of(cls, oracle: MixtureOracle) -> Plane:
        return cls(oracle, Cosine(), torch.zeros(2), torch.ones(2), oracle)

    def extent(self, u: float) -> float:
        """Return half the width of the square in which noise level u is drawn, in the units of the data."""
        spread = float(self.std.max()) if self.oracle is None else float(self.oracle.means.std(0).max())
        return 2.3 * float(np.hypot(spread, u * float(self.std.max())))

    def density(self, y: Tensor, u: float) -> Tensor:
        """Return p(y) `(n,)` up to a constant, for y in model units."""
        if self.oracle is not None:
            log_p = self.oracle.log_density(y, Level(0.0, 1.0, u))
        else:
            log_p = ode_log_prob(self.denoise, self.schedule, y, steps=16, least=max(u, LEAST)).value
        return (log_p - log_p.max()).exp()

    def langevin(self, y: Tensor, u: float, seed: int, steps: int = LANGEVIN) -> Tensor:
        """Return the Langevin chain from y `(n, 2)` at level u, `(steps + 1, n, 2)`."""
        noise, way = SampleNoise(range(seed, seed + len(y)), y.device), [y]
        for _ in range(steps):
            way.append(y := langevin_step(self.denoise, y, Level(0.0, 1.0, u), 0.1 * u**2, noise))
        return torch.stack(way)

    def flow(self, y: Tensor, levels: Sequence[float]) -> Tensor:
        """Return the ODE's path from y `(n, 2)` at the first noise level to the last, `(levels, n, 2)`."""
        states = RungeKutta4()(self.denoise, y, [Level(0.0, 1.0, u) for u in levels], SampleNoise(range(len(y))))
        return torch.stack([state.x for state in states])

    def to_data(self, y: Tensor) -> np.ndarray:
        return (y * self.std.to(y) + self.mean.to(y)).cpu().numpy()


@torch.no_grad()
def draw_score(plane: Plane, u: float, start: Tensor, seed: int) -> Image.Image:
    """Draw one noise level: density, score, a Langevin chain at that level and the ODE's path to the data, from one start."""
    figure = _figure(1, 1, 6.0)
    axes = figure.subplots()
    _field(axes, plane, u)
    chain = plane.to_data(plane.langevin(start, u, seed)[:, 0])
    way = plane.to_data(plane.flow(start, np.geomspace(max(u, 2 * LEAST), LEAST, FLOW).tolist())[:, 0])
    axes.plot(*chain.T, color="tab:orange", linewidth=0.8, alpha=0.9, label=f"Langevin at this level, {LANGEVIN} steps")
    axes.plot(*way.T, color="crimson", linewidth=2.2, label="probability flow to the data")
    axes.plot(*plane.to_data(start)[0], "o", color="black", markersize=6, label="start")
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
    return render(figure)


@torch.no_grad()
def draw_strip(plane: Plane, levels: Sequence[float], seed: int) -> Image.Image:
    """Draw several noise levels, the highest first: density, score, and 200 samples on the flow through the levels."""
    figure = _figure(1, len(levels), 3.0)
    end = min(plane.schedule.levels(torch.ones(1, dtype=torch.float64))[0].u, U_RANGE[1])
    y = np.hypot(1.0, end) * SampleNoise(range(seed, seed + 200)).normal((2,))
    clouds = _clouds(plane, y, [end, *levels])[1:]
    for axes, u, cloud in zip(figure.subplots(1, len(levels), squeeze=False).flat, levels, clouds, strict=True):
        _field(axes, plane, u, arrows=13)
        axes.scatter(*plane.to_data(cloud).T, s=3, color="crimson", linewidths=0)
    return render(figure)


@torch.no_grad()
def film(plane: Plane, levels: Sequence[float], start: Tensor, seed: int) -> list[Image.Image]:
    """Draw the levels one after another, with the paths of the ODE and of annealed Langevin dynamics from one start."""
    flow = plane.flow(start, levels)[:, 0]
    y, annealed = start, [start]
    for i, u in enumerate(levels[1:]):
        y = plane.langevin(y, u, seed + i, 10)[-1]
        annealed.append(y)
    frames = []
    for i, u in enumerate(levels):
        figure = _figure(1, 1, 4.6)
        axes = figure.subplots()
        _field(axes, plane, u)
        for way, colour, name in (
            (flow, "crimson", "probability flow"),
            (torch.cat(annealed), "tab:orange", "annealed Langevin"),
        ):
            axes.plot(*plane.to_data(way[: i + 1]).T, color=colour, linewidth=1.6)
            axes.plot(*plane.to_data(way[i]), "o", color=colour, markersize=6, label=name)
        axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
        frames.append(render(figure))
    return frames


def _clouds(plane: Plane, y: Tensor, levels: Sequence[float]) -> list[Tensor]:
    """Return the samples at each level, by the ODE on a fine grid of levels."""
    clouds = [y]
    for before, after in itertools.pairwise(levels):
        clouds.append(plane.flow(clouds[-1], np.geomspace(before, after, 13).tolist())[-1])
    return clouds


def _field(axes: Axes, plane: Plane, u: float, arrows: int = ARROWS) -> None:
    """Draw the density in blue, and the score as arrows whose lengths are square roots of its norm."""
    half = plane.extent(u)
    mean = plane.mean.numpy()
    axes.imshow(
        plane.density(_grid(plane, half, CELLS), u).view(CELLS, CELLS).cpu().numpy(),
        extent=(mean[0] - half, mean[0] + half, mean[1] - half, mean[1] + half),
        origin="lower",
        cmap="Blues",
        interpolation="bilinear",
        vmin=0,
    )
    y = _grid(plane, half * (1 - 1 / arrows), arrows)
    score = plane.denoise(y, Level(0.0, 1.0, u)).score.cpu() / plane.std
    length = score.norm(dim=1, keepdim=True).clamp(min=1e-12)
    arrow = (score / length * (length / length.max()).sqrt()).numpy()
    axes.quiver(*plane.to_data(y).T, *arrow.T, color="0.25", angles="xy", scale=1.1 * arrows, width=0.0035, pivot="mid")
    axes.set(xlim=(mean[0] - half, mean[0] + half), ylim=(mean[1] - half, mean[1] + half), xticks=[], yticks=[])
    axes.set_title(f"noise {u:.2g}", fontsize=10)


def _grid(plane: Plane, half: float, n: int) -> Tensor:
    """Return n x n points `(n n, 2)` of the square in model units. The first coordinate varies fastest."""
    line = torch.linspace(-half, half, n)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1) / plane.std


def _figure(rows: int, columns: int, size: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(size * columns, size * rows), dpi=100, layout="constrained")
