"""The recipe of a model object that the user gave: its configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import FamilyRecipe
from ancestral.configuration import CLASSES
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel

OWN = "own"


class OwnRecipe(FamilyRecipe):
    """A model that was built outside a recipe and given to `ancestral.train(data, model=...)`."""

    family: Literal["own"] = "own"
    config: dict[str, Any] = Field(description="the model's configuration, as `model.config()` gives it")

    @property
    def least_steps(self) -> int:
        return int(getattr(CLASSES.get(self._trained.get("class", "")), "least_steps", super().least_steps))

    @property
    def title(self) -> str:
        return self.config.get("family") or self.family

    @property
    def conditions(self) -> tuple[str, ...]:
        conditioner = self._trained.get("conditioner") or {}
        return tuple(conditioner.get("kinds", {}).get("mapping", {}))

    @property
    def _trained(self) -> dict[str, Any]:
        """The configuration of the model, of a latent model that of its prior."""
        prior: dict[str, Any] | None = self.config.get("prior")
        return prior or self.config

    def build(self, spec: DataSpec) -> GenerativeModel:
        raise UsageError(
            "the model of this run was made outside of a recipe: continue with the command that made it, such as "
            "`ancestral distill`, or give the object again, ancestral.train(data, model=model, out=...)"
        )
