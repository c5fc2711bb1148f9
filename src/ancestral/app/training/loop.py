"""The training loop, one for all families: a generator of small typed states.

    for step in Trainer(model, data, run, recipe, runtime): ...

Whoever consumes the loop decides what to show and when to stop; the trainer keeps the run folder. All randomness is
keyed by (seed, step), so a checkpoint needs no generator state, and a continued run repeats the uninterrupted one bit by
bit where the budget is not a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ancestral.app.data import DataSet
from ancestral.app.pictures import save_grid
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.training.budget import Budget
from ancestral.app.training.clock import Clock
from ancestral.app.training.kept import kept, put_back
from ancestral.app.training.player import PlayerState
from ancestral.app.training.preview import preview
from ancestral.app.training.run import Run
from ancestral.app.training.stage import Progress, Stage, silent
from ancestral.app.training.stages import stages_of
from ancestral.app.training.state import Step
from ancestral.app.training.table import StageState
from ancestral.errors import AncestralError
from ancestral.files import disk_errors
from ancestral.models import GenerativeModel, HasPostFit, HasProgress
from ancestral.runtime import Runtime

PATIENCE = 5  # non-finite steps in a row before training stops
HOPELESS = 3  # diagnoses in a row that find the model failed before training stops


class Trainer:
    """Trains a model on data in a run folder, from its last checkpoint if there is one.

    Iterating yields a `Step` after every step until the budget is spent. `save()` writes a checkpoint at once.
    model: what the folder will hold; the recipe says in which stages it is trained, over all of which steps, images, seconds
    and progress are counted. started: the `time.monotonic()` from which a time budget counts. tell: is told what takes long
    between steps.
    Raises AncestralError when losses stay non-finite.
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
        tell: Progress = silent,
    ):
        model.conditioner.fit(data.train.columns)
        self.model, self.run, self.recipe, self.runtime = model, run, recipe, runtime
        self.data = data.encoded(model.conditioner)
        self.budget = Budget.parse(recipe.train.budget)
        runtime.place(model)
        model.precision = runtime.autocast
        self.tell = tell
        self.stages = stages_of(model, self.data, recipe.model, flip=recipe.data.flip)
        self.step = self.images = self.skipped = 0
        self.notes = [*model.notes, *model.conditioner.notes(recipe.data.flip)]
        if recipe.train.epochs is not None and self.budget.unit == "seconds":
            self.notes.append(
                f"training ends with {recipe.train.epochs:g} passes through the data (train.epochs): with more, so few samples "
                "are learned by heart"
            )
        self.failed: str | None = None  # what the last diagnosis said
        self.hopeless = 0  # diagnoses in a row that said so
        self.concluded: str | None = None  # why training ends before its budget
        self._before = 0.0  # seconds spent by earlier sittings of this run
        self._started = time.monotonic() if started is None else started
        self._resume()
        run.describe(data.spec, recipe)

    def _enter(self, number: int, begun: int) -> None:
        """Sit down to the stage of that number, begun at that step."""
        self.number, self.begun = number, begun
        stage = self.stage
        data = stage.data(self.run.path, self.tell)
        train = self.recipe.train.model_copy(update=dict(stage.train))
        self.table = StageState(stage.model, data, train, self.runtime, flip=self.recipe.data.flip)
        if stage.name:
            self.notes.append(f"stage {number + 1} of {len(self.stages)}: the {stage.name}, {stage.share:.0%} of the budget")
            self.notes += stage.model.notes
        if data is not self.data:
            self.notes += data.notes

    def _begin(self, number: int) -> None:
        """Enter a stage for the first time, with a look at what those before it have left."""
        self._enter(number, self.step)
        if self.stage.look is not None:
            found = self.stage.look()
            self.notes.append(found.line)
            numbers = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 3)}
            self.run.append_metrics(numbers | found.row())

    @property
    def stage(self) -> Stage:
        return self.stages[self.number]

    @property
    def final(self) -> bool:
        """Whether the last stage has begun, so that samples mean something."""
        return self.number == len(self.stages) - 1

    @property
    def seats(self) -> list[PlayerState]:
        return self.table.seats

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
        if self.concluded:
            return 1.0
        spent = self.budget.progress(seconds=self.seconds, iterations=self.step, epochs=self.epochs)
        most = self.recipe.train.epochs
        return spent if most is None or self.budget.unit != "seconds" else min(1.0, max(spent, self.epochs / most))

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def within(self, progress: float) -> float:
        """The share of the present stage that has passed, at that progress of the run."""
        start = sum(stage.share for stage in self.stages[: self.number])
        return min(1.0, max(0.0, (progress - start) / self.stage.share))

    def __iter__(self) -> Iterator[Step]:
        train = self.recipe.train
        clock = Clock(
            self.progress,
            self.images,
            previews=train.previews,
            diagnoses=train.diagnoses,
            checkpoint_every=train.checkpoint_every,
        )
        failures = 0
        with self.runtime.threaded():
            self.model.train()
            progress = self.progress  # read once a step, so that the step which ends the budget knows it
            while progress < 1 or not self.final or self.step == self.begun:  # a step of each stage at least
                if self.within(progress) >= 1 and not self.final:
                    self.table.rest()
                    self._begin(self.number + 1)
                    self.save()
                    self.model.train()
                lr = self.table.train.rate(self.step - self.begun, self.within(progress))
                if isinstance(self.stage.model, HasProgress):
                    self.stage.model.on_progress(self.within(progress))
                losses, grad_norms, failure = self.table.update(self.step, self.images, lr)
                failures = failures + 1 if failure else 0
                if failures >= PATIENCE:
                    self.save()
                    raise AncestralError(
                        f"training stopped at step {self.step}: {PATIENCE} steps in a row were not finite, at last {failure}; "
                        f"the averaged model from before is in {self.run.model}; lower train.lr or set train.precision=fp32"
                    )
                self.step += 1
                self.images += self.table.batch
                self.skipped += failure is not None
                progress = self.progress
                diagnosis = self.table.diagnose() if clock.diagnoses.due(progress) else None
                if diagnosis is not None:
                    self.failed = diagnosis.failed
                    self.hopeless = self.hopeless + 1 if self.failed else 0
                    if not self.failed and not isinstance(self.stage.model, HasPostFit):
                        self._save_model()  # of all moments the one that is known to be good
                picture = self._preview() if clock.previews.due(progress) else None
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
                    preview=picture,
                    logged=logged,
                    notes=notes,
                    stage=self.stage.name,
                )
                if logged:
                    self.run.append_metrics(state.row())
                yield state
                if self.hopeless >= HOPELESS:
                    self.save()
                    raise AncestralError(f"training stopped at step {self.step}: {self.failed}; {self.run.kept}")
            self.save()

    def conclude(self, reason: str) -> None:
        """End the training with the next step, as if its budget were spent; a continued run stays ended."""
        self.concluded = reason
        self.notes.append(f"training ends early: {reason}")

    def save(self) -> None:
        """Write a checkpoint, and the averaged model for sampling unless its last diagnosis was that it failed.

        Raises AncestralError rather than write what is not finite.
        """
        for name, value in self.model.state_dict().items():
            if not value.isfinite().all():
                raise AncestralError(
                    f"training stopped at step {self.step}: {name} of the model is not finite; the last checkpoint from "
                    f"before is kept in {self.run.checkpoints}; lower train.lr or set train.precision=fp32"
                )
        tensors = self.table.tensors() | kept(self.model, self.seats)
        numbers = {
            "step": self.step,
            "images": self.images,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "progress": self.progress,
            "updates": [seat.ema.t for seat in self.seats],
            "concluded": self.concluded,
            "failed": self.failed,
            "hopeless": self.hopeless,
            "stage": self.number,
            "begun": self.begun,
            "data": self.data.fingerprint,
            "parameters": self.parameters,
        }
        self.run.save_checkpoint(self.step, tensors, numbers, self.recipe.train.keep)
        if self.failed is None:
            self.table.fit_after()
            self._save_model()

    def _save_model(self) -> None:
        with self.averaged():
            self.run.save_model(self.model)

    def _preview(self) -> Path:
        """A picture from the averaged model, where it stands now."""
        path = self.run.samples / f"step-{self.step:08d}.png"
        self.table.fit_after()
        with self.averaged():
            x, shown = preview(self.model, self.stage, self.table.data, self.data)
        with disk_errors(self.run.path):
            save_grid(x, path, self.data.spec, shown=shown)
        return path

    def averaged(self) -> AbstractContextManager[None]:
        """Run with the moving averages in the model's place."""
        return self.table.averaged()

    def _resume(self) -> None:
        stored = self.run.load_checkpoint()
        if stored is None:
            self.run.rewind_metrics(0)
            self._begin(0)
            return
        tensors, numbers = stored.tensors, stored.numbers
        for damaged in stored.damaged:  # out of the way, lest it pass for the newest
            self.notes.append(f"{damaged.name} is damaged; continuing from {stored.file.name}")
            damaged.rename(damaged.with_suffix(".damaged"))
        if numbers["data"] != self.data.fingerprint:
            raise AncestralError(
                f"the data of {self.run.path} have changed since it was begun: restore them, or train anew with another --out"
            )
        if numbers["parameters"] != self.parameters:
            raise AncestralError(
                f"the checkpoints of {self.run.path} are of another network ({numbers['parameters']:,} parameters, not "
                f"{self.parameters:,}): they were made by another version; train anew with another --out"
            )
        put_back(self.model, tensors)
        self._enter(numbers.get("stage", 0), numbers.get("begun", 0))
        self.table.restore(tensors, numbers["updates"])
        self.step, self.images, self.skipped = numbers["step"], numbers["images"], numbers["skipped"]
        self._before, self.concluded = numbers["seconds"], numbers.get("concluded")
        self.failed, self.hopeless = numbers.get("failed"), numbers.get("hopeless", 0)
        self.run.rewind_metrics(self.step)
