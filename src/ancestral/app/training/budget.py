"""How long to train: time, iterations or epochs; and when a run logs, draws a preview, checks its health and saves."""

from __future__ import annotations

import re
import time
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
        """From "90s", "2m", "1h30m", "20000it" or "5epochs". Raises UsageError otherwise."""
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
            raise UsageError(f"the budget {text!r} is empty: give more than zero")
        return budget

    def progress(self, *, seconds: float, iterations: int, epochs: float) -> float:
        """The spent fraction, in [0, 1]."""
        spent = {"seconds": seconds, "iterations": iterations, "epochs": epochs}[self.unit]
        return min(1.0, spent / self.amount)


class Moments:
    """`count` moments, evenly over the progress from 0 to 1; those up to `progress` have passed."""

    def __init__(self, count: int, progress: float):
        self.marks = [mark for i in range(count) if (mark := (i + 1) / count) > progress]

    def due(self, progress: float) -> bool:
        """Whether one was passed since the last time."""
        due = bool(self.marks) and progress >= self.marks[0]
        self.marks = [mark for mark in self.marks if mark > progress]
        return due


class Intervals:
    """When to draw a preview, check the model's health, save and log.

    previews, diagnoses: how many, evenly over the progress. checkpoint_every: seconds.
    """

    def __init__(self, progress: float, images: int, *, previews: int, diagnoses: int, checkpoint_every: float):
        self.previews, self.diagnoses = Moments(previews, progress), Moments(diagnoses, progress)
        self.checkpoint_every = checkpoint_every
        self.saved = self.logged = time.monotonic()
        self.images = images
        self.rate = 0.0

    def checkpoint_due(self) -> bool:
        due = time.monotonic() - self.saved >= self.checkpoint_every
        if due:
            self.saved = time.monotonic()
        return due

    def log_due(self, images: int, *, now_at_least: bool) -> bool:
        """Whether a second has passed, or `now_at_least`; if so, `rate` is the images a second since the last time."""
        now = time.monotonic()
        due = now_at_least or now - self.logged >= LOG_EVERY
        if due:
            self.rate = (images - self.images) / max(now - self.logged, 1e-9)
            self.logged, self.images = now, images
        return due
