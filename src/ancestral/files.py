"""Atomic and durable writing of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ancestral.errors import AncestralError


def write_atomically(path: Path, contents: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a temporary file, force it to disk and rename it, so that the file is either the old or the complete new one.

    The entries of the folder are forced to disk too, so that a file that was written is still there after a loss of power.

    Args:
        path: the file.
        contents: the bytes, or a function that writes them to an open file.

    Raises:
        OSError: if the file system raises it.
    """
    new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
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
        for changed in (path, *new):
            _sync(changed.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Force the entries of a folder to disk. Windows, and some file systems of networks, do it by themselves or cannot."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(opened)


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
