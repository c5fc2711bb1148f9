"""VAEs of ancestral and of Pythae on fashion-mnist, side by side, each alone for the same wall-timer time.

    python benchmarks/vae.py --seconds 300 --out build/vae
    ancestral evaluate build/vae/ancestral.npz --against fashion-mnist

All see the same statically binarised training split (each pixel drawn once with its grey value as probability) and have a
Bernoulli likelihood, so that their bounds may be compared. One piece of code scores all: Pythae's networks are put into
ancestral's `VAE`, whose `log_prob` is tested against closed forms. Samples are the means of p(x | z), for latents from N(0, I)
and, with the same second-stage code for all, from where the encoder puts the data.

    ancestral         the default network, batch and learning rate of the package
    ancestral-conv    its convolutions
    same-nets         Pythae's networks, batch and learning rate in ancestral's loop
    pythae-vae, pythae-beta-vae   Pythae's trainer, default networks, Adam, lr 1e-3
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ancestral.app.api import load, plan
from ancestral.app.data import load as load_data
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.models.vae import VAE
from ancestral.noise import StreamNoise
from peers import torchvision_stand_in

SHAPE = (1, 28, 28)
LATENT, WIDTH, BATCH = 32, 512, 128
Trained = tuple[VAE, int, float]  # the model, images seen, seconds


class Encoder(nn.Module):
    """What `Encoder_VAE_MLP` of Pythae is: 784 -> 512 -> mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(784, WIDTH), nn.Linear(WIDTH, 2 * LATENT)

    def forward(self, y: Tensor, context: Context) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(y.flatten(1))))
        return out


class Decoder(nn.Module):
    """What `Decoder_AE_MLP` of Pythae is, before its sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, 784)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(z))).view(-1, *SHAPE)
        return out


class TheirEncoder(nn.Module):
    """Pythae's, with the log-variance as `Diagonal` wants it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, y: Tensor, context: Context) -> Tensor:
        out = self.net(y)
        log_var = 12 * torch.atanh((out.log_covariance / 12).clamp(-0.9999, 0.9999))
        return torch.cat([out.embedding, log_var], 1)


