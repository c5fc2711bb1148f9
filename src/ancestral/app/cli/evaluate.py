"""The command `ancestral evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ancestral.app.cli.options import SPACING, Features, spacing_of


def evaluate(
    subject: str,
    *,
    against: str = "test",
    n: Annotated[int | None, Parameter(name=["-n", "--count"])] = None,
    likelihood: bool = False,
    features: Features = None,
    inception_weights: Path | None = None,
    steps: int | None = None,
    solver: str | None = None,
    spacing: Annotated[str | None, Parameter(help=SPACING)] = None,
    guidance: float | None = None,
    rescale: bool | None = None,
    out: Path | None = None,
    device: str = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Measure how good the samples of a run are, or the samples of any other software.

    Every figure has its standard error, and beside it the same figure of real data at the same number of samples.

    Parameters
    ----------
    subject
        Run folder, the folder of a saved model or an export, or diffusers:FOLDER, a pipeline of diffusers; or samples of any
        other software: a folder of images, an .npy or .npz file.
    against
        Real data to compare with: test or train (the split of the run's own data), or another source: a name, a folder of
        images or a file.
    n
        Number of samples to draw and to compare. Small data sets use fewer. Default: 2000.
    likelihood
        Compute only the likelihood of held-out data, by every method that the model has: nats and bits per dimension, the
        terms, and the cost of each noise level.
    inception_weights
        File of the standard FID's weights, for the features inception.
    steps
        Number of solver steps.
    solver
        Solver of models that denoise, as in `ancestral sample`.
    guidance
        Strength of the condition (guidance scale).
    rescale
        Convert samples of other software to the range of the data, e.g. from [-1, 1] to [0, 1]. Without it unlike ranges are
        refused; --no-rescale takes the samples as they are.
    out
        JSON file of the result. Without it the result of a run is stored in its folder as evaluation.json, with the samples.
    device
        Device: auto, cpu, cuda or mps.
    json
        Print the result as JSON.
    quiet
        Print one line only.
    """
    from dataclasses import asdict

    from ancestral.app import evaluate as evaluation
    from ancestral.app.progress import Reporter, emit

    if likelihood:
        from ancestral.app.cli import likelihoods
        from ancestral.app.training.saved import holds_saved_model
        from ancestral.errors import UsageError

        other = {"--features": features, "--steps": steps, "--solver": solver, "--spacing": spacing, "--guidance": guidance}
        if given := [name for name, value in other.items() if value is not None] + ["--against"] * (
            against != "test" and not holds_saved_model(subject)
        ):
            raise UsageError(f"--likelihood evaluates held-out data and draws no samples: leave {given[0]} out")
        figures = likelihoods.likelihoods(subject, n, device, Reporter(quiet=quiet or json), against)
        stored = likelihoods.saved(subject, figures, out)
        if json:
            emit(stored)
        else:
            likelihoods.show(subject, figures)
        return 0
    how: dict[str, Any] = {"steps": steps, "solver": solver, "spacing": spacing_of(spacing), "guidance": guidance}
    result = evaluation.evaluate(
        subject,
        against,
        n=2000 if n is None else n,
        extractors=features.split(",") if features else None,
        how={name: value for name, value in how.items() if value is not None},
        device=device,
        weights=inception_weights,
        rescale=rescale,
        reporter=Reporter(quiet=quiet or json),
        keep=out is None,
    )
    if result is None:  # this process helped to draw samples, and another one evaluates them
        return 0
    if out is not None:
        result.evaluation.save(out)
    if json:
        emit(asdict(result.evaluation))
    else:
        print(result.headline if quiet else result)
    return 0
