"""The function `tune`: the best samplers of few steps for a trained model, fitted and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ancestral.app.evaluate import data_of
from ancestral.app.evaluation.samples import rows_for
from ancestral.app.lock import locked
from ancestral.app.plots import COLOURS
from ancestral.app.progress import Line, Reporter
from ancestral.app.sampling.guidance import denoising
from ancestral.app.sampling.tuning import Setting, Tuning
from ancestral.app.training.run import Run
from ancestral.app.training.saved import Opened, opened, weights_of
from ancestral.errors import UsageError
from ancestral.files import disk_errors, write_atomically
from ancestral.models import GenerativeModel, seeds_from
from ancestral.models.denoising import SOLVER, SPACING, STEPS
from ancestral.noise import Noise
from ancestral.registry import names
from ancestral.runtime import Precision
from ancestral.schedules import Schedule, grid
from ancestral.solvers import Denoise, Solver, State
from ancestral.solvers import solver as solver_of
from ancestral.solvers.fitting import Task, fit

if TYPE_CHECKING:
    from torch import Tensor

FEW = (4, 6, 8)  # steps that are fitted
MORE = (12, 16, 24)  # steps that are also tried, until more of them change nothing
NEAR = 0.05  # mean distance from the exact solution, in deviations of the data, below which scores of quality no longer change
SAME = 0.02  # below which samples no longer change, either
SAMPLES = 24  # of the fit, and as many others of the measurement
SEEDS = (21, 22)  # of the fit and of the measurement, neither those of `sample` nor of `evaluate`


def tune(
    subject: GenerativeModel | Opened | str | Path,
    steps: Sequence[int] = FEW,
    *,
    condition: Mapping[str, Any] | None = None,
    n: int = SAMPLES,
    device: str = "auto",
    precision: Precision = "auto",
    reporter: Reporter | None = None,
) -> Tuning:
    """Fit solver and noise levels to a trained model, for each of several numbers of steps, and measure what they gain.

    The tuning of a run is stored in its folder, with a picture. From then on `sample` and `evaluate` use it if they are given
    neither solver nor spacing. Where a built-in spacing ends nearer to the exact solution, it is kept.

    Args:
        subject: A run folder, the folder of a saved model, or a model. That of a model is only returned.
        steps: The numbers of steps, from 2 to 24. Each step is one evaluation of the network.
        condition: The condition of 2n samples, as in `model.sample`. None: the classes in turn, or the conditions of the run's
            held-out data.
        n: The number of samples of the fit. As many others measure the error.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        reporter: The object that shows the progress.

    Raises:
        UsageError: If the model does not denoise, or a number of steps is out of range.
        AncestralError: If a file is damaged or cannot be written.
    """
    if not steps or any(not 2 <= count <= MORE[-1] for count in steps):
        raise UsageError(f"levels are fitted for 2 to {MORE[-1]} steps; got {', '.join(map(str, steps)) or 'none'}")
    if n < 2:
        raise UsageError(f"levels are fitted to at least 2 samples; got n={n}")
    reporter = reporter or Reporter(quiet=True)
    run = None if isinstance(subject, GenerativeModel) else subject if isinstance(subject, Opened) else opened(subject)
    model = subject if isinstance(subject, GenerativeModel) else run.load_model(device, precision)  # type: ignore[union-attr]
    denoiser = denoising(model)
    if denoiser is None:
        where = "this model" if run is None else run.path
        raise UsageError(f"the sampler of {where} has no steps to fit: tune one of the family diffusion, score or latent")
    with nullcontext() if run is None else locked(run.path), reporter.live() as line:
        chosen = condition if condition is not None else _conditions(model, run, 2 * n, line)
        raw = model.conditioner.parse(chosen, 2 * n)
        line.update("the accurate solution of the fit")
        fitted_to = _task(model, denoiser.schedule, {name: v[:n] for name, v in raw.items()}, n, SEEDS[0])
        most = len(fitted_to.fine.predictions)
        if max(steps) > most:
            raise UsageError(f"the chain of this model has {most} noise levels: fit at most as many steps, not {max(steps)}")
        line.update("the accurate solution of the measurement")
        held = _task(model, denoiser.schedule, {name: v[n:] for name, v in raw.items()}, n, SEEDS[1])
        with model.inference():
            found = _measured(fitted_to, held, sorted({*steps}), line)
        tuning = Tuning(
            weights="" if run is None else weights_of(run),
            guidance=denoiser.usual_guidance(raw),
            samples=n,
            **found,
        )
        if run is not None:
            file = tuning.save(run)
            with disk_errors(run.path):
                drawn = BytesIO()
                picture(tuning, denoiser.schedule).savefig(drawn, format="png", dpi=120)
                write_atomically(file.with_suffix(".png"), drawn.getvalue())
    return tuning


def _measured(fitted_to: Task, held: Task, few: Sequence[int], line: Line) -> dict[str, Any]:
    """Return the fields of a tuning that are fitted and measured."""
    spacings: dict[str, dict[int, float]] = {name: {} for name in names("spacing")}
    settings: list[Setting] = []

    def error(solver: str, steps: int, spacing: str | tuple[float, ...]) -> float:
        return held.error(solver_of(solver), grid(held.schedule, steps, spacing))

    def measure(steps: int, solver: str, times: tuple[float, ...]) -> Setting:
        compared = spacings if steps in few else (SPACING,)
        tried: dict[tuple[str, str | tuple[float, ...]], float] = {}
        for name in compared:
            spacings[name][steps] = tried[SOLVER, name] = error(SOLVER, steps, name)
            tried[solver, name] = error(solver, steps, name)
        tried[solver, times] = error(solver, steps, times)
        best = min(tried, key=tried.__getitem__)
        return Setting(steps, *best, tried[best], spacings[SPACING][steps])

    line.update(f"the default sampler of {STEPS} steps")
    reference = error(SOLVER, STEPS, SPACING)
    counts = [*few, *(count for count in MORE if few[-1] < count <= len(fitted_to.fine.predictions))]
    for count, (solver, times) in zip(counts, fit(fitted_to, counts), strict=True):
        settings.append(measure(count, solver, times))
        line.update(f"{settings[-1]}: error {settings[-1].error:.4f}, {settings[-1].before:.4f} before", last=True)
        if count >= few[-1] and settings[-1].error <= SAME:
            break
    good = [setting.steps for setting in settings if setting.error <= max(NEAR, reference)]
    same = [setting.steps for setting in settings if setting.error <= SAME]
    return {
        "settings": tuple(settings),
        "usual": min(good, default=None),
        "best": min(same, default=settings[-1].steps),
        "reference": reference,
        "spacings": spacings,
    }


def _conditions(model: GenerativeModel, run: Opened | None, n: int, line: Line) -> dict[str, Any]:
    """Return conditions of n samples: the classes in turn, those of held-out data, or none where there are none."""
    kinds = dict(model.conditioner.kinds.items())
    if kinds.keys() == {"class"}:
        classes: Any = kinds["class"]
        return {"class": [i % len(classes.names) for i in range(n)]}
    if not kinds or not isinstance(run, Run):
        return {}
    data = data_of(run, line)
    return data.encoded(model.conditioner).asked(rows_for(data, n))


def _task(model: GenerativeModel, schedule: Schedule, raw: Mapping[str, Tensor], n: int, seed: int) -> Task:
    """Return the task of n samples, with the denoiser that the model's own sampler gives to a solver."""
    given = _Given()
    for _ in model.trajectory(n, raw, seeds=seeds_from(seed, n), solver=given):
        pass
    with model.inference():
        return Task.of(given.denoise, schedule, given.x, given.noise)


