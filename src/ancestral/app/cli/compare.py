"""The command `ancestral compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ancestral.app.cli.options import Features
from ancestral.app.cli.parallel import in_processes
from ancestral.builtin import listed


def compare(
    *sources: str,
    models: Annotated[
        str | None, Parameter(help=f"Families, separated by commas: {listed('family')}. Default: all that the data allow.")
    ] = None,
    budget: Annotated[str | None, Parameter(name="--for")] = None,
    seeds: int = 1,
    out: Path | None = None,
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 2000,
    size: str | None = None,
    axes: str | None = None,
    condition: Annotated[
        str | None,
        Parameter(help=f"What controls the samples, as in `ancestral train`: {listed('condition')}. Several take commas."),
    ] = None,
    features: Features = None,
    inception_weights: Path | None = None,
    device: str = "auto",
    nproc: int = 1,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Find out which kind of model is best for your data.

    It trains every family of models on them, each for the same time, or takes runs that exist. Baselines that need no training
    take part too. It says which is best, and writes one report as HTML, Markdown and JSON. The same command continues a
    comparison that was stopped, and uses finished runs again.

    Example: `ancestral compare digits --for 2m`, or `ancestral compare runs/a runs/b`

    Parameters
    ----------
    sources
        One source of data, as for `ancestral train`; or several run folders of the same data. Beside a run there can be folders
        of saved models or exports, diffusers:FOLDER, and samples of other programs: folders of images, .npy, .npz, .csv files.
    budget
        Length of each training: a time (90s, 5m), steps (20000it) or passes (5epochs). Default: as in `ancestral train`.
    seeds
        Number of trainings of each family, with different random seeds. From 2 on, the verdict counts the spread between them.
    out
        Folder of the comparison. Default: runs/compare-NAME, with the name of the data.
    n
        Number of samples of each model to compare. Small data sets use fewer.
    size
        Size in pixels to which images are scaled and cropped, as in `ancestral train`.
    axes
        Names of the axes of an array, e.g. `"n h w c"`, as in `ancestral train`.
    inception_weights
        File of the weights of the standard FID, for the features inception. Default: torch's cache, if they are there.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    nproc
        Number of processes on this machine that train together, as in `ancestral train`.
    json
        Print the result as JSON.
    quiet
        Print the verdict only.
    """
    if (code := in_processes(nproc)) is not None:
        return code
    from ancestral.app import compare as comparing
    from ancestral.app.progress import Reporter, emit
    from ancestral.app.report.write import as_json
    from ancestral.errors import UsageError

    if not sources:
        raise UsageError("compare needs a source of data, e.g. `ancestral compare digits --for 2m`, or several run folders")
    reporter = Reporter(quiet=quiet or json)
    found = comparing.compare(
        sources,
        models=models.split(",") if models else None,
        budget=budget,
        seeds=seeds,
        out=out,
        n=n,
        size=size,
        axes=axes,
        condition=condition.split(",") if condition else None,
        extractors=features.split(",") if features else None,
        device=device,
        weights=inception_weights,
        reporter=reporter,
    )
    if found is None:  # a process that helps another one
        return 0
    comparison, path = found
    if json:
        emit(as_json(comparison) | {"report": str(path)})
        return 0
    for sentence in comparison.verdict:
        print(sentence)
    reporter.say(f"rule: {comparison.rule}")
    reporter.say(f"the whole report: {path}")
    return 0
