"""One stage of training: a model's players and the data that they are trained on, in parts of a global batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.recipes.recipe import TrainRecipe
from ancestral.app.training.nonfinite import broken_in_backward, broken_in_forward
from ancestral.app.training.player import MakeOptimizer, PlayerState
from ancestral.batch import Batch, Part
from ancestral.models import Diagnosis, GenerativeModel, HasDiagnosis, HasPostFit, HasRunningState
from ancestral.noise import PartNoise, StreamNoise
from ancestral.runtime import Runtime

DIAGNOSIS_KEY = 2**62  # of the noise of diagnoses, beyond any step's
TURN_KEY = 2**48  # of the noise of a player's further turns in a step
DIAGNOSED = 256  # samples of each split that a diagnosis sees
FITTED = 10_000  # training samples that parts without a gradient are fitted to, fewer where samples are large

Progress = Callable[[str], None]  # shows how far something is


def silent(text: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Stage:
    """A model, the data it is trained on, and its share of the run's budget.

    data: called once the stages before are finished, since it may depend on what they learned, with the run's folder, where it
    may keep what took long, and with a function that shows how far it is. name: "" where there is but one.
    train: what differs from the recipe's section `train`. pictures: a preview from held-out samples; None: samples of the run's
    model. look: at what the stages before have left, before this one begins.
    """

    model: GenerativeModel
    data: Callable[[Path, Progress], DataSet]
    share: float = 1.0
    name: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    pictures: Callable[[Batch], Tensor] | None = None
    look: Callable[[], Diagnosis] | None = None


class EpochSampler:
    """The n samples in an order that depends on (seed, epoch) alone, so that any position can be asked for at any time."""

    def __init__(self, n: int, seed: int):
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0)

    def at(self, position: int, count: int) -> Tensor:
        """The indices `(count,)` of the samples from `position` on, counted over all epochs."""
        parts: list[Tensor] = []
        while count:
            epoch, start = divmod(position, self.n)
            if epoch != self._epoch:
                generator = StreamNoise(self.n, self.seed, -1 - epoch).generator
                self._epoch, self._permutation = epoch, torch.randperm(self.n, generator=generator)
            part = self._permutation[start : start + count]
            parts.append(part)
            count -= len(part)
            position += len(part)
        return torch.cat(parts)


class _SumNeededError(Exception):
    """A loss waits for a sum over all parts of the batch, of which this is the part's own."""

    def __init__(self, value: Tensor):
        self.value = value


class _Sums:
    """`Part.reduce` where parts are computed one after the other: a sum that is not known yet stops the loss."""

    def __init__(self, known: list[Tensor]):
        self.known, self.count = known, 0

    def __call__(self, value: Tensor) -> Tensor:
        self.count += 1
        if self.count > len(self.known):
            raise _SumNeededError(value)
        return self.known[self.count - 1]