class TheirDecoder(nn.Module):
    """Pythae's, as logits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, context: Context) -> Tensor:
        out: Tensor = self.net(z)["reconstruction"].view(-1, *SHAPE).clamp(1e-6, 1 - 1e-6).logit()
        return out


def wrapped(encoder: nn.Module, decoder: nn.Module, **units: Any) -> VAE:
    units = units or {"bounds": (0.0, 1.0)}
    return VAE(encoder, decoder, shape=SHAPE, latent=LATENT, likelihood="bernoulli", **units)


def ours(x: np.ndarray, seconds: float, folder: Path, *settings: str, same_nets: bool = False) -> Trained:
    words = (f"model.latent={LATENT}", "train.previews=0", *settings)
    torch.manual_seed(0)
    planned = plan(x, model="vae", budget=f"{seconds:g}s", out=folder / "run", settings=words)
    if same_nets:
        planned = replace(planned, model=wrapped(Encoder(), Decoder(), **planned.model.standardize.units))
    planned = replace(planned, started=time.monotonic())  # reading is not part of anyone's time
    trainer = planned.begin()
    for _ in trainer:
        pass
    if not same_nets:
        return load(folder / "run"), trainer.images, trainer.seconds  # type: ignore[return-value]
    with trainer.averaged():
        model = wrapped(Encoder(), Decoder(), **planned.model.standardize.units)
        model.load_state_dict(trainer.model.state_dict())
    return model, trainer.images, trainer.seconds


def theirs(x: np.ndarray, seconds: float, folder: Path, beta: float | None = None) -> Trained:
    with torchvision_stand_in():
        from pythae import models as pythae
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
        from pythae.trainers.training_callbacks import TrainingCallback
    logging.disable(logging.INFO)

    class EnoughError(Exception):
        pass

    class Timer(TrainingCallback):  # type: ignore[misc]
        begun, steps = 0.0, 0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.monotonic()

        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            self.steps += 1
            if time.monotonic() - self.begun >= seconds:
                raise EnoughError

    torch.manual_seed(0)
    common: dict[str, Any] = {"input_dim": SHAPE, "latent_dim": LATENT, "reconstruction_loss": "bce"}
    model = (
        pythae.VAE(pythae.VAEConfig(**common)) if beta is None else pythae.BetaVAE(pythae.BetaVAEConfig(beta=beta, **common))
    )
    config = BaseTrainerConfig(
        output_dir=str(folder), num_epochs=10**6, learning_rate=1e-3, per_device_train_batch_size=BATCH, no_cuda=True
    )
    data = BaseDataset(torch.from_numpy(x)[:, None].float(), torch.zeros(len(x)))
    timer = Timer()
    trainer = BaseTrainer(model, data, training_config=config, callbacks=[timer])
    with suppress(EnoughError):
        trainer.train()
    took = time.monotonic() - timer.begun
    return wrapped(TheirEncoder(trainer.model.encoder), TheirDecoder(trainer.model.decoder)), timer.steps * BATCH, took


TRAINERS: dict[str, Callable[[np.ndarray, float, Path], Trained]] = {
    "ancestral": ours,
    "ancestral-conv": lambda x, s, f: ours(x, s, f, "model.net=conv"),
    "same-nets": lambda x, s, f: ours(x, s, f, f"train.batch={BATCH}", "train.lr=1e-3", same_nets=True),
    "pythae-vae": theirs,
    "pythae-beta-vae": lambda x, s, f: theirs(x, s, f, beta=2.0),
}


def binarised(array: Tensor, seed: int) -> np.ndarray:
    """`(N, 28, 28)` bool, each pixel drawn once."""
    grey = array[:, 0].numpy()
    return np.random.default_rng(seed).integers(0, 255, grey.shape, dtype=np.uint8) < grey


def score(model: VAE, test: Tensor, train: Tensor, n: int, out: Path) -> dict[str, float]:
    """ELBO and IWAE-100 in nats, the mean over test samples and its standard error; samples of both priors to files."""
    model.eval()
    elbo, iwae = [], []
    for i, x in enumerate(test.split(250)):
        elbo.append(model.log_prob(x, k=16, noise=StreamNoise(len(x), 0, i)).value)
        iwae.append(model.log_prob(x, method="iwae", k=100, noise=StreamNoise(len(x), 1, i)).value)
    model.fit_after(Batch(train))
    for prior in ("aggregate", "standard"):
        drawn = model.sample(n, seeds=0, prior=prior)
        suffix = "" if prior == "aggregate" else "-standard"
        np.savez_compressed(out.with_name(f"{out.name}{suffix}.npz"), x=drawn.mul(255).round().byte().numpy())
    e, w = torch.cat(elbo), torch.cat(iwae)
    return {
        "elbo": e.mean().item(),
        "iwae100": w.mean().item(),
        "std_err": w.std().item() / math.sqrt(len(w)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--only", nargs="+", choices=tuple(TRAINERS), default=list(TRAINERS))
    parser.add_argument("--source", default="fashion-mnist", help="grey images of 28x28 (fashion-mnist)")
    parser.add_argument("--test", type=int, default=1000, help="held-out images that are scored")
    parser.add_argument("--n", type=int, default=2000, help="samples for `ancestral evaluate`")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = load_data(options.source)
    train, test = binarised(data.train.array, 0), binarised(data.test.array, 1)[: options.test]
    held_out, seen = (torch.from_numpy(part)[:, None].float() for part in (test, train[:10_000]))
    rows = {}
    for name in options.only:
        with TemporaryDirectory(prefix="vae-") as folder:
            model, images, took = TRAINERS[name](train, options.seconds, Path(folder))
            figures = score(model, held_out, seen, options.n, options.out / name)
        parameters = sum(p.numel() for p in model.parameters())
        rows[name] = {"parameters": parameters, "images": images, "images_per_second": images / took, **figures}
        print(
            f"{name:16} {parameters:>9,} parameters {images / took:>7,.0f} images/s  ELBO {figures['elbo']:8.2f}  "
            f"IWAE-100 {figures['iwae100']:8.2f} +- {figures['std_err']:.2f} nats",
            flush=True,
        )
    (options.out / "vae.json").write_text(json.dumps({"seconds": options.seconds, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
