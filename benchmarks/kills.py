"""Commands that are killed, and given again until they end: is the result that of a command that nobody killed?

    python benchmarks/kills.py --kills 1000            # about 15 minutes on one core
    python benchmarks/kills.py --only gan compare --kills 50

Each family trains on digits, the latent family in two stages; runs are evaluated, distilled and compared. A trial is killed one
to four times by SIGKILL and then left alone. Half of the kills come at a random time, the other half just before or after a
random file operation (a sync, a rename, a removal), where files are half-made. Afterwards all files of the trial are compared
with those of an undisturbed one: JSON by its values, all others by their bytes. Values that differ between two undisturbed
trials, which are times, are left out and counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from ancestral.app.cli import main
from ancestral.app.training.checkpoint import read

OPERATIONS = ("fsync", "replace", "unlink", "rename")
LEFT_OUT = (".html", ".md", ".lock")  # reports, which hold times
TIMES = ("seconds", "rate", "memory", "check", "rows")  # and what depends on them: hashes and counts of rows of the log
QUIET = ("train.checkpoint_every=0.1", "train.precision=fp32", "train.batch=16", "train.previews=2", "train.diagnoses=2")


@dataclass(frozen=True)
class Scenario:
    """A command and the folder of its results. `before` are commands that make what it needs, in the folder given."""

    name: str
    command: Callable[[Path], list[str]]
    before: Callable[[Path], list[list[str]]] = lambda folder: []


def training(model: str, steps: int, *settings: str) -> Scenario:
    words = ["--model", model, "--for", f"{steps}it", *QUIET, *settings]
    return Scenario(model, lambda folder: ["train", "digits", "--out", str(folder), *words])


def trained(folder: Path) -> list[list[str]]:
    small = ("model.channels=[8]", "model.blocks=1")
    return [["train", "digits", "--model", "diffusion", "--for", "20it", "--out", str(folder), *QUIET, *small]]


COMPARED = ["--models", "vae,gan", "--for", "20it", "-n", "200", "--features", "random"]
SCENARIOS = (
    training("vae", 40, "model.width=4", "model.latent=4"),
    training("gan", 40, "model.channels=[8, 8]", "model.latent=4"),
    training("diffusion", 40, "model.channels=[8]", "model.blocks=1"),
    training("score", 40, "model.channels=[8]", "model.blocks=1"),
    training("latent", 60, "model.autoencoder.width=4"),
    Scenario("evaluate", lambda f: ["evaluate", str(f), "-n", "256", "--features", "random"], trained),
    Scenario("distill", lambda f: ["distill", str(f), "--for", "20it", "--out", str(f / "fast"), *QUIET], trained),
    Scenario("compare", lambda f: ["compare", "digits", "--out", str(f), *COMPARED]),
)


class Child:
    """A command in a process of its own, which is a copy of this one and so needs no start of Python.

    Args:
        words: the command.
        log: the file of what it prints.
        operation: the file operation at which it is killed, counted from 0, or None.
    """

    def __init__(self, words: list[str], log: Path, operation: int | None = None):
        self.facts = log.with_suffix(".json")
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                code = self._run(words, log, operation)
            finally:
                os._exit(code)

    def _run(self, words: list[str], log: Path, operation: int | None) -> int:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        torch.set_num_threads(1)
        passed = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **how: Any) -> Any:
                nonlocal passed
                for moment in range(2):
                    if passed == operation:
                        os.kill(os.getpid(), signal.SIGKILL)
                    passed += 1
                    if moment == 0:
                        result = function(*arguments, **how)
                return result

            return call

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            main(words)
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            self.facts.write_text(json.dumps({"operations": passed, "modules": sorted(sys.modules)}), encoding="utf-8")
            return int(end.code or 0)
        return 70

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end and return the exit code, negative for a signal. seconds: kill it after this time."""
        end = None if seconds is None else time.monotonic() + seconds
        while end is not None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        if end is not None:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def contents(folder: Path) -> dict[str, Any]:
    """Return what a folder holds, by file and by place in JSON."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix in LEFT_OUT or path.name in LEFT_OUT:
            continue
        if path.suffix == ".json":
            found |= leaves(name, json.loads(path.read_bytes()))
        elif path.suffix == ".jsonl":
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                found |= leaves(f"{name}/step {row['step']}", {key: v for key, v in row.items() if key not in TIMES})
        elif path.parent.name == "checkpoints":
            if path != max(path.parent.iterdir()):  # when the others were written depends on the time
                continue
            stored = read(path, [])
            if stored is None:
                found[name] = "damaged"
            else:
                numbers = {key: v for key, v in stored.numbers.items() if key not in TIMES}
                found |= leaves(name, numbers) | {f"{name}/{key}": digest(t) for key, t in stored.tensors.items()}
        else:
            found[name] = blake2b(path.read_bytes()).hexdigest()
    return found


def logged(place: str) -> bool:
    """Return whether a value is of the log of a training. The time decides which steps are in the log."""
    return "metrics.jsonl/" in place


def leaves(place: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in leaves(f"{place}/{key}", part).items()}
    if isinstance(value, list):
        return {k: v for i, part in enumerate(value) for k, v in leaves(f"{place}/{i}", part).items()}
    return {place: value}


def digest(t: torch.Tensor) -> str:
    return blake2b(t.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


@dataclass
class Counts:
    """What came out of the trials of a scenario."""

    trials: int = 0
    timed: int = 0
    placed: int = 0
    left_out: int = 0
    compared: int = 0
    bad: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.timed + self.placed


def torture(scenario: Scenario, kills: int, rng: random.Random, folder: Path) -> Iterator[Counts]:
    """Yield the counts after each trial, until there were so many kills."""
    whole, log = folder / "whole" / "run", folder / "log.txt"
    prepared = folder / "prepared" / "run"
    for words in scenario.before(prepared):
        if code := Child(words, log).wait():
            raise SystemExit(f"{scenario.name}: {' '.join(words)} ended with {code}: {log.read_text(encoding='utf-8')}")

    def begin(at: Path) -> None:
        shutil.rmtree(at.parent, ignore_errors=True)
        at.parent.mkdir(parents=True)
        if prepared.exists():
            shutil.copytree(prepared, at)

    undisturbed, took, operations = [], 0.0, 0
    for _ in range(2):
        begin(whole)
        started = time.monotonic()
        child = Child(scenario.command(whole), log)
        if code := child.wait():
            raise SystemExit(f"{scenario.name}: the undisturbed command ended with {code}: {log.read_text(encoding='utf-8')}")
        took, facts = time.monotonic() - started, json.loads(child.facts.read_bytes())
        operations = facts["operations"]
        for module in facts["modules"]:  # so that the next processes need not import them
            with suppress(Exception):
                importlib.import_module(module)
        undisturbed.append(contents(whole))
    first, second = undisturbed
    same = {place: value for place, value in first.items() if second.get(place) == value}
    counts = Counts(left_out=len(first) - len(same), compared=len(same))
    while counts.kills < kills:
        begin(whole)
        history = []
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.5:
                seconds = rng.uniform(0, took)
                code = Child(scenario.command(whole), log).wait(seconds)
                history.append(f"{seconds:.3f} s")
                counts.timed += code == -signal.SIGKILL
            else:
                operation = rng.randrange(operations)
                code = Child(scenario.command(whole), log, operation).wait()
                history.append(f"operation {operation}")
                counts.placed += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                counts.bad.append(f"ended with {code} after {', '.join(history)}: {log.read_text(encoding='utf-8')[-300:]}")
                break
        else:
            code = Child(scenario.command(whole), log).wait()
            if code:
                counts.bad.append(f"ended with {code} after {', '.join(history)}: {log.read_text(encoding='utf-8')[-300:]}")
            else:
                found = contents(whole)
                wrong = [
                    f"{place}: {found.get(place)}"
                    for place, value in same.items()
                    if found.get(place, value if logged(place) else None) != value
                ]
                wrong += [f"{place} is new" for place in found if place not in first | second and not logged(place)]
                if wrong:
                    counts.bad.append(f"differs after {', '.join(history)}: {', '.join(wrong[:8])}")
        counts.trials += 1
        yield counts


def run(asked: argparse.Namespace) -> int:
    rng = random.Random(asked.seed)
    chosen = [s for s in SCENARIOS if not asked.only or s.name in asked.only]
    print(
        "| command | trials | killed at a random time | at a file operation | values compared | left out | lost or different |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    bad = 0
    for i, scenario in enumerate(chosen):
        share = asked.kills // len(chosen) + (i < asked.kills % len(chosen))
        with tempfile.TemporaryDirectory() as folder:
            counts = Counts()
            for counts in torture(scenario, share, rng, Path(folder)):  # noqa: B007
                pass
        row = (counts.trials, counts.timed, counts.placed, counts.compared, counts.left_out, len(counts.bad))
        print(f"| {scenario.name} | {' | '.join(map(str, row))} |", flush=True)
        for text in counts.bad[:5]:
            print(f"    {text}", file=sys.stderr, flush=True)
        bad += len(counts.bad)
    return int(bad > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="kills in all")
    parser.add_argument("--only", nargs="*", choices=[s.name for s in SCENARIOS], help="scenarios")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    sys.exit(run(parser.parse_args()))
