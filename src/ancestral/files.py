"""Writing files so that nothing is ever half there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ancestral.errors import AncestralError


def write_atomically(path: Path, contents: bytes | Callable[[BinaryIO], object]) -> None:
    """Write beside the place, force to disk, rename: the file is either the old one or the whole new one.

    contents: the bytes, or what writes them to an open file. Raises OSError as the file system does.
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
    """A full disk or a folder without permission as one sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AncestralError(
            f"cannot write to {path}: {reason}; what was saved before is unharmed, so fix this and run the command again"
        ) from None
