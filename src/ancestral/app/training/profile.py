"""Measurement of the time of training: the share of each phase of a step, and the used share of the machine's peak speed.

    for step in profiled(trainer, print): ...

On CUDA the phases are timed by events on the device. A phase in which the device waits for the program contains this wait: if
data come too late, their share is large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ancestral.app.training.loop import Step, Trainer
from ancestral.app.training.stage import PHASES, silent_clock
from ancestral.runtime import DTYPES, Runtime

WARM, MEASURED = 10, 50  # steps before the measurement, and steps that are measured
PROBE = 0.4  # seconds of each of the two probes of the peak


@dataclass(frozen=True)
class Profile:
    """The measured phases of training steps.

    Args:
        steps: the number of steps.
        seconds: the time of a step, by a clock.
        shares: the share of each phase of the step's time, by name. They sum to 1.
        flops: the operations of a step's forward and backward passes in this process: matrix products and convolutions.
        peak: the operations per second of a large matrix product or convolution on this device, at the same precision.
        images: the number of samples of a step, over all processes.
    """

    steps: int
    seconds: float
    shares: dict[str, float]
    flops: float
    peak: float
    images: int

    @property
    def mfu(self) -> float:
        """The share of the machine's peak that the model's operations reach (Chowdhery et al. 2022, arXiv:2204.02311)."""
        return self.flops / self.seconds / self.peak

    def row(self) -> dict[str, Any]:
        """Return all numbers, for JSON."""
        return {
            "steps": self.steps,
            "seconds_per_step": self.seconds,
            "images_per_second": self.images / self.seconds,
            "shares": self.shares,
            "flops_per_step": self.flops,
            "peak_flops": self.peak,
            "mfu": self.mfu,
        }

    def __str__(self) -> str:
        lines = [
            f"profile of {self.steps} steps: {1000 * self.seconds:.1f} ms a step, {self.images / self.seconds:,.0f} images/s"
        ]
        lines += [f"  {PHASES.get(name, 'everything else'):36s} {share:6.1%}" for name, share in self.shares.items()]
        lines += [f"  {'share of the measured peak (MFU)':36s} {self.mfu:6.1%}  of {self.peak / 1e12:.3g} TFLOP/s"]
        return "\n".join(lines)


class Clock:
    """A clock of nested phases. The time of an inner phase does not count for the outer one."""

    def __init__(self, device: torch.device):
        self.device = device
        self.open = ["rest"]
        self.marks: list[tuple[Any, str]] = []  # (moment, the phase that begins)
        self._mark()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self.open.append(phase)
        self._mark()
        try:
            yield
        finally:
            self.open.pop()
            self._mark()

    def _mark(self) -> None:
        if self.device.type == "cuda":
            moment: Any = torch.cuda.Event(enable_timing=True)
            moment.record()
        else:
            if self.device.type == "mps":
                torch.mps.synchronize()
            moment = time.perf_counter()
        self.marks.append((moment, self.open[-1]))

    def seconds(self) -> dict[str, float]:
        """Return the time of each phase so far, in the order of a step."""
        self._mark()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        spent = dict.fromkeys((*PHASES, "rest"), 0.0)
        for (start, phase), (end, _) in zip(self.marks[:-1], self.marks[1:], strict=True):
            spent[phase] += start.elapsed_time(end) / 1000 if self.device.type == "cuda" else end - start
        return spent


def profiled(
    trainer: Trainer,
    report: Callable[[Profile], None],
    steps: Iterable[Step] | None = None,
    *,
    warm: int = WARM,
    measured: int = MEASURED,
) -> Iterator[Step]:
    """Yield the steps of the training, and profile some of them.

    Args:
        trainer: the trainer.
        report: a function that receives the profile, once. If training ends during the measurement, the profile is of the
            steps until then. If it ends before, there is none.
        steps: the steps of the trainer, passed on by another generator. None: those of the trainer itself.
        warm: steps before the measurement, at least 2. The operations are counted in the last of them.
        measured: steps that are measured.
    """
    profiler = _Profiler(trainer, warm)
    done = False
    for step in trainer if steps is None else steps:
        if not done and profiler.after_step() >= measured:
            done = True
            report(profiler.profile())
        yield step
    if not done and profiler.measured:
        report(profiler.profile())


class _Profiler:
    """The measurement of a trainer's steps. A new stage of the training begins it again."""

    def __init__(self, trainer: Trainer, warm: int):
        self.trainer, self.warm = trainer, max(2, warm)
        self._begin()

    def _begin(self) -> None:
        self.state, self.taken, self.measured = self.trainer.state, 0, 0
        self.flops, self.clock, self.started = 0.0, Clock(self.trainer.runtime.device), 0.0

    def after_step(self) -> int:
        """Return the number of measured steps so far."""
        if self.state is not self.trainer.state:
            self._begin()
        self.taken += 1
        self.measured = max(0, self.taken - self.warm)
        if self.taken == self.warm - 1:
            self._count()
        if self.taken == self.warm:
            self._wait()
            self.clock = self.state.clock = Clock(self.trainer.runtime.device)
            self.started = time.perf_counter()
        return self.measured

    def profile(self) -> Profile:
        spent = self.clock.seconds()
        took = time.perf_counter() - self.started
        self.state.clock = silent_clock
        total = sum(spent.values())
        return Profile(
            steps=self.measured,
            seconds=took / self.measured,
            shares={name: seconds / total for name, seconds in spent.items()},
            flops=self.flops,
            peak=peak(self.trainer.runtime),
            images=self.state.batch,
        )

    def _count(self) -> None:
        """Count the operations of the next update."""
        state = self.state
        update = state.update

        def counted(*how: Any) -> Any:
            compiled = any(module._compiled_call_impl is not None for module in self.trainer.model.modules())
            eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
            with eager, FlopCounterMode(display=False) as counter:
                result = update(*how)
            self.flops = float(counter.get_total_flops())
            del state.update
            return result

        state.update = counted  # type: ignore[assignment,method-assign]

    def _wait(self) -> None:
        if self.trainer.runtime.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.runtime.device)


def peak(runtime: Runtime) -> float:
    """Measure the operations per second of the device in the runtime's precision, in about a second.

    It is the larger of the rates of a matrix product and of a 3x3 convolution.
    """
    large = runtime.device.type != "cpu"
    n, c, side = (8192, 256, 64) if large else (1024, 64, 32)
    dtype = DTYPES.get(runtime.precision, torch.float32)
    a, b = (torch.randn(n, n, device=runtime.device, dtype=dtype) for _ in range(2))
    x = torch.randn(32, c, side, side, device=runtime.device, dtype=dtype).to(memory_format=torch.channels_last)
    w = torch.randn(c, c, 3, 3, device=runtime.device, dtype=dtype).to(memory_format=torch.channels_last)
    with runtime.threaded(), torch.no_grad():
        product = rate(lambda: a @ b, runtime.device) * 2 * n**3
        convolution = rate(lambda: F.conv2d(x, w, padding=1), runtime.device) * 2 * 9 * c * c * 32 * side * side
    return max(product, convolution)


def rate(work: Callable[[], object], device: torch.device, seconds: float = PROBE) -> float:
    """Return how often per second the device does the work, after one call that is not measured."""

    def run(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            done = work()
        if isinstance(done, torch.Tensor):
            done.flatten()[0].item()  # waits for the device
        return time.perf_counter() - started

    run(1)
    times, took = 1, run(1)
    while took < seconds:
        times = max(times + 1, int(times * min(10.0, 1.2 * seconds / max(took, 1e-9))))
        took = run(times)
    return times / took
