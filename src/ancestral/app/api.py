"""The functions `train` and `load` of the Python package."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ancestral.app.data import DataSet, DataSpec, built_in, is_name, name_of, size_of
from ancestral.app.data import load as load_data
from ancestral.app.data.streamed import Rows
from ancestral.app.lock import locked
from ancestral.app.processes import joined, processes
from ancestral.app.progress import Reporter, follow
from ancestral.app.recipes.own import OWN
from ancestral.app.recipes.recipe import DEFAULT_FAMILY, Recipe, family_of, override, parse
from ancestral.app.remote import located
from ancestral.app.training import finetuning, pace, pretrained
from ancestral.app.training.budget import Budget
from ancestral.app.training.loop import Step, Trainer
from ancestral.app.training.player import MakeOptimizer
from ancestral.app.training.run import Run
from ancestral.app.training.saved import opened
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.models.saved import Network
from ancestral.runtime import Precision, Runtime, holds_float64

Source = str | Path | np.ndarray | Tensor | Mapping[str, Any] | Rows | DataSet | Dataset[Any] | DataLoader[Any]


@joined()
def train(
    source: Source,
    model: str | GenerativeModel | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    *,
    size: int | tuple[int, int] | str | None = None,
    axes: str | None = None,
    condition: str | Sequence[str] | None = None,
    autoencoder: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    settings: tuple[str, ...] = (),
    optimizer: MakeOptimizer | None = None,
    lr_schedule: Callable[[int, float], float] | None = None,
    callbacks: Sequence[Callable[[Step], object]] = (),
    track: Sequence[str] = (),
) -> GenerativeModel:
    """Train a model in a run folder, or continue the run in it, and return the averaged model.

    If several processes call it together (torchrun), they train one model, which each of them returns.

    Args:
        source: the data, as in `ancestral.app.data.load`.
        model: the family, or a model object, which is trained itself. None: diffusion.
        budget: "2m", "20000it" or "5epochs". None: a time that suits the data.
        out: the run folder. None: runs/NAME.
        size: size of images: one side, or (height, width), also as "64x128".
        axes: names of the axes of an array, such as "n h w c". None: their number and the type of the values decide.
        condition: "class", "text" or another kind of condition, or several.
        autoencoder: the pretrained autoencoder of a latent model: a run of a latent model or a VAE, or a folder of diffusers'
            AutoencoderKL.
        start_from: a run of the same family and shape. Training starts from its averaged weights (fine-tuning).
        device: "auto", "cpu", "cuda" or "mps".
        quiet: whether nothing is printed.
        settings: further "section.name=value" of the recipe, such as train.ema=null or train.clip=null for no average and no
            clipping.
        optimizer: a function from parameters to an optimiser of torch's kind, called for each player. None: AdamW.
        lr_schedule: a function from (step, progress) to the factor of the learning rate. None: that of the recipe.
        callbacks: functions that are called with every `Step`.
        track: names of the trackers that receive measurements and previews, such as "wandb".

    Raises:
        UsageError: if the request is wrong.
        AncestralError: if training fails.
        KeyboardInterrupt: if a signal stops the training. All is saved before.
    """
    reporter = Reporter(quiet=quiet)
    planned = plan(
        source,
        model=model,
        budget=budget,
        out=out,
        size=size,
        axes=axes,
        condition=condition,
        autoencoder=autoencoder,
        start_from=start_from,
        device=device,
        settings=settings,
        reporter=reporter,
    )
    with locked(planned.run.path):
        trainer = planned.begin(reporter, optimizer, lr_schedule)
        steps = _calling(trainer, callbacks) if callbacks else None
        if follow(trainer, reporter, track=track, steps=steps) is not None:
            raise KeyboardInterrupt(
                f"stopped and saved at step {trainer.step}: call train again to continue {trainer.run.path}"
            )
    if isinstance(model, GenerativeModel):
        return trainer.finished()
    return load(trainer.run.path, device=device)


def _calling(steps: Iterable[Step], callbacks: Sequence[Callable[[Step], object]]) -> Iterator[Step]:
    """Yield the same steps, and call the callbacks with each."""
    for step in steps:
        for callback in callbacks:
            callback(step)
        yield step


def load(
    folder: str | Path, *, network: Network | None = None, device: str = "auto", precision: Precision = "auto"
) -> GenerativeModel:
    """Load the trained model of a run folder, one that was saved with `model.save(folder)`, an export, or a pipeline.

    Args:
        folder: the folder of the run or of the model, or "diffusers:FOLDER", a pipeline of the library diffusers.
        network: the model's own network if that is not ancestral's (`ancestral.models.saved.load_model`).
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16". auto: for a run the fastest on the device, for a saved model fp32.

    Raises:
        UsageError: if there is no model, or its own network is missing.
        AncestralError: if a file is damaged.
    """
    return opened(folder).load_model(device, precision, network=network)


@dataclass(frozen=True)
class Plan:
    """All parts of a training, before anything is written."""

    recipe: Recipe
    data: DataSet
    model: GenerativeModel
    runtime: Runtime
    run: Run
    started: float

    def begin(
        self,
        reporter: Reporter | None = None,
        optimizer: MakeOptimizer | None = None,
        lr_schedule: Callable[[int, float], float] | None = None,
    ) -> Trainer:
        """Make the run folder, and return a trainer that continues from its last checkpoint.

        Args:
            reporter: shows the progress.
            optimizer: as in `Trainer`.
            lr_schedule: as in `Trainer`.

        Raises:
            UsageError: if the folder holds another run.
        """
        processes().wait()  # until all have read what is in the folder
        processes().by_main(lambda: self.run.create(self.recipe, self.data.spec.fingerprint))
        reporter = reporter or Reporter(quiet=True)
        with reporter.live():
            return Trainer(
                self.model,
                self.data,
                self.run,
                self.recipe,
                self.runtime,
                started=self.started,
                progress=reporter.show,
                optimizer=optimizer,
                lr_schedule=lr_schedule,
            )


def plan(
    source: Source,
    *,
    model: str | GenerativeModel | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    size: int | tuple[int, int] | str | None = None,
    axes: str | None = None,
    condition: str | Sequence[str] | None = None,
    autoencoder: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str = "auto",
    settings: tuple[str, ...] = (),
    recipe: dict[str, Any] | None = None,
    started: float | None = None,
    reporter: Reporter | None = None,
    data: DataSet | None = None,
    alone: bool = False,
) -> Plan:
    """Read the data and complete the recipe.

    Settings that are not given are those of the run folder if it holds a run, and otherwise suit the data. The arguments of
    `train` have the same meaning here.

    `recipe` has values to begin from instead of the run folder's; other arguments override them. `started` is the
    `time.monotonic()` at which a time budget begins. `reporter` shows the reading of the data. `data` are the data of the
    source at that size, if they were read before. `alone` says that the training starts when other processes have ended, so
    that the time they take now does not count in the choice of the network.
    """
    started = time.monotonic() if started is None else started
    reporter = reporter or Reporter(quiet=True)
    autoencoder = None if autoencoder is None else located(autoencoder)
    start_from = None if start_from is None else located(start_from)
    given = model if isinstance(model, GenerativeModel) else None
    if given is not None:
        if autoencoder is not None or start_from is not None or condition:
            raise UsageError(
                "a model object has its network, weights and conditions: leave autoencoder, start_from and condition out"
            )
        model = OWN
    assert not isinstance(model, GenerativeModel)
    if autoencoder is not None and model not in (None, "latent"):
        raise UsageError(f"a pretrained autoencoder is for a latent model, not for {model}: leave one of them out")
    model = "latent" if autoencoder is not None else model
    if model is not None:
        family_of({"model": {"family": model}})  # raises UsageError for an unknown family
    run = Run(out or Path("runs") / run_name(source, model))
    group = processes()
    if (repaired := group.by_main(run.repair_recipe)) is not None:
        reporter.say(repaired)
    recipe_given = bool(recipe)
    values = recipe or (run.recipe.model_dump(mode="json") if run.recipe_file.is_file() else {})
    if start_from is not None and not run.recipe_file.is_file():
        values = {**values, "model": finetuning.model_of(start_from) | (values.get("model") or {})}
    if model is not None and family_of(values) != model:
        if start_from is not None:
            raise UsageError(
                f"{start_from} is a run of the family {family_of(values)}, not {model}: leave --model out (Python: model=)"
            )
        values = {**values, "model": {}}  # settings of another family do not apply
    if given is not None:
        values = {**values, "model": {"family": OWN, "config": given.config()}}
    wanted: dict[str, Any] = {"data.size": size, "data.axes": axes, "model.family": model, "train.budget": budget}
    if start_from is not None and not _same_path(start_from, (values.get("train") or {}).get("start_from")):
        wanted["train.start_from"] = os.path.abspath(start_from)
    wanted["model.condition"] = ([condition] if isinstance(condition, str) else list(condition or ())) or None
    if autoencoder is not None and not _same_path(autoencoder, autoencoder_of(values)):
        wanted |= pretrained.settings(os.path.abspath(autoencoder))
    values = override(values, {key: value for key, value in wanted.items() if value is not None} | parse(settings))
    if (asked_size := size_of(values.get("data", {}).get("size"))) is not None:
        values["data"]["size"] = asked_size[0] if asked_size[0] == asked_size[1] else list(asked_size)
    if data is None:
        with group.main_first(), reporter.live() as line:
            data = load_data(
                source,
                size=asked_size or run.image_size,
                axes=values.get("data", {}).get("axes"),
                progress=lambda done, total: line.update(f"reading {done:,} of {total:,}"),
            )
    values.setdefault("data", {})["source"] = _name_of(source) if isinstance(source, str | Path) else data.spec.name
    usual = {"budget": default_budget(data.spec), "batch": 512 if len(data.spec.shape) == 1 else 64}
    asked = values.get("train") or {}
    values["train"] = usual | asked
    values["train"] = usual | Recipe.of(values).model.suitable(data.spec) | asked
    checked = Recipe.of(values)
    checked = checked.model_copy(update={"model": checked.model.settled(data.spec)})
    Budget.parse(checked.train.budget)
    asked_model = recipe_given or (values.get("model") or {}).keys() & {"width", "channels", "blocks", "patch", "net"}
    if given is None and not run.recipe_file.is_file() and not asked_model and checked.train.start_from is None:
        family, notes = group.by_main(partial(pace.suited, checked, data, device, alone=alone))
        checked = checked.model_copy(update={"model": family})
        data = replace(data, notes=(*data.notes, *notes))
    if given is not None:
        if tuple(given.shape) != tuple(data.spec.shape):
            theirs, ours = ("x".join(map(str, shape)) for shape in (given.shape, data.spec.shape))
            raise UsageError(
                f"the model is for samples of shape {theirs}, and those of {data.spec.name} have {ours}: make them equal"
            )
        network = given
        if (unfit := _units_unlike(given, data.spec)) is not None:
            data = replace(data, notes=(*data.notes, unfit))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(checked.train.seed)
            network = checked.model.build(data.spec)
    if checked.train.start_from is not None and not run.checkpoint_files():
        notes = finetuning.start(network, checked.train.start_from)
        data = replace(data, notes=(*data.notes, *notes))
    parameters = sum(p.numel() for p in network.parameters())
    passes = checked.train.batch / len(data.train)
    runtime = Runtime.choose(
        group.device(device),
        checked.train.precision,
        parameters=parameters,
        float64=holds_float64(network),
        compile=checked.train.compile,
        long=Budget.parse(checked.train.budget).pays_compilation(passes),
    )
    return Plan(checked, data, network, runtime, run, started)


def _units_unlike(model: GenerativeModel, spec: DataSpec) -> str | None:
    """Return a sentence if the model's mean and deviation are far from those of the data, else None."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (spec.mean, spec.std))
    ours, scale = (v.double().cpu().flatten() for v in (model.standardize.mean, model.standardize.std))
    centre, width = ((mean - ours) / scale).abs().max().item(), (std / scale).max().item()
    if centre <= 3 and 0.2 <= width <= 5:
        return None
    return (
        f"the model's units do not fit: by its mean and std the data are up to {centre:.3g} from 0 and their deviation is "
        f"{width:.3g}, where 0 and 1 are best; give the model mean and std of the data (ancestral.load_data(...).spec has them)"
    )


