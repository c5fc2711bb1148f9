"""Temporary files and folders that killed processes left behind. Their names are `.NAME.PROCESS.tmp`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

NAME = re.compile(r"\..+\.(\d{1,9})\.tmp")


def remove_leftovers(found: Iterable[Path]) -> None:
    """Delete those of some files and folders that are temporary and whose processes have ended, if that is allowed."""
    for path in found:
        process = NAME.fullmatch(path.name)
        if process is None or psutil.pid_exists(int(process[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
