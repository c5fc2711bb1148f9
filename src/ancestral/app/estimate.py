"""What a training budget buys on this machine: steps, passes through the data, and how clear the samples will be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ancestral.app.data import DataSet
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.training import pace
from ancestral.app.training.budget import Budget
from ancestral.models import GenerativeModel
from ancestral.runtime import Runtime


@dataclass(frozen=True)
class Bought:
    """What a budget buys.

    Args:
        steps: the number of training steps.
        seconds: the training time.
        passes: the number of passes through the data.
        needed: the number of steps after which samples of the family become clear.
        parameters: the size of the network.
    """

    steps: int
    seconds: float
    passes: float
    needed: int
    parameters: int

    @property
    def samples(self) -> Literal["noise", "rough", "clear"]:
        """How the samples will be."""
        return "clear" if self.steps >= self.needed else "rough" if self.steps >= self.needed // 4 else "noise"


def estimate(recipe: Recipe, data: DataSet, model: GenerativeModel, runtime: Runtime, *, alone: bool = False) -> Bought:
    """Measure the speed of a training on this machine, and return what its budget buys.

    alone: whether the training starts when the other processes have ended, so that the time they take now does not count.
    """
    budget, batch = Budget.parse(recipe.train.budget), recipe.train.batch
    each = pace.seconds_per_step(model, data, batch, runtime, alone=alone)
    one_pass = len(data.train) / batch
    steps = budget.amount if budget.unit == "iterations" else budget.amount * one_pass
    if budget.unit == "seconds":
        steps = budget.amount / each
        if recipe.train.epochs is not None:
            steps = min(steps, recipe.train.epochs * one_pass)
    parameters = sum(p.numel() for p in model.parameters())
    return Bought(max(1, round(steps)), steps * each, steps / one_pass, recipe.model.least_steps, parameters)
