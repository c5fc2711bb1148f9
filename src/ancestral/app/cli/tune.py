"""The command `ancestral tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def tune(
    run: Annotated[Path, Parameter(group="Arguments")],
    *,
    steps: str = "4,6,8",
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 24,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Find sampler settings with which a model draws good samples in few steps.

    It fits the solver and its noise levels to a diffusion, score or latent model, and stores them in the run. Then
    `ancestral sample` and `ancestral evaluate` use them if you give neither solver nor spacing.

    Example: `ancestral tune runs/digits`, then `ancestral sample runs/digits --quick`

    Parameters
    ----------
    run
        Run folder, e.g. runs/digits, or the folder of a saved model.
    steps
        Numbers of solver steps to fit, from 2 to 24, with commas.
    n
        Number of samples to which the levels are fitted. The error is measured on as many others.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    precision
        Arithmetic of the networks: auto, fp32, bf16 or fp16.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from ancestral.app import tune as tuning
    from ancestral.app.progress import Reporter, emit
    from ancestral.app.sampling.tuning import FILE
    from ancestral.app.training.saved import folder_of
    from ancestral.errors import UsageError
    from ancestral.models.denoising import SOLVER, STEPS

    try:
        counts = [int(part) for part in steps.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"cannot read --steps {steps!r}: write whole numbers separated by commas, e.g. 4,6,8") from None
    found = tuning.tune(run, counts, n=n, device=device, precision=precision, reporter=Reporter(quiet=quiet or json))
    stored = folder_of(run) / FILE
    if json:
        emit(asdict(found) | {"out": str(stored)})
        return 0
    table = Table(box=None, padding=(0, 2))
    for name in ("steps", "solver", "levels", "error before", "error after", "factor"):
        table.add_column(name, justify="left" if name in ("solver", "levels") else "right")
    for each in found.settings:
        levels = each.spacing if isinstance(each.spacing, str) else "fitted"
        factor = each.before / max(each.error, 1e-12)
        table.add_row(str(each.steps), each.solver, levels, f"{each.before:.4f}", f"{each.error:.4f}", f"{factor:.1f}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    usual = found.of_steps(found.usual)
    lines = [
        "Errors: distance from the exact solution, RMS in deviations of the data. Each step is one evaluation of the network.",
        f"Default from now on: {usual}."
        if usual
        else f"No setting is near the exact solution, so {STEPS} steps of {SOLVER} stay the default.",
        f"`ancestral sample {run} --quick`: {found.settings[0]}.",
        f"`ancestral sample {run} --best`: {found.of_steps(found.best)}.",
        f"Stored in {stored}, drawn in {stored.with_suffix('.png')}.",
    ]
    console.print("\n".join(lines), markup=False)
    return 0
