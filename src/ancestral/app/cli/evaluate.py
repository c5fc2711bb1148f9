"""The command `ancestral evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ancestral.app.cli.options import SPACING, Features, spacing_of


def evaluate(
    subject: Annotated[str, Parameter(group="Arguments")],
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
    rescale: Annotated[bool | None, Parameter(negative="--no-rescale")] = None,
    out: Path | None = None,
    device: str = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Measure how good samples are, beside real data.

    SUBJECT is a run, or samples of any other program. Every figure has its standard error, and beside it the figure of real
    data at the same number of samples.

    Example: `ancestral evaluate runs/digits`, or `ancestral evaluate my-samples/ --against my-photos/`

    Parameters
    ----------
    subject
        Run folder, e.g. runs/digits; or the folder of a saved model or an export; or hub:user/name, a model of the Hugging Face
        hub; or diffusers:FOLDER, a pipeline of diffusers; or samples of any program: a folder of images, an .npy or .npz file.
    against
        Real data to compare with: test (the held-out data of the run) or train (its training data); or other data, as for
        `ancestral train`.
    n
        Number of samples to draw and to compare. Small data sets use fewer. Default: 2000.
    likelihood
        Compute only the likelihood of held-out data, by every method that the model has, in nats and bits per dimension.
    inception_weights
        File of the weights of the standard FID, for the features inception. Default: torch's cache, if they are there.
    steps
        Number of solver steps. Default: as in `ancestral sample`.
    solver
        Solver of models that denoise, as in `ancestral sample`.
    guidance
        Strength of the condition. Default: as in `ancestral sample`.
    rescale
        Convert samples of another program to the range of the data, e.g. from [-1, 1] to [0, 1]. --no-rescale takes them as
        they are. Default: unlike ranges are an error.
    out
        JSON file of the result. With it, nothing is written into the run folder. Default: evaluation.json in the run folder,
        with the samples.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
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
        emit(asdict(result.evaluation) | {"verdict": result.verdict})
    else:
        print(result.headline if quiet else result)
    return 0
