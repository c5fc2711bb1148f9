"""One stage of training: the players of a model and their data. A global batch is computed in parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.order import Order
from ancestral.app.recipes.recipe import TrainRecipe
from ancestral.app.training.memory import OVERHEAD, bytes_per_sample, parts_that_fit
from ancestral.app.training.nonfinite import broken_in_backward, broken_in_forward
from ancestral.app.training.player import MakeOptimizer, PlayerState
from ancestral.app.training.strategies import Replicated
from ancestral.batch import Batch, Part
from ancestral.errors import AncestralError, UsageError
from ancestral.models import Diagnosis, GenerativeModel, HasDiagnosis, HasPostFit, HasRunningState
from ancestral.noise import PartNoise, StreamNoise
from ancestral.runtime import Runtime, free_memory, memory_is_full

DIAGNOSIS_KEY = 2**62  # key of the noise of diagnoses, larger than that of any step
TURN_KEY = 2**48  # key of the noise of a player's further turns in a step
DIAGNOSED = 256  # samples of each split in a diagnosis
FULL = "the memory is full with each batch in {parts:,} parts: {remedy}"
SMALLER = "close other programs, use a smaller network, or smaller images with --size"
FITTED = 10_000  # training samples for the fit of parts without a gradient; fewer if samples are large

PHASES = {  # of a step, in its order
    "data": "waiting for data",
    "forward": "forward",
    "backward": "backward",
    "reduction": "sum over processes",
    "optimiser": "optimiser",
    "average": "moving average",
}

Progress = Callable[[str], None]  # shows a sentence about the progress of work


def silent(text: str) -> None:
    """Ignore the progress."""


def silent_clock(phase: str) -> AbstractContextManager[None]:
    """Do not measure a phase of a step."""
    return nullcontext()


@dataclass(frozen=True)
class Stage:
    """A stage of training: a model, its data, and its share of the run's budget.

    Args:
        model: The model.
        data: A function that returns the data. It is called after the earlier stages, on which the data may depend, with the
            run folder, in which it may store results, and with a function that shows the progress.
        share: The share of the budget.
        name: The name, "" if there is only one stage.
        train: Changes of the recipe's section `train`.
        pictures: A function that returns the rows of a preview, made from held-out samples, by their labels. None: the
            preview has samples of the run's model.
        look: A check of the result of the earlier stages, before this one begins.
    """

    model: GenerativeModel
    data: Callable[[Path, Progress], DataSet]
    share: float = 1.0
    name: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    pictures: Callable[[Batch], Mapping[str, Tensor]] | None = None
    look: Callable[[], Diagnosis] | None = None


class _SumNeededError(Exception):
    """Raised when a loss needs a sum over all parts of the batch. `value` is the term of its own part."""

    def __init__(self, value: Tensor):
        self.value = value


class _Gradient(NamedTuple):
    """What a gradient was computed from, by one process."""

    parts: tuple[Tensor, ...]  # of the global batch
    own: range  # the parts of this process
    known: list[Tensor]  # sums over all parts
    names: tuple[str, ...]  # of the loss terms
    records: list[dict[str, Tensor]]  # of the own parts
    means: list[Tensor]  # of the loss terms over the own parts, times the share of each part


class _Sums:
    """`Part.reduce`, with the sums that are `known`. A further sum is `direct`, or raises _SumNeededError if there is none."""

    def __init__(self, known: list[Tensor], direct: Callable[[Tensor], Tensor] | None):
        self.known, self.direct, self.count = known, direct, 0

    def __call__(self, value: Tensor) -> Tensor:
        self.count += 1
        if self.count > len(self.known):
            if self.direct is None:
                raise _SumNeededError(value)
            self.known.append(self.direct(value))
        return self.known[self.count - 1]


class Update:
    """The numbers of one update of a player, which are copied from the device while it works on.

    Args:
        player: The name of the player.
        names: The names of its loss terms.
        numbers: The means of the terms over the batch, then the norm of the gradient, then the loss scale if there is one.
        failure: A function that returns the name of the tensor that is not finite.
    """

    def __init__(self, player: str, names: Sequence[str], numbers: Tensor, failure: Callable[[], str]):
        self.player, self.names, self.failure = player, tuple(names), failure
        self._host = numbers.to("cpu", non_blocking=numbers.is_cuda)  # of other devices nothing tells when a copy is done
        self._copied = torch.cuda.Event() if numbers.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    @cached_property
    def values(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._host.tolist()

    @property
    def losses(self) -> dict[str, float]:
        return {f"{self.player}/{name}": value for name, value in zip(self.names, self.values, strict=False)}

    @property
    def norm(self) -> float:
        return self.values[len(self.names)]

    @property
    def overflowed(self) -> bool:
        """Whether the gradient overflowed only because of the loss scale, which is then lowered."""
        scale = self.values[len(self.names) + 1 :]
        return bool(scale) and scale[0] >= 1 and math.isfinite(self.losses[f"{self.player}/total"]) and not self.finite

    @property
    def finite(self) -> bool:
        return math.isfinite(self.losses[f"{self.player}/total"]) and math.isfinite(self.norm)


@contextmanager
def _unless(valid: Tensor | None, buffers: Iterable[Tensor]) -> Iterator[None]:
    """Undo all changes of the buffers inside the context where `valid`, bool `()` on their device, is false."""
    held = [] if valid is None else [(buffer, buffer.clone()) for buffer in buffers]
    yield
    for buffer, before in held:
        buffer.copy_(torch.where(valid, buffer, before))  # type: ignore[arg-type]  # None only with nothing held


class Readings(Mapping[str, float]):
    """Numbers by name, which are read when they are first asked for."""

    def __init__(self, read: Callable[[], dict[str, float]]):
        self._read = read

    @cached_property
    def _numbers(self) -> dict[str, float]:
        return self._read()

    def __getitem__(self, name: str) -> float:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class StageState:
    """The training state of a stage: the players of one model, their data, and the order of the data.

    A global batch is computed in parts, by one process or several (`strategy`). Its noise and order depend on (seed, step), and
    its statistics are sums over all parts. Losses and gradients do not depend on the number of parts or processes, except by
    rounding and dropout.

    On CUDA the numbers of an update are read while the next one is computed, so that the device never waits for the program. An
    update that is not finite then changes nothing on the device, and is reported one update later.

    Args:
        model: The model.
        data: The data.
        train: The recipe's settings.
        runtime: Device and precision.
        strategy: Where the parts of a batch are computed.
        flip: Whether half of the images are mirrored.
        optimizer: As in `PlayerState`.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: DataSet,
        train: TrainRecipe,
        runtime: Runtime,
        strategy: Replicated,
        *,
        flip: bool,
        optimizer: MakeOptimizer | None = None,
    ):
        self.model, self.data, self.train, self.runtime, self.flip = model, data, train, runtime, flip
        self.strategy = strategy
        model.precision = runtime.autocast
        self.batch = min(train.batch, len(data.train))
        strategy.divide(torch.arange(self.batch))  # raises UsageError
        if optimizer is not None and not strategy.per_parameter:
            raise UsageError("an own optimiser needs the whole parameters: set train.strategy=replicated")
        strategy.prepare(model)
        names = {id(p): name for name, p in model.named_parameters()}
        self.players = [
            PlayerState(
                player,
                train,
                [names[id(p)] for p in player.parameters],
                optimizer,
                strategy.flatten,
                scaled=runtime.precision == "fp16",
            )
            for player in model.players()
        ]
        self.clock: Callable[[str], AbstractContextManager[None]] = silent_clock  # times each phase of a step
        self.notes: list[str] = []  # sentences for the user, which the trainer takes
        self.deferred = runtime.device.type == "cuda"
        self._pending: dict[str, Update] = {}
        self._orders: dict[int, Order] = {}
        self._ahead: dict[int, tuple[int, Tensor]] = {}  # position and indices of the next batch, by turn

    def indices(self, position: int, turn: int = 0) -> Tensor:
        """Return the indices of the global batch at a position. Each further turn of a player in a step has its own order."""
        if turn not in self._orders:
            self._orders[turn] = self.data.order(self.train.seed + turn)
        order, (ahead, known) = self._orders[turn], self._ahead.pop(turn, (-1, Tensor()))
        index = known if ahead == position else order.at(position, self.batch)
        if self.data.train.streamed:  # workers read the next batch while this one is computed
            self._ahead[turn] = position + self.batch, order.at(position + self.batch, self.batch)
            parts, own = self.strategy.divide(self._ahead[turn][1])
            self.data.prefetch(torch.cat([parts[i] for i in own]))
        return index

    def update(self, step: int, images: int, factor: float) -> tuple[Mapping[str, float], Mapping[str, float], str | None]:
        """Make one step of every player that is due at this step.

        Args:
            step: The number of the step.
            images: The number of images so far.
            factor: The factor of the optimisers' learning rates.

        Returns:
            Losses, norms of the gradients, and the name of the tensor that was not finite, or None.
        """
        updates: list[Update] = []
        failure = None
        for number, state in enumerate(self.players):
            if step % state.player.every:
                continue
            for turn in range(state.turns):
                key = step * len(self.players) + number + turn * TURN_KEY
                update, failure = self._step(state, self.indices(images, turn), key, factor)
                updates += [] if update is None else [update]
                if failure is not None:
                    break
            if failure is not None:
                break
        losses = Readings(lambda: {name: value for update in updates for name, value in update.losses.items()})
        return losses, Readings(lambda: {update.player: update.norm for update in updates}), failure

    def _step(self, state: PlayerState, index: Tensor, key: int, factor: float) -> tuple[Update | None, str | None]:
        """Make one turn of a player on a global batch, in more parts if the memory is full.

        Returns:
            Its numbers, and a tensor that was not finite or None.
        """
        while True:
            try:
                computed = self._gradient(state, index, key)
                break
            except (MemoryError, RuntimeError) as error:
                if not memory_is_full(error):
                    raise
                count = self.strategy.parts
                if self.strategy.processes.count > 1:  # the others are past this part
                    raise AncestralError(FULL.format(parts=count, remedy=f"set train.accumulate={2 * count}")) from error
                if count >= len(index):
                    raise AncestralError(FULL.format(parts=count, remedy=SMALLER)) from error
            self._divide(min(len(index), 2 * count), "the memory was full")  # here the tensors of the attempt are gone
        if computed is None:
            return None, None
        parts, own, known, names, records, own_means = computed
        with self.clock("reduction"):
            self.strategy.reduce(state, len(parts))
        scales = [] if state.scale is None else [state.scale.value[None].clone()]
        for scale in scales:
            state.flat.grad.div_(scale)
        norm = state.flat.norm()
        if state.scale is not None:
            state.scale.update(norm.isfinite())
        if self.train.clip is not None:
            state.flat.grad.mul_((self.train.clip / norm).clamp(max=1).nan_to_num(1.0))
        means = self.strategy.total(own_means, len(parts))
        numbers = torch.cat([means, norm[None], *scales])
        sums = {name: self.strategy.total([record[name] for record in records], len(parts)) for name in records[0]}
        update = Update(state.player.name, names, numbers, partial(self._not_finite, parts, own, state, key, known))
        failure = self.settle(state.player.name)
        valid = None
        if self.deferred and state.guarded:
            self._pending[state.player.name] = update
            valid = means[names.index("total")].isfinite() & norm.isfinite()
        elif not update.finite:
            return update, None if update.overflowed else update.failure()
        with self.clock("optimiser"):
            state.step(factor, valid)
        with self.clock("average"):
            state.ema.update(state.flat.value, valid)
        if isinstance(self.model, HasRunningState):
            with _unless(valid, self.model.buffers()):
                self.model.after_step(state.player.name, sums, len(index))
        return update, failure

    def _gradient(self, state: PlayerState, index: Tensor, key: int) -> _Gradient | None:
        """Add the gradient of a player's loss on this process's parts of a global batch, None if the player has no loss."""
        parts, own = self.strategy.divide(index)
        known: list[Tensor] = []  # sums over all parts
        records: list[dict[str, Tensor]] = []
        own_means: list[Tensor] = []
        state.flat.clear()  # the losses of other players may have added gradients
        for i in own:
            terms, part = self._loss(parts, own, i, state, key, known)
            if not terms:
                return None
            share = len(parts[i]) / len(index) / self.model.loss_unit
            loss = terms["total"].float().mean() * share
            with self.clock("backward"):
                scaled = loss if state.scale is None else loss * state.scale.value
                self.strategy.backward(scaled, state, last=i == own[-1])
            own_means.append(torch.stack([term.detach().float().mean() for term in terms.values()]) * share)
            records.append(part.records)
        return _Gradient(parts, own, known, tuple(terms), records, own_means)

    def fit_memory(self) -> None:
        """Raise the number of parts until a part fits into the free memory, by a measurement on a few samples."""
        if self.runtime.compiled:  # a compilation for other sizes takes longer than it helps
            return
        parts = self.strategy.parts
        each = bytes_per_sample(self.model, self.data, self.runtime)
        (fitting,) = self.strategy.processes.largest(parts_that_fit(each, self.batch, parts, self.runtime))
        if fitting > parts:
            need = each * OVERHEAD * self.batch / parts / 1e9
            self._divide(
                int(fitting), f"a step needs about {need:.1f} GB, of {free_memory(self.runtime.device) / 1e9:.1f} GB free"
            )

    def _divide(self, parts: int, why: str) -> None:
        """Compute each batch in more parts."""
        self.strategy.parts = parts
        self.runtime.release()
        self.notes.append(f"{why}: each batch of {self.batch:,} is computed in {parts:,} parts, with the same result")

    def settle(self, player: str) -> str | None:
        """Read the update of a player that was not read yet. Returns the name of the tensor that was not finite, or None."""
        update = self._pending.pop(player, None)
        if update is None or update.finite:
            return None
        next(state for state in self.players if state.player.name == player).ema.t -= 1
        return None if update.overflowed else update.failure()

    def _not_finite(self, parts: tuple[Tensor, ...], own: range, state: PlayerState, key: int, known: list[Tensor]) -> str:
        """Return the name of the tensor that was not finite, of the first process that has one."""
        found = None
        for i in own:
            with torch.no_grad():
                terms, _ = self._loss(parts, own, i, state, key, known)
            if not terms["total"].isfinite().all():
                found = broken_in_forward(self.model, partial(self._loss, parts, own, i, state, key, known))
                break
        every = self.strategy.processes.gathered(found)
        found = next((name for name in every if name is not None), None)
        return found or broken_in_backward(self.model)

    def _loss(
        self, parts: tuple[Tensor, ...], own: range, i: int, state: PlayerState, key: int, known: list[Tensor]
    ) -> tuple[dict[str, Tensor], Part]:
        """Return the loss terms of part i with noise keyed by (seed, key). Needed sums over all parts are added to `known`."""
        total = partial(self.strategy.total, parts=len(parts))
        direct = (lambda value: total([value])) if len(own) == 1 else None
        while True:
            try:
                return self._attempt(parts, i, state, key, _Sums(known, direct))
            except _SumNeededError as needed:
                values = []
                for j in own:
                    if j == i:
                        values.append(needed.value)
                        continue
                    with torch.no_grad():
                        try:
                            self._attempt(parts, j, state, key, _Sums(known, None))
                        except _SumNeededError as other:
                            values.append(other.value)
                known.append(total(values))

    def _attempt(
        self, parts: tuple[Tensor, ...], i: int, state: PlayerState, key: int, sums: _Sums
    ) -> tuple[dict[str, Tensor], Part]:
        sizes = [len(part) for part in parts]
        n, start = sum(sizes), sum(sizes[:i])
        whole: Any = StreamNoise(n, self.train.seed, key, self.runtime.device)
        self.runtime.seed(whole.generator.initial_seed() + i)  # dropout
        part, noise, prepared = Part(0, n), whole, whole.on_cpu()
        if len(parts) > 1:
            rows = slice(start, start + sizes[i])
            part, noise, prepared = Part(start, n, sums), PartNoise(noise, rows), PartNoise(prepared, rows)
        with self.clock("data"):
            flip = prepared.uniform() < 0.5 if self.flip else None
            batch = self.data.batch(parts[i], flip=flip, noise=prepared).to(self.runtime.device)
        with self.clock("forward"), self.runtime.autocast():
            return self.model.losses(Batch(batch.x, batch.conditions, part), state.player.name, noise), part

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace the model's parameters by their moving averages inside the context."""
        with ExitStack() as stack:
            for state in self.players:
                stack.enter_context(state.flat.holding(state.ema.average))
            yield

    def finish(self) -> None:
        """End the stage: fit the parts without a gradient, and replace the parameters by their averages."""
        self.fit_after()
        for state in self.players:
            state.flat.value.data.copy_(state.ema.average)
            state.flat.apply()
        self.strategy.release(self.model)

    def fit_after(self) -> None:
        """Fit the averaged model's parts without a gradient, if it has any."""
        if isinstance(self.model, HasPostFit):
            n = min(len(self.data.train), FITTED, max(1000, 2**25 // self.model.dimensions))
            batch = self.data.batch(torch.linspace(0, len(self.data.train) - 1, n, dtype=torch.float64).long())
            with self.averaged(), self.model.inference():
                self.model.fit_after(batch.to(self.runtime.device))
            self.strategy.processes.copy(self.model.buffers())

    def diagnose(self) -> Diagnosis | None:
        """Run the model's health check, always on the same samples with the same noise."""
        if not isinstance(self.model, HasDiagnosis):
            return None
        n = min(DIAGNOSED, len(self.data.train), len(self.data.test))
        noise = StreamNoise(n, self.train.seed, DIAGNOSIS_KEY, self.runtime.device)
        train, test = (
            torch.linspace(0, len(part) - 1, n, dtype=torch.float64).long() for part in (self.data.train, self.data.test)
        )
        device = self.runtime.device
        with self.model.inference():
            found = self.model.diagnose(self.data.batch(train).to(device), self.data.batch(test, "test").to(device), noise)
        return self.strategy.processes.shared(found)

    def averages(self) -> dict[str, Tensor]:
        """Return copies of the averaged weights on the CPU, by "player/parameter", and of the model's buffers by name."""
        held = {f"{state.player.name}/{name}": t for state in self.players for name, t in state.averages().items()}
        held |= {name: buffer for name, buffer in self.model.named_buffers() if name in self.model.state_dict()}
        return {name: t.detach().cpu().clone() for name, t in held.items()}

    @torch.no_grad()
    def restore_averages(self, held: Mapping[str, Tensor]) -> None:
        """Replace the averaged weights and the buffers by those of `averages`."""
        for state in self.players:
            state.flat.fill(state.ema.average, [held[f"{state.player.name}/{name}"] for name in state.names])
        for name, buffer in self.model.named_buffers():
            if name in held:
                buffer.copy_(held[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the players that training needs to continue."""
        for state in self.players:
            self.settle(state.player.name)
        return {key: t for state in self.players for key, t in state.tensors().items()}

    def restore(self, tensors: Mapping[str, Tensor], updates: list[int]) -> None:
        """Restore the players from the result of `tensors`. updates: the number of updates of each moving average."""
        for state, count in zip(self.players, updates, strict=True):
            state.restore(tensors, count)
