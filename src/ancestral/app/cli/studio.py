"""The command `ancestral studio`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def studio(
    *runs: Path,
    port: int | None = None,
    browser: bool = True,
    lab: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
) -> int:
    """Open the studio in the browser: a local page that shows runs as they train, draws samples, and shows the theory.

    It prints its address, which holds a token, and works without a network. Trainings that it starts go on if it ends.

    Parameters
    ----------
    runs
        Run folders, or folders of runs. The studio reads no others. Default: runs.
    port
        Port on this machine. Default: the first free one from 8765 on.
    browser
        Open a browser.
    lab
        Begin with the lab, in full screen, for a lecture.
    device
        Device of models in the studio: auto, cpu, cuda or mps.
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
