"""What the recipes of all families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.choices import ConditionName
from ancestral.app.recipes.conditions import encoder
from ancestral.conditioning import Condition, Conditioner
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel


class Section(BaseModel):
    """A part of a recipe: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FamilyRecipe(Section):
    """The model of a run. training: the values of the recipe's section `train` that suit the family where nothing is asked.
    least_steps: steps below which its samples are noise.
    """

    training: ClassVar[dict[str, Any]] = {}
    least_steps: ClassVar[int] = 1000

    family: str
    condition: tuple[ConditionName, ...] = Field((), description="what generation is controlled by")
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="rate at which training replaces a condition by its null, for guidance"
    )
    text: Literal["own", "minilm"] = Field(
        "own", description="of the condition text: read by an encoder that is trained along, or by a frozen sentence encoder"
    )
    layout: Literal["class", "text"] = Field(
        "class", description="of the condition layout: boxes are of classes, or of texts in the words that training boxes have"
    )
    factor: int = Field(4, ge=2, description="of the condition upscale: how much smaller the image is that it is given")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        """`training`, and what follows from the data and from the model that was asked for."""
        return self.training

    def settled(self, spec: DataSpec) -> Self:
        """The same with all that the data decide and no weight's shape tells, which a run keeps whatever later defaults are."""
        return self

    def smaller(self) -> Self | None:
        """The same with the next smaller network, where its size was left to the default; None where it was not."""
        return None

    @property
    def size(self) -> str:
        """The settings that say how large the network is."""
        return ""

    def unfit(self, spec: DataSpec) -> str | None:
        """Why the family can have no model of such data; None where it can."""
        return None

    def build(self, spec: DataSpec) -> GenerativeModel:
        """An untrained model for that data; its weights come from torch's global generator."""
        raise NotImplementedError

    def takes(self, spec: DataSpec) -> tuple[str, ...]:
        """The forms of a context that the family's networks consume for such samples."""
        return ("vector", "tokens", "channels") if len(spec.shape) == 3 else ("vector",)

    def conditioner(self, spec: DataSpec, space: Sequence[int] | None = None) -> Conditioner:
        """The encoders of the conditions asked for. space: height and width at which channels are delivered; None: a sample's.

        Raises UsageError where the data have none such, or the networks cannot consume it.
        """
        takes = self.takes(spec)
        kinds: dict[str, Condition] = {
            name: encoder(
                name,
                spec,
                tuple(space or spec.shape[1:]),
                text=self.text,
                layout=self.layout,
                factor=self.factor,
            )
            for name in self.condition
        }
        for name, kind in kinds.items():
            forms = [form for form in ("vector", "tokens", "channels") if getattr(kind.widths, form)]
            if not set(forms) & set(takes):
                raise UsageError(
                    f"the condition {name} is told in {' and '.join(forms)}, and the networks of {self.family} for samples of "
                    f"shape {spec.shape} take {' and '.join(takes)}: leave it out, or choose another model"
                )
        return Conditioner(kinds, self.condition_dropout)


def units(spec: DataSpec) -> dict[str, Any]:
    """The arguments of a model that say the units of the data: mean, std, and the range that they have by nature."""
    return {"mean": spec.mean, "std": spec.std, "bounds": spec.range if spec.kind != "real" else None}
