"""The command `ancestral push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def push(
    run: Annotated[Path, Parameter(group="Arguments")],
    repo: Annotated[str, Parameter(group="Arguments")],
    *,
    licence: Annotated[str | None, Parameter(name=["--licence", "--license"])] = None,
    private: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    message: str | None = None,
    device: str = "auto",
    json: Annotated[bool, Parameter(show_default=False)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Publish a run on the Hugging Face hub, with a model card.

    Weights, recipe, tuning and measurements are uploaded; checkpoints and data stay here. Then hub:user/name stands for the run
    in every command.

    Example: `ancestral push runs/digits user/digits --licence cc-by-4.0`

    Parameters
    ----------
    run
        Folder of a run or of a saved model. `ancestral evaluate RUN` before it gives the card its figures.
    repo
        Name on the hub, user/name. A repository that does not exist is made.
    licence
        Licence under which others may use the model, as the hub names it: apache-2.0, mit, cc-by-4.0, other, ... It has to be
        given.
    private
        Make the repository private, if it is new.
    message
        Message of the commit.
    device
        Device that draws the samples of the card: auto (the GPU if there is one), cpu, cuda or mps.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    from ancestral.app.hub import push as write
    from ancestral.app.progress import Reporter, emit
    from ancestral.errors import UsageError

    if licence is None:
        raise UsageError("name the licence under which others may use the model: --licence apache-2.0, cc-by-4.0, other, ...")
    address = write(
        run,
        repo,
        licence=licence,
        private=private,
        message=message,
        device=device,
        reporter=Reporter(quiet=quiet or json),
    )
    if json:
        emit({"run": str(run), "repo": repo, "commit": address})
    return 0
