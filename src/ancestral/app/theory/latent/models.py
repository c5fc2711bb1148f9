"""Models with the same denoiser, for pixels and for the latents of a `LatentModel`, as the recipes build them."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ancestral.app.data import DataSpec
from ancestral.app.recipes.autoencoder import AutoencoderRecipe
from ancestral.app.recipes.latent import LatentRecipe
from ancestral.app.theory.claims import seeded
from ancestral.models.autoencoder import Autoencoder
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.networks import UNet
from ancestral.schedules import Cosine

CHANNELS = (16, 32)
PIXELS = (3, 64, 64)
FACTORS = (2, 4, 8)  # ratios of the sides of pixels and latents


def spec(*shape: int) -> DataSpec:
    """Return the description of pictures of three classes."""
    c = shape[0]
    return DataSpec("pictures", shape, "uint8", (0.0, 1.0), 256, (0.5,) * c, (0.25,) * c, ("a", "b", "c"), 1000, "0" * 32)


def diffusion(shape: tuple[int, ...], attention: int) -> Diffusion:
    """Make a diffusion model with a U-Net of the same width for every shape. attention: number of coarse levels that attend."""
    network = UNet(shape[0], CHANNELS, patch=1, attention=attention)
    return Diffusion(network, shape, schedule=Cosine(), target="v")


def in_pixels(attention: int = 0) -> Diffusion:
    return seeded(lambda: diffusion(PIXELS, attention))


def in_latents(f: int, attention: int = 0) -> LatentModel:
    """Make a latent model with the same channels and sides that are f times smaller."""

    def make() -> LatentModel:
        first = LatentRecipe(autoencoder=AutoencoderRecipe(f=f, channels=PIXELS[0], width=8, adversarial=0, perceptual=0))
        autoencoder = cast(Autoencoder, first.first(spec(*PIXELS)))
        model = LatentModel(autoencoder, diffusion(autoencoder.latent_shape, attention))
        model.measure(torch.randn(2, *autoencoder.latent_shape))
        return model

    return seeded(make)


def conditional(drop: float) -> LatentModel:
    """Make latent diffusion with classes as its recipe builds it. The denoiser has random weights in every layer."""

    def make() -> LatentModel:
        recipe = LatentRecipe(
            condition=("class",), condition_dropout=drop, autoencoder=AutoencoderRecipe(f=2, width=8, perceptual=0)
        )
        model = recipe.model_copy(update={"prior": recipe.prior.model_copy(update={"channels": (8, 16), "patch": 1})}).build(
            spec(1, 8, 8)
        )
        for parameter in model.prior.parameters():
            nn.init.normal_(parameter, std=0.2)
        model.measure(torch.randn(8, *model.latent_shape))
        return model

    return seeded(make)
