"""Samples of ancestral's default GAN and of a plain DCGAN after the same wall-clock time on fashion-mnist.

    for seed in 0 1 2; do                                                   # side by side, a core each
        taskset -c 0 env OMP_NUM_THREADS=1 python benchmarks/gan.py ancestral --seed $seed --out build/gan &
        taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/gan.py dcgan --seed $seed --out build/gan; wait
    done
    python benchmarks/gan.py evaluate --out build/gan                       # one evaluation of all that lies there

    ancestral   the package's defaults
    dcgan       Radford et al. 2016 (arXiv:1511.06434) as its tutorials write it: transposed convolutions, batch norm, ReLU and
                leaky ReLU, tanh, the non-saturating loss, Adam at 2e-4 with beta1 = 0.5, batch 64, float32, no averaging. Its
                pictures lie in memory, which can only make it faster than a `DataLoader` of files
    same-nets   dcgan's networks, loss, optimiser and batch in ancestral's loop: their images/s compare the loops

All are unconditional; reading data and drawing samples are no part of the time. Each leaves 2,000 samples in
NAME-SEED.npz, 64 of them as a picture, and what it cost in NAME-SEED.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ancestral
from ancestral.app.api import Plan, plan
from ancestral.app.data import load
from ancestral.app.evaluation import Evaluation, Evaluator, Samples, Subject
from ancestral.app.pictures import save_grid
from ancestral.conditioning import Context
from ancestral.models.gan import GAN

SOURCE = "fashion-mnist"
BATCH, LATENT = 64, 100
RATE = {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999}
FEATURES = ["classifier", "efficientnet"]  # the second: of the distance alone

Made = tuple[Tensor, int, int, float]  # samples in [0, 1], parameters, images seen, seconds


class Generator(nn.Module):
    """z `(n, 100)` -> pictures in [-1, 1]."""

    latent = LATENT

    def __init__(self, width: int = 64):
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(LATENT, 2 * width, 7, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self.apply(begin)

    def forward(self, z: Tensor, context: Context | None = None) -> Tensor:
        out: Tensor = self.net(z[:, :, None, None])
        return out


class Discriminator(nn.Module):
    """Pictures in [-1, 1] -> logits `(n,)`; batch norm sees data and samples apart, as in the tutorials."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 1, 7), nn.Flatten(0),
        )  # fmt: skip
        self.apply(begin)

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        return torch.cat([self.net(part) for part in x.split(BATCH)])


def begin(m: nn.Module) -> None:
    """The start of Radford et al., section 3."""
    if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif isinstance(m, nn.BatchNorm2d):
        nn.init.normal_(m.weight, 1.0, 0.02)


def dcgan(options: argparse.Namespace) -> Made:
    torch.manual_seed(options.seed)
    generator, discriminator = Generator(), Discriminator()
    images = load(options.source).train.array.float() / 127.5 - 1
    g, d = (torch.optim.Adam(m.parameters(), RATE["lr"], (RATE["beta1"], RATE["beta2"])) for m in (generator, discriminator))
    ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
    begun, steps = time.monotonic(), 0
    while time.monotonic() - begun < options.seconds:
        for index in torch.randperm(len(images)).split(BATCH)[:-1]:
            fake = generator(torch.randn(BATCH, LATENT))
            loss = F.binary_cross_entropy_with_logits(discriminator(images[index]), ones)
            loss = loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            d.zero_grad()
            loss.backward()
            d.step()
            loss = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
            g.zero_grad()
            loss.backward()
            g.step()
            steps += 1
            if time.monotonic() - begun >= options.seconds:
                break
    took = time.monotonic() - begun
    generator.eval()
    with torch.no_grad():
        x = torch.cat([generator(torch.randn(len(part), LATENT)) for part in torch.empty(options.n).split(BATCH)]) / 2 + 0.5
    return x, sum(p.numel() for m in (generator, discriminator) for p in m.parameters()), steps * BATCH, took


def planned(options: argparse.Namespace, folder: Path, *settings: str) -> Plan:
    words = (f"train.seed={options.seed}", "train.previews=0", *settings, *options.settings)
    return plan(options.source, model="gan", budget=f"{options.seconds:g}s", out=folder / "run", device="cpu", settings=words)


def ours(options: argparse.Namespace) -> Made:
    with tempfile.TemporaryDirectory(prefix="gan-") as folder:
        trainer = replace(planned(options, Path(folder)), started=time.monotonic()).begin()
        for _ in trainer:
            pass
        x = ancestral.load(Path(folder) / "run").sample(options.n, seeds=options.seed)
    return x, trainer.parameters, trainer.images, trainer.seconds


