"""Samples of ancestral's default GAN and of a plain DCGAN after the same wall-clock time on fashion-mnist.

    python benchmarks/gan.py --seconds 600 --seeds 0 1 2 --out build/gan
    ancestral evaluate build/gan/ancestral-0.npz --against fashion-mnist

The DCGAN is that of Radford et al. 2016 (arXiv:1511.06434) as its tutorials write it: transposed convolutions, batch norm,
ReLU and leaky ReLU, tanh, the non-saturating loss, Adam at 2e-4 with beta1 = 0.5, batch 64, float32, no averaging; its widths
bring it to about as many parameters. Its pictures lie in memory, which can only make it faster than a `DataLoader` of files.
The two take turns, seed by seed; both are unconditional. Drawing the samples is not part of the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ancestral
from ancestral.api import plan
from ancestral.data import load

BATCH, LATENT = 64, 100


class DCGAN:
    """The generator and the discriminator for 28x28, and their loop."""

    def __init__(self, width: int = 64):
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(LATENT, 2 * width, 7, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(True),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 1, 7), nn.Flatten(0),
        )  # fmt: skip
        for network in (self.generator, self.discriminator):
            for m in network.modules():
                if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.normal_(m.weight, 0.0, 0.02)
                elif isinstance(m, nn.BatchNorm2d):
                    nn.init.normal_(m.weight, 1.0, 0.02)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for network in (self.generator, self.discriminator) for p in network.parameters())

    def train(self, images: Tensor, seconds: float) -> int:
        """Steps taken."""
        g, d = (torch.optim.Adam(m.parameters(), 2e-4, (0.5, 0.999)) for m in (self.generator, self.discriminator))
        images, begun, steps = images.float() / 127.5 - 1, time.monotonic(), 0
        ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)
        while time.monotonic() - begun < seconds:
            for index in torch.randperm(len(images)).split(BATCH)[:-1]:
                fake = self.generator(torch.randn(BATCH, LATENT, 1, 1))
                loss = F.binary_cross_entropy_with_logits(self.discriminator(images[index]), ones)
                loss = loss + F.binary_cross_entropy_with_logits(self.discriminator(fake.detach()), zeros)
                d.zero_grad()
                loss.backward()
                d.step()
                loss = F.binary_cross_entropy_with_logits(self.discriminator(fake), ones)
                g.zero_grad()
                loss.backward()
                g.step()
                steps += 1
                if time.monotonic() - begun >= seconds:
                    break
        return steps

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """In [0, 1]."""
        self.generator.eval()
        return (
            torch.cat([self.generator(torch.randn(len(part), LATENT, 1, 1)) for part in torch.empty(n).split(BATCH)]) / 2 + 0.5
        )


def dcgan(seconds: float, seed: int, n: int) -> tuple[dict[str, Any], Tensor]:
    torch.manual_seed(seed)
    contestant = DCGAN()
    images = load("fashion-mnist").train.array
    begun = time.monotonic()
    steps = contestant.train(images, seconds)
    rate = steps * BATCH / (time.monotonic() - begun)
    return {"parameters": contestant.parameters, "steps": steps, "images_per_second": rate}, contestant.sample(n)


def ours(seconds: float, seed: int, n: int, settings: tuple[str, ...] = ()) -> tuple[dict[str, Any], Tensor]:
    with tempfile.TemporaryDirectory(prefix="ancestral-benchmark-") as folder:
        given = (f"train.seed={seed}", "train.previews=0", *settings)
        planned = plan(
            "fashion-mnist", model="gan", budget=f"{seconds:g}s", out=Path(folder) / "run", device="cpu", settings=given
        )
        begun = time.monotonic()
        trainer = planned.begin()
        for _ in trainer:
            pass
        rate = trainer.images / (time.monotonic() - begun)
        said = {"parameters": trainer.parameters, "steps": trainer.step, "images_per_second": rate}
        return said, ancestral.load(Path(folder) / "run").sample(n, seeds=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="further section.name=value of ancestral's recipe")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=("ancestral", "dcgan"))
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("build/gan"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rates: dict[str, list[float]] = {"ancestral": [], "dcgan": []}
    for seed in options.seeds:
        for name, measured in rates.items():
            if options.only not in (None, name):
                continue
            if name == "dcgan":
                said, x = dcgan(options.seconds, seed, options.n)
            else:
                said, x = ours(options.seconds, seed, options.n, tuple(options.settings))
            file = options.out / f"{name}-{seed}.npz"
            np.savez_compressed(file, x=x.clamp(0, 1).mul(255).round().byte().cpu().numpy())
            measured.append(said["images_per_second"])
            print(json.dumps({"name": name, "seed": seed, **said, "file": str(file)}), flush=True)
    if all(rates.values()):
        print(
            json.dumps({"images_per_second_ratio": statistics.median(rates["ancestral"]) / statistics.median(rates["dcgan"])})
        )


if __name__ == "__main__":
    main()
