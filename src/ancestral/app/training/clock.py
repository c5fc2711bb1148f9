"""When a training run logs, draws a preview, looks at its health and saves."""

from __future__ import annotations

import time

LOG_EVERY = 1.0  # seconds


class Marks:
    """So many moments, evenly over the progress from 0 to 1; those up to `progress` have passed."""

    def __init__(self, count: int, progress: float):
        self.marks = [mark for i in range(count) if (mark := (i + 1) / count) > progress]

    def due(self, progress: float) -> bool:
        """Whether one was passed since the last time."""
        due = bool(self.marks) and progress >= self.marks[0]
        self.marks = [mark for mark in self.marks if mark > progress]
        return due


class Clock:
    """previews, diagnoses: how many, evenly over the progress. checkpoint_every: seconds."""

    def __init__(self, progress: float, images: int, *, previews: int, diagnoses: int, checkpoint_every: float):
        self.previews, self.diagnoses = Marks(previews, progress), Marks(diagnoses, progress)
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
