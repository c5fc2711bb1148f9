"""Commands that run out of disk, of a quota or of memory, or whose clock jumps. Parts of `torture.py`.

A command without room must end with one sentence. No file that was whole may be damaged, and the same command, given again with
room, must give the result of an undisturbed one, bit by bit, and leave no temporary file.
"""

from __future__ import annotations

import builtins
import errno
import getpass
import importlib
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import psutil
import torch
from PIL import Image
from safetensors import SafetensorError

from ancestral.app.leftovers import NAME
from ancestral.app.training import latents
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError
from ancestral.weights import read_tensors
from commands import End, call
from kills import contents, logged

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TORCH = "torchinductor_" + getpass.getuser()  # a folder that torch makes
BY_LIBRARY = "a library ended the process"
AMPLE = 1 << 18  # pages and files, which no command needs
QUICK = ("train.batch=16", "train.precision=fp32", "train.checkpoint_every=1e6", "train.previews=1", "train.diagnoses=1")
SMALL = ("model.channels=[8]", "model.blocks=1")


@dataclass(frozen=True)
class Scenario:
    """A command and those that make what it needs. Both get the folder of the results."""

    name: str
    command: Callable[[Path], list[str]]
    before: Callable[[Path], list[list[str]]] = lambda folder: []


def training(model: str, source: str, steps: int, *settings: str) -> Scenario:
    words = ["--model", model, "--for", f"{steps}it", *QUICK, *settings]
    return Scenario(model, lambda folder: ["train", source, "--out", str(folder / "run"), *words])


def after(name: str, *words: str, out: str = "") -> Scenario:
    """A command on a trained run. out: the file or folder of its result."""
    small = ["--model", "diffusion", "--for", "8it", *QUICK, *SMALL]

    def command(folder: Path) -> list[str]:
        return [name, str(folder / "run"), *words, *(["--out", str(folder / out)] if out else [])]

    return Scenario(name, command, lambda folder: [["train", "digits", "--out", str(folder / "run"), *small]])


RANDOM = ("--features", "random", "-n", "96")
COMPARED = ("--models", "vae,gan", "--for", "6it", *RANDOM)
SCENARIOS = (
    training("vae", "moons", 8, "model.width=8"),
    training("latent", "digits", 12, "model.autoencoder.width=4", "model.prior.channels=[8]", "model.prior.blocks=1"),
    after("sample", "-n", "4", out="drawn.npz"),
    replace(after("sample", "-n", "4", out="drawn"), name="folder"),
    after("evaluate", *RANDOM),
    after("report", *RANDOM),
    after("tune", "--steps", "4", "-n", "4"),
    after("distill", "--for", "4it", *QUICK, out="fast"),
    after("export", "--what", "network", out="exported"),
    Scenario("compare", lambda folder: ["compare", "digits", "--out", str(folder), *COMPARED]),
)


# a file system of limited room


class Disk:
    """A file system in memory with limited room for pages and files. It can be mounted in a mount namespace of its own."""

    def __init__(self, place: Path):
        self.place = place
        self._mount(f"size={AMPLE * PAGE},nr_inodes={AMPLE}")
        (place / "page").write_text("so that a limit is never 0, which means none", encoding="utf-8")

    def leave(self, pages: int = AMPLE, files: int = AMPLE) -> None:
        """Leave room for so many pages and files."""
        used = room(self.place)
        self._mount(f"remount,size={(used[0] + pages) * PAGE},nr_inodes={used[1] + files}")

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.place)], check=True)


def room(place: Path) -> tuple[int, int]:
    """Return the numbers of pages and of files in use in the file system of a place."""
    status = os.statvfs(place)
    return status.f_blocks - status.f_bfree, status.f_files - status.f_ffree


def mounted(program: Sequence[str]) -> int:
    """Run a program in a mount namespace of its own, and return its exit code."""
    return subprocess.run(["unshare", "--map-root-user", "--mount", *program], check=False).returncode


