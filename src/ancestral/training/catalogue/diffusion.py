"""The diffusion family in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ancestral.data.spec import DataSpec
from ancestral.denoiser import Denoiser
from ancestral.families.diffusion import Diffusion, Times, Weight
from ancestral.prediction import Reading
from ancestral.schedules import VE, VP, Chain, Cosine, Linear, Schedule, SubVP
from ancestral.training.catalogue.base import scaling
from ancestral.training.catalogue.denoising import DenoisingRecipe

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


class DiffusionRecipe(DenoisingRecipe):
    """Denoising diffusion, in discrete or continuous time."""

    family: Literal["diffusion"] = "diffusion"
    schedule: ScheduleName = Field("linear", description="the forward process")
    target: Reading = Field("flow", description="what the network predicts")
    weight: Weight = Field("simple", description="the weight of each noise level in the loss")
    times: Times = Field("logit-normal", description="the density from which training draws noise levels")

    def build(self, spec: DataSpec) -> Diffusion:
        conditioner = self.conditioner(spec)
        denoiser = Denoiser(self.network(spec, conditioner.widths), self.target)
        schedule = SCHEDULES[self.schedule]
        return Diffusion(spec.shape, scaling(spec), conditioner, denoiser, schedule, self.weight, self.times, spec.levels)
