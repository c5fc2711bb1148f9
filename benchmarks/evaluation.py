"""Seconds and memory of `ancestral evaluate` for 10,000 images of 28x28, with the real side in the cache.

    python benchmarks/evaluation.py [--n 10000]

The samples are training images of fashion-mnist with a little noise: what they show does not change what they cost. The first
run fills the cache and is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from ancestral.app.data import load


def run(samples: Path, source: str, n: int, features: str | None) -> tuple[float, int]:
    """Seconds and peak resident bytes of one evaluation, its start included."""
    command = [sys.executable, "-m", "ancestral", "evaluate", str(samples), "--against", source, "-n", str(n), "-q"]
    command += ["--features", features] if features else []
    begun, peak = time.perf_counter(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    if process.wait():
        raise SystemExit("the evaluation failed")
    return time.perf_counter() - begun, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--source", default="fashion-mnist", help="of the images (fashion-mnist)")
    parser.add_argument("--features", help="of the distances; left out: as `ancestral evaluate` chooses")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "samples.npz"
        images = load(options.source).train.array[: options.n].numpy()
        np.savez(file, x=(images + random.integers(-8, 9, size=images.shape)).clip(0, 255).astype(np.uint8))
        first, _ = run(file, options.source, options.n, options.features)
        seconds, peak = run(file, options.source, options.n, options.features)
    print(json.dumps({"n": options.n, "first": round(first, 1), "seconds": round(seconds, 1), "peak_mib": peak >> 20}))


if __name__ == "__main__":
    main()
