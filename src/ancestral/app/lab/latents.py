"""Digits through two latents: a VAE whose plane one can walk in, and latent diffusion as two maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ancestral.app.data import DataSet, load
from ancestral.app.lab.plane import lattice, rounded, seeded, trained
from ancestral.app.recipes import FAMILIES
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.models.vae import VAE
from ancestral.networks import denoising_network
from ancestral.noise import StreamNoise
from ancestral.schedules import Linear

BATCH, EVERY, SHOWN = 128, 20, 400
SIDE, HALF = 13, 3.0  # pictures on each side of the map, and half its width
PATHS = 24


def vae(steps: int = 400, beta: float = 1.0) -> Iterator[tuple[dict[str, Any], VAE]]:
    """Train a VAE of digits with two latents, and yield the two terms of the ELBO, and where it encodes held-out digits.

    log p(x) >= E_q [log p(x | z)] - KL(q(z | x) || p(z))
    """
    data = load("digits")
    model = _autoencoder(data, beta)
    x, labels = data.x("test"), data.labels("test")
    assert labels is not None
    for step, losses in enumerate(trained(model, _batches(data), steps, 2e-3), 1):
        if step % EVERY and step not in (1, steps):
            continue
        model.fit_after(data.batch(torch.arange(min(512, len(data.train)))))
        with model.inference():
            z = model.encode(x)
            bound = model.log_prob(x, noise=StreamNoise(len(x), 0, 0), k=1)
        terms = losses["model"]
        kl = terms.get("kl", 0.0)
        yield (
            {
                "step": step,
                "steps": steps,
                "reconstruction": float(bound.value.mean()) + kl,
                "kl": kl,
                "elbo": float(bound.value.mean()),
                "z": rounded(z),
                "labels": labels.tolist(),
                "map": _map(model),
                "side": SIDE,
                "half": HALF,
            },
            model,
        )


def decode(model: VAE, z: tuple[float, float]) -> list[object]:
    """Return the digit `(8, 8)` at a point of the latent plane, in [0, 1]."""
    with model.inference():
        x = model.decode(torch.tensor([z], dtype=torch.float32))
    return rounded(x[0, 0].clamp(0, 1))


def latent(steps: int = 400) -> Iterator[dict[str, Any]]:
    """Train the two models of latent diffusion one after another, and yield the state of both maps.

    First the autoencoder maps digits to latents; then a diffusion model learns the distribution of the latents. At the end,
    paths of samples lead from noise to latents, and the decoder makes digits of them.
    """
    data = load("digits")
    encoder = _autoencoder(data, 0.3)
    labels = data.labels()
    assert labels is not None
    chosen = torch.linspace(0, len(data.train) - 1, SHOWN).long()
    x = data.x("train", chosen)
    for step, losses in enumerate(trained(encoder, _batches(data), steps, 2e-3), 1):
        if step % EVERY == 0 or step in (1, steps):
            with encoder.inference():
                z = encoder.encode(x)
            yield {
                "stage": 1,
                "step": step,
                "steps": steps,
                "loss": losses["model"]["total"] / encoder.loss_unit,
                "z": rounded(z),
                "labels": labels[chosen].tolist(),
            }

    def make() -> Diffusion:
        return Diffusion(denoising_network((2,), width=64, blocks=2), shape=(2,), schedule=Linear(), target="velocity")

    prior = seeded(make, 1)
    assert isinstance(prior, Diffusion)
    with encoder.inference():
        codes = encoder.encode(data.x())
    mean, std = codes.mean(0), codes.std(0)
    normal = (codes - mean) / std
    loss = 0.0
    for step, losses in enumerate(trained(prior, lambda s: normal[_rows(len(normal), s)], steps, 3e-3), 1):
        loss = losses["model"]["total"] / 2 if step == 1 else 0.95 * loss + 0.05 * losses["model"]["total"] / 2
        if step % (2 * EVERY) == 0 or step in (1, steps):
            drawn = prior.sample(SHOWN, seeds=range(SHOWN), steps=12)
            yield {"stage": 2, "step": step, "steps": steps, "loss": loss, "samples": rounded(drawn * std + mean)}
    model = LatentModel(encoder, prior)
    model.mean.copy_(mean)
    model.std.copy_(std)
    states = [s.x for s in prior.trajectory(PATHS, seeds=range(PATHS), steps=24)]
    way = torch.stack(states) * std + mean
    with encoder.inference():
        pictures = encoder.decode(way.flatten(0, 1)).clamp(0, 1).view(len(way), PATHS, 64)
    yield {"stage": 3, "paths": rounded(way), "pictures": rounded(pictures, 2), "n": PATHS, "side": 8}


def _autoencoder(data: DataSet, beta: float) -> VAE:
    recipe = FAMILIES["vae"].model_validate({"family": "vae", "latent": 2, "net": "mlp", "beta": beta, "width": 256})
    model = seeded(lambda: recipe.build(data.spec), 0)
    assert isinstance(model, VAE)
    return model


def _batches(data: DataSet) -> Any:
    return lambda step: data.x("train", _rows(len(data.train), step))


def _rows(n: int, step: int) -> Tensor:
    return torch.randint(n, (BATCH,), generator=torch.Generator().manual_seed(step))


def _map(model: VAE) -> list[object]:
    """Return the decoded digits of a grid of latents `(SIDE^2, 64)`."""
    with model.inference():
        return rounded(model.decode(lattice(HALF, SIDE)).clamp(0, 1).flatten(1), 2)
