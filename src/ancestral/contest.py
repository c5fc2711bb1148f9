"""Evaluate, compare and report, from Python: runs, folders of samples, and whole contests of families."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.api import Plan, plan, run_name
from ancestral.data import DataSet
from ancestral.data import load as load_data
from ancestral.data.sources import BUILT_IN
from ancestral.errors import AncestralError, UsageError
from ancestral.evaluation import BASELINES, Comparison, Contestant, Evaluation, Judge, N, Samples, baseline, compare, draw
from ancestral.evaluation.live import evaluated
from ancestral.evaluation.metrics import frechet
from ancestral.evaluation.reference import Against, real_side
from ancestral.evaluation.samples import at_levels, rank_and_world
from ancestral.families import GenerativeModel
from ancestral.files import write_atomically
from ancestral.names import unknown
from ancestral.progress import Line, Reporter, follow
from ancestral.report import Entry, write
from ancestral.report.entry import Cost
from ancestral.runtime import Runtime
from ancestral.training.budget import Budget
from ancestral.training.catalogue import FAMILIES
from ancestral.training.run import Run

SWEEP = (5, 10, 20, 50)  # steps at which a sampler that has steps is priced
SWEEP_N = 1000
LIVE = 8  # evaluations on the way of each training of a contest


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation, with all that a report of it needs."""

    contestant: Contestant
    entry: Entry
    judge: Judge

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
    judge: Judge | None = None,
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
    run = _as_run(subject)
    with reporter.live() as line:
        if judge is None:
            data, split = _opponent(run, against, line)
            names = list(extractors) if extractors else None
            if run is not None and rank_and_world()[0] > 0:  # another process judges what this one helps to draw
                _drawn(run, run.load_model(device), data, real_side(data, split, n).n, how or {}, line.update)
                raise SystemExit(0)
            judge = Judge(data, against=split, n=n, names=names, runtime=runtime, weights=weights, progress=line.update)
        judge.progress = line.update
        if run is None:
            samples = _samples(subject, judge.data)
            name = str(subject) if isinstance(subject, str | Path) else "samples"
            return Result(Contestant(judge.evaluate(samples, name), samples), Entry(), judge)
        return _evaluate_run(run, judge, how or {}, device)


def _evaluate_run(run: Run, judge: Judge, how: Mapping[str, Any], device: str, name: str | None = None) -> Result:
    model = run.load_model(device)
    recipe = run.recipe
    samples = _drawn(run, model, judge.data, judge.n, how, judge.progress)
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
        model=model,
        family=recipe.model.family,
        cost=cost,
        how={k: str(v) for k, v in how.items()},
    )
    found.save(run.path / "evaluation.json")
    findings: list[str] = next((row["findings"] for row in reversed(rows) if "findings" in row), [])
    return Result(Contestant(found, samples), Entry(rows, recipe.dump(), findings=findings), judge)


def _drawn(
    run: Run, model: GenerativeModel, data: DataSet, n: int, how: Mapping[str, Any], progress: Callable[[str], None]
) -> Samples:
    """Samples of a run's model, which its own data tell the levels and classes of."""
    own = data if data.spec.fingerprint == run.spec.fingerprint else data_of(run)
    return draw(model, own, n, run.path / "evaluation", how, identity=_identity(run), progress=progress)


def report(run: str | Path, *, reporter: Reporter | None = None, out: Path | None = None, **options: Any) -> Path:
    """Evaluate a run and write report.html, .md and .json into its folder. Returns the page. Options as in `evaluate`."""
    result = evaluate(run, reporter=reporter, **options)
    name = result.contestant.name
    comparison = compare([result.contestant], result.judge)
    path = out or Path(run) / "report.html"
    write(comparison, {name: result.entry}, result.judge, path, f"{result.evaluation.family} of {result.evaluation.source}")
    return path