class StageState:
    """The players of one model, their data, and the order in which they see them. flip: mirror half of the images.

    A global batch is computed in `train.accumulate` parts. Its noise and its order depend on (seed, step), its statistics are
    sums over all parts: losses and gradients do not depend on the number of parts, but for rounding and dropout.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: DataSet,
        train: TrainRecipe,
        runtime: Runtime,
        *,
        flip: bool,
        optimizer: MakeOptimizer | None = None,
    ):
        self.model, self.data, self.train, self.runtime, self.flip = model, data, train, runtime, flip
        model.precision = runtime.autocast
        self.batch = min(train.batch, len(data.train))
        names = {id(p): name for name, p in model.named_parameters()}
        self.players = [
            PlayerState(player, train, [names[id(p)] for p in player.parameters], optimizer) for player in model.players()
        ]
        self._samplers: dict[int, EpochSampler] = {}

    def indices(self, position: int, turn: int = 0) -> Tensor:
        """The global batch at a position of the training; each further turn of a player in a step has an order of its own."""
        if turn not in self._samplers:
            self._samplers[turn] = EpochSampler(len(self.data.train), self.train.seed + turn)
        return self._samplers[turn].at(position, self.batch)

    def update(self, step: int, images: int, factor: float) -> tuple[dict[str, float], dict[str, float], str | None]:
        """One step of every player whose turn it is: (losses, gradient norms, what was not finite).

        factor: of the learning rates that the optimisers were made with.
        """
        losses: dict[str, float] = {}
        norms: dict[str, float] = {}
        for number, state in enumerate(self.players):
            if step % state.player.every:
                continue
            for turn in range(state.turns):
                key = step * len(self.players) + number + turn * TURN_KEY
                terms, norm, failure = self._step(state, self.indices(images, turn), key, factor)
                losses |= {f"{state.player.name}/{name}": value for name, value in terms.items()}
                if norm is not None:
                    norms[state.player.name] = norm
                if failure is not None:
                    return losses, norms, failure
        return losses, norms, None

    def _step(
        self, state: PlayerState, index: Tensor, key: int, factor: float
    ) -> tuple[dict[str, float], float | None, str | None]:
        """(means of the loss's terms, norm of the gradient, what was not finite) of one turn on a global batch."""
        parts = index.chunk(self.train.accumulate)
        known: list[Tensor] = []  # sums over all parts
        records: dict[str, Tensor] = {}
        means: dict[str, float] = {}
        state.flat.grad.zero_()  # other players' losses may have left theirs
        for i in range(len(parts)):
            terms, part = self._loss(parts, i, state, key, known)
            if not terms:
                return {}, None, None
            share = len(parts[i]) / len(index) / self.model.loss_unit
            total = terms["total"].float().mean() * share
            if not math.isfinite(total.item()):
                return means, None, broken_in_forward(self.model, partial(self._loss, parts, i, state, key, known))
            torch.autograd.backward(total)
            values = torch.stack([term.detach().float().mean() for term in terms.values()]).tolist()  # one wait for the device
            for name, mean in zip(terms, values, strict=True):
                means[name] = means.get(name, 0.0) + mean * share
            for name, value in part.records.items():
                records[name] = records[name] + value if name in records else value
        grad = state.flat.grad
        norm = grad.norm().item()
        if not math.isfinite(norm):
            return means, norm, broken_in_backward(self.model)
        if self.train.clip is not None and norm > self.train.clip:
            grad.mul_(self.train.clip / norm)
        state.step(factor)
        if isinstance(self.model, HasRunningState):
            self.model.after_step(state.player.name, records, len(index))
        return means, norm, None

    def _loss(
        self, parts: tuple[Tensor, ...], i: int, state: PlayerState, key: int, known: list[Tensor]
    ) -> tuple[dict[str, Tensor], Part]:
        """The loss terms of part i with noise keyed by (seed, key). Sums over all parts that it needs are added to `known`."""
        while True:
            try:
                return self._attempt(parts, i, state, key, known)
            except _SumNeededError as mine:
                total = mine.value
                for j in range(len(parts)):
                    if j != i:
                        with torch.no_grad():
                            try:
                                self._attempt(parts, j, state, key, known)
                            except _SumNeededError as other:
                                total = total + other.value
                known.append(total)

    def _attempt(
        self, parts: tuple[Tensor, ...], i: int, state: PlayerState, key: int, known: list[Tensor]
    ) -> tuple[dict[str, Tensor], Part]:
        sizes = [len(part) for part in parts]
        n, start = sum(sizes), sum(sizes[:i])
        whole = StreamNoise(n, self.train.seed, key, self.runtime.device)
        self.runtime.seed(whole.generator.initial_seed() + i)  # dropout
        noise: StreamNoise | PartNoise = whole
        part = Part(0, n)
        if len(parts) > 1:
            part, noise = Part(start, n, _Sums(known)), PartNoise(whole, slice(start, start + sizes[i]))
        flip = (noise.uniform() < 0.5).cpu() if self.flip else None
        batch = self.data.batch(parts[i], flip=flip, noise=noise).to(self.runtime.device)
        with self.runtime.autocast():
            return self.model.losses(Batch(batch.x, batch.conditions, part), state.player.name, noise), part

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run with the moving averages in the model's place."""
        with ExitStack() as stack:
            for state in self.players:
                stack.enter_context(state.flat.holding(state.ema.average))
            yield

    def finish(self) -> None:
        """End the stage: the averages become the model, whose parts without a gradient are fitted."""
        self.fit_after()
        for state in self.players:
            state.flat.value.data.copy_(state.ema.average)

    def fit_after(self) -> None:
        """Fit the averaged model's parts without a gradient, if it has any."""
        if isinstance(self.model, HasPostFit):
            n = min(len(self.data.train), FITTED, max(1000, 2**25 // self.model.dimensions))
            batch = self.data.batch(torch.linspace(0, len(self.data.train) - 1, n).long())
            with self.averaged(), self.model.inference():
                self.model.fit_after(batch.to(self.runtime.device))

    def diagnose(self) -> Diagnosis | None:
        """The model's check of its own health as it is now, always on the same samples with the same noise."""
        if not isinstance(self.model, HasDiagnosis):
            return None
        n = min(DIAGNOSED, len(self.data.train), len(self.data.test))
        noise = StreamNoise(n, self.train.seed, DIAGNOSIS_KEY, self.runtime.device)
        train, test = (torch.linspace(0, len(part) - 1, n).long() for part in (self.data.train, self.data.test))
        device = self.runtime.device
        with self.model.inference():
            return self.model.diagnose(self.data.batch(train).to(device), self.data.batch(test, "test").to(device), noise)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the players that continuing needs."""
        return {key: t for state in self.players for key, t in state.tensors().items()}

    def restore(self, tensors: Mapping[str, Tensor], updates: list[int]) -> None:
        """The inverse of `tensors`; updates: of each player's moving average."""
        for state, count in zip(self.players, updates, strict=True):
            state.restore(tensors, count)
