"""The stages of a training: models that are trained one after the other, within one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.batch import Batch
from ancestral.models import Diagnosis, GenerativeModel

Progress = Callable[[str], None]  # shows how far something is


def silent(text: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Stage:
    """A model, the data it is trained on, and its share of the run's budget.

    data: called once the stages before are finished, since it may depend on what they learned, with the run's folder, where it
    may keep what took long, and with what shows how far it is. name: "" where there is but one.
    train: what differs from the recipe's section `train`. pictures: a preview from held-out samples; None: samples of the run's
    model. look: at what the stages before have left, before this one begins.
    """

    model: GenerativeModel
    data: Callable[[Path, Progress], DataSet]
    share: float = 1.0
    name: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    pictures: Callable[[Batch], Tensor] | None = None
    look: Callable[[], Diagnosis] | None = None
