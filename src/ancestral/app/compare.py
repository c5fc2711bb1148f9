"""Comparison of families on one source, or of existing runs, with a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ancestral.app import records
from ancestral.app.api import Plan, plan, run_name
from ancestral.app.data import DataSet, exists
from ancestral.app.evaluate import as_run, data_of, drawn, evaluate_model, evaluate_run, evaluate_samples, identity
from ancestral.app.evaluation import Comparison, Cost, Evaluator, N, Subject, baseline
from ancestral.app.evaluation.live import evaluated
from ancestral.app.evaluation.reference import reference_of
from ancestral.app.lock import locked
from ancestral.app.processes import LostProcessError, joined, processes
from ancestral.app.progress import Reporter, follow
from ancestral.app.recipes import FAMILIES
from ancestral.app.report import write
from ancestral.app.training.budget import Budget
from ancestral.app.training.run import Run
from ancestral.app.training.saved import SavedModel, holds_saved_model
from ancestral.app.training.stage import silent
from ancestral.errors import AncestralError, DamageError, DiskError, UsageError
from ancestral.metrics import frechet
from ancestral.models import GenerativeModel
from ancestral.registry import names
from ancestral.runtime import Runtime
from ancestral.suggest import unknown


@dataclass(frozen=True)
class _Costs:
    """The content of evaluation/costs.json: the costs of a run, and a key of all on which they depend."""

    key: str
    costs: tuple[Cost, ...]


SWEEP = (5, 10, 20, 50)  # numbers of solver steps for which quality and time are measured
SWEEP_N = 1000
LIVE, SHARE = 8, 0.05  # evaluations during each training, and the largest share of its time that they take


@joined()
def compare(
    sources: str | Path | Sequence[str | Path],
    *,
    models: Sequence[str] | None = None,
    budget: str | None = None,
    seeds: int = 1,
    out: Path | None = None,
    n: int = N,
    size: int | str | None = None,
    axes: str | None = None,
    condition: str | Sequence[str] | None = None,
    extractors: Sequence[str] | None = None,
    settings: tuple[str, ...] = (),
    device: str = "auto",
    weights: Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[Comparison, Path] | None:
    """Train families on one source under one budget, or take existing runs of one source, and compare them.

    Finished runs in the folder are used again, and interrupted ones are continued. Runs of one recipe that differ only in their
    seeds are trainings of one subject. Several processes (torchrun) train each model and draw its samples together, and the
    main process evaluates them.

    Args:
        sources: One source of data, or several run folders. Beside a run there can be models without a training: folders of
            saved models or exports, or "diffusers:FOLDER"; and samples of other software: folders of images, .npy, .npz or .csv
            files, in the range of the data.
        models: Names of `FAMILIES`. None: all that the data allow.
        budget: The time of each training, such as "2m". None: a time that suits the data.
        seeds: The number of trainings of each family, with seeds that follow each other.
        out: The folder of the comparison. None: runs/compare-NAME.
        n: Number of samples of each model to compare. Small data sets use fewer.
        size: Size of images in pixels: one side, or height and width as "64x128".
        axes: Names of the axes of an array, such as "n h w c". None: their number and the type of the values decide.
        condition: The condition that controls generation, such as "class", or several.
        extractors: Names of extractors. None: those that suit the data.
        settings: Recipe values of all families, such as "train.batch=64".
        device: "auto", "cpu", "cuda" or "mps".
        weights: The file of the standard FID's weights.
        reporter: The object that shows the progress.

    Returns:
        The comparison and the path of the report, or None in a process that only helps to train and draw.

    Raises:
        KeyboardInterrupt: If a signal stops it. All is saved before.
    """
    reporter = reporter or Reporter(quiet=True)
    if seeds < 1:
        raise UsageError(f"each family is trained at least once, and --seeds is {seeds}")
    sources = [sources] if isinstance(sources, str | Path) else sources
    saved = [str(source) for source in sources if holds_saved_model(source)]
    runs = {str(source): as_run(source) for source in sources if str(source) not in saved}
    files = [source for source, run in runs.items() if run is None and exists(source)] if any(runs.values()) else []
    runs = {source: run for source, run in runs.items() if source not in files}
    with ExitStack() as locks:
        if len(sources) > 1 or saved or None not in runs.values():  # runs, and what stands beside them
            if missing := [source for source, run in runs.items() if run is None]:
                hint = "; several models take commas: --models vae,gan" if set(missing) & set(FAMILIES) else ""
                raise UsageError(
                    f"compare takes one source of data, or run folders; not a run folder: {', '.join(missing)}{hint}"
                )
            if not runs:
                raise UsageError(
                    f"{saved[0]} is a model without data: give a run of its data beside it, or use `ancestral evaluate`"
                )
            existing = {str(run.path): run for run in runs.values() if run is not None}
            if any(value is not None for value in (models, budget, size, axes, condition)) or seeds > 1:
                raise UsageError(
                    "existing runs cannot be changed: leave --models, --for, --seeds, --size, --axes and --condition out"
                )
            if reserved := [str(path) for path in existing if path in names("baseline")]:
                raise UsageError(f"{reserved[0]} is the name of a baseline: give the run as ./{reserved[0]}")
            data = _same_data(list(existing.values()), reporter)
            out = out or Path("runs") / f"compare-{data.spec.name}"
            for folder in (out, *(run.path for run in existing.values())):
                locks.enter_context(locked(folder))
            evaluator = _prepared(data, n, extractors, device, weights, reporter)
            given = _by_recipe(list(existing.values()))
        else:
            if strange := [name for name in models or () if name not in FAMILIES]:
                raise UsageError(unknown("model", strange[0], FAMILIES))
            out = out or Path("runs") / f"compare-{run_name(sources[0], None)}"
            locks.enter_context(locked(out))
            plans: dict[str, Plan] = {}
            for name in models or FAMILIES:
                known = next(iter(plans.values())).data if plans else None
                if models is None and known is not None and (why := FAMILIES[name](family=name).unfit(known.spec)):
                    reporter.say(f"{name}: left out, {why}")
                    continue
                plans[name] = plan(
                    sources[0],
                    model=name,
                    budget=budget,
                    out=out / name,
                    size=size,
                    axes=axes,
                    condition=condition,
                    device=device,
                    settings=settings,
                    reporter=reporter,
                    data=known,
                )
            data = next(iter(plans.values())).data
            evaluator = _prepared(data, n, extractors, device, weights, reporter)
            given = {}
            for k in range(seeds):  # a comparison that is stopped has every family once before it has one twice
                for name, first in plans.items():
                    planned = first if k == 0 else _again(sources[0], first, first.recipe.train.seed + k, device)
                    locks.enter_context(locked(planned.run.path))
                    if _train(planned.run.path.name, planned, evaluator, reporter):
                        given.setdefault(name, []).append(planned.run)
        if evaluator is None:
            for trainings in given.values():
                for run in trainings:
                    _help(run, data, reference_of(data, "test", n).n, device, costs=run is trainings[0])
            return None
        subjects = []
        for name, trainings in given.items():
            members = []
            for run in trainings:
                label = name if len(trainings) == 1 else f"{name}, seed {run.recipe.train.seed}"
                with reporter.live() as line:
                    evaluator.progress = lambda text, label=label: line.update(f"{label}: {text}")  # type: ignore[misc]
                    members.append(evaluate_run(run, evaluator, {}, device, label))
                    if run is trainings[0]:
                        members[0].costs = _costs(run, evaluator, device)
            subjects.append(members[0] if len(members) == 1 else Subject.of_trainings(name, members))
        for name in saved:
            with reporter.live() as line:
                evaluator.progress = lambda text, name=name: line.update(f"{name}: {text}")  # type: ignore[misc]
                subjects.append(evaluate_model(SavedModel(name).load_model(device), evaluator, {}, name))
        for name in files:
            with reporter.live() as line:
                evaluator.progress = lambda text, name=name: line.update(f"{name}: {text}")  # type: ignore[misc]
                subjects.append(evaluate_samples(name, evaluator, name))
        with reporter.live() as line:
            for name in names("baseline"):
                evaluator.progress = lambda text, name=name: line.update(f"{name}: {text}")  # type: ignore[misc]
                evaluator.progress("drawing")
                subjects.append(Subject(name, baseline(name, evaluator.data, evaluator.n), baseline=True))
                evaluator.evaluate(subjects[-1])
            evaluator.progress = line.update
            comparison = Comparison.of(subjects, evaluator)
            line.update("writing the report")
            path = out / "report.html"
            write(comparison, evaluator, path, f"{data.spec.name}: which model?")
        return comparison, path


def _train(name: str, planned: Plan, evaluator: Evaluator | None, reporter: Reporter) -> bool:
    """Train to the end of the budget, which begins now, with evaluations during training. A finished run is not changed.

    Returns:
        Whether there is a model to evaluate. A training that fails does not end the comparison of the others.
    """
    trainer = replace(planned, started=time.monotonic()).begin()
    if trainer.step > 0 and trainer.progress >= 1:
        for note in trainer.repairs:
            reporter.say(f"{name}: {note}")
        if trainer.repairs:
            trainer.save()
        reporter.say(f"{name}: uses the finished run in {planned.run.path}")
        return True
    reporter.say(f"{name}: training for {planned.recipe.train.budget} in {planned.run.path}")
    budget = Budget.parse(planned.recipe.train.budget)
    try:
        every = replace(budget, amount=budget.amount / LIVE)
        with closing(evaluated(trainer, evaluator, every, share=SHARE)) as steps:
            stopped = follow(trainer, reporter, steps=steps)
    except (LostProcessError, DiskError):
        raise
    except AncestralError as error:
        reporter.say(f"{name}: {error}")
        return (planned.run.model / "model.safetensors").is_file()
    if stopped is not None:
        reporter.say(f"stopped and saved in {planned.run.path}: the same command continues the comparison")
        raise KeyboardInterrupt
    return True


def _again(source: str | Path, first: Plan, seed: int, device: str) -> Plan:
    """Plan another training of the same recipe, in a folder beside the first one's that ends in its seed."""
    path = first.run.path
    return plan(
        source,
        out=path.with_name(f"{path.name}-seed{seed}"),
        recipe=first.recipe.model_dump(mode="json"),
        settings=(f"train.seed={seed}",),
        device=device,
        data=first.data,
    )


