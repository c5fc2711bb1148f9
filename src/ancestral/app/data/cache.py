"""The user's cache directory, and the space on disk that decoded data may take there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ancestral.app.leftovers import remove_leftovers
from ancestral.errors import UsageError
from ancestral.files import write_atomically

BUDGET = "ANCESTRAL_CACHE_GB"  # the variable that sets the budget of decoded data
SHARE = 0.5  # of the disk space that is free or already taken by decoded data, if the variable is not set
DECODED = ("images", "shards")  # folders whose files can be made again


class NoRoomError(Exception):
    """The decoded data do not fit into the cache. The message is the end of a sentence: why, and what to do."""


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


def budget() -> float:
    """Return how many bytes decoded data may take on the disk. Raises UsageError if `$ANCESTRAL_CACHE_GB` is no number."""
    given = os.environ.get(BUDGET)
    if given:
        try:
            return max(0.0, float(given)) * 1e9
        except ValueError:
            raise UsageError(f"{BUDGET} must be a number of gigabytes, e.g. 50, found {given!r}") from None
    place = cache_dir()
    while not place.exists():
        place = place.parent
    return SHARE * (shutil.disk_usage(place).free + sum(size for _, size, _ in _entries()))


def make_room(need: int, spare: Path) -> None:
    """Delete the decoded data that were used longest ago until `need` more bytes are within the budget.

    Args:
        need: the bytes of the new data.
        spare: a file without its suffix, which is not deleted.

    Raises:
        NoRoomError: if the new data alone exceed the budget.
    """
    allowed, entries = budget(), sorted(_entries())
    if need > allowed:
        raise NoRoomError(
            f"they need {need / 1e9:,.1f} GB, and decoded data may take {allowed / 1e9:,.1f} GB in {cache_dir()}: set {BUDGET} "
            "to more gigabytes, or ANCESTRAL_CACHE to a folder on a larger disk"
        )
    used = sum(size for _, size, _ in entries)
    for _, size, files in entries:
        if used + need <= allowed:
            break
        if not any(file.with_suffix("") == spare for file in files):
            for file in files:
                file.unlink(missing_ok=True)  # a process that has mapped it can go on
            used -= size


def touch(file: Path) -> None:
    """Note that a file of the cache was used now, so that others are deleted before it."""
    try:
        os.utime(file)
    except OSError:  # a cache that cannot be written
        return


def mapped_file(file: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> np.ndarray:
    """Make an `.npy` file of zeros and map it into memory for writing. Raises OSError if the disk is full."""
    file.parent.mkdir(parents=True, exist_ok=True)
    array: np.ndarray = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a mapped file without space would end the process when it is written
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, os.path.getsize(file))
    return array


def _entries() -> list[tuple[float, int, list[Path]]]:
    """Return (time of the last use, size, files) of each entry of decoded data. Files of one stem are one entry."""
    found: dict[Path, list[Path]] = {}
    for folder in DECODED:
        files = [*(cache_dir() / folder).glob("*")]
        remove_leftovers(files)
        for file in files:
            if not file.name.endswith(".tmp"):
                found.setdefault(file.with_suffix(""), []).append(file)
    entries = []
    for files in found.values():
        with contextlib.suppress(OSError):  # another process has deleted it
            status = [file.stat() for file in files]
            entries.append((max(s.st_mtime for s in status), sum(s.st_size for s in status), files))
    return entries
