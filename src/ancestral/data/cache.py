"""The user's cache directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
