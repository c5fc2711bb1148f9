"""Latent against pixel diffusion on 64x64 colour pictures, after the same wall-clock time.

    python benchmarks/latent.py train pixels SOURCE --condition text --for 30m
    python benchmarks/latent.py train latents SOURCE --condition text --for 30m
    python benchmarks/latent.py evaluate
    python benchmarks/latent.py networks

SOURCE is what `ancestral train` takes: scenes64, a folder such as benchmarks/emoji.py prepares, a file. The two trainings know
nothing of each other, so that they can run one after the other with all cores or side by side with one core each (taskset -c).
Each is the command that a person would use, in a process of its own, whose largest memory is then its own, and leaves
OUT/NAME.json; what a loaded machine does to one it should do to both.

`evaluate` reads the two, has 2,000 samples of each evaluated by `ancestral evaluate` in the features of the ImageNet network,
and times 16 samples of 20 steps, with guidance where there is a condition, in turns. It writes OUT/evaluated.json and prints a
table. So that no model is trained with the features that it is measured in, the autoencoder is trained without the perceptual
distance, whose network is the same; further settings of the recipe, such as model.autoencoder.perceptual=0.02, go after
SOURCE.

`networks` times steps of training alone: of the default networks of pixels and of latents, and of what else was tried.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import ancestral as an
from ancestral.app.data import DataSpec
from ancestral.app.evaluate import data_of
from ancestral.app.recipes import DiffusionRecipe
from ancestral.app.recipes.autoencoder import AutoencoderRecipe
from ancestral.app.recipes.recipe import TrainRecipe
from ancestral.app.training.player import PlayerState
from ancestral.app.training.run import Run
from ancestral.batch import Batch
from ancestral.models import GenerativeModel
from ancestral.noise import StreamNoise
from ancestral.runtime import Runtime

FAMILIES = {"pixels": ("diffusion", ()), "latents": ("latent", ("model.autoencoder.perceptual=0",))}
FEW, STEPS, GUIDANCE = 16, 20, 3.0


def command(*words: object) -> str:
    """What `ancestral` prints, run in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "ancestral", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def train(asked: argparse.Namespace) -> None:
    """Train one of the two, and write what that took. A run that is finished is not trained again."""
    family, own = FAMILIES[asked.name]
    run = asked.out / asked.name
    words = ["train", asked.source, *own, *asked.settings, "--model", family, "--for", asked.budget, "--out", run]
    words += ["--size", asked.size] if asked.size else []
    words += ["--condition", asked.condition] if asked.condition else []
    said = json.loads(command(*words, "--json"))
    found = {
        "command": " ".join(map(str, ["ancestral", *words])),
        "threads": torch.get_num_threads(),
        "parameters": said["parameters"],
        "seconds": said["seconds"],
        "images": said["images"],
        "stages": stages(Run(run).metrics()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    (asked.out / f"{asked.name}.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


def stages(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Images and seconds of each stage, with all that went on in it, from the run's first measurement, or the last one before
    the stage, which is made once its data are ready.
    """
    found = {}
    for stage in dict.fromkeys(row.get("stage", "") for row in rows if "rate" in row):
        own = [i for i, row in enumerate(rows) if "rate" in row and row.get("stage", "") == stage]
        before, last = rows[max(own[0] - 1, 0)], rows[own[-1]]
        images, seconds = (last[key] - before[key] for key in ("images", "seconds"))
        found[stage or "all"] = {
            "images": images,
            "seconds": seconds,
            "images_per_second": images / seconds if seconds else float("nan"),
        }
    return found


def evaluate(asked: argparse.Namespace) -> None:
    """Samples of both, evaluated and timed; the table."""
    found = {name: json.loads((asked.out / f"{name}.json").read_text()) for name in FAMILIES}
    for name, one in found.items():
        words = ("evaluate", asked.out / name, "-n", asked.n, "--steps", STEPS, "--guidance", 1, "--features", asked.features)
        one["evaluation"] = json.loads(command(*words, "--json"))
    for name, seconds in timed(asked.out, asked.turns).items():
        found[name]["seconds_of_few"] = seconds
    (asked.out / "evaluated.json").write_text(json.dumps(found, indent=1))
    table(found, asked.features)


def timed(out: Path, turns: int) -> dict[str, float]:
    """Seconds of a few samples of each, medians of turns that the two take alternately."""
    models = {name: an.load(out / name) for name in FAMILIES}
    how = {name: options(model, Run(out / name)) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(turns + 1):
        for name, model in models.items():
            begun = time.perf_counter()
            model.sample(FEW, how[name][0], **how[name][1])
            if turn:  # the first is slower
                seconds[name].append(time.perf_counter() - begun)
    return {name: median(values) for name, values in seconds.items()}


def options(model: GenerativeModel, run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked for, as held-out samples would, and how."""
    if not len(model.conditioner.kinds):
        return {}, {"steps": STEPS}
    return data_of(run).encoded(model.conditioner).asked(torch.arange(FEW)), {"steps": STEPS, "guidance": GUIDANCE}


def networks(asked: argparse.Namespace) -> None:
    """Images a second in training steps of each network, the best of turns that all take alternately."""
    runtime = Runtime.choose("cpu", parameters=10**6)
    data = an.load_data(np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8))
    made = {}
    for name, (recipe, spec) in variants(data.spec).items():
        model = runtime.place(recipe.build(spec)).train()
        player = model.players()[-1]
        names = [str(i) for i in range(len(player.parameters))]
        state = PlayerState(player, TrainRecipe(budget="1it"), names)
        batch = max(1, asked.batch // 2) if isinstance(recipe, AutoencoderRecipe) else asked.batch
        made[name] = model, state, Batch(torch.rand(batch, *model.shape))
    fastest = dict.fromkeys(made, 0.0)
    for turn in range(asked.turns):
        for name, (model, state, batch) in made.items():
            begun = time.perf_counter()
            state.flat.grad.zero_()
            with runtime.autocast():
                loss = model.losses(batch, state.player.name, StreamNoise(len(batch), 0, turn))["total"].float().mean()
            (loss / model.loss_unit).backward()
            state.step(1.0)
            fastest[name] = max(fastest[name], len(batch) / (time.perf_counter() - begun))
    print("| network | parameters | images/s | ratio |\n|---|---|---|---|")
    for name, (model, *_) in made.items():
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"| {name} | {parameters:.2f} M | {fastest[name]:.0f} | {fastest[name] / fastest['pixels']:.2f} |")


def variants(spec: DataSpec) -> dict[str, tuple[Any, DataSpec]]:
    """Recipes, and the samples that they are for."""
    found: dict[str, tuple[Any, DataSpec]] = {"pixels": (DiffusionRecipe(), spec)}
    for f, shape in ((8, (16, 8, 8)), (4, (8, 16, 16))):
        latents = spec.of_latents(shape)
        found[f"latents, f={f}"] = DiffusionRecipe(), latents
        found[f"latents, f={f}, a transformer"] = DiffusionRecipe(net="dit"), latents
        found[f"autoencoder, f={f}"] = AutoencoderRecipe(f=f, perceptual=0), spec
    found["latents, f=4, patches of 2"] = DiffusionRecipe(patch=2), latents
    return found


def table(found: dict[str, dict[str, Any]], features: str) -> None:
    """What was found, as Markdown; ratios of latents to pixels."""
    rows: dict[str, list[float]] = {}
    metrics = {name: {m["name"]: m for m in one["evaluation"]["metrics"]} for name, one in found.items()}
    of = list(found.values())
    rows["training time, s"] = [one["seconds"] for one in of]
    rows["images seen"] = [one["images"] for one in of]
    rows["images/s, all of the training"] = [one["images"] / one["seconds"] for one in of]
    rows["images/s, its diffusion stage"] = [list(one["stages"].values())[-1]["images_per_second"] for one in of]
    rows["largest memory in training, MiB"] = [one["peak_bytes"] / 2**20 for one in of]
    rows[f"Fréchet distance, fd-{features}"] = [m[f"fd-{features}"]["value"]["value"] for m in metrics.values()]
    rows[f"kernel distance, kid-{features}"] = [m[f"kid-{features}"]["value"]["value"] for m in metrics.values()]
    rows["samples/s"] = [one["evaluation"]["cost"]["samples_per_second"] for one in of]
    rows[f"{FEW} samples of {STEPS} steps, s"] = [one["seconds_of_few"] for one in of]
    print(f"| | {' | '.join(found)} | ratio |\n|---|{'---|' * len(found)}---|")
    for label, values in rows.items():
        print(f"| {label} | {' | '.join(f'{v:,.4g}' for v in values)} | {values[1] / values[0]:.2f} |")
    floor = metrics["pixels"][f"fd-{features}"]["real"]["value"]
    first = found["pixels"]["evaluation"]
    print(f"\nn = {first['n']:,} samples against {first['reference']:,} held-out pictures; real against real {floor:,.4g}")
    for name in (f"rfd-{features}", "psnr", "ssim"):
        if name in metrics["latents"]:
            print(f"reconstructions: {name} {metrics['latents'][name]['value']['value']:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train", help="train one of the two")
    training.add_argument("name", choices=FAMILIES)
    training.add_argument("source")
    training.add_argument("settings", nargs="*", help="further section.name=value of the recipe")
    training.add_argument("--condition")
    training.add_argument("--size", type=int, default=None)
    training.add_argument("--for", dest="budget", default="30m")
    training.set_defaults(run=train)
    evaluating = commands.add_parser("evaluate", help="evaluate both")
    evaluating.add_argument("-n", type=int, default=2000)
    evaluating.add_argument("--features", default="efficientnet", help="of the distances (efficientnet)")
    evaluating.set_defaults(run=evaluate)
    timing = commands.add_parser("networks", help="time training steps of networks")
    timing.add_argument("--batch", type=int, default=64, help="pictures a step, half as many for an autoencoder (64)")
    timing.set_defaults(run=networks)
    for one in (evaluating, timing):
        one.add_argument("--turns", type=int, default=7, help="of each, alternately (7)")
    for one in (training, evaluating, timing):
        one.add_argument("--out", type=Path, default=Path("build/latent"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    asked.run(asked)


if __name__ == "__main__":
    main()
