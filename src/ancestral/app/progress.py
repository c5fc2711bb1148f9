"""What a person sees while work goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ancestral.app.training.loop import Step, Trainer
from ancestral.app.training.trackers import Tracker, tracked

PLAIN_EVERY = 10.0  # seconds between lines where no terminal redraws them
BAR = 24  # characters


class Reporter:
    """Says things on standard error, so that standard output stays for results."""

    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._line: Line | None = None

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(Text(text))

    @contextmanager
    def live(self) -> Iterator[Line]:
        """A line that is redrawn on a terminal, printed now and then elsewhere, and absent where quiet."""
        before = self._line
        try:
            if self.quiet or not self.console.is_terminal:
                self._line = Line(self)
                yield self._line
                return
            with Live(console=self.console, refresh_per_second=8, transient=True) as live:
                self._line = Line(self, live)
                yield self._line
        finally:
            self._line = before

    def show(self, text: str) -> None:
        """Show a text on the line that is live at the moment, if one is."""
        if self._line is not None:
            self._line.update(text)


class Line:
    """The live line of a `Reporter`."""

    def __init__(self, reporter: Reporter, live: Live | None = None):
        self.reporter, self.live = reporter, live
        self.printed = 0.0

    def update(self, text: str, *, last: bool = False) -> None:
        if self.live is not None:
            self.live.update(Text(text))
        elif last or time.monotonic() - self.printed >= PLAIN_EVERY:
            self.printed = time.monotonic()
            self.reporter.say(text)


@dataclass
class Stop:
    """Whether someone asked to stop, and by which signal."""

    signal: int | None = None


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM ask to stop at the next safe moment; a second Ctrl-C does not wait."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are someone else's
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(trainer: Trainer, reporter: Reporter, *trackers: Tracker, steps: Iterable[Step] | None = None) -> int | None:
    """Run the training to its end, showing it; returns the signal that stopped it early, if one did.

    steps: the trainer's, as another loop passes them on; None: the trainer itself.
    """
    for note in trainer.data.notes:
        reporter.say(f"  {note}")
    with stoppable() as stop, reporter.live() as line:
        step, health, stage = None, "", ""
        told: tuple[str, ...] = ()
        for step in tracked(trainer if steps is None else steps, *trackers):
            for note in step.notes:
                reporter.say(note)
            if step.skipped:
                reporter.say(f"step {step.step} skipped: {step.skipped} is not finite")
            if step.stage != stage:
                health, stage = "", step.stage
            if step.diagnosis is not None:
                health = step.diagnosis.line
                for finding in step.diagnosis.findings:
                    if finding not in told:
                        reporter.say(f"step {step.step}: {finding}")
                told = step.diagnosis.findings
            line.update(describe(step, health))
            if stop.signal is not None and step.progress < 1:
                trainer.save()
                return stop.signal
        if step is not None:
            line.update(describe(step, health), last=True)
        for note in trainer.notes:  # of what came after the last step
            reporter.say(note)
    return None


def describe(step: Step, health: str = "") -> str:
    """One line: bar, share, rate, time left, losses, gradient norms, what the last diagnosis said in short, memory."""
    full = round(BAR * step.progress)
    left = step.seconds * (1 - step.progress) / max(step.progress, 1e-9)
    rate = step.rate or step.images / max(step.seconds, 1e-9)
    losses = "  ".join(f"{term(name)} {value:.4f}" for name, value in step.losses.items())
    parts = [
        "━" * full + "╌" * (BAR - full),
        f"{step.progress:4.0%}",
        *([step.stage] if step.stage else []),
        f"{rate:,.0f}/s",
        f"{duration(left)} left",
        losses,
        f"grad {' '.join(f'{norm:.2f}' for norm in step.grad_norms.values())}",
    ]
    if health:
        parts.append(health)
    if step.memory:
        parts.append(f"{step.memory / 2**30:.1f} GiB")
    if step.preview:
        parts.append(f"preview {step.preview}")
    return "  ".join(parts)


def term(name: str) -> str:
    """A loss of a `Step` as people name it: what a player minimises is its loss, whose only where there are several players."""
    player, _, part = name.partition("/")
    if part != "total":
        return part
    return "loss" if player == "model" else f"{player} loss"


def duration(seconds: float) -> str:
    """As people write it: 42s, 3m05s, 2h10m."""
    seconds = round(min(seconds, 360_000_000))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def count(n: float) -> str:
    """As people write it: 950, 12.3k, 2.80M."""
    return f"{n:.0f}" if n < 1000 else f"{n / 1e3:.1f}k" if n < 1e6 else f"{n / 1e6:.2f}M"


def emit(result: dict[str, Any]) -> None:
    """A result for machines on standard output."""
    import json

    print(json.dumps(result), file=sys.stdout, flush=True)
