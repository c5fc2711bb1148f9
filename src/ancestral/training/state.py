"""What the training loop yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """The state of training after a step.

    losses: means over the batch and the dimensions, by "player/term". skipped: why the step was not taken, if so.
    preview: the picture just written, if any. logged: whether the step went to metrics.jsonl. rate: images a second, recently.
    """

    step: int
    images: int
    seconds: float
    progress: float
    losses: dict[str, float]
    grad_norm: float
    lr: float
    rate: float
    memory: int
    skipped: str | None = None
    preview: Path | None = None
    logged: bool = False
    notes: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        numbers = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 3), "lr": self.lr}
        numbers |= {"grad_norm": self.grad_norm, "rate": round(self.rate, 1), "memory": self.memory, **self.losses}
        return numbers | ({"skipped": self.skipped} if self.skipped else {})
