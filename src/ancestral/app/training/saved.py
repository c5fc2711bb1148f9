"""A model without a training, where a command takes a run: it can be sampled and evaluated."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from ancestral.app.data.spec import DataSpec, Kind
from ancestral.app.remote import located
from ancestral.app.training.run import Run
from ancestral.conditioning.images import ImageCondition
from ancestral.errors import DamageError, UsageError
from ancestral.models import GenerativeModel
from ancestral.models.exported import ExportedModel, described, holds_export
from ancestral.models.pipelines import load_pipeline
from ancestral.models.saved import Network, load_model
from ancestral.networks import diffusers
from ancestral.runner import digest, digest_of
from ancestral.runtime import Precision, Runtime, holds_float64
from ancestral.weights import CONFIG, WEIGHTS, read_metadata

PIPELINE = "diffusers:"  # before the folder of a pipeline of the library diffusers


class SavedModel:
    """The folder of a model: one that `model.save` wrote, an export, or `diffusers:FOLDER`, a pipeline of diffusers."""

    def __init__(self, path: str | Path):
        self.pipeline = str(path).startswith(PIPELINE)
        self.path = folder_of(path)

    @property
    def exported(self) -> bool:
        """Whether the folder holds an export."""
        return not self.pipeline and holds_export(self.path)

    @property
    def weights(self) -> Path:
        """The file of the weights, of an export the description with their checksums."""
        if self.pipeline:
            return self.path / "unet" / diffusers.WEIGHTS
        return self.path / (CONFIG if self.exported else WEIGHTS)

    @property
    def checksum(self) -> str:
        """The checksum of the weights, "" if there are none."""
        if self.pipeline:
            return digest(self.weights) if self.weights.is_file() else ""
        return digest_of(described(self.path)) if self.exported else _checksum(self.weights)

    @cached_property
    def spec(self) -> DataSpec:
        """The description of the data as far as the model has it: of a saved model, their shape, units, range and levels."""
        if self.exported:
            return DataSpec.from_json(described(self.path)["data"])
        return spec_of(load_pipeline(self.path) if self.pipeline else load_model(self.path), self.path.name)

    def load_model(
        self, device: str = "auto", precision: Precision = "auto", *, step: int | None = None, network: Network | None = None
    ) -> GenerativeModel:
        """Return the model on the device, in full precision unless another is asked for.

        Args:
            device: "auto", "cpu", "cuda" or "mps". An export is always on the CPU.
            precision: "auto" and "fp32" are float32; "bf16" or "fp16".
            step: A checkpoint of a run; a saved model has none.
            network: The model's own network, see `ancestral.models.saved.load_model`.

        Raises:
            UsageError: If a step is named, the model's own network is missing, or an export cannot run in this way.
            AncestralError: If a file is damaged.
        """
        if step is not None:
            raise UsageError(f"{self.path} is a saved model and has no checkpoint of step {step}: give the run that has it")
        arithmetic = "fp32" if precision == "auto" else precision
        if self.exported:
            if device not in ("auto", "cpu"):
                raise UsageError(f"{self.path} is an export, which runs on the CPU, not on {device}: leave the device out")
            return ExportedModel.load(self.path, arithmetic)
        model = load_pipeline(self.path) if self.pipeline else load_model(self.path, network)
        runtime = Runtime.choose(device, arithmetic, parameters=0, float64=holds_float64(model))
        model.precision = runtime.autocast
        return model.to(runtime.device)


Opened = Run | SavedModel


def opened(path: str | Path) -> Opened:
    """Return the run or the model in a folder, of the hub, or in `diffusers:FOLDER`. Raises UsageError if there is none."""
    path = located(path)
    return SavedModel(path) if holds_saved_model(path) else Run.existing(path)


def weights_of(run: Opened) -> str:
    """Return the checksum of the weights of a run, or of a saved model. "" if there are none."""
    return run.checksum if isinstance(run, SavedModel) else _checksum(run.weights)


def _checksum(weights: Path) -> str:
    try:
        return read_metadata(weights, "").get("checksum", "")
    except (DamageError, FileNotFoundError):
        return ""


def folder_of(path: str | Path) -> Path:
    """Return the folder of a run or of a model, without the word before that of a pipeline."""
    return Path(str(path).removeprefix(PIPELINE))


def holds_saved_model(path: str | Path) -> bool:
    """Return whether the path is a model without a training. A run keeps its model in a folder of its own."""
    return str(path).startswith(PIPELINE) or ((Path(path) / CONFIG).is_file() and not Run(path).recipe_file.is_file())


def spec_of(model: GenerativeModel, name: str) -> DataSpec:
    """Return the description of a model's data as far as the model itself knows them."""
    units: dict[str, Any] = model.standardize.units
    bounds, levels = units["bounds"], getattr(model, "levels", None)
    levels = levels if bounds == (0.0, 1.0) else None
    kind: Kind = "real" if levels is None else "binary" if levels == 2 else "uint8"
    return DataSpec(
        name=name,
        shape=model.shape,
        kind=kind,
        range=bounds,
        levels=levels,
        mean=tuple(units["mean"]),
        std=tuple(units["std"]),
        classes=(),
        size=0,
        fingerprint="",
        paired=next((kind.shape[0] for kind in model.conditioner.kinds.values() if type(kind) is ImageCondition), 0),
    )
