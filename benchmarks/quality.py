"""The yardstick of the quality benchmarks: Fréchet distance in the features of a classifier of the real data.

    python benchmarks/quality.py RUN [--solver heun] [--steps 5] [--guidance 1]

The classifier is trained once on fashion-mnist's training split and cached. Distances are between 2,000 samples and the
10,000 held-out images; real against real at the same n stands beside every figure. Raw pixels reward blur, and the
standard Inception weights ship in no package, so these figures compare models with each other and with nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import ancestral
from ancestral.app.data import DataSet, load
from ancestral.app.data.cache import cache_dir
from ancestral.models import GenerativeModel
from ancestral.runtime import Runtime

SOURCE, N, EPOCHS = "fashion-mnist", 2000, 6


class Classifier(nn.Module):
    """A small convolutional network; `features` `(n, 128)` is its last hidden layer."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 128, 3, padding=1)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(c) for c in (32, 64, 128)])
        self.hidden = nn.Linear(128 * 9, 128)
        self.head = nn.Linear(128, classes)

    def features(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return F.relu(self.hidden(F.dropout(x.flatten(1), 0.3, self.training)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.dropout(self.features(x), 0.3, self.training))
        return out


def classifier(data: DataSet, epochs: int = EPOCHS) -> tuple[Classifier, float]:
    """The trained classifier and its accuracy on the held-out split; from the cache if it is there."""
    torch.manual_seed(0)
    model = Classifier(len(data.spec.classes)).to(memory_format=torch.channels_last)
    file = cache_dir() / "benchmarks" / f"classifier-{epochs}-{data.spec.fingerprint}.safetensors"
    if file.exists():
        model.load_state_dict(load_file(file))
    else:
        runtime = Runtime.choose("cpu", parameters=sum(p.numel() for p in model.parameters()))
        steps = max(1, epochs * len(data.train) // 128)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
        for _ in range(steps):
            batch = data.batch(torch.randint(len(data.train), (128,)))
            with runtime.autocast():
                loss = F.cross_entropy(model(batch.x).float(), batch.conditions["class"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in model.state_dict().items()}, file)
    model.eval()
    test = data.batch(torch.arange(len(data.test)), "test")
    return model, (logits(model, test.x).argmax(1) == test.conditions["class"]).float().mean().item()


@torch.inference_mode()
def logits(model: Classifier, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(500)])


@torch.inference_mode()
def features(model: Classifier, x: Tensor) -> np.ndarray:
    """`(n, 128)` float64 of images in [0, 1], rounded to 8 bits as stored images are."""
    x = (x.clamp(0, 1) * 255).round() / 255
    return torch.cat([model.features(part) for part in x.split(500)]).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of the Gaussians fitted to two sets of features."""
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues, vectors = np.linalg.eigh(s_a)
    root = vectors * np.sqrt(eigenvalues.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s_b @ root).clip(0)).sum()
    return float(mean + np.trace(s_a) + np.trace(s_b) - 2 * cross)


def yardstick(data: DataSet, n: int, epochs: int) -> tuple[Classifier, np.ndarray, float, float]:
    """(classifier, features of the held-out images, its accuracy, the real-against-real distance at n)."""
    model, accuracy = classifier(data, epochs)
    real = features(model, data.batch(torch.arange(len(data.test)), "test").x)
    rows = torch.linspace(0, len(data.train) - 1, n).long()
    floor = frechet(features(model, data.batch(rows).x), real)
    assert math.isfinite(floor)
    return model, real, accuracy, floor


def score(model: GenerativeModel, data: DataSet, n: int = N, epochs: int = EPOCHS, **how: object) -> dict[str, float]:
    """N samples of a class-conditional model, as many of each class, against the held-out images.

    fd, its floor, the share of samples that the classifier assigns to the class asked for, and samples a second.
    """
    network, real, accuracy, floor = yardstick(data, n, epochs)
    labels = torch.arange(n) % len(data.spec.classes)
    begun = time.perf_counter()
    x = model.sample(n, {"class": labels}, seeds=0, **how)
    took = time.perf_counter() - begun
    return {
        "fd": round(frechet(features(network, x), real), 2),
        "floor": round(floor, 2),
        "agreement": round((logits(network, x).argmax(1) == labels).float().mean().item(), 3),
        "accuracy_on_real": round(accuracy, 3),
        "sampling": round(n / took, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--solver", default="heun")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--spacing", default="trailing")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--source", default=SOURCE, help=f"grey images of 28x28 with classes ({SOURCE})")
    parser.add_argument("--n", type=int, default=N, help=f"samples ({N})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the classifier's training ({EPOCHS})")
    options = parser.parse_args()
    how = {"solver": options.solver, "steps": options.steps, "spacing": options.spacing, "guidance": options.guidance}
    print(json.dumps(how | score(ancestral.load(options.run), load(options.source), options.n, options.epochs, **how)))


if __name__ == "__main__":
    main()
