"""Atomic writing of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ancestral.errors import AncestralError


def write_atomically(path: Path, contents: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a temporary file, force it to disk and rename it, so that the file is either the old or the complete new one.

    Args:
        path: the file.
        contents: the bytes, or a function that writes them to an open file.

    Raises:
        OSError: if the file system raises it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w+b") as file:
            if callable(contents):
                contents(file)
            else:
                file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn OSErrors inside, such as a full disk, into an AncestralError in one sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AncestralError(
            f"cannot write to {path}: {reason}; what was saved before is unharmed, so fix this and run the command again"
        ) from None
