"""The stages of a training: one for most models, two for a latent model without a pretrained autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.recipes import AutoencoderRecipe, FamilyRecipe, LatentRecipe
from ancestral.app.training.latents import encoded, look
from ancestral.app.training.pretrained import load_pretrained
from ancestral.app.training.stage import Progress, Stage
from ancestral.batch import Batch
from ancestral.models import GenerativeModel
from ancestral.models.autoencoder import Autoencoder
from ancestral.models.latent import STAGES, LatentModel


def stages_of(model: GenerativeModel, data: DataSet, recipe: FamilyRecipe, *, flip: bool) -> tuple[Stage, ...]:
    """Return the stages of the training of `model` on `data`. flip: whether half of the training images are mirrored."""
    if not isinstance(model, LatentModel):
        return (Stage(model, lambda folder, tell: data),)
    if not model.prior.reads_data:
        return (Stage(model.prior, lambda folder, tell: data),)
    pretrained = recipe.pretrained if isinstance(recipe, LatentRecipe) else None

    def latents(folder: Path, tell: Progress) -> DataSet:
        if pretrained is not None and not model.known:  # a continued run has it from the checkpoint
            load_pretrained(model.autoencoder, pretrained.source)
        return encoded(model, data, flip=flip, folder=folder, tell=tell)

    share = 0.0
    first: tuple[Stage, ...] = ()
    if isinstance(recipe, LatentRecipe) and isinstance(recipe.autoencoder, AutoencoderRecipe) and pretrained is None:
        assert isinstance(model.autoencoder, Autoencoder)
        share = recipe.autoencoder.share
        pictures = _pairs(model.autoencoder)
        settings = recipe.autoencoder.training()
        first = (Stage(model.autoencoder, lambda folder, tell: data, share, STAGES[0], settings, pictures=pictures),)
    return (*first, Stage(model.prior, latents, 1 - share, STAGES[1], look=lambda: look(model, data)))


def _pairs(model: Autoencoder) -> Callable[[Batch], dict[str, Tensor]]:
    """Return a function that returns samples and their reconstructions."""

    def pairs(batch: Batch) -> dict[str, Tensor]:
        with model.inference():
            return {"data": batch.x, "reconstruction": model.reconstruct(batch.x)}

    return pairs