def _by_recipe(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group the runs of one recipe with different seeds. A group has the path of its first run as its name."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        recipe = run.recipe
        key = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 0})}).dump()
        groups.setdefault(key, []).append(run)
    found: dict[str, list[Run]] = {}
    for group in groups.values():
        different = len({run.recipe.train.seed for run in group}) == len(group)
        found |= {str(group[0].path): group} if different else {str(run.path): [run] for run in group}
    return found


def _costs(run: Run, evaluator: Evaluator, device: str) -> tuple[Cost, ...]:
    """Measure the headline distance at several numbers of solver steps, or once for a model whose sampler has no steps."""
    model = run.load_model(device)
    settings = _settings(model)
    file = run.path / "evaluation" / "costs.json"
    key = f"{identity(run)} {evaluator.reference.key} {list(evaluator.descriptions)} {settings}"
    with suppress(FileNotFoundError, DamageError):  # they are measured again
        stored = records.read(file, _Costs, "")
        if stored.key == key:
            return stored.costs
    e, project, reference = evaluator.extractors[0], evaluator.projections[0], evaluator.reference_features[0]
    costs = []
    for how in settings:
        n = min(SWEEP_N, evaluator.n)
        samples = drawn(run, model, evaluator.data, n, how, evaluator.progress)
        found = frechet(project(e(samples.x)), project(reference))
        setting = ", ".join(str(value) for value in how.values()) or run.recipe.model.title
        costs.append(Cost(setting, (samples.seconds or 0.0) / n, found.value, found.std_err))
    records.write(file, asdict(_Costs(key, tuple(costs))))
    return tuple(costs)


