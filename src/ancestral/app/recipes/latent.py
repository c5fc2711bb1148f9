"""Latent diffusion in a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag
from torch import nn

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.autoencoder import AutoencoderRecipe, DiffusersRecipe
from ancestral.app.recipes.base import FamilyRecipe, Section, units
from ancestral.app.recipes.diffusion import DiffusionRecipe
from ancestral.app.recipes.gan import GANRecipe
from ancestral.app.recipes.score import ScoreRecipe
from ancestral.app.recipes.vae import VAERecipe
from ancestral.builtin import built_in
from ancestral.errors import UsageError
from ancestral.models.latent import LatentModel

VECTORS = {"batch": 512}  # the batch of a prior of vectors, as for other vectors


def _by_family(default: str) -> Discriminator:
    """Choose the class of a section by its `family`, or `default` if it has none."""

    def family(value: Any) -> str:
        return str(value.get("family", default) if isinstance(value, Mapping) else getattr(value, "family", ""))

    return Discriminator(family)


First = Annotated[
    Annotated[AutoencoderRecipe, Tag("autoencoder")]
    | Annotated[VAERecipe, Tag("vae")]
    | Annotated[DiffusersRecipe, Tag("diffusers")],
    _by_family("autoencoder"),
]
Prior = Annotated[
    Annotated[DiffusionRecipe, Tag("diffusion")]
    | Annotated[ScoreRecipe, Tag("score")]
    | Annotated[VAERecipe, Tag("vae")]
    | Annotated[GANRecipe, Tag("gan")],
    _by_family("diffusion"),
]


class Pretrained(Section):
    """The pretrained autoencoder that `--autoencoder` gave."""

    source: str = Field(description="a run of a latent model or a VAE, or a folder of diffusers' AutoencoderKL")
    data: dict[str, Any] | None = Field(
        None, description="description of its training data, which gives the scale; only for a run"
    )


@built_in("family", "latent")
class LatentRecipe(FamilyRecipe):
    """An autoencoder, and a model of its latents."""

    family: Literal["latent"] = "latent"
    autoencoder: First = Field(AutoencoderRecipe(), description="the first stage: autoencoder, or a pretrained one")
    pretrained: Pretrained | None = Field(None, description="a pretrained autoencoder in place of the first stage")
    prior: Prior = Field(DiffusionRecipe(), description="the model of the latents, with the settings of its family")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        """Return the defaults of the prior for the shape of the latents, without a limit of epochs."""
        if len(spec.shape) == 1 or isinstance(self.autoencoder, VAERecipe):
            return VECTORS | self.prior.suitable(spec.of_latents((1,))) | {"epochs": None}
        f = self.autoencoder.factor(spec)
        sides = (math.ceil(side / f) for side in spec.shape[1:])
        return self.prior.suitable(spec.of_latents((1, *sides))) | {"epochs": None}

    def settled(self, spec: DataSpec) -> Self:
        return self.model_copy(update={"prior": self.prior.settled(spec.of_latents((1,)))})

    @property
    def smallest(self) -> bool:
        return self.prior.smallest

    def unfit(self, spec: DataSpec) -> str | None:
        if isinstance(self.autoencoder, AutoencoderRecipe) and len(spec.shape) == 1:
            return f"the samples of {spec.name} are vectors, which have no sides to shrink"
        return None

    def build(self, spec: DataSpec) -> LatentModel:
        if self.prior.condition:
            raise UsageError("conditions of a latent model are set for the whole: model.condition, not model.prior.condition")
        first = self.first(spec)
        asked = {name: getattr(self, name) for name in FamilyRecipe.model_fields if name != "family"}
        inner = self.prior.model_copy(update=asked)
        prior = inner.build(spec.of_latents(cast(Any, first).latent_shape))
        return LatentModel(first, prior, shape=spec.shape, **units(spec))

    def first(self, spec: DataSpec) -> nn.Module:
        """Build the autoencoder without its weights, with the scale of the data on which it was trained."""
        if why := self.unfit(spec):
            raise UsageError(f"{why}: choose another family")
        if self.pretrained is None and not isinstance(self.autoencoder, AutoencoderRecipe):
            raise UsageError(
                f"an autoencoder of the family {self.autoencoder.family} must be pretrained: give its run or folder with "
                "--autoencoder"
            )
        if self.pretrained is None or self.pretrained.data is None:
            return self.autoencoder.build(spec)
        of = DataSpec.from_json(self.pretrained.data)
        if of.shape != spec.shape or (of.kind == "real") != (spec.kind == "real"):
            theirs, ours = (f"{'x'.join(map(str, s.shape))} ({s.kind})" for s in (of, spec))
            raise UsageError(
                f"the autoencoder of {self.pretrained.source} is for samples of {theirs}, and those of {spec.name} are {ours}: "
                "prepare the data at its size, or train another autoencoder"
            )
        return self.autoencoder.build(of)
