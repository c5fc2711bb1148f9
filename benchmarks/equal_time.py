"""The samples that a peer's own training loop gives after the same wall-clock time, for `ancestral evaluate`.

    python benchmarks/equal_time.py diffusers --seconds 720 --out build/peers/diffusers.npz
    ancestral evaluate build/peers/diffusers.npz --against fashion-mnist

The loops are those of `peers.py`, on fashion-mnist's training split, as their examples write them: batch 64, float32, averaged
weights, unconditional. Drawing the samples is not part of the time; DDIM, so many steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import load
from peers import KINDS

BATCH = 64
TRIAL = 20.0  # seconds in which the length of the learning-rate schedule is estimated


def train(package: str, images: Tensor, seconds: float, total: int) -> tuple[object, int]:
    """The trained subject and its steps."""
    torch.manual_seed(0)
    subject = KINDS[package](images, BATCH, total)
    begun, steps = time.monotonic(), 0
    for _ in subject.train():
        steps += 1
        if time.monotonic() - begun >= seconds:
            break
    return subject, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=("diffusers", "denoising_diffusion_pytorch"))
    parser.add_argument("--seconds", type=float, default=720)
    parser.add_argument("--source", default="fashion-mnist", help="grey images of 28x28 (fashion-mnist)")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = load(options.source).train.array
    _, few = train(options.package, images, min(TRIAL, options.seconds), 10**9)
    expected = round(few * options.seconds / min(TRIAL, options.seconds))
    subject, steps = train(options.package, images, options.seconds, expected)
    subject.finish()
    begun = time.monotonic()
    drawn = []
    for start in range(0, options.n, BATCH):
        x = torch.as_tensor(subject.sample(min(BATCH, options.n - start), options.steps))
        drawn.append((x if x.shape[1] == 1 else x.permute(0, 3, 1, 2)).clamp(0, 1).mul(255).round().byte())
    took = time.monotonic() - begun
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, x=torch.cat(drawn).cpu().numpy())
    print(json.dumps({"package": options.package, "steps": steps, "images": steps * BATCH, "sampling": options.n / took}))


if __name__ == "__main__":
    main()
