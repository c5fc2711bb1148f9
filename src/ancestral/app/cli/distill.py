"""The command `ancestral distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ancestral.app.cli.parallel import in_processes


def distill(
    run: Path,
    *settings: str,
    steps: int = 2,
    budget: Annotated[str, Parameter(name="--for")] = "5m",
    out: Path | None = None,
    guidance: float | None = None,
    teacher_steps: int = 8,
    device: str = "auto",
    nproc: int = 1,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Train a model that draws the samples of RUN in one to four evaluations.

    The new model starts from the run's weights, and learns to follow the run's probability flow in a few steps. It is a run
    like any other: sample, evaluate, report and compare take it. A seed gives about the same sample as in RUN.

    Parameters
    ----------
    run
        Folder of a run of the family diffusion, score or latent, whose data are still there.
    settings
        Further settings of the training, such as train.batch=64.
    steps
        Number of evaluations of the new model.
    budget
        Length of the training: 90s, 5m or 200it.
    out
        Folder of the new run. Default: RUN-2steps for 2 steps.
    guidance
        Strength of guidance in the samples that it learns. Default: as in sampling from RUN. The new model has no guidance.
    teacher_steps
        Number of steps in which the model of RUN follows the flow.
    device
        Device: auto, cpu, cuda or mps.
    nproc
        Number of processes on this machine that train together. The result does not depend on it.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    import time

    started = time.monotonic()
    if (code := in_processes(nproc)) is not None:
        return code
    from ancestral.app.cli.train import follow_plan
    from ancestral.app.distill import plan_distillation
    from ancestral.app.lock import locked
    from ancestral.app.progress import Reporter

    reporter = Reporter(quiet=quiet or json)
    planned = plan_distillation(
        run,
        steps,
        budget,
        out,
        guidance=guidance,
        teacher_steps=teacher_steps,
        device=device,
        settings=settings,
        started=started,
        reporter=reporter,
    )
    with locked(planned.run.path):
        return follow_plan(planned, reporter, json=json)
