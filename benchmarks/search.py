"""Equal wall-clock, several networks: which one should be the default?

    python benchmarks/search.py --seconds 220 [--only NAME ...] [--out benchmarks/results/search.json]

Each variant trains alone on fashion-mnist, class-conditional, for the same time; 2,000 samples, as many of each class, drawn
with 8 evaluations (Heun, 5 steps), are held against the held-out images with `quality.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import ancestral
from ancestral.app.data import load
from quality import EPOCHS, SOURCE, N, score

NETWORK = {"blocks": 1, "channels": [64, 128], "patch": 2}
PROCESS = {"schedule": "linear", "target": "velocity", "times": "logit-normal"}
COSINE = {"schedule": "cosine", "target": "v", "times": "uniform"}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {**NETWORK, **PROCESS, "lr": 0.002},
    "lr 1e-3": {**NETWORK, **PROCESS, "lr": 0.001},
    "lr 4e-3": {**NETWORK, **PROCESS, "lr": 0.004},
    "cosine, v": {**NETWORK, **COSINE, "lr": 0.002},
    "cosine, v, lr 1e-3": {**NETWORK, **COSINE, "lr": 0.001},
    "two blocks": {**NETWORK, **PROCESS, "lr": 0.002, "blocks": 2},
    "patch 1": {**NETWORK, **PROCESS, "lr": 0.002, "patch": 1, "channels": [32, 64, 128]},
    "patch 4": {**NETWORK, **PROCESS, "lr": 0.002, "patch": 4, "channels": [128]},
    "wide": {**NETWORK, **PROCESS, "lr": 0.002, "channels": [96, 192]},
    "batch 32": {**NETWORK, **PROCESS, "lr": 0.002, "batch": 32},
}
TRAINING = ("lr", "batch")


def settings(variant: dict[str, Any]) -> tuple[str, ...]:
    """The variant as settings of a recipe."""
    section = lambda name: "train" if name in TRAINING else "model"  # noqa: E731
    return tuple(f"{section(name)}.{name}={value}" for name, value in variant.items())


def measure(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Train one variant for the time, then score it."""
    data = load(asked.source)
    with tempfile.TemporaryDirectory() as folder:
        model = ancestral.train(
            data,
            budget=f"{asked.seconds}s",
            out=Path(folder) / "run",
            condition="class",
            quiet=True,
            settings=settings(VARIANTS[name]),
        )
        images = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1])["images"]
    parameters = sum(p.numel() for p in model.parameters())
    found = score(model, data, asked.n, asked.epochs, steps=asked.steps, solver=asked.solver)
    return {"variant": name, "parameters": parameters, "images": images, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=220)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--solver", default="heun")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--source", default=SOURCE, help=f"grey images of 28x28 with classes ({SOURCE})")
    parser.add_argument("--n", type=int, default=N, help=f"samples ({N})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the classifier's training ({EPOCHS})")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.only:
        rows.append(measure(name, options))
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
