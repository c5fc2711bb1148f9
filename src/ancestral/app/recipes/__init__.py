"""The families by name. A file each: what a recipe may say of the family, and how its model is built.

A family registers its recipe under its name, `@register("family", NAME, MEANING)`. The trainer, the commands and the evaluation
know no family by name.
"""

from collections.abc import Mapping

from ancestral.app.recipes.autoencoder import AutoencoderRecipe
from ancestral.app.recipes.base import FamilyRecipe, Section
from ancestral.app.recipes.diffusion import DiffusionRecipe
from ancestral.app.recipes.gan import GANRecipe
from ancestral.app.recipes.latent import LatentRecipe
from ancestral.app.recipes.score import ScoreRecipe
from ancestral.app.recipes.vae import VAERecipe
from ancestral.builtin import Registered

FAMILIES: Mapping[str, type[FamilyRecipe]] = Registered("family")

__all__ = [
    "FAMILIES",
    "AutoencoderRecipe",
    "DiffusionRecipe",
    "FamilyRecipe",
    "GANRecipe",
    "LatentRecipe",
    "ScoreRecipe",
    "Section",
    "VAERecipe",
]
