"""Does a long training grow? Memory, open files and the run folder of each family over many steps.

    python benchmarks/long.py --steps 20000       # about 20 minutes on one core

Each family trains a small network in a process of its own, with checkpoints, previews and health checks. The slopes are those
of lines fitted to the second half of the training. The folder grows by the log and the previews alone, because only the newest
checkpoints are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

SMALL = ("train.batch=16", "train.precision=fp32", "train.checkpoint_every=5", "train.memorisation=off")
FAMILIES = {
    "vae": ("digits", ("model.width=4", "model.latent=4")),
    "gan": ("digits", ("model.channels=[8, 8]", "model.latent=4")),
    "diffusion": ("digits", ("model.channels=[8]", "model.blocks=1")),
    "score": ("moons", ("model.width=32", "model.blocks=1")),
    "latent": ("digits", ("model.autoencoder.width=4",)),
}


def measured(family: str, steps: int) -> list[tuple[int, int, int, int]]:
    """Train a family. Returns step, bytes of memory, open files and bytes of the folder at two hundred moments."""
    from ancestral.app.api import plan

    source, settings = FAMILIES[family]
    process, found = psutil.Process(), []
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        planned = plan(source, model=family, budget=f"{steps}it", out=out, settings=(*SMALL, *settings), device="cpu")
        for step in planned.begin():
            if step.step % max(1, steps // 200) == 0:
                size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
                found.append((step.step, process.memory_info().rss, process.num_fds(), size))
    return found


def slope(steps: np.ndarray, values: np.ndarray) -> float:
    """Return the growth in 10,000 steps, over the second half."""
    late = steps > steps[-1] / 2
    return float(np.polyfit(steps[late], values[late], 1)[0] * 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--family", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # in the process of one family
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(measured(asked.family[0], asked.steps)))
        return
    print("| family | steps | memory at half, at the end | growth in 10,000 steps | open files | folder at half, at the end |")
    print("|---|---|---|---|---|---|", flush=True)
    for family in asked.family:
        words = [sys.executable, __file__, "--alone", "--family", family, "--steps", str(asked.steps)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{family}: {done.stderr[-2000:]}")
        steps, memory, files, folder = np.array(json.loads(done.stdout.splitlines()[-1]), dtype=float).T
        half = len(steps) // 2
        print(
            f"| {family} | {asked.steps:,} | {memory[half] / 1e6:.0f}, {memory[-1] / 1e6:.0f} MB "
            f"| {slope(steps, memory) / 1e6:+.2f} MB "
            f"| {files[half]:.0f}, {files[-1]:.0f} | {folder[half] / 1e3:,.0f}, {folder[-1] / 1e3:,.0f} kB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
