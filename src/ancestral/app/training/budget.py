"""The training budget (time, iterations or epochs), and the intervals of logs, previews, health checks and checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ancestral.errors import UsageError

LOG_EVERY = 1.0  # seconds
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """An amount of seconds, iterations or epochs."""

    amount: float
    unit: Literal["seconds", "iterations", "epochs"]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read "90s", "2m", "1h30m", "20000it" or "5epochs". Raises UsageError for any other text."""
        compact = str(text).strip().lower().replace(" ", "").replace("_", "")
        counted = re.fullmatch(r"(\d+(?:\.\d+)?)(it|its|iterations|steps|epoch|epochs)", compact)
        timed = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:min|s|m|h|d))+", compact)
        if counted:
            amount = float(counted[1])
            budget = cls(amount, "epochs" if counted[2].startswith("epoch") else "iterations")
        elif timed:
            parts = re.findall(r"(\d+(?:\.\d+)?)(min|s|m|h|d)", compact)
            budget = cls(sum(float(number) * _UNITS[unit] for number, unit in parts), "seconds")
        else:
            raise UsageError(f"cannot read the budget {text!r}: write a time (90s, 2m, 1h30m), 20000it or 5epochs")
        if budget.amount <= 0:
            raise UsageError(f"the budget {text!r} is zero: give a larger one, e.g. 2m")
        return budget

    def progress(self, *, seconds: float, iterations: int, epochs: float) -> float:
        """Return the spent fraction of the budget, in [0, 1]."""
        spent = {"seconds": seconds, "iterations": iterations, "epochs": epochs}[self.unit]
        return min(1.0, spent / self.amount)

    def pays_compilation(self, passes: float) -> bool:
        """Return whether training is long beside the minute or two in which networks are compiled.

        Args:
            passes: the passes through the data in one step.
        """
        if self.unit == "seconds":
            return self.amount >= 1200
        return (self.amount / passes if self.unit == "epochs" else self.amount) >= 20_000


class Moments:
    """`count` moments, spread evenly over the progress from 0 to 1. Those up to `progress` have passed already."""

    def __init__(self, count: int, progress: float):
        self.marks = [mark for i in range(count) if (mark := (i + 1) / count) > progress]

    def due(self, progress: float) -> bool:
        """Return whether a moment has passed since the last call."""
        due = bool(self.marks) and progress >= self.marks[0]
        self.marks = [mark for mark in self.marks if mark > progress]
        return due


class Intervals:
    """The times at which training draws a preview, checks the model's health, saves and logs.

    Args:
        progress: The progress of the run so far, in [0, 1].
        seconds: The time of the run so far.
        images: The number of images seen so far.
        previews: The number of previews, spread evenly over the progress.
        diagnoses: The number of health checks, spread evenly over the progress.
        checkpoint_every: Seconds between checkpoints.
    """

    def __init__(self, progress: float, seconds: float, images: int, *, previews: int, diagnoses: int, checkpoint_every: float):
        self.previews, self.diagnoses = Moments(previews, progress), Moments(diagnoses, progress)
        self.checkpoint_every = checkpoint_every
        self.saved = self.logged = seconds
        self.images = images
        self.rate = 0.0

    def checkpoint_due(self, seconds: float) -> bool:
        due = seconds - self.saved >= self.checkpoint_every
        if due:
            self.saved = seconds
        return due

    def log_due(self, seconds: float, images: int, *, now_at_least: bool) -> bool:
        """Return `now_at_least` or whether a second has passed since the last log.

        If true, `rate` becomes the number of images per second since the last log.
        """
        due = now_at_least or seconds - self.logged >= LOG_EVERY
        if due:
            self.rate = (images - self.images) / max(seconds - self.logged, 1e-9)
            self.logged, self.images = seconds, images
        return due
