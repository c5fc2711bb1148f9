"""Damage what `ancestral` reads, and look at what its commands make of it.

    python benchmarks/torture.py damage --each 20        # every file of a run of every family

A command must give the result of the undamaged run, or end with one sentence that names the damaged file, or say aloud what it
has rebuilt or left out. A traceback, or another result without a word, is bad.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ancestral.app.api import plan
from ancestral.app.cli import main as ancestral
from ancestral.app.training import latents

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


@dataclass(frozen=True)
class End:
    """How a command ended. problem: what must not happen, e.g. a traceback."""

    code: int
    said: str
    problem: str = ""

    @property
    def sound(self) -> bool:
        return not self.code and not self.problem


def call(*words: object) -> End:
    """Run a command of `ancestral` in this process."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            ancestral([str(word) for word in words])
    except SystemExit as end:
        said, code = out.getvalue() + err.getvalue(), int(end.code or 0)
        sentences = [line for line in said.splitlines() if line.startswith(("error:", '{"error":'))]
        sound = code in (0, 1, 2) and len(sentences) == bool(code)
        return End(code, said.strip(), "" if sound else f"exit code {code} and {len(sentences)} sentences")
    except BaseException as error:  # what a user would see as a traceback
        return End(1, "", f"{type(error).__name__}: {error}".splitlines()[0])
    raise AssertionError("a command ends by SystemExit")


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
    features = ("--features", "random") if source == "digits" else ()
    end = call("evaluate", run, "-n", 64, *features, "--device", "cpu", "--json")
    if end.code:
        return end, None
    return end, {metric["name"]: metric["value"] for metric in json.loads(end.said)["metrics"]}


Command = Callable[[Path, str], tuple[End, Any]]
COMMANDS: dict[Command, int] = {info: 1, sample: 1, train: 2, evaluate: 6}  # each damage, every second, every sixth


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


def damage(families: list[str], commands: list[str], each: int, seed: int) -> int:
    """Damage every file of a run of each family, run every command on it, print a table, and return the number of bad ends."""
    latents.SLOW = -1.0  # latents of a small run are stored too
    torch.set_num_threads(1)
    chosen = {command: every for command, every in COMMANDS.items() if command.__name__ in commands}
    table: Counter[tuple[str, str]] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as place:
        for family in families:
            begun, chance = monotonic(), random.Random(seed)
            run, other, work = (Path(place) / family / name for name in ("run", "other", "work"))
            source = prepared(family, run, 0, evaluated=evaluate in chosen)
            prepared(family, other, 1, evaluated=evaluate in chosen)
            expected = {}
            for command in chosen:
                expected[command] = command(fresh(run, work), source)
                assert expected[command][0].sound, expected
            tried = 0
            for file in files(run):
                partner = next((f for f in files(other) if same_file(f.relative_to(other), file.relative_to(run))), None)
                content = None if partner is None else partner.read_bytes()
                for i, (name, changed) in enumerate(damages(file, content, each, chance)):
                    for command, every in chosen.items():
                        if i % every:
                            continue
                        copy = fresh(run, work)
                        damaged = copy / file.relative_to(run)
                        damaged.unlink() if changed is None else damaged.write_bytes(changed)
                        end, result = command(copy, source)
                        free = command in (info, evaluate) or file.name in OPTIONAL
                        outcome = judge(file.name, end, result, expected[command][1], left_out=free)
                        table[name, outcome] += 1
                        tried += 1
                        if outcome == "BAD":
                            why = end.problem or end.said[:300] or "another result"
                            bad.append(f"{family} {file.relative_to(run)} {name}: {command.__name__}: {why}")
            print(f"{family}: {tried:,} tries in {monotonic() - begun:.0f} s", file=sys.stderr)
    names = list(dict.fromkeys(name for name, _ in table))
    print(f"| damage | tried | {' | '.join(OUTCOMES)} |\n|{'---|' * (2 + len(OUTCOMES))}")
    for name in [*names, "all"]:
        counts = [sum(n for (d, o), n in table.items() if o == outcome and name in (d, "all")) for outcome in OUTCOMES]
        print(f"| {name} | {sum(counts):,} | {' | '.join(f'{count:,}' for count in counts)} |")
    print("\n".join(bad))
    return len(bad)


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
    if family in ("diffusion", "score", "latent"):
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
    asked = parser.parse_args()
    sys.exit(damage(asked.families.split(","), asked.commands.split(","), asked.each, asked.seed) and 1)


if __name__ == "__main__":
    main()
