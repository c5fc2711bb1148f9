"""The command `ancestral studio`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def studio(
    *runs: Path,
    port: int | None = None,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    lab: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
) -> int:
    """Work in the browser: train, look at runs, draw samples, see the theory.

    The page comes from this machine, and needs no network. Only its printed address opens it, because that holds a token.
    Ctrl-C ends the studio; trainings that it started go on.

    Parameters
    ----------
    runs
        Run folders, or folders of runs. The studio reads no others. Default: runs.
    port
        Port on this machine. Default: the first free one from 8765 on.
    browser
        Open a browser. --no-browser only prints the address.
    lab
        Begin with the lab, live pictures of the theory, in full screen for a lecture.
    device
        Device of models in the studio: auto (the GPU if there is one), cpu, cuda or mps.
    """
    from ancestral.errors import AncestralError

    try:
        from ancestral.app.web.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "plotly"):
            raise
        raise AncestralError(f"{error.name} is not installed: pip install 'ancestral[studio]'") from None
    from importlib.util import find_spec

    from ancestral.app.progress import Reporter
    from ancestral.app.remote import located
    from ancestral.app.web.studio import Studio

    if find_spec("plotly") is None:
        raise AncestralError("plotly is not installed: pip install 'ancestral[studio]'")
    state = Studio([located(run) for run in runs or (Path("runs"),)], device)
    reporter = Reporter()

    def say(address: str) -> None:
        print(address, flush=True)
        reporter.say("Ctrl-C ends the studio; trainings go on")

    serve(state, port, say, browser=browser, page="#/lab?show" if lab else "")
    return 0
