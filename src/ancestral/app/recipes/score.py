"""The score family in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import units
from ancestral.app.recipes.choices import ScheduleName
from ancestral.app.recipes.denoising import DenoisingRecipe
from ancestral.builtin import built_in
from ancestral.errors import UsageError
from ancestral.models.score import Lambda, Matching, ScoreModel, geometric_count, largest_noise
from ancestral.schedules import VE, GeometricLevels, Schedule, schedule


@built_in("family", "score")
class ScoreRecipe(DenoisingRecipe):
    """Score matching at every noise level."""

    family: Literal["score"] = "score"
    schedule: ScheduleName = Field("ve", description="the forward process")
    matching: Matching = Field("denoising", description="the form of the objective; sliced and exact are for vectors")
    weight: Lambda = Field("sigma2", description="the weight of each noise level in the loss")
    sigma_min: float = Field(0.01, gt=0, description="lowest noise of ve and geometric, for data of deviation 1")
    sigma_max: float | None = Field(
        None, gt=0, description="highest noise of ve and geometric; None: twice the data's distances"
    )
    noise_levels: int | None = Field(
        None, ge=2, description="number of levels of the schedule geometric; None: so that neighbours overlap by half"
    )

    def build(self, spec: DataSpec) -> ScoreModel:
        conditioner = self.conditioner(spec)
        return ScoreModel(
            self.network(spec, conditioner.widths),
            spec.shape,
            schedule=self.process(spec.dims),
            matching=self.matching,
            weight=self.weight,
            levels=spec.levels,
            conditioner=conditioner,
            **units(spec),
        )

    def process(self, dimensions: int) -> Schedule:
        """Build the forward process. Raises UsageError if sigma_max is not above sigma_min."""
        if self.schedule not in ("ve", "geometric"):
            return schedule(self.schedule)
        sigma_max = self.sigma_max or largest_noise(dimensions)
        if sigma_max <= self.sigma_min:
            raise UsageError(f"sigma_max={sigma_max:g} must be above sigma_min={self.sigma_min:g}")
        if self.schedule == "ve":
            return VE(self.sigma_min, sigma_max)
        return GeometricLevels(
            self.sigma_min, sigma_max, self.noise_levels or geometric_count(dimensions, sigma_max / self.sigma_min)
        )
