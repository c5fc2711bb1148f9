"""The diffusion family in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ancestral.data.spec import DataSpec
from ancestral.denoiser import Denoiser
from ancestral.families.diffusion import Diffusion, Times, Weight
from ancestral.nets import denoising_network
from ancestral.prediction import Reading
from ancestral.schedules import VE, VP, Chain, Cosine, Linear, Schedule, SubVP
from ancestral.training.catalogue.base import FamilyRecipe, scaling

ScheduleName = Literal["cosine", "linear", "vp", "sub-vp", "ve", "ddpm", "ddpm-cosine"]
SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": Cosine(),
    "linear": Linear(),
    "vp": VP(),
    "sub-vp": SubVP(),
    "ve": VE(),
    "ddpm": Chain.linear(),
    "ddpm-cosine": Chain.cosine(),
}


class DiffusionRecipe(FamilyRecipe):
    """Denoising diffusion, in discrete or continuous time."""

    family: Literal["diffusion"] = "diffusion"
    schedule: ScheduleName = Field("linear", description="the forward process")
    target: Reading = Field("flow", description="what the network predicts")
    weight: Weight = Field("simple", description="the weight of each noise level in the loss")
    times: Times = Field("logit-normal", description="the density from which training draws noise levels")
    width: int | None = Field(None, ge=1, description="features of the network's finest level")
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="features of each level; overrides width")
    blocks: int | None = Field(None, ge=1, description="residual blocks a level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    dropout: float = Field(0.0, ge=0, lt=1)

    def build(self, spec: DataSpec) -> Diffusion:
        network = denoising_network(
            spec.shape,
            width=self.width,
            channels=self.channels,
            blocks=self.blocks,
            patch=self.patch,
            dropout=self.dropout,
            context_width=self.context_width,
        )
        denoiser = Denoiser(network, self.target)
        schedule = SCHEDULES[self.schedule]
        return Diffusion(
            spec.shape, scaling(spec), self.conditioner(spec), denoiser, schedule, self.weight, self.times, spec.levels
        )
