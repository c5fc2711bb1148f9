"""Dynamic batching: requests that wait at the same time are drawn together, and each gets the samples that it would get alone.

The noise of a sample depends on its seed alone, so that its neighbours in a batch change only the last digits of sums.
Samples are drawn together if they have the same model, the same options (solver, steps, spacing, guidance, ...) and the same
kinds of conditions, whose values may differ. Requests with a picture to edit, and those whose solver chooses its steps for a
whole batch (`Solver.per_sample`), are drawn alone, in the batches of `model.sample`.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ancestral.app.sampling.request import Sampling
from ancestral.errors import AncestralError
from ancestral.models import GenerativeModel
from ancestral.solvers import State, solver

FEW = 16  # samples of a request that are shown on their way
FRAME = 0.1  # seconds between two states that are shown
MEMORY = 0.8  # share of the former pace that the next batch keeps


class BusyError(AncestralError):
    """The queue is full. seconds: the time after which it is worth asking again."""

    def __init__(self, message: str, seconds: int):
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Progress:
    """How far a request is: samples that are ready, and the steps of the batch of others, of which x shows up to `FEW`.

    x is in the units of the data, on the CPU.
    """

    ready: int
    n: int
    done: int
    total: int
    x: Tensor


@dataclass(frozen=True)
class Batch:
    """A batch that was drawn: its model, the number of samples and of requests, evaluations of the network, and seconds."""

    model: GenerativeModel
    samples: int
    requests: int
    nfe: int
    seconds: float


@dataclass(eq=False)
class Job:
    """The samples of one request on their way. Cancel `future` if they are no longer wanted.

    Args:
        sampling: the request, prepared for its model.
        watched: whether `progress` is wanted.
        future: has the samples `(n, *shape)` at the end, on the CPU.
        progress: the last state, None before the first.
    """

    sampling: Sampling
    watched: bool = False
    future: Future[Tensor] = field(default_factory=Future)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.n = self.sampling.n
        self.raw = self.sampling.model.conditioner.parse(self.sampling.condition, self.n)
        self.key = self._key()
        self.taken = 0  # samples that are drawn or being drawn
        self._parts: list[Tensor] = []

    def _key(self) -> Hashable | None:
        """Return what must be equal for samples that are drawn together, or None if the request is drawn alone."""
        options = self.sampling.options
        if "solver" in options and not solver(options["solver"]).per_sample:
            return None
        try:
            text = json.dumps(options, sort_keys=True)
        except TypeError:  # tensors and models: an edit, a weaker model
            return None
        kinds = tuple((name, tuple(value.shape[1:]), value.dtype) for name, value in sorted(self.raw.items()))
        return (id(self.sampling.model), text, kinds)

    def deliver(self, x: Tensor) -> None:
        """Add the next samples. The last ones complete the future."""
        self._parts.append(x)
        if sum(map(len, self._parts)) == self.n:
            _settle(self.future, torch.cat(self._parts))

    def show(self, state: State, x: Tensor) -> None:
        self.progress = Progress(sum(map(len, self._parts)), self.n, state.done, state.total, x)


class Batcher:
    """One thread that draws the samples of all requests, in the order in which they came.

    A request with more samples than fit into a batch goes behind the others after each of its batches, so that a small request
    does not wait for the whole of a large one.

    Args:
        queue: the largest number of samples that wait.
        batch: the largest number of samples that are drawn together.
        on_batch: called in the thread after each batch.
    """

    def __init__(self, *, queue: int = 512, batch: int = 32, on_batch: Callable[[Batch], None] = lambda batch: None):
        self.queue, self.batch, self.on_batch = queue, batch, on_batch
        self._line: list[Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._pace = 0.0  # seconds a sample
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether requests are accepted and drawn."""
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> int:
        """The number of samples that wait."""
        with self._changed:
            return sum(job.n - job.taken for job in self._line)

    def submit(self, sampling: Sampling, *, watched: bool = False) -> Job:
        """Put a request into the queue.

        Raises:
            BusyError: if the queue is full.
            AncestralError: if `close` was called.
            UsageError: if the solver is unknown.
        """
        job = Job(sampling, watched)
        with self._changed:
            if self._closing:
                raise AncestralError("this service is ending and takes no new requests")
            waiting = sum(other.n - other.taken for other in self._line)
            if waiting + job.n > self.queue:
                seconds = min(max(1, math.ceil(waiting * self._pace)), 600)
                raise BusyError(
                    f"{waiting} samples wait, and {self.queue} can: ask again in {seconds} s, or for fewer samples",
                    seconds,
                )
            self._line.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda future: self._forget(job))
        return job

    def close(self) -> None:
        """Draw what was accepted, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _forget(self, job: Job) -> None:
        """Take a request out of the queue that was cancelled or failed."""
        with self._changed:
            if job in self._line:
                self._line.remove(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._closing)
                if not self._line:
                    return
                parts = self._next()
            try:
                self._draw(parts)
            except Exception as error:  # of these requests: the others go on
                for job, _ in parts:
                    _settle(job.future, error)

    def _next(self) -> list[tuple[Job, slice]]:
        """Take the samples of the next batch out of the queue: those of its first request, and others that fit to them."""
        first, parts = self._line[0], []
        room = self.batch if first.key is not None else first.sampling.batch or first.sampling.model.fast_batch
        for job in [first] if first.key is None else [job for job in self._line if job.key == first.key]:
            rows = slice(job.taken, min(job.n, job.taken + room))
            job.taken, room = rows.stop, room - (rows.stop - rows.start)
            parts.append((job, rows))
            self._line.remove(job)
            if job.taken < job.n:
                self._line.append(job)
            if not room:
                break
        return parts

    def _draw(self, parts: list[tuple[Job, slice]]) -> None:
        """Draw a batch and deliver its samples. It ends early if all its requests were cancelled."""
        sampling, begun, shown, nfe = parts[0][0].sampling, time.perf_counter(), 0.0, 0
        model = sampling.model
        seeds = [seed for job, rows in parts for seed in job.sampling.seeds[rows]]
        raw = {name: torch.cat([job.raw[name][rows] for job, rows in parts]) for name in parts[0][0].raw}
        x = None
        for state in model.states(len(seeds), raw, seeds=seeds, **sampling.options):
            if all(job.future.cancelled() for job, _ in parts):
                return
            x, nfe = state.x, state.nfe
            if state.done < state.total and time.perf_counter() - shown > FRAME:
                shown = time.perf_counter()
                _show(parts, model, state)
        assert x is not None  # every path has a state
        x = model.finished(x, raw).cpu()
        seconds = time.perf_counter() - begun
        self._pace = MEMORY * self._pace + (1 - MEMORY) * seconds / len(seeds) if self._pace else seconds / len(seeds)
        self.on_batch(Batch(model, len(seeds), len(parts), nfe, seconds))
        for (job, _), part in zip(parts, x.split([rows.stop - rows.start for _, rows in parts]), strict=True):
            job.deliver(part)


def _show(parts: list[tuple[Job, slice]], model: GenerativeModel, state: State) -> None:
    """Convert the present state of the requests that are watched to the units of the data."""
    start = 0
    for job, rows in parts:
        n = rows.stop - rows.start
        if job.watched:
            with model.inference():
                x = model.to_data(state.x[start : start + min(n, FEW)])
            job.show(state, x.cpu())
        start += n


def _settle(future: Future[Tensor], outcome: Tensor | Exception) -> None:
    """Complete a future, unless it was cancelled or has failed."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
