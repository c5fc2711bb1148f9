"""Bounded reading of files that may be damaged or hostile: what they need is known before they are read.

Only regular files are opened, since reading from a pipe or a device may never end. What a file needs in memory is compared
with a limit before it is read: half of the memory that is free, or `$ANCESTRAL_MEMORY_GB`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ancestral.app.data.errors import DataError
from ancestral.errors import UsageError
from ancestral.runtime import free_memory

MEMORY = "ANCESTRAL_MEMORY_GB"  # the variable that sets the limit
SHARE = 0.5  # of the free memory, if the variable is not set
SMALL = 1 << 24  # bytes that are always allowed


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        DataError: if the path is a pipe, a socket, a device or a folder.
        OSError: if the file cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for a writer
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path} is no regular file, but a folder, a pipe or a device: save the data in a file")
    return os.fdopen(descriptor, "rb")


def size_of(path: Path) -> int:
    """Return the size of a regular file in bytes. Raises DataError and OSError as `open_regular` does."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


def memory_limit() -> float:
    """Return how many bytes one source of data may need in memory. Raises UsageError if the variable is no number."""
    if given := os.environ.get(MEMORY):
        try:
            return max(0.0, float(given)) * 1e9
        except ValueError:
            raise UsageError(f"{MEMORY} must be a number of gigabytes, e.g. 16, found {given!r}") from None
    return SHARE * free_memory()


def rule_of_memory() -> str:
    """Return where the limit comes from, in words."""
    return f"by {MEMORY}" if os.environ.get(MEMORY) else "half of what is free"


def check_memory(where: str, need: float, what: str = "it needs") -> None:
    """Raise DataError if data need more bytes in memory than the limit. what: the words before the size."""
    if need > SMALL and need > (limit := memory_limit()):
        raise DataError(
            f"{where} is too large: {what} {need / 1e9:,.1f} GB of memory, and {limit / 1e9:,.1f} GB are allowed "
            f"({rule_of_memory()}): use less data, or set {MEMORY} to more gigabytes"
        )


def text_of(path: Path) -> str:
    """Return the content of a text file. Raises `DataError` if it cannot be read, is too large or is not UTF-8."""
    try:
        with open_regular(path) as file:
            check_memory(str(path), 4.0 * os.fstat(file.fileno()).st_size)
            content = file.read()
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
