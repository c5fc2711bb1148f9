"""The training loop, one for all families: a generator of small typed states.

    for step in Trainer(model, data, run, recipe): ...

Whoever consumes the loop decides what to show and when to stop; the trainer keeps the run folder. All randomness is
keyed by (seed, step), so a checkpoint needs no generator state, and a continued run repeats the uninterrupted one bit by
bit where the budget is not a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data import DataSet
from ancestral.errors import AncestralError
from ancestral.families import GenerativeModel, Player
from ancestral.files import disk_errors
from ancestral.pictures import save_grid
from ancestral.randomness import StreamNoise
from ancestral.runtime import Runtime
from ancestral.training.budget import Budget
from ancestral.training.diagnosis import broken_in_backward, broken_in_forward
from ancestral.training.flat import FlatParameters, PowerEMA
from ancestral.training.recipe import Recipe
from ancestral.training.run import Run

PATIENCE = 5  # non-finite steps in a row before training stops
LOG_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Step:
    """The state of training after a step.

    losses: means over the batch and the dimensions, by "player/term". skipped: why the step was not taken, if so.
    preview: the picture just written, if any. logged: whether the step went to metrics.jsonl. rate: images a second, recently.
    """

    step: int
    images: int
    seconds: float
    progress: float
    losses: dict[str, float]
    grad_norm: float
    lr: float
    rate: float
    memory: int
    skipped: str | None = None
    preview: Path | None = None
    logged: bool = False
    notes: list[str] = field(default_factory=list)


class _Seat:
    """A player's place at the table: parameters, optimiser, moving average."""

    def __init__(self, player: Player, recipe: Recipe):
        self.player = player
        self.flat = FlatParameters(player.parameters)
        self.ema = PowerEMA(self.flat.value, recipe.train.ema)
        # on the CPU the fused kernel is five times as fast; all three devices have it
        self.optimizer = torch.optim.AdamW(
            [self.flat.value], lr=recipe.train.lr, betas=(0.9, 0.99), weight_decay=recipe.train.weight_decay, fused=True
        )

    def tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state.get(self.flat.value, {})
        moments = {f"{self.player.name}/{key}": torch.as_tensor(value) for key, value in state.items()}
        return {
            f"{self.player.name}/value": self.flat.value.data,
            f"{self.player.name}/average": self.ema.average,
            **moments,
        }

    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        own = {key.partition("/")[2]: t for key, t in tensors.items() if key.partition("/")[0] == self.player.name}
        self.flat.value.data.copy_(own.pop("value"))
        self.ema.average.copy_(own.pop("average"))
        self.ema.t = updates
        if own:
            device = self.flat.value.device
            self.optimizer.state[self.flat.value] = {key: t.to(device) for key, t in own.items()}


