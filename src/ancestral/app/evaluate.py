"""The functions `evaluate` and `report`, for runs and for samples of any other software."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet, exists, is_name
from ancestral.app.data import load as load_data
from ancestral.app.data.sources import BUILT_IN
from ancestral.app.evaluation import Comparison, Evaluation, Evaluator, Metric, N, Samples, Subject, draw
from ancestral.app.evaluation.extractors import Extractor
from ancestral.app.evaluation.ranges import like
from ancestral.app.evaluation.reference import Against, reference_of
from ancestral.app.evaluation.samples import at_levels, first_states, rank_and_world
from ancestral.app.lock import InUseError, locked
from ancestral.app.progress import Line, Reporter
from ancestral.app.recipes.own import OWN
from ancestral.app.remote import is_remote, located
from ancestral.app.report import write
from ancestral.app.sampling import SampleRequest
from ancestral.app.suggestions import suggestions
from ancestral.app.training.run import Run, findings
from ancestral.app.training.saved import SavedModel, holds_saved_model, weights_of
from ancestral.errors import AncestralError, UsageError
from ancestral.models import GenerativeModel
from ancestral.models.exported import ExportedModel
from ancestral.models.saved import Network
from ancestral.runtime import Runtime

REPORTED = 500  # samples of a report, whose cost should be small beside that of a short training
Real = str | Path | np.ndarray | Tensor | DataSet


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation with its subject and its evaluator. `print(result)` shows all metrics, and below them the verdict.

    result.headline             the distance that ranks subjects, with its error and that of real data
    result["fd-classifier"]     any metric by its name
    """

    subject: Subject
    evaluator: Evaluator

    @property
    def evaluation(self) -> Evaluation:
        return self.subject.evaluation

    @property
    def headline(self) -> Metric:
        """The distance that ranks subjects."""
        return self.evaluation.headline

    def __getitem__(self, name: str) -> Metric:
        """Return the metric of that name. Raises KeyError, which names those that there are."""
        return self.evaluation[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the metrics."""
        return iter(self.evaluation)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the metrics mean, in sentences: the answer and what to do next, then what else is to be known."""
        return Comparison.of([self.subject], self.evaluator).verdict

    def __str__(self) -> str:
        return "\n".join([str(self.evaluation), "", *self.verdict])


def evaluate(
    subject: Real | GenerativeModel,
    against: Real = "test",
    *,
    n: int = N,
    extractors: Sequence[str | Extractor] | None = None,
    how: Mapping[str, Any] | None = None,
    device: str = "auto",
    weights: Path | None = None,
    rescale: bool | None = None,
    evaluator: Evaluator | None = None,
    reporter: Reporter | None = None,
    keep: bool = True,
    network: Network | None = None,
) -> Result | None:
    """Measure how good the samples of a model are, or the samples of any other software.

    Several processes (torchrun) draw the samples of a run together. The first of them evaluates.

    Args:
        subject: A run folder, or a run of the hub; a model, or the folder of a saved one; or samples: a folder of images, an
            `.npy` or `.npz` file, an array, a tensor.
        against: The real data. For a run: "test" or "train" (a split of its own data), or another source as in
            `ancestral.load_data`. For all else: such a source. The reference is the held-out split of a built-in source or a
            `DataSet`, and all samples of other sources.
        n: Number of samples to compare. Small data sets use fewer.
        extractors: Names of extractors, or extractors. None: those that suit the data.
        how: Options of the sampler.
        device: "auto", "cpu", "cuda" or "mps".
        weights: The file of the standard FID's weights.
        rescale: For samples of other software whose range differs from that of the data, such as [-1, 1] and [0, 1]. True:
            convert them. False: take them as they are. None: refuse them, with both ranges.
        evaluator: An evaluator that was prepared before, in place of against, n, extractors and weights.
        reporter: The object that shows the progress.
        keep: Whether the samples and the result of a run are stored in its folder. Otherwise nothing is written there, and the
            first process draws alone.
        network: The network of a run that was trained with one that is not the library's, or several by name.

    Returns:
        The result, or None in a process that only helps to draw (RANK > 0, only for a run).

    Raises:
        UsageError: If the request is wrong. The message says what to change.
        AncestralError: If a file is damaged.
    """
    reporter = reporter or Reporter(quiet=True)
    runtime = Runtime.choose(device, parameters=10**6)
    if isinstance(subject, str | Path) and is_remote(subject):
        subject = located(subject)
    run = as_run(subject)
    helps = run is not None and rank_and_world()[0] > 0
    if helps and not keep:
        return None
    writes = run is not None and keep and not helps
    with locked(run.path, alone=True) if run is not None and writes else nullcontext(), reporter.live() as line:
        if evaluator is None:
            data, split = _reference(run, against, line)
            data = data.sampled
            if run is not None and helps:
                model = run.load_model(device, network=network)
                drawn(run, model, data, reference_of(data, split, n).n, how or {}, line.update)
                return None
            evaluator = Evaluator(
                data, against=split, n=n, extractors=extractors, runtime=runtime, weights=weights, progress=line.update
            )
        elif run is not None and helps:
            model = run.load_model(device, network=network)
            drawn(run, model, evaluator.data, evaluator.n, how or {}, line.update)
            return None
        evaluator.progress = line.update
        if run is not None:
            found = evaluate_run(run, evaluator, how or {}, device, keep=keep, network=network)
            return Result(found, evaluator)
        if isinstance(subject, str | Path) and holds_saved_model(subject):
            saved = SavedModel(subject).load_model(device)
            return Result(evaluate_model(saved, evaluator, how or {}, str(subject)), evaluator)
        if isinstance(subject, GenerativeModel):
            return Result(evaluate_model(subject, evaluator, how or {}), evaluator)
        name = str(subject) if isinstance(subject, str | Path) else "samples"
        return Result(evaluate_samples(subject, evaluator, name, rescale), evaluator)


def evaluate_samples(subject: Real, evaluator: Evaluator, name: str, rescale: bool | None = None) -> Subject:
    """Evaluate samples of other software, of which as many as the evaluator compares are chosen at random.

    Raises:
        UsageError: If their range is not that of the data and `rescale` is None.
    """
    samples, n = _samples(subject, evaluator.data, rescale), evaluator.n
    few = (f"compared are {n:,} of the {len(samples):,} samples, chosen at random",) if n < len(samples) else ()
    found = Subject(name, samples, notes=few)
    evaluator.evaluate(found)
    return found


def evaluate_run(
    run: Run,
    evaluator: Evaluator,
    how: Mapping[str, Any],
    device: str,
    name: str | None = None,
    *,
    keep: bool = True,
    network: Network | None = None,
) -> Subject:
    """Evaluate a run, and write evaluation.json into its folder if it is to be kept. name: None is the run's path."""
    model = run.load_model(device, network=network)
    recipe = run.recipe
    data, how = evaluator.data, tuned(run, how)
    samples = drawn(run, model, data, evaluator.n, how, evaluator.progress, keep=keep)
    if data.spec.classes != run.spec.classes:  # the labels of other data have another meaning
        samples = replace(samples, labels=None)
    cost = _cost(model, samples)
    rows, notes = run.measured()
    if rows and {"seconds", "images"} <= rows[-1].keys():
        cost |= {"training_seconds": rows[-1]["seconds"], "images": rows[-1]["images"]}
    subject = Subject(
        name or str(run.path),
        samples,
        model=model if data.spec.fingerprint == run.spec.fingerprint else None,
        family=recipe.model.title,
        cost=cost,
        how={k: " ".join(f"{t:.3g}" for t in v) if isinstance(v, tuple) else str(v) for k, v in how.items()},
        notes=(*samples.notes, *notes),
        rows=rows,
        recipe=recipe.dump(),
        findings=findings(rows),
    )
    found = replace(evaluator.evaluate(subject), weights=weights_of(run))
    subject.keep(evaluator, found)
    if keep:
        found.save(run.path / "evaluation.json")
    return subject


def evaluate_model(model: GenerativeModel, evaluator: Evaluator, how: Mapping[str, Any], name: str = "model") -> Subject:
    """Evaluate a model that belongs to no run, on the data of the evaluator. Raises UsageError if their shapes differ."""
    data = evaluator.data
    if tuple(model.shape) != tuple(data.spec.shape):
        ours, theirs = ("x".join(map(str, shape)) for shape in (model.shape, data.spec.shape))
        raise UsageError(f"the samples of {name} are {ours}, those of {data.spec.name} {theirs}: name data of its shape")
    samples = draw(model, data, evaluator.n, how=how, progress=evaluator.progress)
    subject = Subject(
        name,
        samples,
        model=model,
        family=model.family or None,
        cost=_cost(model, samples),
        how={k: str(v) for k, v in how.items()},
    )
    evaluator.evaluate(subject)
    return subject


def _cost(model: GenerativeModel, samples: Samples) -> dict[str, float]:
    """What the model and its samples cost."""
    cost = {} if isinstance(model, ExportedModel) else {"parameters": float(sum(p.numel() for p in model.parameters()))}
    if samples.seconds:
        cost["samples_per_second"] = len(samples) / samples.seconds
    return cost | {key: float(v) for key, v in (("nfe", samples.nfe), ("memory", samples.memory)) if v}


def drawn(
    run: Run,
    model: GenerativeModel,
    data: DataSet,
    n: int,
    how: Mapping[str, Any],
    progress: Callable[[str], None],
    *,
    keep: bool = True,
) -> Samples:
    """Draw samples of a run's model as `sample` does: with the levels and conditions of the run's own data, and its tuning."""
    how = tuned(run, how)
    own = data
    if data.spec.fingerprint != run.spec.fingerprint:  # without conditions no data are needed
        own = data_of(run) if model.conditioner.kinds else replace(data, spec=run.spec)
    folder = run.path / "evaluation" if keep else None
    return draw(model, own, n, folder, how, identity=identity(run), progress=progress)


def tuned(run: Run, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of the sampler with those that the run's tuning has for them."""
    names = ("steps", "solver", "spacing")
    request = SampleRequest(**{name: how[name] for name in names if name in how}).settled(run)
    return {**how, **{name: value for name in names if (value := getattr(request, name)) is not None}}


def report(
    run: str | Path, *, n: int = REPORTED, reporter: Reporter | None = None, out: Path | None = None, **options: Any
) -> Path | None:
    """Evaluate a run and write report.html, .md and .json into its folder, or to `out`. The folder is not written then.

    While another process writes into the run, such as its training, the report is of the present weights, and its samples are
    not stored.

    Args:
        run: The run folder.
        n: Number of samples to evaluate. Small data sets use fewer.
        reporter: The object that shows the progress.
        out: The file of the page. None: report.html in the run folder.
        **options: Options of `evaluate`, such as `network` for a run whose network is not the library's.

    Returns:
        The file of the page, or None in a process that only helps to draw.

    Raises:
        UsageError: If the folder holds no run.
    """
    reporter = reporter or Reporter(quiet=True)
    if Path(run).is_dir() and as_run(run) is None:
        what = f"for samples of another program use `ancestral evaluate {run} --against DATA`"
        raise UsageError(f"{run} is no run folder: {what}")
    trained = Run.existing(run)
    try:
        result = evaluate(run, n=n, reporter=reporter, keep=out is None, **options)
    except InUseError as used:
        reporter.say(f"{run} is in use by {used.who}: the report is of its present weights, and its samples are not stored")
        result = evaluate(run, n=n, reporter=reporter, keep=False, **options)
    if result is None:
        return None
    comparison = Comparison.of([result.subject], result.evaluator)
    path = out or located(run) / "report.html"
    title = f"{result.evaluation.family} of {result.evaluation.source}"
    model = result.subject.model
    how = tuned(trained, options.get("how") or {})
    frames = first_states(model, result.evaluator.data, how) if model is not None else ()
    write(comparison, result.evaluator, path, title, frames, suggestions(trained, copies=result.subject.copies))
    return path


def identity(run: Run) -> str:
    """Return a digest of the trained weights."""
    return hashlib.blake2b((run.model / "model.safetensors").read_bytes(), digest_size=8).hexdigest()


def as_run(subject: object) -> Run | None:
    """Return the run that the path holds, or None if it holds none."""
    if isinstance(subject, str | Path):
        run = Run(located(subject))
        if run.recipe_file.is_file():
            return run
    return None


def data_of(run: Run, line: Line | None = None, otherwise: str = "") -> DataSet:
    """Load the data on which a run was trained, from where they are now.

    Args:
        run: The run.
        line: Shows the progress.
        otherwise: What else the caller can do without these data, for the error, e.g. ", or ...".

    Raises:
        AncestralError: If the data are gone, or have changed since the training.
    """
    progress = (lambda done, total: line.update(f"reading {done:,} of {total:,}")) if line else None
    size, sources = run.recipe.data.size or run.image_size, run.sources
    there = [source for source in sources if is_name(source) or exists(source)]
    for source in there:
        data = load_data(source, size=size, axes=run.recipe.data.axes, progress=progress)
        if data.spec.fingerprint == run.spec.fingerprint:
            return data
    if there:
        raise AncestralError(
            f"the data of {run.path} ({' and '.join(there)}) have changed since it was trained: restore them{otherwise}"
        )
    again = f"`ancestral train SOURCE --out {run.path}`"
    if run.recipe.model.family == OWN:
        again = f"`ancestral.train(SOURCE, model=model, out={str(run.path)!r})`"
    if sources:
        raise AncestralError(
            f"the data of {run.path} are no longer at {' or at '.join(sources)}: put them back, or run {again} with their new "
            f"place as SOURCE, which stores it in the run{otherwise}"
        )
    raise AncestralError(
        f"the data of {run.path} were given in Python, and no file of them is known: save them to a file, and run {again} with "
        f"it as SOURCE, which stores its place in the run{otherwise}"
    )


def _reference(run: Run | None, against: Real, line: Line) -> tuple[DataSet, Against]:
    """Return the real data of a comparison, and the name of the part that is the reference."""
    if isinstance(against, DataSet):
        return against, "test"
    if isinstance(against, str | Path) and str(against) in ("test", "train"):
        if run is None:
            raise UsageError("samples are compared with real data: give them with --against SOURCE (Python: against=)")
        free = not run.recipe.model.conditions  # it draws without conditions of its data
        otherwise = ", or compare with other data: --against SOURCE (Python: against=)" if free else ""
        return data_of(run, line, otherwise), "test" if str(against) == "test" else "train"
    size = None
    if run is not None and run.spec.is_image:
        size = (run.spec.shape[1], run.spec.shape[2])
    shape = None if run is None else run.spec.shape
    data = load_data(
        against, size=size, shape=shape, progress=lambda done, total: line.update(f"reading {done:,} of {total:,}")
    )
    return data, "test" if isinstance(against, str) and against in BUILT_IN else "all"


def _samples(subject: Any, data: DataSet, rescale: bool | None) -> Samples:
    """Load samples of other software at the size, the range and the levels of the data."""
    size = (data.spec.shape[1], data.spec.shape[2]) if data.spec.is_image else None
    found = load_data(subject, size=size, shape=data.spec.shape).sampled
    x = torch.cat([found.x("train"), found.x("test")])
    if x.shape[1] == 3 and data.spec.shape[0] == 1 and bool((x == x[:, :1]).all()):
        x = x[:, :1]
    name = str(subject) if isinstance(subject, str | Path) else "the samples"
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))  # files are often sorted by class
    return Samples(at_levels(like(x[order], data, name, rescale), data))
