"""The state of a service: its models, its limits, the queue, and requests on their way."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.requests import Request
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import is_picture
from ancestral.app.sampling import SampleRequest
from ancestral.app.sampling.batching import Batcher, Job
from ancestral.app.sampling.pictures import picture_size
from ancestral.app.sampling.provenance import PICTURES, Record, from_client, record
from ancestral.app.training.saved import Opened, opened, weights_of
from ancestral.app.web.service.metrics import Metrics
from ancestral.conditioning import ClassCondition, NumberCondition
from ancestral.errors import AncestralError, UsageError
from ancestral.models import GenerativeModel
from ancestral.models.denoising import STEPS
from ancestral.runtime import Precision
from ancestral.suggest import unknown

LARGEST = 1 << 24  # pixels of a picture that a request brings


class UnknownModelError(UsageError):
    """The service has no model of this name."""


class LateError(AncestralError):
    """A request was not finished in its time."""


class LeftError(Exception):
    """The client has gone."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and what may wait.

    Args:
        samples: of one request.
        steps: of the solver.
        pixels: of all samples of one request together; of other data, numbers.
        body: bytes of one request.
        seconds: from a request to its answer.
        patience: seconds in which a request must arrive, and in which a client must take what it was sent.
        queue: samples that wait.
        batch: samples that are drawn together.
        connections: open at a time.

    Raises:
        UsageError: if a limit is less than 1, or the queue has no place for a whole request.
    """

    samples: int = 64
    steps: int = 250
    pixels: int = 1 << 22
    body: int = 8 << 20
    seconds: float = 120
    patience: float = 20
    queue: int = 512
    batch: int = 32
    connections: int = 256

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 1:
                raise UsageError(f"the limit of {name} must be at least 1; got {value:g}")
        if self.queue < self.samples:
            raise UsageError(f"{self.queue} samples can wait, and a request may ask for {self.samples}: raise --queue")


@dataclass(frozen=True)
class Served:
    """A model of the service. created: when its weights were written, in seconds of Unix time."""

    name: str
    run: Opened
    model: GenerativeModel
    weights: str
    created: int

    @property
    def spec(self) -> DataSpec:
        return self.run.spec

    @property
    def size(self) -> str | None:
        """Width and height of samples as "64x64", None if they are no pictures."""
        return f"{self.spec.shape[2]}x{self.spec.shape[1]}" if is_picture(self.spec) else None

    def describe(self) -> dict[str, Any]:
        """Return what a client can ask of the model."""
        kinds = dict(self.model.conditioner.kinds.items())
        conditions: dict[str, Any] = {}
        for name, kind in kinds.items():
            names = list(kind.names) if isinstance(kind, ClassCondition | NumberCondition) else []
            conditions[name] = {"names": names} if names else {}
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "ancestral",
            "family": self.model.family,
            "shape": list(self.spec.shape),
            "size": self.size,
            "conditions": conditions,
            "options": [name for name in self.model.options if name not in ("weak", "edit", "clip")],
            "weights": self.weights,
        }


@dataclass(eq=False)
class Order:
    """An accepted request on its way. Whoever has it calls `close`."""

    served: Served
    request: SampleRequest
    job: Job
    end: float
    folder: TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def seeds(self) -> list[int]:
        return self.job.sampling.seeds

    @property
    def record(self) -> Record:
        """The record that files of the samples carry. It names the weights that drew them, whatever the run has since."""
        found = record(self.request, self.served.run, sampling=self.job.sampling)
        return replace(found, weights=self.served.weights)

    def close(self) -> None:
        """Cancel what is not drawn yet, and delete the pictures of the request."""
        self.job.future.cancel()
        if self.folder is not None:
            self.folder.cleanup()


class Service:
    """The state of a service.

    Args:
        runs: folders of runs or saved models. Each is known by the name of its folder.
        device: the device of all models.
        precision: the arithmetic of all models.
        limits: of requests.

    Raises:
        UsageError: if a folder holds no model, or two have the same name.
        AncestralError: if a model is damaged.
    """

    def __init__(
        self,
        runs: Sequence[str | Path],
        *,
        device: str = "auto",
        precision: Precision = "auto",
        limits: Limits | None = None,
    ):
        self.limits = limits or Limits()
        self.models: dict[str, Served] = {}
        for path in runs:
            run = opened(path)
            name = Path(path).resolve().name
            if name in self.models:
                raise UsageError(f"two runs are named {name!r}, {self.models[name].run.path} and {path}: rename one of them")
            model = run.load_model(device, precision).eval()
            self.models[name] = Served(name, run, model, weights_of(run), int(run.weights.stat().st_mtime))
        if not self.models:
            raise UsageError("a service needs at least one run")
        names = {id(served.model): served.name for served in self.models.values()}
        self.metrics = Metrics(names, lambda: self.batcher.waiting)
        self.batcher = Batcher(queue=self.limits.queue, batch=self.limits.batch, on_batch=self.metrics.batch)
        self.drawing = threading.Lock()  # one picture at a time is drawn, so that samples keep the processor

    def find(self, name: str | None) -> Served:
        """Return the model of a name. None: the only one. Raises UnknownModelError for another name."""
        if name is None:
            if len(self.models) == 1:
                return next(iter(self.models.values()))
            raise UsageError(f"this service has several models: choose one with `model`, {', '.join(self.models)}")
        if name not in self.models:
            raise UnknownModelError(unknown("model", name[:200], self.models))
        return self.models[name]

    def order(
        self,
        served: Served,
        values: Mapping[str, Any],
        *,
        negative: str | None = None,
        watched: bool = False,
    ) -> Order:
        """Read a request and put it into the queue.

        Args:
            served: the model that draws.
            values: the request, as `provenance.to_json` writes it.
            negative: the text or class from which guidance leads away.
            watched: whether the states on the way are wanted.

        Raises:
            UsageError: if the request is wrong, does not fit the model, or is over a limit.
            BusyError: if the queue is full.
        """
        parts = (values.get("conditions", {}), values.get("edit", {}))
        brings = any(part.get(name) is not None for part in parts for name in PICTURES)
        folder = TemporaryDirectory(prefix="ancestral-") if brings else None
        try:
            request = from_client(values, Path(folder.name) if folder is not None else Path())
            if negative is not None:
                request = replace(request, guidance=replace(request.guidance, negative=request.conditions.opposite(negative)))
            self._check(request, served)
            job = self._submit(request, served, watched)
        except BaseException as error:
            if folder is not None:
                folder.cleanup()
                if isinstance(error, UsageError):
                    raise UsageError(re.sub(rf"{re.escape(folder.name)}\S*\.png", "that was sent", str(error))) from None
            raise
        return Order(served, request, job, time.monotonic() + self.limits.seconds, folder)

    def _check(self, request: SampleRequest, served: Served) -> None:
        """Raise UsageError if a request is over a limit."""
        limits, n = self.limits, request.count
        if n > limits.samples:
            raise UsageError(f"{n:,} samples are too many for one request: ask for at most {limits.samples:,}")
        shape = served.spec.shape
        pixels = n * (math.prod(shape[1:]) if len(shape) > 1 else shape[0])
        if pixels > limits.pixels:
            raise UsageError(
                f"{n:,} samples of {'x'.join(map(str, shape))} have {pixels:,} pixels: ask for at most {limits.pixels:,} in all"
            )
        sampler = request.settled(served.run)
        steps = len(sampler.spacing) - 1 if isinstance(sampler.spacing, tuple) else sampler.steps or STEPS
        if "steps" in served.model.options and steps > limits.steps:
            raise UsageError(f"{steps:,} steps are too many: ask for at most {limits.steps:,}")
        for part in (request.conditions, request.edit):
            for name in PICTURES:
                if isinstance(picture := getattr(part, name, None), Path):
                    height, width = picture_size(picture)
                    if height * width > LARGEST:
                        raise UsageError(f"the picture of `{name}` has {width}x{height} pixels: send at most {LARGEST:,}")

    def _submit(self, request: SampleRequest, served: Served, watched: bool) -> Job:
        try:
            return self.batcher.submit(request.prepare(served.model, run=served.run), watched=watched)
        except AncestralError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
            if not request.conditions.others and request.conditions.layout is None:
                raise
            text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UsageError(f"a condition has a value that cannot be read ({text})") from None

    async def result(self, order: Order, http: Request) -> Tensor:
        """Wait for the samples of an order.

        Raises:
            LateError: if they take too long.
            LeftError: if the client leaves.
        """
        future = asyncio.wrap_future(order.job.future)
        left = asyncio.create_task(_left(http))
        try:
            both: set[asyncio.Future[Any]] = {future, left}
            await asyncio.wait(both, timeout=order.end - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            if left.done():
                self.metrics.ended.labels("left").inc()
                raise LeftError
            raise self.late()
        finally:
            left.cancel()
            future.cancel()

    def late(self) -> LateError:
        """Return the error of a request that was not finished in its time."""
        self.metrics.ended.labels("late").inc()
        return LateError(f"this was not finished within {self.limits.seconds:g} s: ask for less, or ask later")


async def _left(http: Request) -> None:
    """Return when the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
