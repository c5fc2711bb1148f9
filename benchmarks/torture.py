"""Damage what `ancestral` reads, and look at what its commands make of it.

    python benchmarks/torture.py damage --each 20        # every file of a run of every family
    python benchmarks/torture.py disk                    # also quota, memory and clock: see shortage.py

A command on a damaged run must give the undamaged result, or end with one sentence that names the damaged file, or say what it
has rebuilt or left out. A traceback, or another result without a word, is bad.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ancestral.app.api import plan
from ancestral.app.training import latents
from commands import End, call
from shortage import PARTS, SCENARIOS, mounted
from shortage import run as shortage

IMAGES = ("model.autoencoder.width=8", "model.prior.channels=[8,16]", "model.prior.blocks=1")
FAMILIES = {  # the data and the settings of a run that trains in a second
    "vae": ("moons", "model.width=16"),
    "gan": ("moons", "model.width=16"),
    "diffusion": ("moons", "model.width=16"),
    "score": ("moons", "model.width=16"),
    "latent": ("digits", *IMAGES),
}
STEPS, MORE = 20, 24  # of the run, which was stopped, and of the training that continues it
OUTCOMES = ("same", "named", "rebuilt", "left out", "BAD")


# commands, and what is compared


def info(run: Path, source: str) -> tuple[End, Any]:
    """Show the run."""
    end = call("info", run, "--json")
    return end, None if end.code else {k: v for k, v in json.loads(end.said).items() if k not in ("notes", "run")}


def sample(run: Path, source: str) -> tuple[End, Any]:
    """Draw samples."""
    file = run.parent / "samples.npz"
    end = call("sample", run, "-n", 3, "--device", "cpu", "--out", file)
    return end, None if end.code else np.load(file)["x"].tolist()


def train(run: Path, source: str) -> tuple[End, Any]:
    """Continue the training."""
    end = call("train", source, "--out", run, "--device", "cpu")
    return end, None if end.code else {k: v.tolist() for k, v in load_file(run / "model" / "model.safetensors").items()}


def evaluate(run: Path, source: str) -> tuple[End, Any]:
    """Score samples."""
    end = call("evaluate", run, *scored(source), "--json")
    return end, None if end.code else figures(json.loads(end.said))


def report(run: Path, source: str) -> tuple[End, Any]:
    """Write the report."""
    end = call("report", run, *scored(source))
    return end, None if end.code else figures(json.loads((run / "report.json").read_bytes())["evaluations"][0])


def compare(run: Path, source: str) -> tuple[End, Any]:
    """Compare the run with another one."""
    end = call("compare", run, run.parents[1] / "other", *scored(source), "--out", run.parent / "compared", "--json")
    return end, None if end.code else [figures(one) for one in json.loads(end.said)["evaluations"]]


def tune(run: Path, source: str) -> tuple[End, Any]:
    """Fit sampler settings."""
    end = call("tune", run, "--steps", "4", "-n", 4, "--device", "cpu", "--json")
    return end, None if end.code else json.loads(end.said)["settings"]


def distill(run: Path, source: str) -> tuple[End, Any]:
    """Train a copy that samples in few steps."""
    fast = run.parent / "fast"
    end = call("distill", run, "--for", "2it", "--out", fast, "--device", "cpu", "train.batch=8", "train.previews=0")
    return end, None if end.code else {k: v.tolist() for k, v in load_file(fast / "model" / "model.safetensors").items()}


def export(run: Path, source: str) -> tuple[End, Any]:
    """Write the network for ONNX Runtime."""
    place = run.parent / "exported"
    end = call("export", run, "--what", "network", "--out", place)
    return end, None if end.code else {file.name: file.read_bytes() for file in place.iterdir() if file.suffix == ".onnx"}


def scored(source: str) -> list[object]:
    """Return the options of a small evaluation."""
    return ["-n", 64, *(("--features", "random") if source == "digits" else ()), "--device", "cpu"]


def figures(evaluation: Any) -> dict[str, Any]:
    return {metric["name"]: metric["value"] for metric in evaluation["metrics"]}


Command = Callable[[Path, str], tuple[End, Any]]
COMMANDS: dict[Command, int] = {info: 1, sample: 1, train: 2, evaluate: 6}  # each damage, every second, every sixth
COMMANDS |= {report: 6, compare: 6, tune: 6, distill: 6, export: 6}
DENOISING = ("diffusion", "score", "latent")  # families that can be tuned and distilled


# damages


def flip(content: bytes, chance: random.Random) -> bytes:
    """Flip a bit."""
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return content[: chance.randrange(len(content))]


def zero(content: bytes, chance: random.Random) -> bytes:
    """Set a block to zero."""
    at, size = chance.randrange(len(content)), chance.choice((1, 16, 512, 4096))
    return content[:at] + bytes(min(size, len(content) - at)) + content[at + size :]


def binary(content: bytes, chance: random.Random) -> bytes:
    """Insert a byte that is not UTF-8."""
    at = chance.randrange(len(content))
    return content[:at] + b"\xff" + content[at:]


def lines(content: bytes, chance: random.Random) -> bytes:
    """Replace a line by null."""
    rows = content.split(b"\n")
    rows[chance.randrange(len(rows))] = b"null"
    return b"\n".join(rows)


Damage = Callable[[bytes, random.Random], bytes | None]
RANDOM: tuple[Damage, ...] = (flip, flip, flip, cut, zero, binary, lines)
WHOLE: dict[str, bytes | None] = {"empty": b"", "null": b"null", "deep": b"[" * 100_000, "delete": None}
OPTIONAL = ("tuning.json", "evaluation.json")  # a run without them is a run that was not tuned or evaluated


def damages(file: Path, other: bytes | None, each: int, chance: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the new content of each damage, None for a file that is deleted. other: the file of another run."""
    content = file.read_bytes()
    for name, whole in WHOLE.items():
        newest = file.parent.name == "checkpoints" and file == max(file.parent.iterdir())
        if name != "delete" or not (file.name in OPTIONAL or newest):  # and one without its newest checkpoint an earlier state
            yield name, whole
    if other is not None and other != content:
        yield "swap", other
    for i in range(each):
        damage = RANDOM[i % len(RANDOM)]
        changed = damage(content, chance)
        if changed != content:
            yield damage.__name__, changed


