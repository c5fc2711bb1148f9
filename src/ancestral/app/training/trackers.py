"""Trackers, which send measurements to other dashboards.

`metrics.jsonl` is always written. A tracker receives the same steps during training:

    for step in tracked(trainer, TensorBoard(run)): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from PIL import Image

from ancestral.app.training.loop import Step
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, UsageError
from ancestral.suggest import unknown


class Tracker(Protocol):
    """An object that receives each logged step and is closed at the end."""

    def log(self, step: Step) -> None:
        """Record the step's numbers and its preview."""

    def close(self) -> None:
        """Write the rest and close."""


class TensorBoard:
    """Tracker that writes event files to the run folder's `tensorboard/`. Raises AncestralError if tensorboardX is missing."""

    def __init__(self, run: Run):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise AncestralError("tensorboardX is not installed: pip install 'ancestral[tensorboard]'") from None
        self.writer = SummaryWriter(str(run.path / "tensorboard"))

    def log(self, step: Step) -> None:
        for name, value in step.row().items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, step.step)
        if step.preview:
            with Image.open(step.preview) as picture:
                self.writer.add_image("samples", np.asarray(picture.convert("RGB")), step.step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


TRACKERS: dict[str, Callable[[Run], Tracker]] = {"tensorboard": TensorBoard}


def tracker(name: str, run: Run) -> Tracker:
    """Make the tracker `name`. Raises UsageError for an unknown name."""
    if name not in TRACKERS:
        raise UsageError(unknown("tracker", name, TRACKERS))
    return TRACKERS[name](run)


def tracked(steps: Iterable[Step], *trackers: Tracker) -> Iterator[Step]:
    """Yield the same steps, and send those that are logged or have a preview to the trackers."""
    try:
        for step in steps:
            if step.logged or step.preview:
                for each in trackers:
                    each.log(step)
            yield step
    finally:
        for each in trackers:
            each.close()