class _Given(Solver):
    """A solver that keeps what it is given: the denoiser with its guidance and limits, and the noise at t = 1."""

    denoise: Denoise
    x: Tensor
    noise: Noise

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Any], noise: Noise) -> Iterator[State]:
        """Yield only the start."""
        self.denoise, self.x, self.noise = denoise, x, noise
        yield State(x, levels[0], None, 0, 0, 1)


def picture(tuning: Tuning, schedule: Schedule) -> Any:
    """Draw the noise levels of each setting beside those of the default, and the errors against the number of evaluations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [setting for setting in tuning.settings if setting.steps <= MORE[0]]
    for row, setting in enumerate(shown):
        for spacing, colour, lift in ((SPACING, "#a8a29e", 0.16), (setting.spacing, COLOURS[0], -0.16)):
            levels = schedule.levels(grid(schedule, setting.steps, spacing))
            at = [level.logsnr for level in levels if math.isfinite(level.logsnr)]
            left.plot(at, [row + lift] * len(at), "o", color=colour, markersize=5)
    left.set_yticks(range(len(shown)), [f"{setting.steps}\n{setting.solver}" for setting in shown])
    left.set(xlabel="log SNR (noise on the left)", ylabel="steps and solver", ylim=(-0.6, len(shown) - 0.4))
    left.plot([], [], "o", color="#a8a29e", label=f"the default, {SPACING}")
    left.plot([], [], "o", color=COLOURS[0], label="tuned")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=2, fontsize=8, frameon=False)
    for i, (name, errors) in enumerate(tuning.spacings.items()):
        right.plot(
            [*errors], [*errors.values()], "o--", color=COLOURS[i + 1], markersize=3, linewidth=1, label=f"{SOLVER}, {name}"
        )
    errors = {setting.steps: setting.error for setting in tuning.settings}
    right.plot([*errors], [*errors.values()], "o-", color=COLOURS[0], markersize=4, label="tuned")
    right.axhline(tuning.reference, color="black", linewidth=0.8, linestyle=":", label=f"the default with {STEPS} steps")
    right.set(xscale="log", yscale="log", xlabel="evaluations of the network")
    right.set_ylabel("distance from the exact solution\n(RMS, in deviations of the data)")
    right.set_xticks([*errors], [*map(str, errors)])
    right.minorticks_off()
    right.legend(fontsize=8)
    return figure
