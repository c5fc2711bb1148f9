"""Evaluation during training, with early stopping.

    for step in evaluated(trainer, evaluator, every=Budget.parse("1m")): ...

Few samples are drawn, so the metric is the kernel distance, whose expectation does not depend on their number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import replace

from torch import Tensor

from ancestral.app.evaluation.evaluator import Evaluator
from ancestral.app.evaluation.samples import SEED, rows_for
from ancestral.app.training.budget import Budget
from ancestral.app.training.loop import Step, Trainer
from ancestral.metrics import Estimate, kid
from ancestral.models import seeds_from

LEAST, N = 50, 500  # samples of an evaluation
REFERENCE = 2000


def evaluated(
    trainer: Trainer, evaluator: Evaluator | None, every: Budget, patience: int | None = None, share: float | None = None
) -> Generator[Step]:
    """Yield the trainer's steps. At each multiple of `every`, evaluate the averaged model and log its distance.

    Several processes draw the samples together, and the main process evaluates them.

    Args:
        trainer: The trainer.
        evaluator: The evaluator, whose first extractor is used. None: that of the main process.
        every: The interval between evaluations.
        patience: The number of successive evaluations without improvement by a standard error after which training stops.
            None: training does not stop early.
        share: The largest share of the training time that evaluations may take, since families differ in the cost of a sample.
            Then they have fewer samples, and some are left out; the first has `LEAST`. None: each has as many as possible.
    """
    group = trainer.processes
    name, most = group.shared(("", 0) if evaluator is None else (evaluator.extractors[0].name, min(N, evaluator.n)))
    measure = None if evaluator is None else _distance(evaluator)
    best, since, passed = math.inf, 0, 0
    spent, each = 0.0, None  # seconds of all evaluations, and of each sample of the last one

    def affordable(last: bool) -> int:
        if share is None:
            return most
        n = LEAST if each is None else int((share * trainer.seconds - spent) / each)
        return 0 if n < LEAST and not last else min(max(n, LEAST), most)

    def count(value: float, std_err: float) -> None:
        nonlocal best, since
        best, since = (value, 0) if value < best - std_err else (best, since + 1)

    for row in group.by_main(trainer.run.metrics):  # the evaluations before a resume
        if f"live/kid-{name}" in row:
            passed = _count(trainer, every, row["seconds"], row["step"], row["images"])
            if (value := row[f"live/kid-{name}"]) is not None:
                count(value, row["live/std_err"] or 0.0)
    for step in trainer:
        if (now := _count(trainer, every, trainer.seconds, trainer.step, trainer.images)) > passed and trainer.final:
            passed, n = now, group.shared(affordable(step.progress >= 1))
            if not n:
                yield step
                continue
            begun = time.monotonic()
            x = trainer.draw(n, trainer.data.asked(rows_for(trainer.data, n)), seeds_from(SEED, n))
            found = group.shared(None if measure is None else measure(x))
            assert found is not None
            each = (time.monotonic() - begun) / n
            spent += each * n
            trainer.record(
                {
                    "step": step.step,
                    "images": step.images,
                    "seconds": round(trainer.seconds, 3),
                    f"live/kid-{name}": found.value,
                    "live/std_err": found.std_err,
                }
            )
            note = f"step {step.step}: kid-{name} {found.value:.4f} ± {found.std_err:.4f}"
            step = replace(step, notes=[*step.notes, note])
            count(found.value, found.std_err or 0.0)
            if patience is not None and since >= patience and step.progress < 1:
                trainer.conclude(f"no improvement in {patience} evaluations, the best kid-{name} was {best:.4f}")
        yield step


def _distance(evaluator: Evaluator) -> Callable[[Tensor], Estimate]:
    """Return the function from samples to their kernel distance from the evaluator's reference."""
    e, reference = evaluator.extractors[0], evaluator.reference_features[0]
    scale, every_so_many = evaluator.scales[0], slice(None, None, math.ceil(len(reference) / REFERENCE))
    reference, strata = scale(reference[every_so_many]), evaluator.reference.strata
    strata = None if strata is None else strata[every_so_many]
    return lambda x: kid(scale(e(x)), reference, None, strata)


def _count(trainer: Trainer, every: Budget, seconds: float, step: int, images: int) -> int:
    """Return how many intervals of length `every` have passed."""
    spent = {"seconds": seconds, "iterations": step, "epochs": images / len(trainer.data.train)}[every.unit]
    return int(spent / every.amount)