def same_nets(options: argparse.Namespace) -> Made:
    words: tuple[str, ...] = (f"train.batch={BATCH}", "train.warmup=0", "train.decay=0", "train.clip=1e9", "train.diagnoses=0")
    words += tuple(f"train.{name}={value}" for name, value in RATE.items())
    with tempfile.TemporaryDirectory(prefix="gan-") as folder:
        made = planned(options, Path(folder), *words)
        torch.manual_seed(options.seed)
        units: dict[str, Any] = {"mean": 0.5, "std": 0.5, "bounds": (0.0, 1.0)}
        model = GAN(Generator(), Discriminator(), made.data.spec.shape, objective="non-saturating", **units)
        trainer = replace(made, model=model, started=time.monotonic()).begin()
        for _ in trainer:
            pass
    return model.eval().sample(options.n, seeds=options.seed), trainer.parameters, trainer.images, trainer.seconds


TRAINERS: dict[str, Callable[[argparse.Namespace], Made]] = {"ancestral": ours, "dcgan": dcgan, "same-nets": same_nets}


def compete(name: str, options: argparse.Namespace) -> None:
    x, parameters, images, seconds = TRAINERS[name](options)
    stem = options.out / f"{name}-{options.seed}"
    np.savez_compressed(stem.with_suffix(".npz"), x=x.clamp(0, 1).mul(255).round().byte().cpu().numpy())
    save_grid(x[:64], stem.with_suffix(".png"), load(options.source).spec)
    said = {
        "name": name,
        "seed": options.seed,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "seconds": seconds,
        "images": images,
        "images_per_second": images / seconds,
    }
    stem.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")
    print(json.dumps(said))


def evaluate(options: argparse.Namespace) -> None:
    """A row for each file and, of each subject, means over seeds with their spread; real data below."""
    at = Evaluator(load(options.source), n=options.n, extractors=options.features)
    names = (f"{metric}-{options.features[0]}" for metric in ("precision", "recall", "coverage"))
    columns = (*(f"fd-{features}" for features in options.features), *names, "duplicates")
    rows: dict[str, list[tuple[dict[str, Any], Evaluation]]] = {name: [] for name in TRAINERS}
    for file in sorted(options.out.glob("*-[0-9]*.npz")):
        said = json.loads(file.with_suffix(".json").read_text())
        x = torch.from_numpy(np.load(file)["x"]).float() / 255
        rows[said["name"]].append((said, at.evaluate(Subject(file.stem, Samples(x)))))
    print(f"{at.n} samples of each; " + "; ".join(f"{name}: {about}" for name, about in at.descriptions.items()))
    print("| | parameters | images/s | " + " | ".join(columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    found: Evaluation | None = None
    for name, evaluated in rows.items():
        for said, found in evaluated:
            figures = [cell(found[column].value) for column in columns]
            line(f"{name}, seed {said['seed']}", said["parameters"], f"{said['images_per_second']:.0f}", figures)
        if len(evaluated) > 1:
            rate = spread([said["images_per_second"] for said, _ in evaluated])
            line(
                f"**{name}**",
                evaluated[0][0]["parameters"],
                rate,
                [spread([found[column].value.value for _, found in evaluated]) for column in columns],
            )
    if found is not None:
        line("real data", "", "", [cell(found[column].real) for column in columns])


def line(name: str, parameters: int | str, rate: str, figures: list[str]) -> None:
    size = f"{parameters:,}" if isinstance(parameters, int) else parameters
    print("| " + " | ".join([name, size, rate, *figures]) + " |")


def cell(estimate: Any) -> str:
    return f"{estimate.value:.3g}" if estimate.std_err is None else f"{estimate.value:.3g} ± {estimate.std_err:.2g}"


def spread(values: list[float]) -> str:
    """The mean over seeds and its standard error."""
    return f"{statistics.mean(values):.3g} ± {statistics.stdev(values) / len(values) ** 0.5:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*TRAINERS, "evaluate"))
    parser.add_argument("settings", nargs="*", help="further section.name=value of ancestral's recipe")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", default=SOURCE, help=f"grey images of 28x28, with classes for `evaluate` ({SOURCE})")
    parser.add_argument("--features", nargs="+", default=FEATURES, help="of the distances (%(default)s)")
    parser.add_argument("--n", type=int, default=2000, help="samples")
    parser.add_argument("--out", type=Path, default=Path("build/gan"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "evaluate":
        evaluate(options)
    else:
        compete(options.what, options)


if __name__ == "__main__":
    main()
