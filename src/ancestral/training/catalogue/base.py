"""What the recipes of all families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ancestral.conditioning import ClassCondition, Condition, Conditioner
from ancestral.data import DataSet
from ancestral.data.spec import DataSpec
from ancestral.errors import UsageError
from ancestral.families import GenerativeModel, Scaling
from ancestral.training.stage import Stage

CONTEXT_WIDTH = 128


class Section(BaseModel):
    """A part of a recipe: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FamilyRecipe(Section):
    """The model of a run. training: the values of the recipe's section `train` that suit the family where nothing is asked."""

    training: ClassVar[dict[str, Any]] = {}

    family: str
    condition: tuple[Literal["class"], ...] = Field((), description="what generation is controlled by")
    drop: float = Field(0.1, ge=0, le=1, description="rate at which a condition is dropped, for guidance")

    @classmethod
    def suitable(cls, spec: DataSpec, asked: Mapping[str, Any]) -> dict[str, Any]:
        """`training`, and what follows from the data and from what is asked of the model."""
        return cls.training

    def build(self, spec: DataSpec) -> GenerativeModel:
        """An untrained model for that data; its weights come from torch's global generator."""
        raise NotImplementedError

    def stages(self, model: GenerativeModel, data: DataSet, *, flip: bool) -> tuple[Stage, ...]:
        """What is trained one after the other; for most families the model itself, once. flip: see `DataRecipe`."""
        return (Stage(model, lambda: data),)

    @property
    def context_width(self) -> int:
        """Of the context's vector; 0 without a condition."""
        return CONTEXT_WIDTH if self.condition else 0

    def conditioner(self, spec: DataSpec) -> Conditioner:
        """The encoders of the conditions asked for. Raises UsageError where the data have none such."""
        return Conditioner({name: _condition(name, spec) for name in self.condition}, self.drop)


def scaling(spec: DataSpec) -> Scaling:
    """To mean 0 and standard deviation 1 a channel, and back into the range that the data have by nature."""
    return Scaling(spec.shape, spec.mean, spec.std, spec.range if spec.kind != "real" else None)


def _condition(name: str, spec: DataSpec) -> Condition:
    if not spec.classes:
        raise UsageError(
            f"{spec.name} has no classes to condition on: leave --condition out, or sort the images into one sub-folder a class"
        )
    return ClassCondition(spec.classes, CONTEXT_WIDTH)
