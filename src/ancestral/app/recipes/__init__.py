"""The families by name. A file each: what a recipe may say of the family, and how its model is built.

A new family joins by its file here and its place in `FAMILIES`; the trainer, the commands and the evaluation know none by name.
"""

from ancestral.app.recipes.autoencoder import AutoencoderRecipe
from ancestral.app.recipes.base import FamilyRecipe, Section
from ancestral.app.recipes.diffusion import DiffusionRecipe
from ancestral.app.recipes.gan import GANRecipe
from ancestral.app.recipes.latent import LatentRecipe
from ancestral.app.recipes.score import ScoreRecipe
from ancestral.app.recipes.vae import VAERecipe

FAMILIES: dict[str, type[FamilyRecipe]] = {
    "diffusion": DiffusionRecipe,
    "score": ScoreRecipe,
    "vae": VAERecipe,
    "gan": GANRecipe,
    "latent": LatentRecipe,
}

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
