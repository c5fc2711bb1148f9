"""How much several processes gain, and what their communication costs.

    python benchmarks/processes.py [--counts 1 2] [--steps 40] [--json FILE]

Each number of processes trains the same recipe for the same steps with one thread for each process. The efficiency is the
rate with n processes over n times that with one. Communication is the time in sums over processes and in the exchange of the
clock, in the main process; it includes waiting for the others. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WARM = 5  # steps before the measurement
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "digits 8x8, 2.0 M": ("digits", ()),
    "fashion-mnist 28x28, default": ("fashion-mnist", ()),
    "fashion-mnist 28x28, sharded": ("fashion-mnist", ("train.strategy=sharded",)),
}


def measure(case: str, steps: int, folder: Path) -> dict[str, float] | None:
    """Train, and return the rate and the share of communication, or None in other processes than the main one."""
    from ancestral.app.api import plan
    from ancestral.app.processes import Processes, joined

    spent = 0.0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **how: Any) -> Any:
            nonlocal spent
            begun = time.perf_counter()
            try:
                return method(*args, **how)
            finally:
                spent += time.perf_counter() - begun

        return wrapped

    for name in ("add", "stacked", "largest"):
        setattr(Processes, name, timed(getattr(Processes, name)))
    source, settings = CASES[case]
    quiet = ("train.previews=0", "train.diagnoses=0", "train.checkpoint_every=100000")
    with joined() as group:
        trainer = plan(source, budget="1000000it", out=folder, settings=(*quiet, *settings), device="cpu").begin()
        begun = 0.0
        for step in trainer:
            if step.step == WARM:
                begun, spent = time.perf_counter(), 0.0
            if step.step == WARM + steps:
                break
        took = time.perf_counter() - begun
        rate = steps * trainer.state.batch / took
        return {"rate": rate, "communication": spent / took, "parameters": trainer.parameters} if group.main else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        case, folder = options.measure
        if (found := measure(case, options.steps, Path(folder))) is not None:
            print("RESULT", json.dumps(found), flush=True)
        os._exit(0)
    results: dict[str, dict[int, dict[str, float]]] = {}
    print("| data, network | processes | images/s | efficiency | communication |\n|---|---|---|---|---|")
    for case in options.cases:
        for count in options.counts:
            with TemporaryDirectory() as folder:
                launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__)
                asked = ("--steps", str(options.steps), "--measure", case, str(Path(folder) / "run"))
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                done = subprocess.run([*launch, *asked], env=environment, capture_output=True, text=True, check=False)
            lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                sys.exit(f"{case} with {count} processes failed:\n{done.stderr[-3000:]}")
            one = results.setdefault(case, {})
            one[count] = json.loads(lines[0])
            rate, first = one[count]["rate"], min(one)
            efficiency = rate * first / (one[first]["rate"] * count)
            print(f"| {case} | {count} | {rate:,.0f} | {efficiency:.0%} | {one[count]['communication']:.1%} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
