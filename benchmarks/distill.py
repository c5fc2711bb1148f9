"""The Fréchet distance of a run and of the models that were distilled from it, against evaluations of the network.

    ancestral distill runs/fashion --for 5m
    python benchmarks/distill.py runs/fashion runs/fashion-2steps --json distill.json

Features are those of a classifier of the real images, the reference the held-out images, real data stand beside. Samples have
the seeds 0 to n-1, and the classes in turn where the run knows classes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import ancestral as an
from ancestral import metrics
from ancestral.app.evaluate import data_of
from ancestral.app.evaluation.extractors import extractor
from ancestral.app.training.run import Run
from ancestral.runtime import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run of the teacher")
    parser.add_argument("students", type=Path, nargs="*", help="runs that were distilled from it")
    parser.add_argument("--steps", default="2,4,6,8,12,20", help="steps of the teacher")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--features", default="classifier")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = data_of(Run.existing(options.run)).sampled
    features = extractor(options.features, data, Runtime.choose(parameters=10**6), lambda text: None, None)
    reference = features(data.batch(torch.arange(len(data.test)), "test").x)
    real = features(data.batch(torch.linspace(0, len(data.train) - 1, min(options.n, len(data.train))).long()).x)
    rows: list[dict[str, Any]] = [{"name": "real data", "distance": metrics.frechet(real, reference).value}]

    def add(name: str, model: an.GenerativeModel, **how: Any) -> None:
        asked = (
            {"class": [i % len(data.spec.classes) for i in range(options.n)]} if "class" in model.conditioner.kinds else None
        )
        begun = time.perf_counter()
        x = model.sample(options.n, asked, seeds=range(options.n), **how)
        rate = options.n / (time.perf_counter() - begun)
        distance = metrics.frechet(features(x), reference)
        rows.append({"name": name, "distance": distance.value, "error": distance.std_err, "samples_per_second": rate})
        print(f"| {name} | {distance} | {rate:.0f} |", flush=True)

    print(f"| {options.n} samples | Fréchet distance | samples/s |\n|---|---|---|")
    print(f"| real data | {rows[0]['distance']:.2f} | |")
    teacher = an.load(options.run)
    for steps in map(int, options.steps.split(",")):
        add(f"teacher, {steps} steps", teacher, steps=steps)
    for folder in options.students:
        add(f"distilled, {folder.name}", an.load(folder))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
