"""The user's cache directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ancestral.files import write_atomically


def keep(file: Path, contents: bytes, say: Callable[[str], None]) -> None:
    """Write a file of the cache. If it cannot be written, `say` gets a message and the work goes on."""
    try:
        write_atomically(file, contents)
    except OSError as error:
        say(f"{file.parent} cannot be written ({error.strerror}): the result is not cached")


def cache_dir() -> Path:
    """Return the cache directory, without creating it.

    It is `$ANCESTRAL_CACHE` if set, else `$XDG_CACHE_HOME/ancestral` if set, else `~/Library/Caches/ancestral` on macOS and
    `~/.cache/ancestral` on other systems.
    """
    if own := os.environ.get("ANCESTRAL_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification says to ignore relative paths
        return Path(xdg) / "ancestral"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ancestral"