# a command in a process of its own


def apart(function: Callable[[], Any]) -> Any:
    """Return the result of a function that runs in a copy of this process, or the number of the signal that ended it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        os.close(reading)
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(nothing, stream)
            torch.set_num_threads(1)
            tempfile.tempdir, latents.SLOW = None, -1.0  # latents of a small run are stored too
            found = json.dumps(function()).encode()
            while found:
                found = found[os.write(writing, found) :]
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(content) if content else status


def ended(words: list[str], change: Callable[[], object] = lambda: None) -> End:
    """Run a command in a process of its own. change: a function that is called there first, e.g. to limit something."""

    def changed() -> list[Any]:
        change()
        return list(astuple(call(*words)))

    found = apart(changed)
    return End(found, "", f"the process ended with {found}") if isinstance(found, int) else End(*found)


def limited(kind: int, limit: int) -> None:
    resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * PAGE


def jumping(chance: random.Random) -> None:
    """Let the clock of this process jump at each look."""
    now, now_ns, boot = time.time, time.time_ns, psutil._pslinux.boot_time
    time.time = lambda: now() + chance.uniform(-3e7, 3e7)
    time.time_ns = lambda: now_ns() + int(chance.uniform(-3e16, 3e16))
    psutil._pslinux.boot_time = lambda: boot() + chance.uniform(-3e7, 3e7)


# calls of the file system


def calling(before: Callable[[], object], after: Callable[[], object] = lambda: None) -> None:
    """Let this process call a function before each operation that writes or forces to disk, and another one after it."""

    def wrapped(function: Callable[..., Any], counts: Callable[..., bool] = lambda *arguments, **how: True) -> Any:
        def called(*arguments: Any, **how: Any) -> Any:
            if not counts(*arguments, **how):
                return function(*arguments, **how)
            before()
            try:
                return function(*arguments, **how)
            finally:
                after()

        return called

    def writing(file: Any, mode: str = "r", *arguments: Any, **how: Any) -> bool:
        return bool(set(mode) & set("wax+")) and not str(file).startswith(("/dev/", "/proc/"))

    builtins.open = io.open = wrapped(open, writing)
    os.open = wrapped(os.open, lambda file, flags, *arguments, **how: bool(flags & os.O_CREAT))
    for name in ("fsync", "replace", "rename", "mkdir"):
        setattr(os, name, wrapped(getattr(os, name)))


def observed(words: list[str], place: Path) -> dict[str, Any]:
    """Run a command. Returns how many operations it made, the room in use in a place around them, and what it imported."""
    used, calls = [room(place)], 0

    def note() -> None:
        nonlocal calls
        calls += 1
        if used[-1] != (now := room(place)):
            used.append(now)

    calling(note, note)
    end = call(*words)
    return {"end": astuple(end), "used": used, "calls": calls // 2, "modules": sorted(sys.modules)}


def failing(at: int) -> None:
    """Let the operations of this process fail from number `at` on, as on a disk that is full."""
    passed = 0

    def full() -> None:
        nonlocal passed
        passed += 1
        if passed > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calling(full)


# what must hold afterwards


def torn(folder: Path) -> list[str]:
    """Return the files of a folder that are not whole, with the reason."""
    found = []
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")):
        try:
            content = file.read_bytes()
            if file.suffix == ".safetensors":
                read_tensors(file, "")
            elif file.suffix == ".json":
                json.loads(content)
            elif file.suffix in (".png", ".gif"):
                Image.open(file).load()
            elif file.suffix == ".npz":
                dict(np.load(file))
            elif file.suffix == ".html" and not content.rstrip().endswith(b"</html>"):
                raise ValueError("it is cut off")
            elif file.name == "recipe.yaml":
                _ = Run(file.parent).recipe
            elif not content and file.suffix != ".jsonl":
                raise ValueError("it is empty")
        except (ValueError, OSError, EOFError, BadZipFile, SafetensorError, AncestralError) as error:
            found.append(f"{file.relative_to(folder)} is not whole: {error}")
    return found


def leftovers(*folders: Path) -> list[str]:
    """Return the temporary files in folders."""
    return [f"{file.name} is left" for folder in folders for file in folder.rglob("*") if NAME.fullmatch(file.name)]


@dataclass
class Bench:
    """The place of a scenario: a folder of results, a cache and a folder of temporary files.

    Args:
        place: A folder.
        scenario: The scenario.
    """

    place: Path
    scenario: Scenario

    def __post_init__(self) -> None:
        self.results, self.cache, self.temporary = (self.place / name for name in ("results", "cache", "temporary"))
        self.words = self.scenario.command(self.results)
        self.prepared = self.place.parent / f"prepared-{self.place.name}"
        os.environ |= {"ANCESTRAL_CACHE": str(self.cache), "TMPDIR": str(self.temporary)}
        self.begin()
        for words in self.scenario.before(self.results):
            end = ended(words)
            assert end.sound, end
        shutil.copytree(self.place, self.prepared)
        self.begin()

    def begin(self) -> None:
        """Go back to the state before the command."""
        for part in (self.results, self.cache, self.temporary):
            shutil.rmtree(part, ignore_errors=True)
            if (stored := self.prepared / part.name).exists():
                shutil.copytree(stored, part)
            else:
                part.mkdir(parents=True)

    def undisturbed(self) -> dict[str, Any]:
        """Run the command twice, note what is the same each time, and return what was observed."""
        found = []
        for _ in range(2):
            self.begin()
            seen = apart(lambda: observed(self.words, self.place))
            assert End(*seen["end"]).sound, seen["end"]
            found.append(contents(self.results))
            for name in seen["modules"]:  # so that the next processes need not import them
                with suppress(Exception):
                    importlib.import_module(name)
            assert not (wrong := torn(self.results) + leftovers(self.place)), wrong
        self.places = found[0].keys() | found[1].keys()
        self.same = {place: value for place, value in found[0].items() if found[1].get(place) == value}
        self.sizes = {file.stat().st_size for file in self.place.rglob("*") if file.is_file()}
        self.begin()
        self.old = [file for file in self.results.rglob("*") if file.is_file()]
        return seen

    def differences(self) -> list[str]:
        found = contents(self.results)
        wrong = [
            f"{place} differs"
            for place, value in self.same.items()
            if found.get(place, value if logged(place) else None) != value
        ]
        return wrong + [f"{place} is new" for place in found if place not in self.places and not logged(place)]

    def judged(self, end: End, relieve: Callable[[], object] = lambda: None) -> list[str]:
        """Return what is wrong after a command that was short of something. relieve: a function that ends the shortage."""
        if end.problem and end.problem != BY_LIBRARY:
            return [end.problem]
        wrong = torn(self.results) + [f"{file.name} is gone" for file in self.old if not file.exists()]
        wrong += self.differences() if not end.code else []
        relieve()
        again = ended(self.words)
        if not again.sound:
            return [*wrong, f"with room it ends with {again.code}: {again.problem or again.said[-300:]}"]
        left = [f"{name} is left" for name in os.listdir(self.temporary) if name != TORCH]
        return wrong + self.differences() + leftovers(self.place) + left


# the parts of the suite: shortage, its degree, how the command ended, what is wrong

Outcome = tuple[str, int, End, list[str]]


def disk(scenario: Scenario, place: Path, most: int, chance: random.Random) -> Iterator[Outcome]:
    """Let a command run out of pages, of files, and fail at each call that writes."""
    limits = Disk(place)
    bench = Bench(place, scenario)
    seen = bench.undisturbed()
    pages, files = ([use[i] - seen["used"][0][i] for use in seen["used"]] for i in range(2))
    levels = {
        "pages": {free for level in pages for free in (level - 1, level, level + 1) if 0 <= free < max(pages)},
        "files": set(range(max(files))),
        "calls": set(range(seen["calls"])),
    }
    for kind, values in levels.items():
        for level in some(values, most, chance):
            bench.begin()
            if kind == "calls":
                end = ended(bench.words, lambda at=level: failing(at))
            else:
                limits.leave(**{kind: level})
                end = ended(bench.words)
            yield kind, level, end, bench.judged(end, limits.leave)
            limits.leave()
    subprocess.run(["umount", str(place)], check=True)


def quota(scenario: Scenario, place: Path, most: int, chance: random.Random) -> Iterator[Outcome]:
    """Limit the size of files (RLIMIT_FSIZE) to a little less, or half, of each that the command writes."""
    bench = Bench(place, scenario)
    bench.undisturbed()
    for level in some({limit for size in bench.sizes for limit in (size - 1, size // 2) if limit >= 0}, most, chance):
        bench.begin()
        end = ended(bench.words, lambda limit=level: limited(resource.RLIMIT_FSIZE, limit))
        yield "quota", level, end, bench.judged(end)


def memory(scenario: Scenario, place: Path, most: int, chance: random.Random) -> Iterator[Outcome]:
    """Limit the address space (RLIMIT_AS) to a number of megabytes more than the process has."""
    bench = Bench(place, scenario)
    bench.undisturbed()
    for level in some(range(0, 200, 5), most, chance):
        bench.begin()
        end = ended(bench.words, lambda more=level: limited(resource.RLIMIT_AS, address_space() + more * 1_000_000))
        if end.problem.startswith("the process ended"):  # OpenBLAS does so; what was written must be as after a kill
            end = End(end.code, problem=BY_LIBRARY, said="")
        yield "memory", level, end, bench.judged(end)


def clock(scenario: Scenario, place: Path, most: int, chance: random.Random) -> Iterator[Outcome]:
    """Set the clock to another time, up to a year away, whenever it is read."""
    bench = Bench(place, scenario)
    bench.undisturbed()
    for seed in some(range(most), most, chance):
        bench.begin()
        for file in bench.old:
            os.utime(file, (chance.uniform(0, 4e9),) * 2)
        end = ended(bench.words, lambda seed=seed: jumping(random.Random(seed)))
        negative = [f"{name} is {v}" for name, v in contents(bench.results).items() if "seconds" in name and v < 0]
        yield "clock", seed, end, negative + bench.judged(end)


PARTS = {part.__name__: part for part in (disk, quota, memory, clock)}


def some(levels: Collection[int], most: int, chance: random.Random) -> list[int]:
    return sorted(chance.sample(sorted(levels), min(most, len(levels))))


def run(part: str, names: Sequence[str], most: int, seed: int) -> int:
    """Run a part of the suite, print a table and what is wrong, and return the number of bad outcomes."""
    chance, bad = random.Random(seed), 0
    columns = ("command", "short of", "tries", "one sentence", "the same result", "ended by a library", "BAD")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for scenario in SCENARIOS:
            if scenario.name not in names:
                continue
            (there := Path(place) / scenario.name).mkdir()
            counts: Counter[tuple[str, str]] = Counter()
            for kind, level, end, wrong in PARTS[part](scenario, there, most, chance):
                counts[kind, "BAD" if wrong else "ended" if end.problem else "refused" if end.code else "done"] += 1
                if wrong:
                    print(f"BAD: {scenario.name}, {kind} {level}: {'; '.join(wrong[:6])}", flush=True)
            bad += sum(count for (_, outcome), count in counts.items() if outcome == "BAD")
            for kind in dict.fromkeys(kind for kind, _ in counts):
                row = [counts[kind, outcome] for outcome in ("refused", "done", "ended", "BAD")]
                print(f"| {scenario.name} | {kind} | {sum(row)} | {' | '.join(map(str, row))} |", flush=True)
    return bad
