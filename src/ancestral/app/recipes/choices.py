"""Settings whose values are the names of registered parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from ancestral.registry import lookup


@dataclass(frozen=True)
class Choice:
    """A check that a name is registered: it returns the name, or raises UsageError with the nearest known name."""

    kind: str

    def __call__(self, name: str) -> str:
        lookup(self.kind, name)
        return name


ScheduleName = Annotated[str, AfterValidator(Choice("schedule"))]
NetworkName = Annotated[str, AfterValidator(Choice("network"))]
AutoencoderName = Annotated[str, AfterValidator(Choice("autoencoder"))]
ConditionName = Annotated[str, AfterValidator(Choice("condition"))]
