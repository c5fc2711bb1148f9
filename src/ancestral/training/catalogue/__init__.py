"""The families by name. A file each: what a recipe may say of the family, and how its model is built.

A new family joins by its file here and its place in `FAMILIES`; the trainer, the commands and the evaluation know none by name.
"""

from ancestral.training.catalogue.base import FamilyRecipe, Section
from ancestral.training.catalogue.diffusion import DiffusionRecipe
from ancestral.training.catalogue.gan import GANRecipe
from ancestral.training.catalogue.latent import LatentRecipe
from ancestral.training.catalogue.score import ScoreRecipe
from ancestral.training.catalogue.vae import VAERecipe

FAMILIES: dict[str, type[FamilyRecipe]] = {
    "diffusion": DiffusionRecipe,
    "score": ScoreRecipe,
    "vae": VAERecipe,
    "gan": GANRecipe,
    "latent": LatentRecipe,
}

__all__ = ["FAMILIES", "DiffusionRecipe", "FamilyRecipe", "GANRecipe", "LatentRecipe", "ScoreRecipe", "Section", "VAERecipe"]
