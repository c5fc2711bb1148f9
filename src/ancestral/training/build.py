"""From recipe and data to a model; the one place that knows every family by name."""

from __future__ import annotations

from ancestral.conditioning import ClassCondition, Condition, Conditioner
from ancestral.data.spec import DataSpec
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.families import GenerativeModel, Scaling
from ancestral.families.diffusion import Diffusion
from ancestral.nets import denoising_network
from ancestral.schedules import VE, VP, Chain, Cosine, Linear, Schedule, SubVP
from ancestral.training.recipe import DiffusionRecipe, ScheduleName

CONTEXT_WIDTH = 128

SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": Cosine(),
    "linear": Linear(),
    "vp": VP(),
    "sub-vp": SubVP(),
    "ve": VE(),
    "ddpm": Chain.linear(),
    "ddpm-cosine": Chain.cosine(),
}


def build(recipe: DiffusionRecipe, spec: DataSpec) -> GenerativeModel:
    """An untrained model of that family for that data; its weights come from torch's global generator."""
    scaling = Scaling(spec.shape, spec.mean, spec.std, spec.range if spec.kind != "real" else None)
    conditioner = Conditioner({name: _condition(name, spec) for name in recipe.condition}, recipe.drop)
    network = denoising_network(
        spec.shape,
        width=recipe.width,
        channels=recipe.channels,
        blocks=recipe.blocks,
        patch=recipe.patch,
        dropout=recipe.dropout,
        context_width=CONTEXT_WIDTH if recipe.condition else 0,
    )
    denoiser = Denoiser(network, recipe.target)
    schedule = SCHEDULES[recipe.schedule]
    return Diffusion(spec.shape, scaling, conditioner, denoiser, schedule, recipe.weight, recipe.times)


def _condition(name: str, spec: DataSpec) -> Condition:
    if not spec.classes:
        raise UsageError(
            f"{spec.name} has no classes to condition on: leave --condition out, or sort the images into one sub-folder a class"
        )
    return ClassCondition(spec.classes, CONTEXT_WIDTH)
