"""What the training loop yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ancestral.models import Diagnosis


@dataclass(frozen=True)
class Step:
    """The state of training after a step.

    losses: means over the batch and the dimensions, by "player/term". grad_norms: before clipping, by player. skipped: why the
    step was not taken, if so. diagnosis: the model's look at itself, if it was due. preview: the picture just written, if any.
    logged: whether the step went to metrics.jsonl. rate: images a second, recently. stage: what is being trained, where a run
    trains several models.
    """

    step: int
    images: int
    seconds: float
    progress: float
    losses: dict[str, float]
    grad_norms: dict[str, float]
    lr: float
    rate: float
    memory: int
    skipped: str | None = None
    diagnosis: Diagnosis | None = None
    preview: Path | None = None
    logged: bool = False
    notes: list[str] = field(default_factory=list)
    stage: str = ""

    def row(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        numbers: dict[str, Any] = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 3), "lr": self.lr}
        numbers |= {"stage": self.stage} if self.stage else {}
        numbers |= {"rate": round(self.rate, 1), "memory": self.memory, **self.losses}
        numbers |= {f"{name}/grad_norm": value for name, value in self.grad_norms.items()}
        if self.diagnosis is not None:
            numbers |= self.diagnosis.row()
        return numbers | ({"skipped": self.skipped} if self.skipped else {})