def _settings(model: GenerativeModel) -> list[dict[str, int]]:
    """Return the settings of the sampler whose costs are measured."""
    return [{"steps": steps} for steps in SWEEP] if "steps" in model.options else [{}]


def _help(run: Run, data: DataSet, n: int, device: str, *, costs: bool) -> None:
    """Draw this process's part of the samples that the main process evaluates. costs: also those of `_costs`."""
    model = run.load_model(device)
    drawn(run, model, data, n, {}, silent)
    for how in _settings(model) if costs else []:
        drawn(run, model, data, min(SWEEP_N, n), how, silent)


def _prepared(
    data: DataSet, n: int, extractors: Sequence[str] | None, device: str, weights: Path | None, reporter: Reporter
) -> Evaluator | None:
    """Return the evaluator of the main process, and None in others."""
    if not processes().main:
        return None
    runtime = Runtime.choose(device, parameters=10**6)
    with reporter.live() as line:
        evaluator = Evaluator(data, n=n, extractors=extractors, runtime=runtime, weights=weights, progress=line.update)
    for name, about in evaluator.descriptions.items():
        reporter.say(f"features of {name}: {about}")
    return evaluator


def _same_data(runs: Sequence[Run], reporter: Reporter) -> DataSet:
    if len({run.spec.fingerprint for run in runs}) > 1:
        raise UsageError(
            "these runs are of different data ("
            + "; ".join(f"{run.path}: {run.spec.name}" for run in runs)
            + "): give runs of the same data"
        )
    with reporter.live() as line:
        return data_of(runs[0], line)
