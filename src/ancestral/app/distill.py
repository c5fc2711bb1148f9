"""Distillation of a run into a run whose model draws samples in few evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ancestral.app.api import Plan, load, plan
from ancestral.app.evaluate import data_of
from ancestral.app.lock import locked
from ancestral.app.processes import joined
from ancestral.app.progress import Reporter, follow
from ancestral.app.remote import is_remote
from ancestral.app.training.run import Run
from ancestral.app.training.saved import weights_of
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.models.distilled import STEPS, TEACHER_STEPS, distilled

BUDGET = "5m"
SETTINGS = {  # of the recipe, for a training of tens to hundreds of steps that begins at good weights
    "train.batch": "32",
    "train.lr": "1e-3",
    "train.warmup": "10",
    "train.epochs": "null",
    "train.memorisation": "off",  # it sees no samples of the data, and copies what its teacher copies
}


@joined()
def distill(
    run: str | Path,
    steps: int = STEPS,
    budget: str = BUDGET,
    out: str | Path | None = None,
    *,
    guidance: float | None = None,
    teacher_steps: int = TEACHER_STEPS,
    device: str = "auto",
    quiet: bool = False,
    settings: Sequence[str] = (),
) -> GenerativeModel:
    """Train a model of few evaluations that draws the samples of a run's model, or continue the run in `out`, and return it.

    The method is that of `ancestral.models.distilled`. The data of the run only give the conditions.

    Args:
        run: the folder of a run of the family diffusion, score or latent.
        steps: the number of evaluations of the new model.
        budget: the length of the training, e.g. "5m" or "200it".
        out: the folder of the new run. None: RUN-STEPSsteps.
        guidance: the scale of guidance of the samples that it learns. None: the default for the run's conditions.
        teacher_steps: the number of steps in which the run's model follows the probability flow.
        device: "auto", "cpu", "cuda" or "mps".
        quiet: whether nothing is printed.
        settings: further "section.name=value" of the recipe's section train.

    Raises:
        UsageError: if the run has no denoiser, or the request is wrong.
        AncestralError: if the data of the run are gone, or training fails.
        KeyboardInterrupt: if a signal stops the training. All is saved before.
    """
    reporter = Reporter(quiet=quiet)
    planned = plan_distillation(
        run,
        steps,
        budget,
        out,
        guidance=guidance,
        teacher_steps=teacher_steps,
        device=device,
        settings=settings,
        reporter=reporter,
    )
    with locked(planned.run.path):
        trainer = planned.begin(reporter)
        if follow(trainer, reporter) is not None:
            raise KeyboardInterrupt(
                f"stopped and saved at step {trainer.step}: call distill again to continue {trainer.run.path}"
            )
    return load(trainer.run.path, device=device)


def plan_distillation(
    run: str | Path,
    steps: int = STEPS,
    budget: str = BUDGET,
    out: str | Path | None = None,
    *,
    guidance: float | None = None,
    teacher_steps: int = TEACHER_STEPS,
    device: str = "auto",
    settings: Sequence[str] = (),
    started: float | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """Read the run and its data, and make its student. Arguments as of `distill`; `started` as of `api.plan`."""
    reporter = reporter or Reporter(quiet=True)
    teacher = Run.existing(run)
    if wrong := [setting for setting in settings if not setting.startswith("train.")]:
        raise UsageError(f"{wrong[0]}: data and network are those of {run}; only settings of train can be given")
    model = teacher.load_model("cpu", "fp32")
    origin = weights_of(teacher)  # a continued training must have the same teacher
    student = distilled(model, steps, guidance=guidance, teacher_steps=teacher_steps, origin=origin)
    with reporter.live() as line:
        data = data_of(teacher, line)
    beside = Path("runs") / teacher.path.name if is_remote(run) else teacher.path
    given = tuple(f"{name}={value}" for name, value in SETTINGS.items())
    return plan(
        teacher.sources[0] if teacher.sources else data,
        model=student,
        budget=budget,
        out=out or Path(f"{beside}-{steps}step{'s' if steps > 1 else ''}"),
        size=teacher.recipe.data.size,
        axes=teacher.recipe.data.axes,
        device=device,
        settings=(*given, *settings),
        started=started,
        reporter=reporter,
        data=data,
    )