def judge(file: str, end: End, result: Any, expected: Any, *, left_out: bool) -> str:
    """Return the outcome: one of `OUTCOMES`."""
    if end.problem:
        return "BAD"
    named = Path(file).name in end.said
    if end.code:
        return "named" if named else "BAD"
    if result == expected:
        return "rebuilt" if named else "same"
    return "left out" if named and left_out else "BAD"


def damage(families: list[str], names: list[str], each: int, seed: int) -> int:
    """Damage every file of a run of each family, run every command on it, print a table, and return the number of bad ends."""
    latents.SLOW = -1.0  # latents of a small run are stored too
    torch.set_num_threads(1)
    chosen = {command: every for command, every in COMMANDS.items() if command.__name__ in names}
    table: Counter[tuple[str, str]] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        for family in families:
            begun, chance = monotonic(), random.Random(seed)
            run, other, work = (Path(place) / family / name for name in ("run", "other", "work"))
            evaluated = not chosen.keys().isdisjoint((evaluate, report, compare))
            source = prepared(family, run, 0, evaluated=evaluated)
            prepared(family, other, 1, evaluated=evaluated)
            expected = {}
            commands = [c for c in chosen if c not in (tune, distill) or family in DENOISING]
            for command in commands:
                expected[command] = command(fresh(run, work), source)
                assert expected[command][0].sound, expected
            ends: Counter[str] = Counter()
            number = 0  # of the damage, over all files, so that a command that runs seldom meets every kind
            for file in files(run):
                partner = next((f for f in files(other) if same_file(f.relative_to(other), file.relative_to(run))), None)
                content = None if partner is None else partner.read_bytes()
                for name, changed in damages(file, content, each, chance):
                    number += 1
                    for command in commands:
                        if (number + commands.index(command)) % chosen[command]:
                            continue
                        copy = fresh(run, work)
                        damaged = copy / file.relative_to(run)
                        damaged.unlink() if changed is None else damaged.write_bytes(changed)
                        end, result = command(copy, source)
                        free = command in (info, evaluate, report, compare) or file.name in OPTIONAL
                        outcome = judge(file.name, end, result, expected[command][1], left_out=free)
                        table[name, outcome] += 1
                        ends[outcome] += 1
                        if outcome == "BAD":
                            why = end.problem or end.said[:300] or "another result"
                            bad += 1
                            print(f"BAD: {family} {file.relative_to(run)} {name}: {command.__name__}: {why}", flush=True)
            counts = ", ".join(f"{ends[outcome]} {outcome}" for outcome in OUTCOMES)
            print(f"{family}: {ends.total():,} tries in {monotonic() - begun:.0f} s: {counts}", file=sys.stderr, flush=True)
    kinds = list(dict.fromkeys(name for name, _ in table))
    print(f"| damage | tried | {' | '.join(OUTCOMES)} |\n|{'---|' * (2 + len(OUTCOMES))}")
    for name in [*kinds, "all"]:
        counts = [sum(n for (d, o), n in table.items() if o == outcome and name in (d, "all")) for outcome in OUTCOMES]
        print(f"| {name} | {sum(counts):,} | {' | '.join(f'{count:,}' for count in counts)} |")
    return bad


