"""One stage of training: players at a table, and the data that they play with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.recipes.recipe import TrainRecipe
from ancestral.app.training.nonfinite import broken_in_backward, broken_in_forward
from ancestral.app.training.order import EpochSampler
from ancestral.app.training.player import PlayerState
from ancestral.batch import Batch
from ancestral.models import Diagnosis, GenerativeModel, HasDiagnosis, HasPostFit
from ancestral.noise import StreamNoise
from ancestral.runtime import Runtime

LOOK_KEY = 2**62  # of the noise of diagnoses, beyond any step's
LOOK = 256  # samples of each split that a diagnosis sees
SETTLE = 10_000  # training samples that parts without a gradient are fitted to, fewer where samples are large


class StageState:
    """The players of one model, each at a seat, and the order in which they see the data. flip: mirror half of the images."""

    def __init__(self, model: GenerativeModel, data: DataSet, train: TrainRecipe, runtime: Runtime, *, flip: bool):
        self.model, self.data, self.train, self.runtime, self.flip = model, data, train, runtime, flip
        model.precision = runtime.autocast
        self.batch = min(train.batch, len(data.train))
        self.seats = [PlayerState(player, train) for player in model.players()]
        self.order = EpochSampler(len(data.train), train.seed)

    def update(self, step: int, images: int, lr: float) -> tuple[dict[str, float], dict[str, float], str | None]:
        """One step of every player whose turn it is: (losses, gradient norms, what was not finite)."""
        losses: dict[str, float] = {}
        norms: dict[str, float] = {}
        index = self.order.at(images, self.batch)
        for turn, seat in enumerate(self.seats):
            if step % seat.player.every:
                continue
            seat.flat.grad.zero_()  # other players' losses may have left theirs
            terms: dict[str, Tensor] = {}
            for part, chunk in enumerate(index.chunk(self.train.accumulate)):
                key = (step * self.train.accumulate + part) * len(self.seats) + turn
                terms = self._loss(chunk, seat, key)
                if not terms:
                    break
                share = len(chunk) / len(index) / self.model.loss_unit
                total = terms["total"].float().mean() * share
                if not math.isfinite(total.item()):
                    return losses, norms, broken_in_forward(self.model, partial(self._loss, chunk, seat, key))
                torch.autograd.backward(total)
                means = torch.stack(
                    [term.detach().float().mean() for term in terms.values()]
                ).tolist()  # one wait for the device
                for name, mean in zip(terms, means, strict=True):
                    key_name = f"{seat.player.name}/{name}"
                    losses[key_name] = losses.get(key_name, 0.0) + mean * share
            if not terms:
                continue
            grad = seat.flat.grad
            norm = norms[seat.player.name] = grad.norm().item()
            if not math.isfinite(norm):
                return losses, norms, broken_in_backward(self.model)
            if norm > self.train.clip:
                grad.mul_(self.train.clip / norm)
            seat.optimizer.param_groups[0]["lr"] = lr
            seat.optimizer.step()
            seat.ema.update(seat.flat.value)
        return losses, norms, None

    def _loss(self, chunk: Tensor, seat: PlayerState, key: int) -> dict[str, Tensor]:
        """The loss terms of some samples, with noise keyed by (seed, key)."""
        noise = StreamNoise(len(chunk), self.train.seed, key, self.runtime.device)
        self.runtime.seed(noise.generator.initial_seed())  # dropout
        with self.runtime.autocast():
            return self.model.losses(self._batch(chunk, noise), seat.player.name, noise)

    def _batch(self, index: Tensor, noise: StreamNoise) -> Batch:
        flip = (noise.uniform() < 0.5).cpu() if self.flip else None
        return self.data.batch(index, flip=flip, noise=noise).to(self.runtime.device)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run with the moving averages in the model's place."""
        with ExitStack() as stack:
            for seat in self.seats:
                stack.enter_context(seat.flat.holding(seat.ema.average))
            yield

    def rest(self) -> None:
        """The end: the averages become the model, whose parts without a gradient are fitted."""
        self.fit_after()
        for seat in self.seats:
            seat.flat.value.data.copy_(seat.ema.average)

    def fit_after(self) -> None:
        """Fit the averaged model's parts without a gradient, if it has any."""
        if isinstance(self.model, HasPostFit):
            n = min(len(self.data.train), SETTLE, max(1000, 2**25 // self.model.dimensions))
            batch = self.data.batch(torch.linspace(0, len(self.data.train) - 1, n).long())
            with self.averaged(), self.model.inference():
                self.model.fit_after(batch.to(self.runtime.device))

    def diagnose(self) -> Diagnosis | None:
        """The model's look at itself as it is now, always on the same samples with the same noise."""
        if not isinstance(self.model, HasDiagnosis):
            return None
        n = min(LOOK, len(self.data.train), len(self.data.test))
        noise = StreamNoise(n, self.train.seed, LOOK_KEY, self.runtime.device)
        train, test = (torch.linspace(0, len(part) - 1, n).long() for part in (self.data.train, self.data.test))
        device = self.runtime.device
        with self.model.inference():
            return self.model.diagnose(self.data.batch(train).to(device), self.data.batch(test, "test").to(device), noise)

    def tensors(self) -> dict[str, Tensor]:
        """All that continuing needs of the seats."""
        return {key: t for seat in self.seats for key, t in seat.tensors().items()}

    def restore(self, tensors: dict[str, Tensor], updates: list[int]) -> None:
        """The inverse of `tensors`; updates: of each seat's moving average."""
        for seat, count in zip(self.seats, updates, strict=True):
            seat.restore(tensors, count)
