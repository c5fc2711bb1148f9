"""The model card of a run: what it is, how good it is, what it cost. It is made from the files of the run alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ancestral.app.data.decode import listed
from ancestral.app.data.spec import DataSpec
from ancestral.app.evaluation import Evaluation
from ancestral.app.evaluation.result import COSTS, DIRECTIONS, Metric
from ancestral.app.overview import counters
from ancestral.app.pictures import png
from ancestral.app.progress import count, duration
from ancestral.app.report import figures
from ancestral.app.report.write import literal
from ancestral.app.sampling import Conditions, SampleRequest
from ancestral.app.sampling.provenance import record
from ancestral.app.sampling.writing import picture_of
from ancestral.app.training.run import Run, copies, findings
from ancestral.app.training.saved import Opened
from ancestral.conditioning import ClassCondition
from ancestral.errors import UsageError
from ancestral.version import __version__

SAMPLES, CURVES = "samples.png", "curves.png"
N, EACH, CLASSES = 36, 4, 12  # samples in the picture; of each class; the most classes that are shown
DRAWING = ("parameters", "samples_per_second", "nfe")  # costs of drawing


def card(folder: Opened, repo: str, licence: str, pictures: Collection[str]) -> str:
    """Return the model card as Markdown with its metadata. pictures: the files of `pictures` that stand beside it."""
    from huggingface_hub import ModelCardData
    from jinja2 import Environment, PackageLoader

    spec, evaluation, run = folder.spec, _evaluation(folder), folder if isinstance(folder, Run) else None
    family = "" if run is None else run.recipe.model.title
    conditions = [] if run is None else list(run.recipe.model.conditions)
    task = (
        None if conditions and "text" not in conditions else "text-to-image" if conditions else "unconditional-image-generation"
    )
    what = f"A generative model ({family})" if family else "A generative model"
    asked = f", conditioned on {listed(conditions)}" if conditions else ""
    metadata = ModelCardData(
        library_name="ancestral",
        license=licence,
        tags=["generative-model", *([family] if family else []), *conditions],
        pipeline_tag=task if spec.is_image else None,
        model_name=repo.partition("/")[2],
        eval_results=None
        if evaluation is None
        else [_result(metric, evaluation, spec.fingerprint) for metric in evaluation.metrics],
    )
    environment = Environment(loader=PackageLoader("ancestral.app.hub", "templates"), trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template("card.md").render(
        name=repo.partition("/")[2],
        repo=repo,
        about=f"{literal(f'{what} of {spec.name}{asked}')}, trained with [ancestral](https://pypi.org/project/ancestral/).",
        shape=", ".join(map(str, spec.shape)),
        samples=SAMPLES if SAMPLES in pictures else None,
        curves=CURVES if CURVES in pictures else None,
        data=[literal(line) for line in _data(spec)],
        measured="" if evaluation is None else literal(_measured(evaluation)),
        metrics=[] if evaluation is None else [_row(metric) for metric in evaluation.metrics],
        findings=[] if run is None else [literal(finding) for finding in findings(run.metrics())],
        training=[f"ancestral {__version__}"] if run is None else _training(run),
        settings="config.json" if run is None else "recipe.yaml",
        copies="" if run is None else _copies(run),
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


def pictures(folder: Opened, device: str = "auto") -> dict[str, bytes]:
    """Return the pictures of the card by name: samples that the model draws, and the loss during training.

    Pictures of the data are not among them. A model that draws nothing without a given picture has none of samples.
    """
    model, spec = folder.load_model(device), folder.spec
    found: dict[str, bytes] = {}
    kind: Any = dict(model.conditioner.kinds.items()).get("class")
    request = SampleRequest(n=N)
    if isinstance(kind, ClassCondition) and len(kind.names) <= CLASSES:
        request = SampleRequest(n=EACH * len(kind.names), conditions=Conditions(classes=tuple(kind.names)))
    try:
        sampling = request.prepare(model, run=folder)
        x = sampling.sample().cpu()
        text = record(request, folder, sampling=sampling).chunks()
        found[SAMPLES] = png(picture_of(x, sampling, request, spec), text)
    except UsageError:  # it needs a condition that only data have
        pass
    losses = figures.losses({folder.path.resolve().name: folder.metrics()}) if isinstance(folder, Run) else None
    return found | ({CURVES: losses} if losses is not None else {})


def _result(metric: Metric, evaluation: Evaluation, fingerprint: str) -> Any:
    """Return a metric in the form of the hub's model index."""
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="generation",
        dataset_type="custom",
        dataset_name=evaluation.source,
        dataset_split=evaluation.against,
        dataset_revision=fingerprint or None,
        metric_type=metric.kind or metric.name,
        metric_name=f"{metric.name}, {evaluation.n} samples" + (f", real data {metric.real}" if metric.real else ""),
        metric_value=metric.value.value,
        metric_args={"n": metric.value.n, "std_err": metric.value.std_err, "real": metric.real and metric.real.value},
    )


def _row(metric: Metric) -> list[str]:
    meaning = f"{metric.meaning}; {DIRECTIONS[metric.better]}"
    return [literal(metric.name), str(metric.value), str(metric.real) if metric.real else "", literal(meaning)]


def _evaluation(folder: Opened) -> Evaluation | None:
    file = folder.path / "evaluation.json"
    return Evaluation.load(file) if file.is_file() else None


def _measured(evaluation: Evaluation) -> str:
    features = "; ".join(f"{name}: {about}" for name, about in evaluation.extractors.items())
    return (
        f"{evaluation.n:,} samples against {evaluation.reference:,} of {evaluation.source} (the split {evaluation.against}). "
        f"Features: {features}."
    )


def _data(spec: DataSpec) -> list[str]:
    found = [f"{spec.name}: {spec.size:,} training samples of {'x'.join(map(str, spec.shape))}" if spec.size else spec.name]
    found += [f"{len(spec.classes)} classes: {listed(spec.classes, CLASSES)}"] if spec.classes else []
    found += [f"captions of {spec.captions:,} samples"] if spec.captions else []
    found += [f"numbers: {listed(spec.numbers)}"] if spec.numbers else []
    found += [f"columns: {listed(spec.channels)}"] if spec.channels else []
    return found + ([f"fingerprint {spec.fingerprint}"] if spec.fingerprint else [])


def _training(run: Run) -> list[str]:
    numbers, recipe = counters(run), run.recipe
    last = (run.metrics() or [{}])[-1]
    seconds, images, step = (numbers.get(name, last.get(name, 0)) for name in ("seconds", "images", "step"))
    found = [f"{step:,} steps in {duration(seconds)}: {count(images)} samples seen, batches of {recipe.train.batch}"]
    found += [f"{numbers['parameters']:,} parameters in training"] if numbers.get("parameters") else []
    evaluation = _evaluation(run)
    cost = {} if evaluation is None else evaluation.cost
    found += [f"{name}: {form(cost[key])}" for key, (name, form) in COSTS.items() if key in cost and key in DRAWING]
    return [*found, f"ancestral {__version__}"]


def _copies(run: Run) -> str:
    """Return how often the model repeats training samples, as the end of a sentence."""
    found = copies(run.metrics())
    if found is None:
        return ""
    return f": {found['copies/rate']:.1%} of {found['copies/n']:,} samples do, and {found['copies/expected']:.1%} of new data"
