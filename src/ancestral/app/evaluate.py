"""Evaluator a run, or samples that came from elsewhere, from Python: evaluate, report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data import load as load_data
from ancestral.app.data.sources import BUILT_IN
from ancestral.app.evaluation import Evaluation, Evaluator, N, Samples, Subject, compare, draw
from ancestral.app.evaluation.reference import Against, real_side
from ancestral.app.evaluation.samples import at_levels, rank_and_world
from ancestral.app.progress import Line, Reporter
from ancestral.app.report import Entry, write
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, UsageError
from ancestral.models import GenerativeModel
from ancestral.runtime import Runtime


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation, with all that a report of it needs."""

    contestant: Subject
    entry: Entry
    judge: Evaluator

    @property
    def evaluation(self) -> Evaluation:
        return self.contestant.evaluation


def evaluate(
    subject: str | Path | np.ndarray | Tensor,
    against: str | Path | DataSet = "test",
    *,
    n: int = N,
    extractors: Sequence[str] | None = None,
    how: Mapping[str, Any] | None = None,
    device: str = "auto",
    weights: Path | None = None,
    judge: Evaluator | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """How good are the samples of a run, or samples that came from elsewhere?

    subject: a run folder; or samples: a folder of images, an `.npy` or `.npz` file, an array.
    against: for a run "test" or "train", a split of its own data, or another source as `ancestral.load_data` takes it; for
    samples such a source. A built-in source is compared by its held-out split, another by all it has.
    n: samples; fewer where the data are few. extractors: names; None: what suits the data. how: options of the sampler.
    weights: the file of the standard FID's weights. judge: one prepared before, in place of against, n, extractors and weights.
    Raises UsageError and AncestralError, each one sentence.
    """
    reporter = reporter or Reporter(quiet=True)
    runtime = Runtime.choose(device, parameters=10**6)
    run = as_run(subject)
    with reporter.live() as line:
        if judge is None:
            data, split = _opponent(run, against, line)
            names = list(extractors) if extractors else None
            if run is not None and rank_and_world()[0] > 0:  # another process judges what this one helps to draw
                drawn(run, run.load_model(device), data, real_side(data, split, n).n, how or {}, line.update)
                raise SystemExit(0)
            judge = Evaluator(data, against=split, n=n, names=names, runtime=runtime, weights=weights, progress=line.update)
        judge.progress = line.update
        if run is None:
            samples = _samples(subject, judge.data)
            name = str(subject) if isinstance(subject, str | Path) else "samples"
            return Result(Subject(judge.evaluate(samples, name), samples), Entry(), judge)
        return evaluate_run(run, judge, how or {}, device)


def evaluate_run(run: Run, judge: Evaluator, how: Mapping[str, Any], device: str, name: str | None = None) -> Result:
    """A run judged by a judge of its data; written to its evaluation.json. name: of the subject; None: the run's path."""
    model = run.load_model(device)
    recipe = run.recipe
    samples = drawn(run, model, judge.data, judge.n, how, judge.progress)
    if judge.data.spec.classes != run.spec.classes:  # of other data, whose labels mean something else
        samples = replace(samples, labels=None)
    cost = {"parameters": float(sum(p.numel() for p in model.parameters()))}
    if samples.seconds:
        cost["samples_per_second"] = len(samples) / samples.seconds
    cost |= {key: float(v) for key, v in (("nfe", samples.nfe), ("memory", samples.memory)) if v}
    rows = run.metrics()
    if rows:
        cost |= {"training_seconds": rows[-1]["seconds"], "images": rows[-1]["images"]}
    found = judge.evaluate(
        samples,
        name or str(run.path),
        model=model if judge.data.spec.fingerprint == run.spec.fingerprint else None,
        family=recipe.model.family,
        cost=cost,
        how={k: str(v) for k, v in how.items()},
    )
    found.save(run.path / "evaluation.json")
    findings = [finding for row in run.diagnoses() for finding in row["findings"]]
    return Result(Subject(found, samples), Entry(rows, recipe.dump(), findings=findings), judge)


def drawn(
    run: Run, model: GenerativeModel, data: DataSet, n: int, how: Mapping[str, Any], progress: Callable[[str], None]
) -> Samples:
    """Samples of a run's model, which its own data tell the levels and classes of."""
    own = data if data.spec.fingerprint == run.spec.fingerprint else data_of(run)
    return draw(model, own, n, run.path / "evaluation", how, identity=identity(run), progress=progress)


def report(run: str | Path, *, reporter: Reporter | None = None, out: Path | None = None, **options: Any) -> Path:
    """Evaluate a run and write report.html, .md and .json into its folder. Returns the page. Options as in `evaluate`."""
    result = evaluate(run, reporter=reporter, **options)
    name = result.contestant.name
    comparison = compare([result.contestant], result.judge)
    path = out or Path(run) / "report.html"
    write(comparison, {name: result.entry}, result.judge, path, f"{result.evaluation.family} of {result.evaluation.source}")
    return path


def identity(run: Run) -> str:
    """Of the trained weights."""
    return hashlib.blake2b((run.model / "model.safetensors").read_bytes(), digest_size=8).hexdigest()


def as_run(subject: object) -> Run | None:
    """The run that the path holds, if it holds one."""
    if isinstance(subject, str | Path):
        run = Run(subject)
        if run.recipe_file.is_file():
            return run
    return None


def data_of(run: Run, line: Line | None = None) -> DataSet:
    """The data that a run was trained on. Raises AncestralError if they have changed since."""
    recipe = run.recipe
    progress = (lambda done, total: line.update(f"reading {done:,} of {total:,}")) if line else None
    data = load_data(recipe.data.source, size=recipe.data.size, progress=progress)
    if data.spec.fingerprint != run.spec.fingerprint:
        raise AncestralError(
            f"the data of {run.path} ({recipe.data.source}) have changed since it was trained: restore them, or name a source "
            "with --against"
        )
    return data


def _opponent(run: Run | None, against: str | Path | DataSet, line: Line) -> tuple[DataSet, Against]:
    """The real data of a comparison, and which part of them is the reference."""
    if isinstance(against, DataSet):
        return against, "test"
    if str(against) in ("test", "train"):
        if run is None:
            raise UsageError("samples need real data to be compared with: name them with --against SOURCE")
        return data_of(run, line), "test" if str(against) == "test" else "train"
    size = None
    if run is not None and run.spec.is_image:
        size = (run.spec.shape[1], run.spec.shape[2])
    data = load_data(against, size=size, progress=lambda done, total: line.update(f"reading {done:,} of {total:,}"))
    return data, "test" if str(against) in BUILT_IN else "all"


def _samples(subject: Any, data: DataSet) -> Samples:
    """Samples that came from elsewhere, at the size and the levels of the data."""
    size = (data.spec.shape[1], data.spec.shape[2]) if data.spec.is_image else None
    found = load_data(subject, size=size)
    x = torch.cat([found.x("train"), found.x("test")])
    if x.shape[1] == 3 and data.spec.shape[0] == 1 and bool((x == x[:, :1]).all()):
        x = x[:, :1]
    return Samples(at_levels(x, data))
