"""The base of the recipes of all families."""

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
    """A part of a recipe. Unknown names are errors, and values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FamilyRecipe(Section):
    """The model of a run.

    `training` has the default values of the recipe's section `train` for the family. With fewer than `least_steps` steps, its
    samples are rough, and with fewer than a quarter of them noise.
    """

    training: ClassVar[dict[str, Any]] = {}

    family: str
    condition: tuple[ConditionName, ...] = Field((), description="conditions that control generation")
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="rate at which training replaces a condition by its null, for guidance"
    )
    text: Literal["own", "minilm"] = Field(
        "own", description="encoder of the condition text: own is trained with the model, minilm is a frozen sentence encoder"
    )
    layout: Literal["class", "text"] = Field(
        "class", description="labels of the condition layout: classes, or texts in the words of the training boxes"
    )
    factor: int = Field(4, ge=2, description="factor of the condition upscale: how much smaller the given image is")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        """Return `training`, and further defaults of the section `train` that depend on the data and the model."""
        return self.training

    def settled(self, spec: DataSpec) -> Self:
        """Return the recipe with those defaults from the data that weights do not show, so that a run keeps them."""
        return self

    def smaller(self) -> Self | None:
        """Return the same recipe with the next smaller network, or None if the size of the network was set."""
        return None

    @property
    def smallest(self) -> bool:
        """True if the network is the smallest that is worth training, so no message advises a smaller one."""
        return False

    @property
    def least_steps(self) -> int:
        return GenerativeModel.least_steps

    @property
    def title(self) -> str:
        """The name of the family, for people."""
        return self.family

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the model's conditions."""
        return self.condition

    @property
    def size(self) -> str:
        """The settings of the network's size, for messages."""
        return ""

    def unfit(self, spec: DataSpec) -> str | None:
        """Return why the family cannot model such data, or None if it can."""
        return None

    def build(self, spec: DataSpec) -> GenerativeModel:
        """Build an untrained model for the data. Its weights come from torch's global generator."""
        raise NotImplementedError

    def accepts(self, spec: DataSpec) -> tuple[str, ...]:
        """Return the forms of a context that the family's networks accept for such samples."""
        return ("vector", "tokens", "channels") if len(spec.shape) == 3 else ("vector",)

    def conditioner(self, spec: DataSpec, space: Sequence[int] | None = None) -> Conditioner:
        """Build the encoders of the conditions.

        Args:
            spec: the description of the data.
            space: height and width of channels. None: those of a sample.

        Raises:
            UsageError: if the data lack a condition, or the networks do not accept its form.
        """
        takes = self.accepts(spec)
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
                    f"the condition {name} has the form {' and '.join(forms)}, and the networks of {self.family} for samples "
                    f"of shape {spec.shape} take {' and '.join(takes)}: leave it out, or choose another model"
                )
        return Conditioner(kinds, self.condition_dropout)


def units(spec: DataSpec) -> dict[str, Any]:
    """Return the arguments of a model for the units of the data: mean, std, and the range of data with levels."""
    return {"mean": spec.mean, "std": spec.std, "bounds": spec.range if spec.kind != "real" else None}
