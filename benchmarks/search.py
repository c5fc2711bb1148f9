"""Equal wall-clock, several networks: which one should be the default?

    python benchmarks/search.py --seconds 220 [--only NAME ...] [--out benchmarks/results/search.json]

Each variant trains alone on fashion-mnist, class-conditional, for the same time; 2,000 samples (500 a class-balanced block,
Heun with 5 steps: 9 evaluations) are held against the held-out images with `quality.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import ancestral
from ancestral.data import load
from quality import N, features, frechet, logits, yardstick

CACHE = Path.home() / ".cache" / "ancestral" / "benchmarks"

VARIANTS: dict[str, tuple[str, ...]] = {
    "base": (),
    "blocks1": ("model.blocks=1",),
    "blocks3": ("model.blocks=3",),
    "wide": ("model.channels=[96,192]", "model.blocks=1"),
    "patch1": ("model.patch=1", "model.channels=[32,64,128]", "model.blocks=1"),
    "patch4": ("model.patch=4", "model.channels=[256]"),
    "flow": ("model.schedule=linear", "model.target=flow"),
    "flow-logit": ("model.schedule=linear", "model.target=flow", "model.times=logit-normal"),
    "cosine-logit": ("model.times=logit-normal",),
    "edm": ("model.schedule=ve", "model.times=log-normal", "model.weight=edm"),
    "lr2": ("train.lr=0.002",),
    "batch32": ("train.batch=32",),
    "batch128": ("train.batch=128",),
    "shallow-coarse": ("model.channels=[64,256]", "model.blocks=1"),
}


def measure(name: str, settings: tuple[str, ...], seconds: float, steps: int, solver: str) -> dict[str, Any]:
    """Train one variant for the time, then score it."""
    data = load("fashion-mnist")
    judge, real, _, floor = yardstick(data, CACHE)
    with tempfile.TemporaryDirectory() as folder:
        model = ancestral.train(
            data, budget=f"{seconds}s", out=Path(folder) / "run", condition="class", quiet=True, settings=settings
        )
        images = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1])["images"]
    labels = torch.arange(N) % 10
    begun = time.perf_counter()
    x = model.sample(N, {"class": labels}, seeds=0, steps=steps, solver=solver)
    took = time.perf_counter() - begun
    agreement = (logits(judge, x).argmax(1) == labels).float().mean().item()
    return {
        "variant": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": images,
        "fd": round(frechet(features(judge, x), real), 2),
        "floor": round(floor, 2),
        "agreement": round(agreement, 3),
        "sampling": round(N / took, 1),
        "settings": list(settings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=220)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--solver", default="heun")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.only:
        rows.append(measure(name, VARIANTS[name], options.seconds, options.steps, options.solver))
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
