"""The queue of trainings, reports and comparisons. Each is a process of its own, the same command as in a terminal.

It goes on if the server is killed, and a server that returns finds it again: the queue is a file, and a process is known
by its number and its birth.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from ancestral.app.lock import birth
from ancestral.app.overview import counters
from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.files import read_json, write_atomically

State = Literal["waiting", "running", "stopping", "finished", "stopped", "failed"]
KEPT = 100  # jobs in the list
TAIL = 40  # lines of the log


@dataclass
class Job:
    """A command in the queue.

    Args:
        id: its number.
        arguments: of `ancestral`, a snapshot of the settings with which it was asked for.
        run: the folder that it writes.
        created: the time of the request.
        pid, born: the process and what tells it from a later one with its number (`birth`), None before it runs.
        earlier: when the result was written that was there before, 0 if there was none.
        asked_to_stop: whether a person stopped it.
        ended: whether its process has ended.
        code: the exit code, None if the server did not see the end.
        folder: where it runs. "": the folder of the queue.
    """

    id: int
    arguments: list[str]
    run: str
    created: float = field(default_factory=time.time)
    pid: int | None = None
    born: str | None = None
    earlier: int = 0
    asked_to_stop: bool = False
    ended: bool = False
    code: int | None = None
    folder: str = ""


class Queue:
    """The trainings that were asked for, in a file. One runs at a time.

    Args:
        folder: where the queue and the logs are, and in which the commands run that name no folder.
    """

    def __init__(self, folder: Path):
        self.folder, self.file, self.logs = folder, folder / "queue.json", folder / "logs"
        self._lock = threading.RLock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self.jobs: list[Job] = self._read()

    def _read(self) -> list[Job]:
        try:
            return [Job(**job) for job in read_json(self.file.read_bytes())]
        except (OSError, ValueError, TypeError):
            return []

    def _write(self) -> None:
        self.jobs = self.jobs[-KEPT:]
        write_atomically(self.file, json.dumps([asdict(job) for job in self.jobs], indent=1).encode())

    def add(self, arguments: Sequence[str], run: Path, folder: Path | None = None) -> Job:
        """Add a command to the end of the queue. Raises UsageError if the run is in the queue already.

        Args:
            arguments: of `ancestral`.
            run: the folder that the command writes.
            folder: where it runs, None for the folder of the queue.
        """
        with self._lock:
            self.tick()
            if self.of(run) is not None:
                raise UsageError(f"{run.name} is in the queue already: wait for its end, or stop it")
            number = 1 + max((job.id for job in self.jobs), default=0)
            job = Job(number, list(arguments), str(run), folder=str(folder or ""))
            self.jobs.append(job)
            self._write()
            self.tick()
            return job

    @property
    def busy(self) -> bool:
        """Return whether a command runs."""
        return any(job.pid is not None and not job.ended for job in self.jobs)

    def of(self, run: Path) -> Job | None:
        """Return the training of a run that waits or runs, or None."""
        return next((job for job in self.jobs if job.run == str(run) and not job.ended), None)

    def last(self, run: Path) -> Job | None:
        """Return the last training of a run in the queue, or None."""
        return next((job for job in reversed(self.jobs) if job.run == str(run)), None)

    def stop(self, run: Path) -> None:
        """Stop the training of a run at its next step, after it has saved all. Raises UsageError if there is none."""
        with self._lock:
            job = self.of(run)
            if job is None:
                raise UsageError(f"no training of {run.name} runs or waits here")
            job.asked_to_stop = True
            if job.pid is None:
                job.ended = True
            elif (process := _process(job)) is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
            self._write()

    def tick(self) -> None:
        """Note which trainings have ended, and start the next one."""
        with self._lock:
            changed = False
            for job in self.jobs:
                if job.pid is None or job.ended:
                    continue
                child = self._children.get(job.id)
                code = child.poll() if child is not None else None
                if code is not None or (child is None and _process(job) is None):
                    job.ended, job.code, changed = True, code, True
                    self._children.pop(job.id, None)
            if not self.busy:
                waiting = next((job for job in self.jobs if job.pid is None and not job.ended), None)
                if waiting is not None:
                    self._start(waiting)
                    changed = True
            if changed:
                self._write()

    def _start(self, job: Job) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        job.earlier = _written(job)
        with self.log(job).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "ancestral", *job.arguments],
                cwd=job.folder or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # it outlives the server
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self._children[job.id] = child
        job.pid, job.born = child.pid, birth(child.pid)

    def log(self, job: Job) -> Path:
        """Return the file with all that a training said."""
        return self.logs / f"{job.id}.txt"

    def tail(self, job: Job) -> list[str]:
        """Return the last lines that a training said."""
        try:
            return self.log(job).read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        except OSError:
            return []

    def state(self, job: Job) -> State:
        """Return the state of a training. One whose end nobody saw is judged by its run folder."""
        if job.pid is None:
            return "stopped" if job.ended else "waiting"
        if not job.ended:
            return "stopping" if job.asked_to_stop else "running"
        if job.code == 0 or (job.code is None and _complete(job)):
            return "finished"
        if any(line.startswith("error:") for line in self.tail(job)[-3:]) or job.code == 1:
            return "failed"
        return "stopped"

    def describe(self, job: Job) -> dict[str, Any]:
        """Return a training as the API shows it."""
        state = self.state(job)
        lines = self.tail(job)
        error = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error:")), None)
        notes = [line.strip() for line in lines if line.strip() and "━" not in line and "╌" not in line]
        return {
            "id": job.id,
            "command": job.arguments[0],
            "run": Path(job.run).name,
            "state": state,
            "arguments": job.arguments,
            "created": job.created,
            "error": error if state == "failed" else None,
            "notes": notes,
        }


def _complete(job: Job) -> bool:
    """Return whether a command whose end nobody saw has left its result."""
    if job.arguments[0] == "train":
        return bool(counters(Run(job.run)).get("progress", 0.0) >= 1)
    return _written(job) not in (0, job.earlier)


def _written(job: Job) -> int:
    """Return when the result of a command was written, 0 if there is none."""
    try:
        return (Path(job.run) / ("tuning.json" if job.arguments[0] == "tune" else "report.html")).stat().st_mtime_ns
    except OSError:
        return 0


def _process(job: Job) -> psutil.Process | None:
    """Return the process of a training if it still runs, and is not another that has the same number."""
    try:
        process = psutil.Process(job.pid)
        return process if birth(process.pid) == job.born and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
