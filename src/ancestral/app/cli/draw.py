"""The command `ancestral draw`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ancestral.app.cli.conditions import NOTHING, Asked
from ancestral.builtin import explained, listed

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.app.drawings import Plane

STRIP = 6  # noise levels side by side
FRAMES = 40


def draw(
    what: Annotated[Literal["score", "forward", "backward", "between"], Parameter(group="Arguments")],
    subject: Annotated[str, Parameter(group="Arguments")],
    *,
    out: Path | None = None,
    level: float | None = None,
    schedule: Annotated[str, Parameter(help=f"Noise schedule of the picture forward: {explained('schedule')}.")] = "cosine",
    solver: Annotated[str | None, Parameter(help=f"Solver of backward, as in `ancestral sample`: {listed('solver')}.")] = None,
    steps: int | None = None,
    rows: str = "0,1",
    asked: Asked = NOTHING,
    seed: int = 0,
    device: str = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Draw how noise turns into data and back, and the score of points in the plane.

    Example: `ancestral draw forward digits`, or `ancestral draw backward runs/digits --out noise-to-digits.gif`

    Parameters
    ----------
    what
        Picture to draw. forward: data that turn into noise. backward: noise that turns into samples. between: the path from one
        held-out sample to another, through noise. score: density and score of points in the plane, with paths of Langevin
        dynamics and of the ODE from one start.
    subject
        Data or run folder. forward: data, as for `ancestral train`. backward, between: a run folder. score: the run of a model
        of points, or a set whose score is known (gaussians, moons, rings, swiss-roll).
    out
        File to write: a picture (.png) or a film (.gif; not for between). Default: WHAT.png in the current folder.
    level
        Noise level of score, e.g. 0.3, for data of standard deviation 1. Default: six levels side by side.
    steps
        Number of steps. Default: as in `ancestral sample` for backward; 16 for between; 8 for the picture forward, 40 for its
        film.
    rows
        Numbers of the two held-out samples of between, counted from 0.
    asked
        Conditions of all but forward; see `Asked`.
    seed
        Random seed of everything that is drawn.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    from ancestral.app.pictures import save, save_animation
    from ancestral.app.progress import Reporter, emit
    from ancestral.errors import UsageError
    from ancestral.files import disk_errors

    out = out or Path(f"{what}.png")
    animated = out.suffix.lower() == ".gif"
    if out.suffix.lower() not in ((".png",) if what == "between" else (".png", ".gif")):
        raise UsageError(f"cannot write {out}: --out takes .png" + ("" if what == "between" else " or .gif"))
    if what == "score":
        frames = _score(subject, level, asked, seed, animated)
    elif what == "forward":
        if asked:
            raise UsageError("the picture forward does not depend on a condition: leave the condition out")
        frames = _forward(subject, schedule, steps, seed, animated)
    elif what == "backward":
        frames = _backward(subject, solver, steps, asked, seed, animated, device)
    else:
        frames = [_between(subject, rows, asked, steps, device)]
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        if animated:
            save_animation(frames, out)
        else:
            save(frames[0], out, None if what in ("backward", "between") else {})
    Reporter(quiet=quiet or json).say(f"{what} of {subject}: {out}")
    if json:
        emit({"out": str(out), "frames": len(frames)})
    return 0


def _score(subject: str, level: float | None, asked: Asked, seed: int, animated: bool) -> list[Image.Image]:
    import numpy as np

    from ancestral.app.drawings import LEAST, draw_score, draw_strip, film
    from ancestral.errors import UsageError
    from ancestral.noise import SampleNoise

    if level is not None and not LEAST <= level <= 100:
        raise UsageError(
            f"--level {level:g} is out of range: give a noise level from {LEAST} to 100, for data of standard deviation 1"
        )
    plane = _plane(subject, asked)
    start = SampleNoise([seed]).normal((2,)).to(plane.std)
    if animated:
        levels = np.geomspace(level or 3.0, 0.03, FRAMES).tolist()
        return film(plane, levels, start * levels[0], seed)
    if level is None:
        return [draw_strip(plane, np.geomspace(3.0, 0.05, STRIP).tolist(), seed)]
    return [draw_score(plane, level, start * np.hypot(1.0, level), seed)]


def _plane(subject: str, asked: Asked) -> Plane:
    """Return the plane of a run's model or of a known density.

    Raises:
        UsageError: if the subject is neither, or if its data are not points in the plane.
    """
    from ancestral.app.data.toys import DENSITIES
    from ancestral.app.drawings import Plane
    from ancestral.app.training.run import Run
    from ancestral.errors import UsageError
    from ancestral.models.denoising import DenoisingModel

    if subject in DENSITIES and not (Path(subject) / "recipe.yaml").exists():
        if asked:
            raise UsageError(f"the density {subject} has no conditions: leave the condition out, or draw a run folder")
        return Plane.of(DENSITIES[subject]())
    run = Run.existing(subject)
    model = run.load_model("cpu")  # such a small network is no faster on other devices
    if not isinstance(model, DenoisingModel):
        raise UsageError(f"the model of {subject} has no score: choose a run of a diffusion or score model")
    if tuple(model.shape) != (2,):
        shape = "x".join(map(str, model.shape))
        raise UsageError(f"a score is drawn only for points in the plane, and samples of {subject} have shape {shape}")
    denoise = partial(model.denoise, condition=asked.for_model(model, run.spec))
    return Plane(denoise, model.schedule, model.standardize.mean.cpu(), model.standardize.std.cpu())


def _forward(source: str, schedule: str, steps: int | None, seed: int, animated: bool) -> list[Image.Image]:
    import torch

    from ancestral.app.data import load
    from ancestral.app.recipes.base import units
    from ancestral.models import Standardize
    from ancestral.noise import SampleNoise
    from ancestral.schedules import schedule as schedule_of

    process = schedule_of(schedule)
    data = load(source)
    n = 8 if len(data.spec.shape) > 1 else 2000
    scale = Standardize(data.spec.shape, **units(data.spec))
    index = torch.linspace(0, len(data.train) - 1, n, dtype=torch.float64).long()
    x = scale.normalize(data.batch(index).x)
    eps = SampleNoise(range(seed, seed + n)).normal(data.spec.shape)
    count = steps or (FRAMES if animated else 8)
    frames = []
    for t in process.levels(torch.linspace(0, 1, count, dtype=torch.float64)):
        frames.append(scale.denormalize((t.alpha * x + t.sigma * eps) / (t.alpha**2 + t.sigma**2) ** 0.5))
    return _frames(frames, data.spec, animated, count, ("data", "noise"))


def _backward(
    run: str, solver: str | None, steps: int | None, asked: Asked, seed: int, animated: bool, device: str
) -> list[Image.Image]:
    from ancestral.app.training.run import Run
    from ancestral.models import seeds_from

    folder = Run.existing(run)
    model, spec = folder.load_model(device), folder.spec
    n = (64 if animated else 8) if len(spec.shape) > 1 else 2000
    how = {name: value for name, value in (("solver", solver), ("steps", steps)) if value is not None}
    condition = asked.for_model(model, spec, n)
    frames = []
    for state in model.trajectory(n, condition, seeds=seeds_from(seed, n), **how):
        r = (state.t.alpha**2 + state.t.sigma**2) ** 0.5
        bounded = model.standardize.bounds is not None  # then x is already within the data's range
        frames.append(state.x if bounded else model.standardize.denormalize(model.standardize.normalize(state.x) / r))
    return _frames(frames, spec, animated, 8, ("noise", "samples"))


def _frames(frames: list[Tensor], spec: DataSpec, animated: bool, columns: int, ends: tuple[str, str]) -> list[Image.Image]:
    from ancestral.app.pictures import film, strip

    return film(frames, spec) if animated else [strip(frames, spec, columns, ends=ends)]


def _between(run: str, rows: str, asked: Asked, steps: int | None, device: str) -> Image.Image:
    import torch

    from ancestral.app.evaluate import data_of
    from ancestral.app.pictures import grid
    from ancestral.app.training.run import Run
    from ancestral.errors import UsageError
    from ancestral.models.denoising import DenoisingModel

    folder = Run.existing(run)
    model = folder.load_model(device)
    if not isinstance(model, DenoisingModel):
        raise UsageError(f"the model of {run} has no flow between data and noise: choose a run of a diffusion or score model")
    data = data_of(folder)
    try:
        a, b = (int(part) for part in rows.split(","))
    except ValueError:
        raise UsageError(f"cannot read --rows {rows!r}: write the indices of two samples, e.g. 3,7") from None
    if not 0 <= min(a, b) <= max(a, b) < len(data.test):
        raise UsageError(f"--rows {rows} is out of range: the held-out data have samples 0 to {len(data.test) - 1}")
    x = data.batch(torch.tensor([a, b]), "test").x.to(model.device)
    with model.inference():
        y = model.between(x[0], x[1], 9, asked.for_model(model, folder.spec), steps or 16)
    across = [f"sample {a}", *[""] * len(y), f"sample {b}"]
    return grid(torch.cat([x[:1], y, x[1:]]), folder.spec, len(across), rows=("",), across=across)
