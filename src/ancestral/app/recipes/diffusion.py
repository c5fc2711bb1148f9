"""The diffusion family in a recipe."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import units
from ancestral.app.recipes.choices import ScheduleName
from ancestral.app.recipes.denoising import DenoisingRecipe
from ancestral.builtin import built_in
from ancestral.models.diffusion import Diffusion, Times, Weight
from ancestral.prediction import PredictionType
from ancestral.schedules import schedule

PIPELINES = "unet-diffusers"  # the network of diffusers' pipelines
CROWDED = 32  # numbers of a patch above which a U-Net's finest level cannot represent the noise


@built_in("family", "diffusion")
class DiffusionRecipe(DenoisingRecipe):
    """Denoising diffusion, in discrete or continuous time."""

    family: Literal["diffusion"] = "diffusion"
    schedule: ScheduleName = Field("linear", description="the forward process")
    target: PredictionType | None = Field(
        None,
        description="what the network predicts; None: velocity, or v for unet-diffusers, or v with sigma_data=0.1 for patches "
        "of many pixels in a U-Net",
    )
    sigma_data: float | None = Field(
        None, gt=0, description="scale of the target v: below this noise level the network predicts noise, above it x; None: 1"
    )
    weight: Weight = Field("simple", description="the weight of each noise level in the loss")
    times: Times = Field("logit-normal", description="the density from which training draws noise levels")

    def build(self, spec: DataSpec) -> Diffusion:
        conditioner = self.conditioner(spec)
        target, sigma_data = self.prediction_type(spec)
        return Diffusion(
            self.network(spec, conditioner.widths),
            spec.shape,
            schedule=schedule(self.schedule),
            target=target,
            sigma_data=sigma_data,
            weight=self.weight,
            times=self.times,
            levels=spec.levels,
            conditioner=conditioner,
            **self.units(spec),
        )

    def units(self, spec: DataSpec) -> dict[str, Any]:
        """Return the units of the model. Pictures have those of diffusers' pipelines, [-1, 1], if the network is theirs."""
        if self.net != PIPELINES or spec.range is None or spec.kind == "real":
            return units(spec)
        low, high = spec.range
        return {"mean": (low + high) / 2, "std": (high - low) / 2, "bounds": spec.range}

    def settled(self, spec: DataSpec) -> Self:
        if self.target is not None:
            return self
        target, sigma_data = self.prediction_type(spec)
        return self.model_copy(update={"target": target, "sigma_data": None if target == "velocity" else sigma_data})

    def prediction_type(self, spec: DataSpec) -> tuple[PredictionType, float]:
        """Return the target for such samples and its sigma_data."""
        if self.target is None and self.sigma_data is None:
            if self.net == PIPELINES:
                return "v", 1.0  # which their schedulers have
            crowded = spec.levels is not None and self.net != "dit" and self.folded(spec) > CROWDED
            return ("v", 0.1) if crowded else ("velocity", 1.0)
        return self.target or "v", 1.0 if self.sigma_data is None else self.sigma_data
