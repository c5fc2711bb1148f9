"""The kinds of condition by name, and how their encoders are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ancestral.conditioning import ClassCondition, Condition
from ancestral.data.spec import DataSpec
from ancestral.errors import UsageError

if TYPE_CHECKING:
    from ancestral.training.catalogue.base import FamilyRecipe

ConditionName = Literal["class"]
WIDTH = 128  # of vectors and tokens


def encoder(name: ConditionName, recipe: FamilyRecipe, spec: DataSpec, space: tuple[int, ...]) -> Condition:
    """The encoder of one kind of condition. Raises UsageError where the data have none such."""
    if not spec.classes:
        raise UsageError(
            f"{spec.name} has no classes to condition on: leave --condition out, or sort the images into one sub-folder a class"
        )
    return ClassCondition(spec.classes, WIDTH)