def contest(
    sources: Sequence[str | Path],
    *,
    models: Sequence[str] | None = None,
    budget: str | None = None,
    out: Path | None = None,
    n: int = N,
    size: int | None = None,
    condition: str | None = None,
    extractors: Sequence[str] | None = None,
    settings: tuple[str, ...] = (),
    device: str = "auto",
    weights: Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[Comparison, Path]:
    """Train families on one source under one budget, or take existing runs of one source, and compare them.

    sources: one source, or several run folders. models: of `FAMILIES`; None: all. budget: for each. out: the contest's folder;
    None: runs/compare-NAME. condition: for the families that can have it. Finished runs in the folder are used again,
    interrupted ones continued. Returns the comparison and the report. Raises KeyboardInterrupt, once all is saved, where a
    signal stops it.
    """
    reporter = reporter or Reporter(quiet=True)
    runs = [_as_run(source) for source in sources]
    if len(sources) > 1 or runs[0] is not None:
        if missing := [str(source) for source, run in zip(sources, runs, strict=True) if run is None]:
            raise UsageError(f"compare one source of data, or run folders; {', '.join(missing)} is no run folder")
        given = {str(run.path): run for run in runs if run is not None}
        data = _same_data(list(given.values()), reporter)
        out = out or Path("runs") / f"compare-{data.spec.name}"
        judge = _prepared(data, n, extractors, device, weights, reporter)
    else:
        if strange := [name for name in models or () if name not in FAMILIES]:
            raise UsageError(unknown("model", strange[0], FAMILIES))
        out = out or Path("runs") / f"compare-{run_name(sources[0], None)}"
        plans: dict[str, Plan] = {}
        for name in models or FAMILIES:
            plans[name] = plan(
                sources[0],
                model=name,
                budget=budget,
                out=out / name,
                size=size,
                condition=condition if _has_condition(name) else None,
                device=device,
                settings=settings,
                reporter=reporter,
                data=next(iter(plans.values())).data if plans else None,
            )
        data = next(iter(plans.values())).data
        judge = _prepared(data, n, extractors, device, weights, reporter)
        given = {}
        for name, planned in plans.items():
            if _train(name, planned, judge, reporter):
                given[name] = planned.run
    results = {}
    for name, run in given.items():
        with reporter.live() as line:
            judge.progress = lambda text, name=name: line.update(f"{name}: {text}")  # type: ignore[misc]
            result = _evaluate_run(run, judge, {}, device, name)
            results[name] = replace(result, entry=replace(result.entry, costs=_costs(run, judge, device)))
    contestants = [result.contestant for result in results.values()]
    with reporter.live() as line:
        for name in BASELINES:
            judge.progress = lambda text, name=name: line.update(f"{name}: {text}")  # type: ignore[misc]
            judge.progress("drawing")
            samples = baseline(name, data, judge.n)
            contestants.append(Contestant(judge.evaluate(samples, name), samples, baseline=True))
        judge.progress = line.update
        comparison = compare(contestants, judge)
        line.update("writing the report")
        path = out / "report.html"
        write(comparison, {name: r.entry for name, r in results.items()}, judge, path, f"{data.spec.name}: which model?")
    return comparison, path


def _train(name: str, planned: Plan, judge: Judge, reporter: Reporter) -> bool:
    """To the end of the budget, with live evaluations; a finished run is left as it is. The budget begins now.

    Returns whether there is a model to judge: a training that fails costs the contest nothing else.
    """
    trainer = replace(planned, started=time.monotonic()).begin()
    if trainer.step > 0 and trainer.progress >= 1:
        reporter.say(f"{name}: finished before, used as it is")
        return True
    reporter.say(f"{name}: training for {planned.recipe.train.budget} in {planned.run.path}")
    budget = Budget.parse(planned.recipe.train.budget)
    try:
        with closing(evaluated(trainer, judge, replace(budget, amount=budget.amount / LIVE))) as steps:
            stopped = follow(trainer, reporter, steps=steps)
    except AncestralError as error:
        reporter.say(f"{name}: {error}")
        return (planned.run.model / "model.safetensors").is_file()
    if stopped is not None:
        reporter.say(f"stopped and saved in {planned.run.path}: the same command continues the contest")
        raise KeyboardInterrupt
    return True


def _costs(run: Run, judge: Judge, device: str) -> tuple[Cost, ...]:
    """The headline distance at several numbers of steps, for a model whose walk has steps; at its one setting otherwise."""
    model = run.load_model(device)
    settings = [{"steps": steps} for steps in SWEEP] if "steps" in inspect.signature(model.walk).parameters else [{}]
    file = run.path / "evaluation" / "costs.json"
    key = f"{_identity(run)} {judge.real.key} {list(judge.told)} {settings}"
    if file.exists() and (stored := json.loads(file.read_text()))["key"] == key:
        return tuple(Cost(**cost) for cost in stored["costs"])
    e, project, reference = judge.extractors[0], judge.projections[0], judge.reference[0]
    costs = []
    for how in settings:
        n = min(SWEEP_N, judge.n)
        samples = _drawn(run, model, judge.data, n, how, judge.progress)
        found = frechet(project(e(samples.x)), project(reference))
        setting = ", ".join(str(value) for value in how.values()) or run.recipe.model.family
        costs.append(Cost(setting, (samples.seconds or 0.0) / n, found.value, found.std_err))
    write_atomically(file, json.dumps({"key": key, "costs": [vars(cost) for cost in costs]}).encode())
    return tuple(costs)


def _identity(run: Run) -> str:
    """Of the trained weights."""
    return hashlib.blake2b((run.model / "model.safetensors").read_bytes(), digest_size=8).hexdigest()


def _prepared(
    data: DataSet, n: int, extractors: Sequence[str] | None, device: str, weights: Path | None, reporter: Reporter
) -> Judge:
    runtime = Runtime.choose(device, parameters=10**6)
    with reporter.live() as line:
        names = list(extractors) if extractors else None
        judge = Judge(data, n=n, names=names, runtime=runtime, weights=weights, progress=line.update)
    for name, about in judge.told.items():
        reporter.say(f"judged by {name}: {about}")
    return judge


def _has_condition(name: str) -> bool:
    return "condition" in FAMILIES[name].model_fields


def _as_run(subject: object) -> Run | None:
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


def _same_data(runs: Sequence[Run], reporter: Reporter) -> DataSet:
    if len({run.spec.fingerprint for run in runs}) > 1:
        raise UsageError(
            "these runs are of different data ("
            + "; ".join(f"{run.path}: {run.spec.name}" for run in runs)
            + "), and distances to different data cannot be compared"
        )
    with reporter.live() as line:
        return data_of(runs[0], line)


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
    x = torch.cat([found.values(found.train.array), found.values(found.test.array)])
    if x.shape[1] == 3 and data.spec.shape[0] == 1 and bool((x == x[:, :1]).all()):
        x = x[:, :1]
    return Samples(at_levels(x, data))
