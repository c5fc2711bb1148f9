"""The latents of samples, and walks between them, for models with a decoder of latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.gaussian import slerp
from ancestral.models import GenerativeModel, HasDecoder, HasLatent, HasPrior
from ancestral.noise import SampleNoise


def latents(model: GenerativeModel, seeds: list[int], condition: Any, prior: dict[str, Any]) -> Tensor:
    """Return the latents `(n, *latent_shape)` that `sample` decodes for these seeds."""
    decoder = require(model, HasDecoder, "a picture of latents")
    noise = SampleNoise(seeds, model.device)
    with model.inference():
        if not isinstance(model, HasPrior):
            return noise.normal(decoder.latent_shape)
        raw = model.conditioner.parse(condition, len(seeds))
        how = model.resolve(raw, len(seeds), prior)
        return model.draw_latent(noise, context=model.conditioner(raw, len(seeds)), **how)


def decoded(model: GenerativeModel, z: Tensor, condition: Any) -> Tensor:
    """Decode any number of latents, in parts of 64."""
    decoder = require(model, HasDecoder, "a picture of latents")
    with model.inference():
        return torch.cat([decoder.decode(part.view(-1, *decoder.latent_shape), condition) for part in z.split(64)])


def require(model: GenerativeModel, kind: Any, wish: str) -> Any:
    """Return the model if it has the capability `kind`; else raise UsageError."""
    if not isinstance(model, kind):
        part = "an encoder" if kind is HasLatent else "a decoder of latents"
        raise UsageError(
            f"{wish} needs a model with {part}, and this one has none: train one with `ancestral train SOURCE --model vae`"
        )
    return model


def between(z: Tensor, n: int) -> Tensor:
    """Return n latents from each of the latents `(k, *latent_shape)` to the next, on great circles: `((k - 1) n, ...)`."""
    shares = torch.linspace(0, 1, n, device=z.device)
    return torch.cat([slerp(z[i : i + 1], z[i + 1 : i + 2], share) for i in range(len(z) - 1) for share in shares])
