"""The lock of a folder: one command at a time writes into it.

The operating system holds the lock on the file `.lock` and releases it when the process ends, however it ends. The file says
who has it. On a file system without locks the file alone decides: its owner has ended if no process of this machine has its
number and its birth. Readers need no lock, because every file is replaced as a whole.

Several processes of one command (torchrun) share the lock of the main one.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from ancestral.app.leftovers import remove_leftovers
from ancestral.app.processes import processes
from ancestral.errors import UsageError
from ancestral.files import disk_errors, read_json

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
BYTE = 1 << 30  # the byte that Windows locks, beyond the text


class InUseError(UsageError):
    """A folder is in use. who: its owner, in words.

    Args:
        folder: The folder.
        owner: The owner of the lock, {} if it is not known.
    """

    def __init__(self, folder: Path, owner: Mapping[str, Any]):
        self.who, remedy = "another process", "wait until it ends"
        if owner:
            since = datetime.fromtimestamp(owner["started"]).strftime("%Y-%m-%d %H:%M:%S")
            self.who = f"process {owner['pid']} on {owner['host']}, started at {since}"
            remedy += ", or stop it"
        super().__init__(f"{folder} is in use by {self.who}: {remedy}")


@dataclass
class _Held:
    """A lock of this process. opened: the number of the open file; times: how often its thread has taken it.

    new: whether the folder was made for it. If nothing was written there, it is removed in the end.
    """

    opened: int
    thread: int
    new: bool
    times: int = 1


_locks: dict[str, _Held] = {}  # by the real path of the folder
_guard = threading.Lock()


@contextmanager
def locked(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist, and delete the temporary files of killed processes in it.

    The thread that has the lock may take it again.

    Args:
        folder: The folder.
        alone: Whether only this process of a group calls the function. Otherwise all do.

    Raises:
        InUseError: If another process or thread has the lock.
        AncestralError: If the folder cannot be written.
    """
    if alone:
        _take(folder)
    else:
        processes().by_main(lambda: _take(folder))
    try:
        yield
    finally:
        if alone or processes().main:
            _release(folder)


def _take(folder: Path) -> None:
    key, thread = os.path.realpath(folder), threading.get_ident()
    with _guard:
        held = _locks.get(key)
        if held is None:
            with disk_errors(folder):
                new = not folder.is_dir()
                folder.mkdir(parents=True, exist_ok=True)
                _locks[key] = _Held(_acquire(folder), thread, new)
                remove_leftovers([*folder.rglob(".*.tmp")])
        elif held.thread == thread:
            held.times += 1
        else:
            raise InUseError(folder, _owner())


def _release(folder: Path) -> None:
    key = os.path.realpath(folder)
    with _guard:
        held = _locks[key]
        held.times -= 1
        if not held.times:
            with suppress(OSError):  # Windows deletes no open file, and the folder may be gone
                (folder / FILE).unlink()
            os.close(held.opened)
            del _locks[key]
            if held.new:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def _acquire(folder: Path) -> int:
    """Lock the file in the folder, write the owner into it, and return the number of the open file."""
    while True:
        opened = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        there = _read(opened)
        try:
            free = _lock(opened) or not _lives(there)
        except (BlockingIOError, PermissionError):
            free = False
        if not free:
            os.close(opened)
            raise InUseError(folder, there)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened), os.stat(folder / FILE)):
                break
        os.close(opened)  # its owner has just deleted it
    try:
        os.ftruncate(opened, 0)
        os.lseek(opened, 0, os.SEEK_SET)
        os.write(opened, json.dumps(_owner()).encode())
    except OSError:
        os.close(opened)
        raise
    return opened


def _lock(opened: int) -> bool:
    """Lock an open file. Returns False if the file system has no locks. Raises OSError if another process has this one."""
    if sys.platform == "win32":
        os.lseek(opened, BYTE, os.SEEK_SET)
        msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        return True
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def _owner() -> dict[str, Any]:
    """Return what identifies this process."""
    process = psutil.Process()
    return {
        "pid": process.pid,
        "host": platform.node(),
        "started": process.create_time(),
        "born": birth(process.pid),
    }


def _read(opened: int) -> dict[str, Any]:
    """Return the owner in an open file, {} if there is none."""
    try:
        os.lseek(opened, 0, os.SEEK_SET)
        found = read_json(os.read(opened, 1000))
        datetime.fromtimestamp(found["started"])  # raises for what is no time
        kinds = {"pid": int, "host": str, "started": float, "born": str}
        return {name: kind(found[name]) for name, kind in kinds.items()}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}


def _lives(owner: Mapping[str, Any]) -> bool:
    """Return whether an owner may still run. Another process can have its number, after a restart of the machine too."""
    if not owner or owner["host"] != platform.node():
        return bool(owner)
    return bool(birth(owner["pid"]) == owner["born"])


def birth(pid: int) -> str | None:
    """Return what tells a process from a later one with its number, None if no process has it.

    On Linux it is the restart of the machine and the ticks since then, because the time of a start changes with the clock.
    """
    try:
        if platform.system() == "Linux":
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            state = Path(f"/proc/{pid}/stat").read_bytes()
            return f"{boot}/{state.rpartition(b')')[2].split()[19].decode()}"
        return str(psutil.Process(pid).create_time())
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None
