"""Atomic and durable writing of files, and reading of JSON that may be damaged or hostile."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ancestral.errors import DiskError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the largest size of a file
DIGITS = 100  # of a whole number in JSON or YAML at most


def write_atomically(path: Path, contents: bytes | Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Write a temporary file, force it to disk and rename it, so that the file is either the old or the complete new one.

    The entries of the folder are forced to disk too, so that a file that was written is still there after a loss of power.

    Args:
        path: the file.
        contents: the bytes, or a function that writes them to an open file.
        durable: whether the file is forced to disk. Thousands of files that can be made again take less time without it.

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
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        for changed in (path, *new) if durable else ():
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
    """Turn OSErrors inside, such as a full disk, into a DiskError, which is one sentence."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from None


def disk_error(path: Path, error: OSError) -> DiskError:
    """Return an OSError in one sentence. path: what was written."""
    reason = (error.strerror or str(error)).lower()
    return DiskError(
        f"cannot write to {path}: {reason}; what was saved before is unharmed, so fix this and run the command again"
    )


def read_json(content: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError, which says in one line what is wrong and where."""
    try:
        text = content if isinstance(content, str) else content.decode()
        return json.loads(text, parse_int=_integer)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} has a byte that is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}" if "\n" in text.strip() else "it"
        raise ValueError(f"{where} is not JSON: {error.msg.lower()}") from None
    except RecursionError:
        raise ValueError("its values are nested too deep") from None


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits, and at most {DIGITS} are read")
    return int(text)
