"""The package from Python: train, load."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.data import DataSet, DataSpec
from ancestral.data import load as load_data
from ancestral.errors import UsageError
from ancestral.families import GenerativeModel
from ancestral.names import unknown
from ancestral.progress import Reporter, follow
from ancestral.runtime import Precision, Runtime
from ancestral.training.build import build
from ancestral.training.recipe import FAMILIES, Recipe, override
from ancestral.training.run import Run
from ancestral.training.trainer import Trainer


def train(
    source: str | Path | np.ndarray | Tensor | DataSet,
    model: str = "diffusion",
    budget: str | None = None,
    out: str | Path | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    condition: str | None = None,
    device: str = "auto",
    quiet: bool = False,
    settings: tuple[str, ...] = (),
) -> GenerativeModel:
    """Train a model in a run folder, or continue the run that is there, and return the averaged model.

    source: as `ancestral.data.load`. budget: "2m", "20000it", "5epochs"; None: what suits the data. out: the run folder;
    None: runs/NAME. condition: "class". settings: further "section.name=value" of the recipe.
    Raises UsageError and AncestralError, each one sentence.
    """
    trainer = prepare(
        source, model=model, budget=budget, out=out, size=size, condition=condition, device=device, settings=settings
    )
    follow(trainer, Reporter(quiet=quiet))
    return load(trainer.run.path, device=device)


def load(run: str | Path, *, device: str = "auto", precision: Precision = "auto") -> GenerativeModel:
    """The trained model of a run folder, ready to sample. Raises UsageError if there is none."""
    return Run.existing(run).load_model(device, precision)


def prepare(
    source: str | Path | np.ndarray | Tensor | DataSet,
    *,
    model: str = "diffusion",
    budget: str | None = None,
    out: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    condition: str | None = None,
    device: str = "auto",
    settings: tuple[str, ...] = (),
    recipe: dict[str, Any] | None = None,
    started: float | None = None,
) -> Trainer:
    """A trainer that stands where its run folder left off. `recipe`: values to begin from, under all other arguments."""
    started = time.monotonic() if started is None else started
    if model not in FAMILIES:
        raise UsageError(unknown("model", model, FAMILIES))
    values: dict[str, Any] = recipe or {}
    named = source if isinstance(source, str | Path) else "array"
    wanted: dict[str, Any] = {"data.source": str(named), "data.size": size, "model.family": model}
    wanted |= {"train.budget": budget, "model.condition": [condition] if condition else None}
    values = override(values, tuple(f"{key}={value}" for key, value in wanted.items() if value is not None))
    values = override(values, settings)
    data = load_data(source, size=_pair(values["data"].get("size")))
    train = values.setdefault("train", {})
    train.setdefault("budget", default_budget(data.spec))
    train.setdefault("batch", 512 if len(data.spec.shape) == 1 else 64)
    checked = Recipe.of(values)
    run = Run(out or Path("runs") / default_name(data.spec, checked))
    run.create(checked)
    torch.manual_seed(checked.train.seed)
    network = build(checked.model, data.spec)
    runtime = Runtime.choose(device, checked.train.precision, parameters=sum(p.numel() for p in network.parameters()))
    return Trainer(network, data, run, checked, runtime, started=started)


def default_budget(spec: DataSpec) -> str:
    """A time after which samples of such data are worth looking at on two cores."""
    if len(spec.shape) == 1:
        return "1m"
    return "2m" if spec.dims <= 256 else "10m"


def default_name(spec: DataSpec, recipe: Recipe) -> str:
    """NAME, or NAME-FAMILY for families other than diffusion."""
    family = recipe.model.family
    return spec.name if family == "diffusion" else f"{spec.name}-{family}"


def _pair(size: Any) -> int | tuple[int, int] | None:
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else size
