"""Commands that run in several processes together."""

from __future__ import annotations

import os
import sys

from ancestral.errors import UsageError


def launched() -> bool:
    """Return whether a launcher such as torchrun started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def in_processes(nproc: int) -> int | None:
    """Run this command in `nproc` processes and return its exit code, or None if this process is to run it."""
    if launched():
        if nproc not in (1, int(os.environ["WORLD_SIZE"])):
            raise UsageError(
                f"--nproc {nproc}: the launcher has started {os.environ['WORLD_SIZE']} processes; leave --nproc out"
            )
        return None
    if nproc == 1:
        return None
    from ancestral.app.launch import launch

    return launch(nproc, sys.argv[1:])
