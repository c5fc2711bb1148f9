"""Output for people during work: a live line on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ancestral.app.processes import processes
from ancestral.app.training.loop import Step, Trainer
from ancestral.app.training.trackers import Trackers
from ancestral.errors import printable

PLAIN_EVERY = 10.0  # seconds between lines if the output is not a terminal
REDRAWN = 8  # times a second, on a terminal
BAR = 24  # characters


class Reporter:
    """Writer of messages to standard error, by the main process. Standard output is only for results."""

    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet or not processes().main
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._line: Line | None = None

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(_shown(text))

    @contextmanager
    def live(self) -> Iterator[Line]:
        """Open a line that is redrawn on a terminal, and otherwise printed at intervals. If quiet, nothing is shown."""
        before = self._line
        try:
            if self.quiet or not self.console.is_terminal:
                self._line = Line(self)
                yield self._line
                return
            with Live(console=self.console, refresh_per_second=REDRAWN, transient=True) as live:
                self._line = Line(self, live)
                yield self._line
        finally:
            self._line = before

    def show(self, text: str) -> None:
        """Show a text on the current live line, if there is one."""
        if self._line is not None:
            self._line.update(text)


class Line:
    """The live line of a `Reporter`."""

    def __init__(self, reporter: Reporter, live: Live | None = None):
        self.reporter, self.live = reporter, live
        self.printed = 0.0

    def update(self, text: str | Callable[[], str], *, last: bool = False) -> None:
        """Show a text, which is only made if it is shown: a terminal is redrawn 8 times a second."""
        every = PLAIN_EVERY if self.live is None else 1 / REDRAWN
        if self.reporter.quiet or not (last or time.monotonic() - self.printed >= every):
            return
        self.printed = time.monotonic()
        text = text if isinstance(text, str) else text()
        if self.live is not None:
            self.live.update(_shown(text))
        else:
            self.reporter.say(text)


def _shown(text: str) -> Text:
    """Return a text with the control characters of its lines as escapes."""
    return Text("\n".join(printable(line) for line in text.split("\n")))


@contextmanager
def stoppable(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` with the signal at Ctrl-C and SIGTERM, in place of their effect. A second Ctrl-C stops at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True
        stop(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread can handle signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(
    trainer: Trainer, reporter: Reporter, *, track: Sequence[str] = (), steps: Iterable[Step] | None = None
) -> int | None:
    """Run the training to its end and show its progress.

    Args:
        trainer: The trainer.
        reporter: Writes the progress.
        track: The names of the trackers that receive the steps, in the main process.
        steps: The steps of the trainer, passed on by another generator. None: those of the trainer itself.

    Returns:
        The signal that stopped the training early, or None.

    Raises:
        UsageError: If a tracker is unknown.
        AncestralError: If a tracker cannot begin.
    """
    trackers = Trackers(track if processes().main else (), trainer.run)
    for note in trainer.data.notes:
        reporter.say(f"  {note}")
    with _closed(trackers, reporter), stoppable(trainer.stop), reporter.live() as line:
        step, health, stage = None, "", ""
        reported: tuple[str, ...] = ()
        for step in trackers.follow(trainer if steps is None else steps):
            for note in step.notes:
                reporter.say(note)
            if step.skipped:
                reporter.say(f"step {step.step} skipped: {step.skipped} is not finite")
            if step.stage != stage:
                health, stage = "", step.stage
            if step.diagnosis is not None:
                health = step.diagnosis.line
                for finding in step.diagnosis.findings:
                    if finding not in reported:
                        reporter.say(f"step {step.step}: {finding}")
                reported = step.diagnosis.findings
            line.update(partial(describe, step, health))
        if step is not None:
            line.update(describe(step, health), last=True)
        for note in trainer.notes:  # notes after the last step
            reporter.say(note)
    return trainer.stopped


@contextmanager
def _closed(trackers: Trackers, reporter: Reporter) -> Iterator[None]:
    """Close the trackers at the end, however the training ends."""
    try:
        yield
    finally:
        for note in trackers.close():
            reporter.say(note)


def describe(step: Step, health: str = "") -> str:
    """Describe a step in one line: bar, share, rate, time left, losses, gradient norms, last diagnosis, memory."""
    full = round(BAR * step.progress)
    left = step.seconds * (1 - step.progress) / max(step.progress, 1e-9)
    rate = step.rate or step.images / max(step.seconds, 1e-9)
    losses = "  ".join(f"{term(name)} {value:.4f}" for name, value in step.losses.items())
    parts = [
        "━" * full + "╌" * (BAR - full),
        f"{step.progress:4.0%}",
        *([step.stage] if step.stage else []),
        f"{rate:,.0f} samples/s",
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
    """Return the short name of a loss of a `Step`: "loss" for the total, with the player's name if there are several."""
    player, _, part = name.partition("/")
    if part != "total":
        return part
    return "loss" if player == "model" else f"{player} loss"


def duration(seconds: float) -> str:
    """Write a duration as 42s, 3m05s or 2h10m."""
    seconds = round(min(seconds, 360_000_000))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def count(n: float) -> str:
    """Write a number as 950, 12.3k or 2.80M."""
    return f"{n:.0f}" if n < 1000 else f"{n / 1e3:.1f}k" if n < 1e6 else f"{n / 1e6:.2f}M"


def emit(result: dict[str, Any]) -> None:
    """Print a result as JSON on standard output."""
    import json

    print(json.dumps(result), file=sys.stdout, flush=True)


def browse(address: str) -> bool:
    """Open an address in the browser, and return whether there is a screen for it.

    On Linux a browser without a screen would take over the terminal.
    """
    import webbrowser

    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return screen and webbrowser.open(address)
