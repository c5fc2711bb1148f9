"""How fast two states of ancestral train and sample, in turns of a few seconds on the same machine.

    git worktree add ../before REVISION
    python benchmarks/versions.py ../before . [--turns 16] [--seconds 3]

Each state runs in a process of its own, by its own `benchmarks/peers.py`, and only one of them works at a time. The ratio of
neighbouring turns is what counts, since a drift of the machine meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

WORK = ("training", "sampling", "toys")
STEPS = 20  # of the sampler
BATCH, TOY_BATCH = 64, 256


def serve(work: str) -> None:
    """Answer each line of standard input, a number of seconds, with the rate over a turn of that length."""
    import torch

    import peers

    torch.set_num_threads(min(2, os.cpu_count() or 1))
    entry = peers.Ancestral("moons", TOY_BATCH) if work == "toys" else peers.Ancestral(peers.synthetic_images(2048), BATCH)
    steps = iter(entry.train())

    def step() -> int:
        next(steps)
        return 1

    def sample() -> int:
        entry.sample(BATCH, STEPS)
        return BATCH

    unit: Callable[[], int] = sample if work == "sampling" else step
    if work == "sampling":
        step()
    rate(unit, 1.0)  # what is compiled or allocated at first is no part of it
    print("ready", flush=True)
    for line in sys.stdin:
        print(rate(unit, float(line)), flush=True)


def rate(unit: Callable[[], int], seconds: float) -> float:
    start, amount = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        amount += unit()
    return amount / spent


def begin(tree: Path, work: str) -> subprocess.Popen[str]:
    """Start the process of one state and wait until it is ready."""
    places = os.pathsep.join(str(tree.resolve() / folder) for folder in ("src", "benchmarks"))
    environment = os.environ | {"PYTHONPATH": places}
    # -P: the peers.py of that state, not the one beside this file
    words = [sys.executable, "-P", "-W", "ignore", str(Path(__file__).resolve()), "--serve", work]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and line.strip() != "ready":
        pass
    if not line:
        sys.exit(f"{tree} cannot be measured: its process ended; see above")
    return process


def turn(process: subprocess.Popen[str], seconds: float) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?", help="a checkout of the state before")
    parser.add_argument("after", type=Path, nargs="?", help="a checkout of the state after")
    parser.add_argument("--only", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    if asked.before is None or asked.after is None:
        parser.error("give two checkouts: the state before and the state after")
    print("| work | before, 1/s | after, 1/s | after / before | quartiles |\n|---|---|---|---|---|")
    for work in asked.only:
        pair = [begin(tree, work) for tree in (asked.before, asked.after)]
        rates: list[tuple[float, float]] = []
        for i in range(asked.turns):
            order = (0, 1) if i % 2 == 0 else (1, 0)
            found = {which: turn(pair[which], asked.seconds) for which in order}
            rates.append((found[0], found[1]))
        for process in pair:
            process.kill()
            process.communicate()  # closes the pipes too
        before, after = (statistics.median(column) for column in zip(*rates, strict=True))
        ratios = [b / a for a, b in rates]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"| {work} | {before:.2f} | {after:.2f} | {statistics.median(ratios):.3f} | {low:.3f}-{high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