def fresh(run: Path, work: Path) -> Path:
    """Return a copy of a run, always in the same place."""
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(run, work / "run"))


def prepared(family: str, run: Path, seed: int, *, evaluated: bool) -> str:
    """Train a small run up to a stop, tune and evaluate it, and return the source of its data."""
    source, *settings = FAMILIES[family]
    quick = ("train.batch=32", "train.previews=1", f"train.seed={seed}")
    trainer = plan(source, model=family, budget=f"{MORE}it", out=run, device="cpu", settings=(*quick, *settings)).begin()
    for step in trainer:
        if step.step >= STEPS - 1:
            trainer.save()
        if step.step == STEPS:
            break
    done = []
    if family in DENOISING:
        done.append(call("tune", run, "--steps", "4", "-n", 4, "--device", "cpu"))
    if evaluated:
        done.append(evaluate(run, source)[0])
    assert all(end.sound for end in done), done
    return source


def files(run: Path) -> list[Path]:
    """Return the files of a run that a command reads."""
    return [f for f in sorted(run.rglob("*")) if f.is_file() and f.parent.name != "samples" and f.suffix != ".png"]


def same_file(a: Path, b: Path) -> bool:
    """Return whether two files of runs have the same role. Samples of an evaluation are in a folder named by the weights."""
    return a == b or (a.parts[0] == b.parts[0] == "evaluation" and a.name == b.name)


def main() -> None:
    """Run a part of the suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("damage", help="damage every file of a run of every family")
    part.add_argument("--families", default=",".join(FAMILIES), help="families, separated by commas")
    part.add_argument("--commands", default=",".join(c.__name__ for c in COMMANDS), help="commands, separated by commas")
    part.add_argument("--each", type=int, default=20, help="random damages of each file")
    part.add_argument("--seed", type=int, default=0, help="random seed of the damages")
    for name, function in PARTS.items():
        part = parts.add_parser(name, help=function.__doc__)
        part.add_argument("--commands", default=",".join(s.name for s in SCENARIOS), help="commands, separated by commas")
        part.add_argument("--most", type=int, default=12, help="tries of each command and kind; fewer if there are no more")
        part.add_argument("--seed", type=int, default=0, help="random seed of the choice of tries")
        part.add_argument("--mounted", action="store_true", help=argparse.SUPPRESS)  # in a mount namespace of its own
    asked = parser.parse_args()
    if asked.part == "disk" and not asked.mounted:
        sys.exit(mounted([sys.executable, __file__, *sys.argv[1:], "--mounted"]))
    if asked.part in PARTS:
        sys.exit(shortage(asked.part, asked.commands.split(","), asked.most, asked.seed) and 1)
    sys.exit(damage(asked.families.split(","), asked.commands.split(","), asked.each, asked.seed) and 1)


if __name__ == "__main__":
    main()
