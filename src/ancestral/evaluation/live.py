"""Evaluation while a model trains, and stopping when it no longer helps.

    for step in evaluated(trainer, judge, every=Budget.parse("1m")): ...

Few samples are drawn, so the metric is the kernel distance, whose expectation does not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Generator

from ancestral.evaluation.judge import Judge
from ancestral.evaluation.metrics import kid
from ancestral.evaluation.samples import SEED, rows_for
from ancestral.families import seeds_from
from ancestral.training.budget import Budget
from ancestral.training.state import Step
from ancestral.training.trainer import Trainer

N = 500
REFERENCE = 2000


def evaluated(trainer: Trainer, judge: Judge, every: Budget, patience: int | None = None) -> Generator[Step]:
    """The trainer's steps; at each multiple of `every` the averaged model is judged, and its distance written to metrics.jsonl.

    patience: stop after so many evaluations in a row that did not beat the best by a standard error; None: never.
    """
    e, reference = judge.extractors[0], judge.reference[0]
    reference = reference[:: math.ceil(len(reference) / REFERENCE)]
    n = min(N, judge.n)
    best, since = math.inf, 0
    for row in trainer.run.metrics():
        best = min(best, row.get(f"live/kid-{e.name}", math.inf))
    passed = _count(trainer, every)
    for step in trainer:
        yield step
        if (now := _count(trainer, every)) > passed and trainer.final:
            passed = now
            with trainer.averaged():
                condition = trainer.data.asked(rows_for(trainer.data, n))
                x = trainer.model.sample(n, condition, seeds=seeds_from(SEED, n))
            found = kid(e(x), reference)
            trainer.run.append_metrics(
                {
                    "step": step.step,
                    "images": step.images,
                    "seconds": round(trainer.seconds, 3),
                    f"live/kid-{e.name}": found.value,
                    "live/std_err": found.std_err,
                }
            )
            trainer.notes.append(f"step {step.step}: kid-{e.name} {found.value:.4f} ± {found.std_err:.4f}")
            better = found.value < best - (found.std_err or 0.0)
            best, since = (found.value, 0) if better else (best, since + 1)
            if patience is not None and since >= patience and step.progress < 1:
                trainer.conclude(f"no better in {patience} evaluations, the best kid-{e.name} was {best:.4f}")


def _count(trainer: Trainer, every: Budget) -> int:
    """How many times the amount has been trained so far."""
    spent = {"seconds": trainer.seconds, "iterations": trainer.step, "epochs": trainer.epochs}[every.unit]
    return int(spent / every.amount)
