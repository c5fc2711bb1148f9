"""The recipes of the families by name. Each file has the settings of one family and builds its model.

A family registers its recipe under its name, `@register("family", NAME, MEANING)`. The trainer, the commands and the evaluation
do not depend on names of families.
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
