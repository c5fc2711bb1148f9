"""The command `ancestral distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ancestral.app.cli.parallel import in_processes


def distill(
    run: Annotated[Path, Parameter(group="Arguments")],
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
    """Train a copy of a model that draws samples in one to four evaluations of its network.

    The copy starts from the weights of RUN, and learns to follow its probability flow in few steps. A seed gives about the same
    sample as in RUN. The copy is a run like any other: sample, evaluate, report and compare take it.

    Example: `ancestral distill runs/digits`, then `ancestral sample runs/digits-2steps`

    Parameters
    ----------
    run
        Folder of a run of the family diffusion, score or latent, whose data are still there.
    settings
        Further settings of the training as train.NAME=VALUE, e.g. train.batch=64.
    steps
        Number of evaluations in which the copy draws a sample, at most --teacher-steps.
    budget
        Length of the training: a time (90s, 5m) or steps (200it).
    out
        Folder of the new run. Default: RUN-2steps for 2 steps.
    guidance
        Strength of guidance in the samples from which the copy learns; it has no guidance of its own. Default: that of
        `ancestral sample RUN`.
    teacher_steps
        Number of steps in which the model of RUN follows the flow for its copy.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    nproc
        Number of processes on this machine that train together, as in `ancestral train`.
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
