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
    condition: Annotated[str | None, Parameter(help=f"Condition that controls generation: {listed('condition')}.")] = None,
    features: Features = None,
    inception_weights: Path | None = None,
    device: str = "auto",
    nproc: int = 1,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Train every family on SOURCE under the same budget, or take existing runs, and say which is best and why.

    The comparison includes baselines that need no training. It writes one self-contained report as HTML, Markdown and JSON.
    The same command continues an interrupted comparison and uses finished runs again.

    Parameters
    ----------
    sources
        One source of data, as in `ancestral train`, or several run folders of the same data. Beside a run there can be models
        without a training: folders of saved models or exports, or diffusers:FOLDER.
    budget
        Time of each training: 90s, 5m, 20000it. Default: a time that suits the data.
    seeds
        Number of trainings of each family, with different random seeds. From 2 on, the verdict counts the spread between them.
    out
        Folder of the comparison. Default: runs/compare-NAME.
    n
        Number of samples of each model to compare. Small data sets use fewer.
    size
        Size in pixels to which images are scaled and cropped: 64 for a square, or height and width as 64x128.
    axes
        Names of the axes of an array, e.g. "n h w c", as in `ancestral train`.
    inception_weights
        File of the standard FID's weights, for the features inception.
    device
        Device: auto, cpu, cuda or mps.
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
