"""How time and memory grow with the data and the model, beside what theory says.

    python benchmarks/growth.py [--device cpu] [--only pixels batch ...] [--json FILE] [--plot FILE]

Each point is measured in a process of its own, with data that exist only as a function, so their number costs no memory. Time
is the median over steps after a warm-up. Memory is the peak of the process (on CUDA: of the device) minus what it held before
the model was made. Theory of time goes through one point of each axis, that of memory through the first and the last:

    pixels       time and memory of activations grow as the FLOPs of a step (counted for the network that is trained)
    samples      nothing grows: a step reads its batch, and statistics come from a fixed sample
    batch        time is a + b batch, and memory c + d batch
    parameters   time grows as the FLOPs; memory as 5 copies of the weights, plus activations, which grow with the width
    solver steps time of sampling is proportional to the evaluations of the network; memory stays within that of training

Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SIDE, BATCH, SAMPLES, WIDTH, STEPS = 28, 32, 10_000, 1.0, 10  # of all points but those of the axis
AXES: dict[str, tuple[Any, ...]] = {
    "pixels": (28, 48, 64, 96, 128, 192, 256),
    "samples": (1_000, 10_000, 100_000, 1_000_000),
    "batch": (1, 4, 16, 32, 64, 128),
    "parameters": (0.25, 0.5, 1.0, 1.5, 2.0),
    "solver steps": (5, 10, 20, 40, 80),
}
LABELS = {"pixels": "pixels of a sample", "samples": "samples of the data", "batch": "samples of a batch"}
MARKED = {"pixels": 64, "samples": 10_000, "batch": 32, "parameters": 1.0, "solver steps": 10}  # where theory meets
WARM, TIMED = 2, 5


class Virtual:
    """Images of one channel that are computed from their number, as rows that are read on demand."""

    dtype, slow, starts, identity = np.dtype(np.uint8), False, None, "virtual"

    def __init__(self, n: int, side: int):
        self.n, self.shape = n, (1, side, side)

    def __len__(self) -> int:
        return self.n

    def read(self, rows: np.ndarray) -> np.ndarray:
        height, width = np.ogrid[: self.shape[1], : self.shape[2]]
        waves = np.sin(0.3 * (height + width) + rows[:, None, None, None])
        found: np.ndarray = (127.5 * (1 + waves)).astype(np.uint8)
        return found


class Peak:
    """The peak memory of this process in bytes, above what it had at the start."""

    def __init__(self, device: str):
        import psutil

        self.device, self.process = device, psutil.Process()
        self.before = self.most = self.process.memory_info().rss
        self.done = False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self.done:
            self.most = max(self.most, self.process.memory_info().rss)
            time.sleep(0.005)

    def read(self) -> int:
        import torch

        self.done = True
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated()
        return max(self.most, self.process.memory_info().rss) - self.before


def measure(axis: str, value: float, device: str) -> dict[str, float]:
    """Measure one point."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ancestral.app.api import plan
    from ancestral.noise import StreamNoise

    side = int(value) if axis == "pixels" else SIDE
    batch = int(value) if axis == "batch" else 4 if axis == "pixels" else BATCH
    n = int(value) if axis == "samples" else SAMPLES
    width = value if axis == "parameters" else WIDTH
    channels = [max(8, round(32 * width) // 8 * 8 * k) for k in (1, 2, 2)] if axis == "parameters" else None
    quiet = ["train.previews=0", "train.diagnoses=0", "train.checkpoint_every=100000", f"train.batch={batch}"]
    quiet += [f"model.channels={channels}"] if channels else []
    warm = torch.zeros(8, 8) @ torch.zeros(8, 8)  # loads the libraries
    peak, begun = Peak(device), time.perf_counter()
    with TemporaryDirectory() as folder:
        trainer = plan(
            {"x": Virtual(n, side)}, budget="1000000it", out=Path(folder) / "run", settings=tuple(quiet), device=device
        ).begin()
        started = time.perf_counter() - begun
        found: dict[str, float] = {"value": value, "start": started, "parameters": trainer.parameters}
        times, last = [], time.perf_counter()
        for step in trainer:
            step.losses.values()
            now = time.perf_counter()
            times.append(now - last)
            last = now
            if step.step == WARM + TIMED:
                break
        found["seconds"] = statistics.median(times[WARM:])
        found["memory"] = peak.read()
        few = trainer.data.batch(torch.arange(min(2, n))).to(trainer.model.device)
        with FlopCounterMode(display=False) as flops, torch.enable_grad():
            noise = StreamNoise(len(few), 0, 0, trainer.model.device)
            trainer.model.losses(few, "model", noise)["total"].mean().backward()
        found["flops"] = flops.get_total_flops() / len(few) * batch
        if axis == "solver steps":
            trainer.model.eval()
            again = Peak(device)
            trainer.model.sample(BATCH, steps=2)
            begun = time.perf_counter()
            trainer.model.sample(BATCH, steps=int(value))
            found |= {"seconds": time.perf_counter() - begun, "memory": again.read()}
    del warm
    return found


def theory(axis: str, points: list[dict[str, float]], key: str) -> list[float]:
    """Return what theory says of `seconds` or `memory` at each point."""
    at = min(points, key=lambda p: abs(p["value"] - MARKED[axis]))
    if axis == "samples" or (axis == "solver steps" and key == "memory"):
        return [at[key]] * len(points)
    if axis == "solver steps":
        return [at[key] * p["value"] / at["value"] for p in points]
    if axis == "batch":
        first, last = points[0], points[-1]
        slope = (last[key] - first[key]) / (last["value"] - first["value"])
        return [first[key] + slope * (p["value"] - first["value"]) for p in points]
    if key == "seconds":
        return [at[key] * p["flops"] / at["flops"] for p in points]
    # activations grow with the positions and the channels of maps: with the FLOPs of one width, with their root over widths
    size = [p["flops"] ** (0.5 if axis == "parameters" else 1.0) for p in points]
    weights = [5 * 4 * p["parameters"] for p in points]
    rest = [p[key] - w for p, w in zip(points, weights, strict=True)]
    slope = (rest[-1] - rest[0]) / (size[-1] - size[0])
    return [rest[0] + slope * (s - size[0]) + w for s, w in zip(size, weights, strict=True)]


def draw(results: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Draw time and memory of every axis, with the lines of theory."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(3.1 * len(results), 6), layout="constrained")
    panels = figure.subplots(2, len(results), squeeze=False)
    for column, (axis, points) in enumerate(results.items()):
        x = [p["parameters"] if axis == "parameters" else p["value"] ** 2 if axis == "pixels" else p["value"] for p in points]
        for row, (key, scale, unit) in enumerate((("seconds", 1e3, "ms"), ("memory", 1 / 2**20, "MiB"))):
            panel = panels[row][column]
            if axis == "solver steps" and key == "memory":  # it fits into what training has left
                panel.set_axis_off()
                continue
            panel.loglog(x, [max(v, 1e-9) * scale for v in theory(axis, points, key)], "--", color="#888888", label="theory")
            panel.loglog(
                x,
                [max(p[key], 1) * scale if key == "memory" else p[key] * scale for p in points],
                "o-",
                color="#0072B2",
                label="measured",
            )
            panel.set_xlabel(LABELS.get(axis, axis))
            what = "time of 32 samples" if axis == "solver steps" else "time of a step"
            panel.set_ylabel(f"{what} ({unit})" if key == "seconds" else f"memory above the start ({unit})")
            panel.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
            low, high = panel.get_ylim()
            if high / low < 10:
                middle = (low * high) ** 0.5
                panel.set_ylim(middle / 4, middle * 4)
            for scale_of in (panel.xaxis, panel.yaxis):
                low, high = scale_of.get_view_interval()
                scale_of.set_major_locator(LogLocator(subs=(1,) if high / low > 100 else (1, 2, 5)))
                scale_of.set_major_formatter(FuncFormatter(_short))
                scale_of.set_minor_formatter(NullFormatter())
        panels[0][column].set_title(axis)
    panels[0][0].legend(frameon=False)
    figure.savefig(file, dpi=130)


def _short(value: float, place: object) -> str:
    return f"{value:g}" if value < 1e4 else f"{value / 1e3:g}k" if value < 1e6 else f"{value / 1e6:g}M"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--values", type=float, nargs="+", help="points of each axis, in place of all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print("RESULT", json.dumps(measure(options.measure[0], float(options.measure[1]), options.device)))
        return
    results: dict[str, list[dict[str, float]]] = {}
    print("| axis | value | parameters | GFLOP a step | ms | theory | MiB | theory |\n|---|---|---|---|---|---|---|---|")
    for axis in options.only:
        points = []
        for value in options.values or AXES[axis]:
            command = [sys.executable, __file__, "--device", options.device, "--measure", axis, str(value)]
            environment = {"OMP_NUM_THREADS": "1"} | os.environ
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not lines:
                sys.exit(f"{axis} {value} failed:\n{done.stderr[-3000:]}")
            points.append(json.loads(lines[0]))
        results[axis] = points
        for p, t, m in zip(points, theory(axis, points, "seconds"), theory(axis, points, "memory"), strict=True):
            print(
                f"| {axis} | {p['value']:g} | {p['parameters'] / 1e6:.2f} M | {p['flops'] / 1e9:.3g} "
                f"| {1e3 * p['seconds']:.1f} | {1e3 * t:.1f} | {p['memory'] / 2**20:.0f} | {m / 2**20:.0f} |",
                flush=True,
            )
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "device": options.device}
        options.json.write_text(json.dumps(machine | {"axes": results}, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