def default_budget(spec: DataSpec) -> str:
    """Return a training time that gives useful samples of such data on two cores."""
    if len(spec.shape) == 1:
        return "1m"
    return "2m" if spec.dims <= 256 else "10m"


def run_name(source: object, model: str | None) -> str:
    """Return the name of a run: NAME, or NAME-FAMILY for families other than the default."""
    name = name_of(source) if isinstance(source, str | Path) else "array"
    return name if model in (None, DEFAULT_FAMILY) else f"{name}-{model}"


def free_name(home: Path, name: str, waiting: Container[str] = ()) -> str:
    """Return the name, with a number if needed, under which no file is in `home` and no path is in `waiting`."""
    number, free = 2, name
    while (home / free).exists() or str(home / free) in waiting:
        number, free = number + 1, f"{name}-{number}"
    return free


def _name_of(source: str | Path) -> str:
    """Return the source as the recipe has it: a built-in name, or a path that no built-in name hides."""
    if isinstance(source, str) and is_name(source):
        return source
    path = os.path.normpath(source)
    return os.path.join(os.curdir, path) if path in built_in() else path


def _same_path(path: str | Path, other: str | None) -> bool:
    return other is not None and os.path.abspath(path) == os.path.abspath(other)


def autoencoder_of(values: Mapping[str, Any]) -> str | None:
    """Return the path of the pretrained autoencoder of a recipe, or None."""
    pretrained_of = (values.get("model") or {}).get("pretrained") or {}
    source: str | None = pretrained_of.get("source")
    return source
