"""The user's cache directory, and files in it that are whole or absent."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


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


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Give `write` a temporary file beside `path` and rename it to `path` once it is complete and on the disk.

    An error or a kill leaves the old file, or none, never half a file. Raises `OSError` as the file system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
