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
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data import DataSet
from ancestral.errors import AncestralError
from ancestral.families import Diagnosis, GenerativeModel, HasDiagnosis, HasEpilogue
from ancestral.files import disk_errors
from ancestral.pictures import save_grid
from ancestral.randomness import StreamNoise
from ancestral.runtime import Runtime
from ancestral.training.budget import Budget
from ancestral.training.clock import Clock
from ancestral.training.diagnosis import broken_in_backward, broken_in_forward
from ancestral.training.order import Order
from ancestral.training.recipe import Recipe
from ancestral.training.run import Run
from ancestral.training.seat import Seat
from ancestral.training.state import Step

PATIENCE = 5  # non-finite steps in a row before training stops
HOPELESS = 3  # diagnoses in a row that find the model failed before training stops
LOOK_KEY = 2**62  # of the noise of diagnoses, beyond any step's
LOOK = 256  # samples of each split that a diagnosis sees
SETTLE = 10_000  # training samples that parts without a gradient are fitted to, fewer where samples are large


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
        model.conditioner.fit(data.train.columns)
        self.model, self.run, self.recipe, self.runtime = model, run, recipe, runtime
        self.data = data.encoded(model.conditioner)
        self.budget = Budget.parse(recipe.train.budget)
        self.batch = min(recipe.train.batch, len(data.train))
        runtime.place(model)
        model.precision = runtime.autocast
        self.seats = [Seat(player, recipe) for player in model.players()]
        self.step = self.images = self.skipped = 0
        self.notes = [*model.notes, *model.conditioner.notes(recipe.data.flip)]
        self.failed: str | None = None  # what the last diagnosis said
        self.concluded: str | None = None  # why training ends before its budget
        self._before = 0.0  # seconds spent by earlier sittings of this run
        self._started = time.monotonic() if started is None else started
        self.order = Order(len(data.train), recipe.train.seed)
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
        """The share of the budget that is spent; 1 where training was concluded."""
        return 1.0 if self.concluded else self.budget.progress(seconds=self.seconds, iterations=self.step, epochs=self.epochs)

    @property
    def parameters(self) -> int:
        return sum(seat.flat.value.numel() for seat in self.seats)

    def __iter__(self) -> Iterator[Step]:
        train = self.recipe.train
        clock = Clock(
            self.progress,
            self.images,
            previews=train.previews,
            diagnoses=train.diagnoses,
            checkpoint_every=train.checkpoint_every,
        )
        failures = hopeless = 0
        with self.runtime.threaded():
            self.model.train()
            progress = self.progress  # read once a step, so that the step which ends the budget knows it
            while progress < 1 or self.step == 0:
                lr = self._learning_rate(progress)
                losses, grad_norms, failure = self._update(lr)
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
                diagnosis = self._diagnose() if clock.diagnoses.due(progress) else None
                if diagnosis is not None:
                    self.failed = diagnosis.failed
                    hopeless = hopeless + 1 if self.failed else 0
                    if not self.failed:
                        self._save_model()  # of all moments the one that is known to be good
                preview = self._preview() if clock.previews.due(progress) else None
                if clock.checkpoint_due():
                    self.save()
                logged = clock.log_due(
                    self.images, now_at_least=self.step == 1 or progress >= 1 or failure is not None or diagnosis is not None
                )
                notes, self.notes = self.notes, []
                state = Step(
                    step=self.step,
                    images=self.images,
                    seconds=self.seconds,
                    progress=progress,
                    losses=losses,
                    grad_norms=grad_norms,
                    lr=lr,
                    rate=clock.rate,
                    memory=self.runtime.memory() if logged else 0,
                    skipped=failure,
                    diagnosis=diagnosis,
                    preview=preview,
                    logged=logged,
                    notes=notes,
                )
                if logged:
                    self.run.append_metrics(state.row())
                yield state
                if hopeless >= HOPELESS:
                    self.save()
                    raise AncestralError(
                        f"training stopped at step {self.step}: {self.failed}; the averaged model from before it failed is in "
                        f"{self.run.model}"
                    )
            self._settle()
            self.save()

    def conclude(self, reason: str) -> None:
        """End the training with the next step, as if its budget were spent; a continued run stays ended."""
        self.concluded = reason
        self.notes.append(f"training ends early: {reason}")

    def save(self) -> None:
        """Write a checkpoint, and the averaged model for sampling unless its last diagnosis was that it failed.

        Raises AncestralError rather than write what is not finite.
        """
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
            "concluded": self.concluded,
            "data": self.data.spec.fingerprint,
            "parameters": self.parameters,
        }
        self.run.save_checkpoint(self.step, tensors, numbers, self.recipe.train.keep)
        if self.failed is None:
            self._save_model()

    def _save_model(self) -> None:
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
        self._before, self.concluded = numbers["seconds"], numbers.get("concluded")
        self.run.rewind_metrics(self.step)

    def _learning_rate(self, progress: float) -> float:
        """Linear warm-up, constant, then a cosine down to 0 over the last `decay` of the budget."""
        train = self.recipe.train
        fall = max(0.0, (progress - (1 - train.decay)) / train.decay) if train.decay else 0.0
        return train.lr * min(1.0, (self.step + 1) / max(1, train.warmup)) * (1 + math.cos(math.pi * fall)) / 2

    def _update(self, lr: float) -> tuple[dict[str, float], dict[str, float], str | None]:
        """One step of every player whose turn it is: (losses, gradient norms, what was not finite)."""
        parts = self.recipe.train.accumulate
        losses: dict[str, float] = {}
        norms: dict[str, float] = {}
        index = self.order.at(self.images, self.batch)
        for turn, seat in enumerate(self.seats):
            if self.step % seat.player.every:
                continue
            seat.flat.grad.zero_()  # other players' losses may have left theirs
            for part, chunk in enumerate(index.chunk(parts)):
                key = (self.step * parts + part) * len(self.seats) + turn
                terms = self._loss(chunk, seat, key)
                share = len(chunk) / len(index) / self.model.loss_unit
                total = terms["total"].float().mean() * share
                if not math.isfinite(total.item()):
                    return losses, norms, broken_in_forward(self.model, partial(self._loss, chunk, seat, key))
                torch.autograd.backward(total)
                for name, term in terms.items():
                    key_name = f"{seat.player.name}/{name}"
                    losses[key_name] = losses.get(key_name, 0.0) + term.detach().float().mean().item() * share
            grad = seat.flat.grad
            norm = norms[seat.player.name] = grad.norm().item()
            if not math.isfinite(norm):
                return losses, norms, broken_in_backward(self.model)
            if norm > self.recipe.train.clip:
                grad.mul_(self.recipe.train.clip / norm)
            seat.optimizer.param_groups[0]["lr"] = lr
            seat.optimizer.step()
            seat.ema.update(seat.flat.value)
        return losses, norms, None

    def _loss(self, chunk: Tensor, seat: Seat, key: int) -> dict[str, Tensor]:
        """The loss terms of some samples, with noise keyed by (seed, key)."""
        noise = StreamNoise(len(chunk), self.recipe.train.seed, key, self.runtime.device)
        self.runtime.seed(noise.generator.initial_seed())  # dropout
        with self.runtime.autocast():
            return self.model.loss(self._batch(chunk, noise), seat.player.name, noise)

    def _batch(self, index: Tensor, noise: StreamNoise) -> Batch:
        flip = (noise.uniform() < 0.5).cpu() if self.recipe.data.flip else None
        return self.data.batch(index, flip=flip, noise=noise).to(self.runtime.device)

    def _diagnose(self) -> Diagnosis | None:
        """The model's look at itself as it is now, always on the same samples with the same noise."""
        if not isinstance(self.model, HasDiagnosis):
            return None
        n = min(LOOK, len(self.data.train), len(self.data.test))
        noise = StreamNoise(n, self.recipe.train.seed, LOOK_KEY, self.runtime.device)
        train, test = (torch.linspace(0, len(part) - 1, n).long() for part in (self.data.train, self.data.test))
        device = self.runtime.device
        with self.model.inference():
            return self.model.diagnose(self.data.batch(train).to(device), self.data.batch(test, "test").to(device), noise)

    def _settle(self) -> None:
        if isinstance(self.model, HasEpilogue):
            n = min(len(self.data.train), SETTLE, max(1000, 2**25 // self.model.dimensions))
            batch = self.data.batch(torch.linspace(0, len(self.data.train) - 1, n).long())
            with self.averaged(), self.model.inference():
                self.model.settle(batch.to(self.runtime.device))

    def _preview(self) -> Path:
        """A picture of samples of the averaged model, always from the same seeds, and asked for what held-out samples show."""
        path = self.run.samples / f"step-{self.step:08d}.png"
        self._settle()
        with self.averaged():
            n = 16 if len(self.model.shape) > 1 else 512
            asked = self.data.asked(torch.linspace(0, len(self.data.test) - 1, n).long())
            x = self.model.sample(n, asked, seeds=range(n))
        with disk_errors(self.run.path):
            save_grid(x, path, self.data.spec)
        return path
