"""The same denoiser of pixels and of the latents of a `LatentModel`, as the recipes build them."""

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
FACTORS = (2, 4, 8)  # of a side, from pixels to latents


def spec(*shape: int) -> DataSpec:
    """Pictures of three classes."""
    c = shape[0]
    return DataSpec("pictures", shape, "uint8", (0.0, 1.0), 256, (0.5,) * c, (0.25,) * c, ("a", "b", "c"), 1000, "0" * 32)


def diffusion(shape: tuple[int, ...], attention: int) -> Diffusion:
    """The family with its U-Net, equally wide for every shape. attention: of its levels, the coarsest, so many attend."""
    network = UNet(shape[0], CHANNELS, patch=1, attention=attention)
    return Diffusion(network, shape, schedule=Cosine(), target="v")


def in_pixels(attention: int = 0) -> Diffusion:
    return seeded(lambda: diffusion(PIXELS, attention))


def in_latents(f: int, attention: int = 0) -> LatentModel:
    """A denoiser of as many channels, f times smaller a side."""

    def make() -> LatentModel:
        first = LatentRecipe(autoencoder=AutoencoderRecipe(f=f, channels=PIXELS[0], width=8, adversarial=0, perceptual=0))
        autoencoder = cast(Autoencoder, first.first(spec(*PIXELS)))
        model = LatentModel(autoencoder, diffusion(autoencoder.latent_shape, attention))
        model.measure(torch.randn(2, *autoencoder.latent_shape))
        return model

    return seeded(make)


def conditional(drop: float) -> LatentModel:
    """Latent diffusion of classes as its recipe builds it; the weights of its denoiser are random in every layer."""

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
