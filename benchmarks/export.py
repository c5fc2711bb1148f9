"""The time of a sample by torch and by exports in fp32 and int8, and the difference of their samples, on one core.

    ancestral train fashion-mnist --model gan --for 3m --out runs/gan
    ancestral train fashion-mnist --model vae --for 90s --out runs/vae
    ancestral train fashion-mnist --for 4m --out runs/fashion && ancestral distill runs/fashion --for 90s
    taskset -c 1 python benchmarks/export.py runs/gan runs/vae runs/fashion-2steps --json export.json

Trials of all runtimes are interleaved, and the least time of each counts. Before the runs, one product of matrices shows what
int8 can gain on this processor: about 4 times with instructions for it (VNNI), at most 2 without.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import ancestral as an
from ancestral.app.export.formats import write
from ancestral.app.export.graphs import Traceable
from ancestral.runner import RUNTIMES, Exported

FORMATS = ("onnx", "openvino")
EXPORTS = (("pt2", "fp32"), ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8"))


def times(tasks: Mapping[str, Callable[[], Any]], trials: int) -> dict[str, float]:
    """Return the least time of each task in seconds, from interleaved trials after one that does not count."""
    least = {name: float("inf") for name in tasks}
    for trial in range(trials + 1):
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            if trial:
                least[name] = min(least[name], time.perf_counter() - begun)
    return least


def product(folder: Path, trials: int, rows: int = 512, width: int = 1024) -> dict[str, float]:
    """Return how many times faster int8 computes products of matrices `(rows, width)` and `(width, width)` in a row."""
    layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(8)))
    x = torch.randn(32, rows // 32, width)
    tasks: dict[str, Callable[[], Any]] = {}
    for format in FORMATS:
        for precision, calibration in (("fp32", None), ("int8", [[x.numpy()]])):
            graph = Traceable(layers, (x,), ("x",), "y")
            file, *_ = write(graph, format, folder / f"{format}-{precision}", calibration)
            run = RUNTIMES[format](file, "fp32", 1)
            tasks[f"{format} {precision}"] = lambda run=run: run([x.numpy()])
    least = times(tasks, trials)
    return {format: least[f"{format} fp32"] / least[f"{format} int8"] for format in FORMATS}


def measured(run: Path, folder: Path, n: int, trials: int) -> dict[str, Any]:
    """Return milliseconds for a sample by each runtime, and the agreement of the int8 exports."""
    model, seeds = an.load(run, device="cpu", precision="fp32"), list(range(n))
    asked = {"class": [i % len(kind.names) for i in seeds]} if (kind := dict(model.conditioner.kinds).get("class")) else {}
    tasks: dict[str, Callable[[], Any]] = {"torch": lambda: model.sample(n, asked, seeds=seeds, batch=32)}
    agreement = {}
    for format, precision in EXPORTS:
        name = format if precision == "fp32" else f"{format} int8"
        done = an.export(run, format, folder / f"{run.name}-{name}", precision=precision)
        given = {"class": np.array(asked["class"])} if asked else {}
        arithmetics = ("fp32", "bf16") if name == "openvino" else ("fp32",)
        for arithmetic in arithmetics:
            exported = Exported(done.folder, arithmetic, threads=1)
            task = name if arithmetic == "fp32" else f"{name} bf16"
            tasks[task] = lambda exported=exported, given=given: exported.draw(seeds, exported.inputs(n, given))
        agreement[name] = dict(done.agreement)
    return {
        "run": run.name,
        "milliseconds": {name: 1000 * least / n for name, least in times(tasks, trials).items()},
        "agreement": agreement,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--n", type=int, default=64, help="samples in a trial")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        gains = product(folder, options.trials)
        print("a product of matrices in int8:", ", ".join(f"{name} {gain:.1f} times faster" for name, gain in gains.items()))
        rows = []
        for run in options.runs:
            rows.append(row := measured(run, folder, options.n, options.trials))
            print(f"{row['run']}: milliseconds", ", ".join(f"{name} {ms:.3g}" for name, ms in row["milliseconds"].items()))
            for name, found in row["agreement"].items():
                print(f"  {name}:", ", ".join(f"{key} {value:.2g}" for key, value in found.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"product": gains, "runs": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
