"""The command `ancestral report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ancestral.app.cli.options import Features


def report(
    run: Annotated[Path, Parameter(group="Arguments")],
    *,
    against: str = "test",
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 500,
    features: Features = None,
    inception_weights: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Write a page that shows the samples of a run and says how good they are.

    The page also shows how training went, and whether the model copies its data. It is one file that you can send; the same
    report stands beside it as Markdown and as JSON.

    Example: `ancestral report runs/digits`, then open runs/digits/report.html

    Parameters
    ----------
    run
        Run folder, e.g. runs/digits.
    against
        Real data to compare with: test (the held-out data of the run) or train (its training data); or other data, as for
        `ancestral train`.
    n
        Number of samples to draw and to compare. Small data sets use fewer.
    inception_weights
        File of the weights of the standard FID, for the features inception. Default: torch's cache, if they are there.
    out
        File of the page. With it, nothing is written into the run folder. Default: report.html in the run folder.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    open_
        Open the page in the browser, if there is a screen.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    from ancestral.app import evaluate as evaluation
    from ancestral.app.progress import Reporter, browse, emit

    path = evaluation.report(
        run,
        reporter=Reporter(quiet=quiet or json),
        out=out,
        against=against,
        n=n,
        extractors=features.split(",") if features else None,
        device=device,
        weights=inception_weights,
    )
    if path is None:  # another process writes the report
        return 0
    if open_:
        browse(path.resolve().as_uri())
    if json:
        emit({"report": str(path)})
    else:
        print(path)
    return 0
