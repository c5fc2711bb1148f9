"""The command `ancestral push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def push(
    run: Path,
    repo: str,
    *,
    licence: Annotated[str | None, Parameter(name=["--licence", "--license"])] = None,
    private: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    message: str | None = None,
    device: str = "auto",
    json: Annotated[bool, Parameter(show_default=False)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False)] = False,
) -> int:
    """Write a run to the Hugging Face hub, with a model card that is made from it.

    Weights, recipe, tuning and measurements are written; checkpoints and data stay here. Then hub:USER/NAME stands for the run
    in every command.

    Parameters
    ----------
    run
        Folder of a run or of a saved model. Evaluate it before, so that its card has figures: `ancestral evaluate RUN`.
    repo
        Name on the hub, user/name. A repository that does not exist is made.
    licence
        Licence of the model, as the hub names it: apache-2.0, mit, cc-by-4.0, other, ...
    private
        Make a new repository private.
    message
        Message of the commit.
    device
        Device that draws the samples of the card: auto, cpu, cuda or mps.
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
