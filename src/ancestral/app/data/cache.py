"""The user's cache directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ancestral.files import write_atomically


def keep(file: Path, contents: bytes, say: Callable[[str], None]) -> None:
    """Write a file of the cache. One that cannot be written costs a word, not the work."""
    try:
        write_atomically(file, contents)
    except OSError as error:
        say(f"{file.parent} cannot be written ({error.strerror}): not kept for the next time")


def cache_dir() -> Path:
    """`$ANCESTRAL_CACHE`, else `$XDG_CACHE_HOME/ancestral`, else the platform's: `~/Library/Caches/ancestral` on macOS,
    `~/.cache/ancestral` elsewhere. Not created here.
    """
    if own := os.environ.get("ANCESTRAL_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification has relative values ignored
        return Path(xdg) / "ancestral"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ancestral"
