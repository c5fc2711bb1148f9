"""Latent against pixel diffusion at equal wall-clock, on a folder of 64x64 colour pictures.

    python benchmarks/latent.py FOLDER [--for 30m] [--out results/latent]

Each is trained alone by the command that a person would use, then sampled and judged: images a second in training (of its
diffusion stage), Fréchet distance by the ImageNet network, largest memory in training, seconds for 16 samples of 20 steps, with
guidance where --condition class is given. Writes OUT.json and prints a table. The autoencoder is trained without the perceptual
distance, whose network the judge shares, unless --perceptual asks for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import ancestral as an


def command(*words: object) -> str:
    """Run `ancestral` in a process of its own, so that its largest memory is its own."""
    done = subprocess.run([sys.executable, "-m", "ancestral", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def measure(name: str, folder: Path, budget: str, out: Path, settings: list[str], n: int) -> dict[str, Any]:
    """Train and judge one model; a run that is finished is not trained again."""
    run = out / name
    command("train", folder, *settings, "--model", name, "--size", 64, "--for", budget, "--out", run, "--quiet")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "rate" in row and row.get("stage") in (None, "prior")]
    judged = json.loads(command("evaluate", run, "-n", n, "--features", "efficientnet", "--json"))
    model = an.load(run)
    how: dict[str, Any] = {"steps": 20, "guidance": 3.0} if "class" in model.conditioner.kinds else {"steps": 20}
    condition = {"class": 0} if "guidance" in how else None
    model.sample(16, condition, **how)  # the first is slower
    begun = time.perf_counter()
    model.sample(16, condition, **how)
    return {
        "training_images_per_second": median(row["rate"] for row in last[1:] or last),
        "memory": max(row.get("memory", 0) for row in rows),
        "seconds_of_16": time.perf_counter() - begun,
        "how": how,
        "evaluation": judged,
    }


def headline(judged: dict[str, Any]) -> float:
    """The Fréchet distance of an evaluation."""
    values = {m["name"]: m["value"] for m in judged["metrics"]}
    return float(values["fd-efficientnet"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--for", dest="budget", default="30m")
    parser.add_argument("--out", type=Path, default=Path("results/latent"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--condition", default=None)
    parser.add_argument("--perceptual", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    shared = ["--condition", asked.condition] if asked.condition else []
    own = {"diffusion": [], "latent": [] if asked.perceptual else ["model.autoencoder.perceptual=0"]}
    found = {
        name: measure(name, asked.folder, asked.budget, asked.out, [*settings, *shared], asked.samples)
        for name, settings in own.items()
    }
    asked.out.with_suffix(".json").write_text(json.dumps(found, indent=1))
    pixel, latent = found["diffusion"], found["latent"]
    print(f"{'':32}{'pixels':>12}{'latents':>12}{'ratio':>8}")
    lines = {
        "training, images/s": [f["training_images_per_second"] for f in (pixel, latent)],
        "16 samples of 20 steps, s": [f["seconds_of_16"] for f in (pixel, latent)],
        "Fréchet distance": [headline(f["evaluation"]) for f in (pixel, latent)],
        "memory, MB": [f["memory"] / 2**20 for f in (pixel, latent)],
    }
    for label, (a, b) in lines.items():
        print(f"{label:32}{a:12.4g}{b:12.4g}{b / a:8.2f}")


if __name__ == "__main__":
    main()
