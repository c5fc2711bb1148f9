"""The training loop of all families, a generator of small typed states.

    for step in Trainer(model, data, run, recipe, runtime): ...

The consumer of the loop decides what to show and when to stop, and does not change its state. The trainer writes the run
folder. All randomness is keyed by (seed, step), so a checkpoint needs no generator state. If the budget is not a time, a
continued run gives the same bits as an uninterrupted one.

Several processes run the same loop (`ancestral.app.processes`). The main one reads the clock and writes the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ancestral.app import migration
from ancestral.app.data import DataSet
from ancestral.app.data.assemble import count
from ancestral.app.pictures import save_grid
from ancestral.app.processes import processes
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.training.budget import Budget, Intervals
from ancestral.app.training.checkpoint import other_tensors, restore_others
from ancestral.app.training.memorisation import AGAIN, VERIFIED, MemorisationWatch, copying, words
from ancestral.app.training.player import MakeOptimizer, PlayerState
from ancestral.app.training.run import Run
from ancestral.app.training.stage import Progress, Stage, StageState, silent
from ancestral.app.training.stages import stages_of
from ancestral.app.training.strategies import strategy_of
from ancestral.conditioning.render import Rendering
from ancestral.errors import AncestralError, UsageError
from ancestral.files import disk_errors
from ancestral.metrics import CopyTest
from ancestral.models import Diagnosis, GenerativeModel, HasPostFit, HasProgress, seeds_from
from ancestral.runtime import Runtime
from ancestral.weights import write_tensors

PATIENCE = 5  # non-finite steps in a row before training stops
HOPELESS = 3  # failed diagnoses in a row before training stops
WARM, TIMED = 2, 8  # steps before the measurement of the speed, and steps that are measured
SHOWN = 16  # samples of a preview; for vectors 512
WATCHED = 21  # seed of the samples that are searched for copies


@dataclass(frozen=True)
class Step:
    """The state of training after a step.

    Attributes:
        step: The number of steps so far.
        images: The number of images so far.
        seconds: The training time so far.
        progress: The spent fraction of the budget.
        losses: Means over the batch and the dimensions, by "player/term".
        grad_norms: Norms of the gradients before clipping, by player.
        lr: The learning rate.
        rate: The current number of images per second.
        memory: The memory in use, in bytes, or 0 if the step is not logged.
        skipped: The reason why the step was skipped, or None.
        diagnosis: The result of the model's health check, if one was due.
        preview: The file of the picture that was written, if one was due.
        logged: Whether the step was written to metrics.jsonl.
        notes: Sentences for the user.
        stage: The name of the stage, if a run has several.
    """

    step: int
    images: int
    seconds: float
    progress: float
    losses: Mapping[str, float]
    grad_norms: Mapping[str, float]
    lr: float
    rate: float
    memory: int
    skipped: str | None = None
    diagnosis: Diagnosis | None = None
    preview: Path | None = None
    logged: bool = False
    notes: list[str] = field(default_factory=list)
    stage: str = ""

    def row(self) -> dict[str, Any]:
        """Return the step as a line of metrics.jsonl."""
        numbers: dict[str, Any] = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 3), "lr": self.lr}
        numbers |= {"stage": self.stage} if self.stage else {}
        numbers |= {"rate": round(self.rate, 1), "memory": self.memory, **self.losses}
        numbers |= {f"{name}/grad_norm": value for name, value in self.grad_norms.items()}
        if self.diagnosis is not None:
            numbers |= self.diagnosis.row()
        return numbers | ({"skipped": self.skipped} if self.skipped else {})


class Trainer:
    """Trainer of a model in a run folder. It continues from the last checkpoint if there is one.

    Iteration yields a `Step` after every step until the budget is spent. `save()` writes a checkpoint at once. Steps, images,
    seconds and progress are counted over all stages of the training.

    Args:
        model: The model.
        data: The data.
        run: The run folder.
        recipe: The recipe. It defines the stages of the training.
        runtime: Device and precision.
        started: The `time.monotonic()` at which a time budget begins. None: now.
        progress: A function that is called with a line of text about long work between steps.
        optimizer: A function from parameters to their optimiser, called for each player. None: AdamW with the recipe's
            settings.
        lr_schedule: A function from (step of the stage, progress of the stage in [0, 1]) to the factor of the learning rate.
            None: the recipe's warm-up and decay.

    Raises:
        AncestralError: If losses stay non-finite.
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
        progress: Progress = silent,
        optimizer: MakeOptimizer | None = None,
        lr_schedule: Callable[[int, float], float] | None = None,
    ):
        self.processes = processes()
        settings = recipe.train
        self.strategy = strategy_of(settings.strategy, self.processes, settings.accumulate, ordered=settings.ordered)
        model.conditioner.fit(data.train.all_columns)
        self.model, self.run, self.recipe, self.runtime = model, run, recipe, runtime
        self.data = data.encoded(model.conditioner)
        self.budget = Budget.parse(recipe.train.budget)
        runtime.place(model)
        model.precision = runtime.autocast
        if runtime.compiled:
            model.compile()
        self.show, self.optimizer, self.lr_schedule = progress, optimizer, lr_schedule
        self.stages = stages_of(model, self.data, recipe.model, flip=recipe.data.flip)
        self.step = self.images = self.skipped = 0
        self.repairs: list[str] = []  # what was wrong with the run folder
        self._notes = [*model.notes, *model.conditioner.notes(recipe.data.flip)]
        if recipe.train.epochs is not None and self.budget.unit == "seconds":
            self._notes.append(
                f"training ends after {recipe.train.epochs:g} passes through the data (train.epochs): with more passes the "
                "model would memorise so few samples"
            )
        self.failed: str | None = None  # how the model has failed, by the last diagnosis
        self.hopeless = 0  # failed diagnoses in a row
        self.concluded: str | None = None  # why training ends before its budget
        self.watch = None if settings.memorisation == "off" else MemorisationWatch(self.data, flip=recipe.data.flip)
        self._evaluations = 0  # of the network for one sample, 0 before they are known
        self.copied = False  # whether that is because the model began to copy its training samples
        self.stopped: int | None = None  # the signal by which training was stopped
        self._asked = 0  # the signal that asked this process to stop
        self._before = 0.0  # seconds of earlier sessions of this run
        self._started = time.monotonic() if started is None else started
        self._elapsed = 0.0  # seconds of this session, by the clock of the main process
        self._tick()
        self._taken, self._timed = 0, 0.0  # steps of this session, and the time after the first of them
        self._resume()
        self._change_settings()
        if self.processes.main:
            self.stored = run.recipe
            run.describe(data.spec, recipe)

    def _enter(self, number: int, begun: int) -> None:
        """Enter training stage `number`, which began at step `begun`."""
        self.number, self.begun = number, begun
        stage = self.stage
        data = stage.data(self.run.path, self.show)
        train = self.recipe.train.model_copy(update=dict(stage.train))
        flip = self.recipe.data.flip
        self.state = StageState(stage.model, data, train, self.runtime, self.strategy, flip=flip, optimizer=self.optimizer)
        self.state.fit_memory()
        if stage.name:
            self._notes.append(f"stage {number + 1} of {len(self.stages)}: the {stage.name}, {stage.share:.0%} of the budget")
            self._notes += stage.model.notes
        if data is not self.data:
            self._notes += data.notes

    def _begin(self, number: int) -> None:
        """Enter a stage for the first time, after a check of the result of earlier stages."""
        self._enter(number, self.step)
        if self.stage.look is not None:
            found = self.stage.look()
            self._notes.append(found.line)
            self.record(self._counters() | found.row())

    @property
    def stage(self) -> Stage:
        return self.stages[self.number]

    @property
    def final(self) -> bool:
        """Whether the last stage has begun, so that samples are meaningful."""
        return self.number == len(self.stages) - 1

    @property
    def players(self) -> list[PlayerState]:
        """The training state of each player of the current stage."""
        return self.state.players

    @property
    def seconds(self) -> float:
        """The time spent on this run so far, in all sessions together. It is read once a step."""
        return self._before + self._elapsed

    def _tick(self) -> int:
        """Read the clock of the main process, and return the signal that asked any process to stop, or 0."""
        own = time.monotonic() - self._started if self.processes.main else 0.0
        self._elapsed, asked = self.processes.largest(own, self._asked)
        return int(asked)

    def stop(self, signal: int) -> None:
        """Save and end the iteration after the current step, because of a signal. All processes stop after the same step."""
        self._asked = signal

    def record(self, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl, in the main process."""
        if self.processes.main:
            self.run.append_metrics(row)

    @property
    def epochs(self) -> float:
        return self.images / len(self.data.train)

    @property
    def progress(self) -> float:
        """The spent fraction of the budget, 1 if training ended early."""
        if self.concluded:
            return 1.0
        spent = self.budget.progress(seconds=self.seconds, iterations=self.step, epochs=self.epochs)
        most = self.recipe.train.epochs
        return spent if most is None or self.budget.unit != "seconds" else min(1.0, max(spent, self.epochs / most))

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def within(self, progress: float) -> float:
        """Return the progress of the current stage in [0, 1], for a progress of the run."""
        start = sum(stage.share for stage in self.stages[: self.number])
        return min(1.0, max(0.0, (progress - start) / self.stage.share))

    def __iter__(self) -> Iterator[Step]:
        train = self.recipe.train
        intervals = Intervals(
            self.progress,
            self.seconds,
            self.images,
            previews=train.previews,
            diagnoses=train.diagnoses,
            checkpoint_every=train.checkpoint_every,
        )
        failures = 0
        with self.runtime.threaded():
            self.model.train()
            progress = self.progress  # read once per step, so that the step that ends the budget reports it
            while progress < 1 or not self.final or self.step == self.begun:  # each stage takes at least one step
                if self.within(progress) >= 1 and not self.final:
                    self.state.finish()
                    self._begin(self.number + 1)
                    self.save()
                    self.model.train()
                schedule = self.lr_schedule or self.state.train.factor
                factor = schedule(self.step - self.begun, self.within(progress))
                if isinstance(self.stage.model, HasProgress):
                    self.stage.model.on_progress(self.within(progress))
                losses, grad_norms, failure = self.state.update(self.step, self.images, factor)
                failures = failures + 1 if failure else 0
                if failures >= PATIENCE:
                    self.save()
                    raise AncestralError(
                        f"training stopped at step {self.step}: {PATIENCE} steps in a row were not finite, the last time in "
                        f"{failure}; the averaged model from before is in {self.run.model}; lower train.lr or set "
                        "train.precision=fp32"
                    )
                self.step += 1
                self.images += self.state.batch
                self.skipped += failure is not None
                asked = self._tick()
                progress = self.progress
                self._look_for_copies(progress)
                progress = 1.0 if self.concluded else progress
                diagnosis = self.state.diagnose() if intervals.diagnoses.due(progress) else None
                if diagnosis is not None:
                    self.failed = diagnosis.failed
                    self.hopeless = self.hopeless + 1 if self.failed else 0
                    if not self.failed and not isinstance(self.stage.model, HasPostFit):
                        self._save_model()  # the model has just passed its check
                picture = self._preview() if intervals.previews.due(progress) else None
                if intervals.checkpoint_due(self.seconds):
                    self.save()
                logged = intervals.log_due(
                    self.seconds,
                    self.images,
                    now_at_least=self.step == 1 or progress >= 1 or failure is not None or diagnosis is not None,
                )
                self._measure(progress)
                notes, self._notes = [*self._notes, *self.state.notes], []
                self.state.notes.clear()
                state = Step(
                    step=self.step,
                    images=self.images,
                    seconds=self.seconds,
                    progress=progress,
                    losses=losses,
                    grad_norms=grad_norms,
                    lr=factor * self.state.train.lr,
                    rate=intervals.rate,
                    memory=self.runtime.memory() if logged else 0,
                    skipped=failure,
                    diagnosis=diagnosis,
                    preview=picture,
                    logged=logged,
                    notes=notes,
                    stage=self.stage.name,
                )
                if logged:
                    self.record(state.row())
                yield state
                if asked and progress < 1:
                    self.save()
                    self.stopped = asked
                    return
                if self.hopeless >= HOPELESS:
                    self.save()
                    raise AncestralError(f"training stopped at step {self.step}: {self.failed}; {self.run.remaining_model}")
            self.save()

    def _look_for_copies(self, progress: float) -> None:
        """Measure the copy rate if that is due, and end the training if the rate is over twice its expectation."""
        watch, images = self.watch, (self.step - self.begun) * self.state.batch
        if watch is None or not self.final or not watch.begins(images):
            return
        if not self._evaluations:
            if problem := self.processes.by_main(watch.prepare):
                self._notes.append(f"copies of training samples are not looked for: {problem}")
                self.watch = None
                return
            self._evaluations = self._count_evaluations()
        if not (n := watch.due(images, self.within(progress), self._evaluations)):
            return
        watch.images = images
        x = self._fresh(watch, n)
        found = self.processes.by_main(lambda: watch.check(x))
        if found.rate > found.expected / 2:  # too few samples to decide
            x = torch.cat([x, self._fresh(watch, (AGAIN - 1) * n)])
            found = self.processes.by_main(lambda: watch.check(x))
        row = self._counters() | watch.row(found) | {"copies": None}
        if self.recipe.train.memorisation == "warn":
            if copying(found):
                row["copies"] = f"at step {self.step:,} the model copies its training samples: {words(found)}"
                self._notes.append(row["copies"])
        elif copying(found) or (progress >= 1 and found.doubled and watch.clean):
            row["copies"] = self._end_before_copies(watch, found, spent=progress >= 1)
        else:
            watch.offer(found, self.step, self.state.averages)
        self.record(row)

    def _end_before_copies(self, watch: MemorisationWatch, found: CopyTest, *, spent: bool) -> str:
        """End the training with the weights of the last check without too many copies. Returns the sentence about it.

        Args:
            watch: The watch.
            found: The result of its last check.
            spent: Whether the budget is spent anyway.
        """
        told = "no weights from before are known"
        for kept in reversed(watch.kept):  # the newest that more samples confirm
            self.state.restore_averages(kept.weights)
            x = self._fresh(watch, VERIFIED)
            again = self.processes.by_main(partial(watch.check, x))
            told, watch.kept = f"the weights of step {kept.step:,}, with {again.rate:.1%} copies, are kept", [kept]
            if again.rate <= again.expected:
                break
        larger = " and a larger --for (Python: budget=)" if spent else ""
        self.copied = True
        self.concluded = (
            f"at step {self.step:,} the model has begun to copy its training samples: {words(found)}; {told}; more data help; "
            f"to train further all the same, give the same command with train.memorisation=off{larger}"
        )
        self._notes.append(f"training ends: {self.concluded}")
        return self.concluded

    def _counters(self) -> dict[str, Any]:
        return {"step": self.step, "images": self.images, "seconds": round(self.seconds, 3)}

    def _fresh(self, watch: MemorisationWatch, n: int) -> Tensor:
        """Draw samples with seeds that no check has used, under the conditions of held-out samples."""
        drawn = watch.drawn
        watch.drawn += n
        rows = (drawn + torch.arange(n)) % len(self.data.test)
        return self.draw(n, self.data.asked(rows), seeds_from(WATCHED, drawn + n)[drawn:]).cpu()

    def _count_evaluations(self) -> int:
        """Return the number of evaluations of the network for a sample."""
        self.state.fit_after()
        with self.averaged():
            states = self.model.trajectory(1, self.data.asked(torch.zeros(1, dtype=torch.long)))
            return max([1, *(state.nfe for state in states)])

    def _change_settings(self) -> None:
        """Continue with the recipe's budget and watch, which may be new. The old budget stays if the new one is spent."""
        train = self.recipe.train
        old, watched = self.processes.by_main(lambda: (self.run.recipe.train.budget, self.run.recipe.train.memorisation))
        new = train.budget
        self.changed = (old, watched) != (new, train.memorisation)
        if not self.changed:
            return
        if self.copied and train.memorisation != "stop":
            concluded, self.concluded = self.concluded, None
            if self.progress >= 1:
                self.concluded = concluded
                self._notes.append(
                    f"the budget {new} is spent: to train this run further, also give a larger --for (Python: budget=)"
                )
                return
            self.copied = False
            said = f"the model had begun to copy its training samples by step {self.step:,}, and was trained further"
            self.record(self._counters() | {"copies": said})
        if self.copied:
            self._notes.append(f"the budget stays {old}, because more time does not help this run")
            return
        if old != new and self.progress >= 1 and not self.concluded:
            self._notes.append(f"the budget {new} is already spent: this run was trained for {old}")
            return
        if old != new:
            self.concluded = None
            self._notes.append(
                f"the budget changes from {old} to {new}, of which {self.progress:.0%} is spent; learning rate and average "
                "follow the new budget"
            )
        if self.processes.main:
            self.run.rewrite(self.recipe)

    def _measure(self, progress: float) -> None:
        """Measure the speed after the first steps of this session, and note how many steps fit into the budget."""
        self._taken += 1
        if self._taken == WARM:
            self._timed = time.monotonic()
        elif self._taken == WARM + TIMED and self.budget.unit == "seconds":
            each = (time.monotonic() - self._timed) / TIMED
            total = self.step + max(0.0, self.budget.amount - self.seconds) / each
            if self.recipe.train.epochs is not None:
                total = min(total, self.recipe.train.epochs * len(self.data.train) / self.state.batch)
            passes = total * self.state.batch / len(self.data.train)
            self._notes.append(
                f"about {total:,.0f} steps fit into {self.recipe.train.budget}: {passes:.1f} passes through the data"
            )
            if (few := self._too_few(total)) is not None:
                least, become = few
                self._notes.append(
                    f"{total:,.0f} steps are too few: after fewer than about {least:,} steps samples {become}; {self._remedy}"
                )

    @property
    def verdict(self) -> str | None:
        """A warning at the end of training if it had too few steps, or None."""
        few = self._too_few(self.step)
        if few is None or self.budget.unit != "seconds" or self.concluded:
            return None
        if self.seconds < 0.95 * self.budget.amount:
            ended = f"{self.recipe.train.epochs:g} passes (train.epochs) ended the training after {count(self.step, 'step')}"
            return f"{ended}: samples {few[1]}; raise train.epochs, or give more data"
        return f"only {count(self.step, 'step')} fitted into {self.recipe.train.budget}: samples {few[1]}; {self._remedy}"

    def _too_few(self, steps: float) -> tuple[int, str] | None:
        """Return the number of steps that is missed, and what becomes of the samples, or None if there are enough steps.

        Simple data need fewer steps than others, so between a quarter of the number and the number it is only a possibility.
        """
        least = self.recipe.model.least_steps
        if steps >= least:
            return None
        return (least // 4, "may be noise") if steps < least // 4 else (least, "may be rough")

    @property
    def _remedy(self) -> str:
        """What to do if too few steps fit into the budget."""
        section = "model.prior" if self.recipe.model.family == "latent" else "model"
        known = section == "model.prior" or "width" in type(self.recipe.model).model_fields
        remedies = ["give more time with --for (Python: budget=)"]
        remedies += ["smaller images with --size"] if self.data.spec.is_image else []
        if not self.recipe.model.smallest:
            remedies.append("a smaller network" + (f" (train: {section}.width)" if known else ""))
        return ", or ".join([", ".join(remedies[:-1]), remedies[-1]] if len(remedies) > 1 else remedies)

    def conclude(self, reason: str) -> None:
        """End the training with the next step, as if its budget were spent. A continued run does not train further."""
        self.concluded = reason
        self._notes.append(f"training ends early: {reason}")

    def save(self) -> None:
        """Write a checkpoint, and also the averaged model unless the last diagnosis found that it failed.

        Raises:
            AncestralError: If a tensor of the model is not finite. Nothing is written then.
        """
        for name, value in self.strategy.state_dict(self.model).items():
            if not value.isfinite().all():
                raise AncestralError(
                    f"training stopped at step {self.step}: {name} of the model is not finite; the last checkpoint is in "
                    f"{self.run.checkpoints}; lower train.lr or set train.precision=fp32"
                )
        trained = [p for state in self.players for p in state.player.parameters]
        tensors = self.state.tensors() | other_tensors(self.model, trained)
        tensors |= {} if self.watch is None else self.watch.tensors()
        numbers = {
            "step": self.step,
            "images": self.images,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "progress": self.progress,
            "format": 2,
            "updates": [state.ema.t for state in self.players],
            "concluded": self.concluded,
            "copied": self.copied,
            "watch": None if self.watch is None else self.watch.numbers(),
            "failed": self.failed,
            "hopeless": self.hopeless,
            "stage": self.number,
            "begun": self.begun,
            "data": self.data.fingerprint,
            "parameters": self.parameters,
        }
        if self.processes.main:
            numbers |= {"run": self.run.id, "recipe": self.stored.model_dump(mode="json"), "rows": self.run.lines()}
            self.run.save_checkpoint(self.step, tensors, numbers, self.recipe.train.keep)
        if self.failed is None:
            self.state.fit_after()
            self._save_model()
        self.processes.wait()  # until the files are there

    def _save_model(self) -> None:
        with self.averaged():
            tensors = self.strategy.state_dict(self.model)
            if self.processes.main:
                self.run.save_model(tensors, self.stored)

    def _preview(self) -> Path:
        """Write a picture with samples of the current averaged model."""
        path = self.run.samples / f"step-{self.step:08d}.png"
        self.state.fit_after()
        with self.averaged():
            parts, renderings = self._pictures()
        rows = tuple(parts)
        columns = len(parts[rows[0]]) if len(rows) > 1 else None
        if not self.processes.main:
            return path
        with disk_errors(self.run.path):
            x = torch.cat([*parts.values()])
            save_grid(x, path, self.data.spec, columns, renderings, rows if len(rows) > 1 else ())
            stored = {name: self.data.stored(part) for name, part in parts.items()}
            write_tensors(path.with_suffix(".safetensors"), stored, {})
        return path

    def _pictures(self) -> tuple[Mapping[str, Tensor], Sequence[Rendering]]:
        """Return the samples of a preview, always with the same seeds and conditions, and their rendered conditions.

        The samples are one part; if the stage has pictures of its own, these are returned with the labels of their rows.
        """
        if self.stage.pictures is not None:
            seen = self.state.data
            few = torch.arange(min(SHOWN // 2, len(seen.test)))
            return self.stage.pictures(seen.batch(few, "test").to(self.model.device)), ()
        n = SHOWN if len(self.model.shape) > 1 else 512
        rows = torch.linspace(0, len(self.data.test) - 1, n).long()
        return {"samples": self._drawn(n, self.data.asked(rows), range(n))}, self.data.render(rows)

    def averaged(self) -> AbstractContextManager[None]:
        """Replace the model's parameters by their moving averages inside the context."""
        return self.state.averaged()

    def draw(self, n: int, condition: Any, seeds: Sequence[int]) -> Tensor:
        """Draw samples `(n, *shape)` of the current averaged model, after the fit of its parts without a gradient.

        Each process draws a part of them and receives all.
        """
        self.state.fit_after()
        with self.averaged():
            return self._drawn(n, condition, seeds)

    def _drawn(self, n: int, condition: Any, seeds: Sequence[int]) -> Tensor:
        each = -(-n // self.processes.count)
        rows = (torch.arange(each) + each * self.processes.rank).clamp(max=n - 1)  # equally many in each process
        own = {name: value[rows] if isinstance(value, Tensor) else value for name, value in (condition or {}).items()}
        x = self.model.sample(each, own, seeds=[seeds[i] for i in rows.tolist()])
        return self.processes.stacked(x).flatten(0, 1)[:n]

    def finished(self) -> GenerativeModel:
        """Return the trained model with its averaged weights, in evaluation mode."""
        self.state.finish()
        return self.model.eval()

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes that no step has reported yet."""
        return tuple(self._notes)

    def _resume(self) -> None:
        stored = self.run.load_checkpoint()
        steps = self.processes.gathered(-1 if stored is None else stored.numbers["step"])
        if len(set(steps)) > 1:
            raise UsageError(
                f"the processes find different checkpoints in {self.run.path}: put the run folder on a disk that all machines "
                "share"
            )
        self.repairs += self.processes.by_main(self.run.model_problems)
        if stored is None:
            if self.run.weights.exists():
                self.repairs.append(f"{self.run.checkpoints} has no checkpoint: training begins anew")
            if self.processes.main:
                self.run.rewind_metrics(0)
            self._notes += self.repairs
            self._begin(0)
            return
        tensors, numbers = stored.tensors, stored.numbers
        for damaged in stored.damaged:  # renamed, so that it is not taken for the newest checkpoint
            self.repairs.append(f"{damaged.name} is damaged; continuing from {stored.file.name}")
            if self.processes.main:
                with disk_errors(self.run.path):
                    damaged.rename(damaged.with_suffix(".damaged"))
        if self.processes.main:
            self.repairs += self.run.measured()[1]
        if "run" not in numbers:
            self.repairs.append("the files of this run were written by an earlier version, without complete checksums")
        self._notes += self.repairs
        if numbers["data"] != self.data.fingerprint:
            raise AncestralError(
                f"the data of {self.run.path} have changed since it began: restore them, or start a new run with another --out"
            )
        if numbers["parameters"] != self.parameters:
            raise AncestralError(
                f"the checkpoints of {self.run.path} are of another network ({numbers['parameters']:,} parameters, not "
                f"{self.parameters:,}) and were made by another version: start a new run with another --out"
            )
        restore_others(self.model, tensors)
        self._enter(numbers.get("stage", 0), numbers.get("begun", 0))
        for state in self.players:
            tensors = migration.checkpoint(tensors, state.player.name, state.names, state.player.parameters)
        self.state.restore(tensors, numbers["updates"])
        self.step, self.images, self.skipped = numbers["step"], numbers["images"], numbers["skipped"]
        self._before, self.concluded = numbers["seconds"], numbers.get("concluded")
        self.copied = numbers.get("copied", False)
        if self.watch is not None and (watched := numbers.get("watch")):
            self.watch.restore(watched, stored.tensors)
        self.failed, self.hopeless = numbers.get("failed"), numbers.get("hopeless", 0)
        if self.processes.main:
            self.run.rewind_metrics(self.step)