class Trainer:
    """Trains a model on data in a run folder, from its last checkpoint if there is one.

    Iterating yields a `Step` after every step until the budget is spent. `save()` writes a checkpoint at once.
    started: the `time.monotonic()` from which a time budget counts. Raises AncestralError when losses stay non-finite.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: DataSet,
        run: Run,
        recipe: Recipe,
        runtime: Runtime,
        *,
        started: float | None = None,
    ):
        self.model, self.data, self.run, self.recipe, self.runtime = model, data, run, recipe, runtime
        self.budget = Budget.parse(recipe.train.budget)
        self.batch = min(recipe.train.batch, len(data.train))
        runtime.place(model)
        model.precision = runtime.autocast
        self.seats = [_Seat(player, recipe) for player in model.players()]
        self.step = self.images = self.skipped = 0
        self.notes: list[str] = []
        self._before = 0.0  # seconds spent by earlier sittings of this run
        self._started = time.monotonic() if started is None else started
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        run.describe(data.spec, recipe)
        self._resume()

    @property
    def seconds(self) -> float:
        """Spent on this run so far, all sittings together."""
        return self._before + time.monotonic() - self._started

    @property
    def epochs(self) -> float:
        return self.images / len(self.data.train)

    @property
    def progress(self) -> float:
        return self.budget.progress(seconds=self.seconds, iterations=self.step, epochs=self.epochs)

    @property
    def parameters(self) -> int:
        return sum(seat.flat.value.numel() for seat in self.seats)

    def __iter__(self) -> Iterator[Step]:
        clock = _Clock(self)
        failures = 0
        with self.runtime.threaded():
            self.model.train()
            while (progress := self.progress) < 1 or self.step == 0:
                lr = self._learning_rate(progress)
                losses, grad_norm, failure = self._update(lr)
                failures = failures + 1 if failure else 0
                if failures >= PATIENCE:
                    self.save()
                    raise AncestralError(
                        f"training stopped at step {self.step}: {PATIENCE} steps in a row were not finite, at last {failure}; "
                        f"the averaged model from before is in {self.run.model}; lower train.lr or set train.precision=fp32"
                    )
                self.step += 1
                self.images += self.batch
                self.skipped += failure is not None
                progress = self.progress
                preview = self._preview() if clock.preview_due(progress) else None
                if clock.checkpoint_due():
                    self.save()
                yield clock.state(progress, losses, grad_norm, lr, failure, preview)
            self.save()

    def save(self) -> None:
        """Write a checkpoint, and the averaged model for sampling; AncestralError rather than what is not finite."""
        for name, p in self.model.named_parameters():
            if not p.isfinite().all():
                raise AncestralError(
                    f"training stopped at step {self.step}: the parameter {name} is not finite; the last checkpoint from "
                    f"before is kept in {self.run.checkpoints}; lower train.lr or set train.precision=fp32"
                )
        tensors = {key: t for seat in self.seats for key, t in seat.tensors().items()}
        tensors |= {f"buffer/{name}": b for name, b in self._buffers().items()}
        numbers = {
            "step": self.step,
            "images": self.images,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "progress": self.progress,
            "updates": [seat.ema.t for seat in self.seats],
            "data": self.data.spec.fingerprint,
            "parameters": self.parameters,
        }
        self.run.save_checkpoint(self.step, tensors, numbers, self.recipe.train.keep)
        with self.averaged():
            self.run.save_model(self.model)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run with the moving averages in the model's place."""
        with ExitStack() as stack:
            for seat in self.seats:
                stack.enter_context(seat.flat.holding(seat.ema.average))
            yield

    def _buffers(self) -> dict[str, Tensor]:
        kept = self.model.state_dict()
        return {name: buffer for name, buffer in self.model.named_buffers() if name in kept}

    def _resume(self) -> None:
        stored = self.run.load_checkpoint()
        if stored is None:
            self.run.rewind_metrics(0)
            return
        tensors, numbers = stored.tensors, stored.numbers
        for damaged in stored.damaged:  # out of the way, lest it pass for the newest
            self.notes.append(f"{damaged.name} is damaged; continuing from {stored.file.name}")
            damaged.rename(damaged.with_suffix(".damaged"))
        if numbers["parameters"] != self.parameters:
            raise AncestralError(
                f"the checkpoints of {self.run.path} are of another network ({numbers['parameters']:,} parameters, not "
                f"{self.parameters:,}): they were made by another version; train anew with another --out"
            )
        if numbers["data"] != self.data.spec.fingerprint:
            raise AncestralError(
                f"the data of {self.run.path} have changed since it was begun: restore them, or train anew with another --out"
            )
        for seat, updates in zip(self.seats, numbers["updates"], strict=True):
            seat.restore(tensors, updates)
        for name, buffer in self._buffers().items():
            buffer.copy_(tensors[f"buffer/{name}"])
        self.step, self.images, self.skipped = numbers["step"], numbers["images"], numbers["skipped"]
        self._before = numbers["seconds"]
        self.run.rewind_metrics(self.step)

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up, constant, then a cosine down to 0 over the last `decay` of the budget."""
        train = self.recipe.train
        fall = max(0.0, (progress - (1 - train.decay)) / train.decay) if train.decay else 0.0
        return train.lr * min(1.0, (self.step + 1) / max(1, train.warmup)) * (1 + math.cos(math.pi * fall)) / 2

    def _update(self, lr: float) -> tuple[dict[str, float], float, str | None]:
        """One step of every player whose turn it is: (losses, gradient norm, what was not finite)."""
        parts = self.recipe.train.accumulate
        losses: dict[str, float] = {}
        norm = 0.0
        index = self._indices()
        for turn, seat in enumerate(self.seats):
            if self.step % seat.player.every:
                continue
            seat.flat.grad.zero_()  # other players' losses may have left theirs
            for part, chunk in enumerate(index.chunk(parts)):
                key = (self.step * parts + part) * len(self.seats) + turn
                terms = self._loss(chunk, seat, key)
                share = len(chunk) / len(index) / self.model.dimensions
                total = terms["total"].float().mean() * share
                if not math.isfinite(total.item()):
                    return losses, norm, broken_in_forward(self.model, partial(self._loss, chunk, seat, key))
                torch.autograd.backward(total)
                for name, term in terms.items():
                    key_name = f"{seat.player.name}/{name}"
                    losses[key_name] = losses.get(key_name, 0.0) + term.detach().float().mean().item() * share
            grad = seat.flat.grad
            norm = grad.norm().item()
            if not math.isfinite(norm):
                return losses, norm, broken_in_backward(self.model)
            if norm > self.recipe.train.clip:
                grad.mul_(self.recipe.train.clip / norm)
            seat.optimizer.param_groups[0]["lr"] = lr
            seat.optimizer.step()
            seat.ema.update(seat.flat.value)
        return losses, norm, None

    def _loss(self, chunk: Tensor, seat: _Seat, key: int) -> dict[str, Tensor]:
        """The loss terms of some samples, with noise keyed by (seed, key)."""
        noise = StreamNoise(len(chunk), self.recipe.train.seed, key, self.runtime.device)
        self.runtime.seed(noise.generator.initial_seed())  # dropout
        with self.runtime.autocast():
            return self.model.loss(self._batch(chunk, noise), seat.player.name, noise)

    def _indices(self) -> Tensor:
        """The next samples of an endless sequence of permutations, one an epoch, each keyed by (seed, epoch)."""
        n = len(self.data.train)
        position = self.images
        parts: list[Tensor] = []
        wanted = self.batch
        while wanted:
            epoch, start = divmod(position, n)
            if self._order[0] != epoch:
                generator = StreamNoise(n, self.recipe.train.seed, -1 - epoch).generator
                self._order = (epoch, torch.randperm(n, generator=generator))
            part = self._order[1][start : start + wanted]
            parts.append(part)
            wanted -= len(part)
            position += len(part)
        return torch.cat(parts)

    def _batch(self, index: Tensor, noise: StreamNoise) -> Batch:
        flip = (noise.uniform() < 0.5).cpu() if self.recipe.data.flip else None
        batch = self.data.batch(index, flip=flip)
        device = self.runtime.device
        return Batch(batch.x.to(device), {name: c.to(device) for name, c in batch.conditions.items()})

    def _preview(self) -> Path:
        """A picture of samples of the averaged model, always from the same seeds."""
        path = self.run.samples / f"step-{self.step:08d}.png"
        with self.averaged():
            x = self.model.sample(n := 16 if len(self.model.shape) > 1 else 512, seeds=range(n))
        with disk_errors(self.run.path):
            save_grid(x, path, self.data.spec)
        return path


class _Clock:
    """When to log, preview and save; and the recent rate."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        previews = trainer.recipe.train.previews
        self.marks = [(i + 1) / previews for i in range(previews) if (i + 1) / previews > trainer.progress]
        self.saved = self.logged = time.monotonic()
        self.logged_images = trainer.images
        self.rate = 0.0

    def preview_due(self, progress: float) -> bool:
        due = bool(self.marks) and progress >= self.marks[0]
        self.marks = [mark for mark in self.marks if mark > progress]
        return due

    def checkpoint_due(self) -> bool:
        due = time.monotonic() - self.saved >= self.trainer.recipe.train.checkpoint_every
        if due:
            self.saved = time.monotonic()
        return due

    def state(
        self,
        progress: float,
        losses: dict[str, float],
        grad_norm: float,
        lr: float,
        failure: str | None,
        preview: Path | None,
    ) -> Step:
        t = self.trainer
        now = time.monotonic()
        log = now - self.logged >= LOG_EVERY or progress >= 1 or failure is not None
        if log:
            self.rate = (t.images - self.logged_images) / max(now - self.logged, 1e-9)
            self.logged, self.logged_images = now, t.images
        notes, t.notes = t.notes, []
        memory = t.runtime.memory() if log else 0
        step = Step(
            step=t.step,
            images=t.images,
            seconds=t.seconds,
            progress=progress,
            losses=losses,
            grad_norm=grad_norm,
            lr=lr,
            rate=self.rate,
            memory=memory,
            skipped=failure,
            preview=preview,
            logged=log,
            notes=notes,
        )
        if log:
            row: dict[str, Any] = {"step": t.step, "images": t.images, "seconds": round(t.seconds, 3), "lr": lr}
            row |= {"grad_norm": grad_norm, "rate": round(self.rate, 1), "memory": memory, **losses}
            t.run.append_metrics(row | ({"skipped": failure} if failure else {}))
        return step
