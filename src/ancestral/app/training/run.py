"""The run folder, which holds all files of a run.

    recipe.yaml            the settings
    model/                 config.json + model.safetensors: the averaged weights, ready for sampling
    checkpoints/           step-00001234.safetensors: all that training needs to continue exactly
    metrics.jsonl          one line per measurement
    latents.safetensors    the latents of the data, if encoding took long
    samples/               previews, as pictures and as tensors
    evaluation/, evaluation.json, report.html      the results of `evaluate` and `report`

Every file is written under a temporary name and then renamed, so that the last good file survives a kill at any time.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ancestral.app import migration
from ancestral.app.data import DataSpec, exists, is_name
from ancestral.app.recipes.own import OwnRecipe
from ancestral.app.recipes.recipe import Recipe, section_of
from ancestral.app.remote import located
from ancestral.app.training import checkpoint
from ancestral.app.training.checkpoint import Checkpoint
from ancestral.conditioning.vocabulary import well_formed
from ancestral.errors import AncestralError, UsageError
from ancestral.files import disk_errors, write_atomically
from ancestral.models import GenerativeModel
from ancestral.models.latent import LatentModel
from ancestral.models.saved import Network, build
from ancestral.runtime import Precision, Runtime, holds_float64
from ancestral.version import __version__
from ancestral.weights import checksum, named_as_in, problem, read_tensors, serialise


class Run:
    """A run folder, which may not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"

    @classmethod
    def existing(cls, path: str | Path) -> Run:
        """Open an existing run folder, or a run of the hub (`located`). Raises UsageError if the folder holds no run."""
        run = cls(located(path))
        if not run.recipe_file.is_file():
            there = "does not exist" if not run.path.exists() else "holds no run (no recipe.yaml)"
            raise UsageError(f"the run folder {run.path} {there}: train one with `ancestral train SOURCE --out {run.path}`")
        return run

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.recipe_file)

    def create(self, recipe: Recipe, fingerprint: str | None = None) -> None:
        """Make the folder, or check that it holds the same recipe. Budget, strategy, watch and place of the data may differ.

        Args:
            recipe: The recipe.
            fingerprint: The fingerprint of the data in their `DataSpec`. None: unknown.

        Raises:
            UsageError: If the folder holds a run of another recipe, or its path cannot hold a run.
        """
        if well_formed(str(self.path)) != str(self.path):  # safetensors opens no such path
            raise UsageError(f"the path of the run folder {self.path} is not UTF-8: choose another with --out (Python: out=)")
        with disk_errors(self.path):
            if not self.recipe_file.exists():
                for folder in (self.checkpoints, self.model, self.samples):
                    folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.recipe_file, recipe.dump().encode())
                return
            for folder in (self.path, self.checkpoints, self.model, self.samples):
                for leftover in folder.glob(".*.tmp"):  # from a process that was killed
                    leftover.unlink()
        stored = before = self.recipe
        if stored.data.source != recipe.data.source and self._trained_on(fingerprint):
            stored = stored.model_copy(update={"data": stored.data.model_copy(update={"source": recipe.data.source})})
        different = stored.differences(recipe)
        if any(not change.startswith(("train.budget:", "train.strategy:", "train.memorisation:")) for change in different):
            raise UsageError(
                f"{self.path} holds a run of another recipe ({'; '.join(different)}): "
                "choose another folder with --out, or delete this one"
            )
        if stored is not before:
            self.rewrite(stored)

    def _trained_on(self, fingerprint: str | None) -> bool:
        """Return whether the run is of the data with this fingerprint."""
        try:
            return fingerprint is not None and self.spec.fingerprint == fingerprint
        except AncestralError:  # the description is missing or damaged
            return False

    def rewrite(self, recipe: Recipe) -> None:
        """Replace the recipe by one with another budget or source."""
        with disk_errors(self.path):
            write_atomically(self.recipe_file, recipe.dump().encode())

    # model

    def describe(self, spec: DataSpec, recipe: Recipe) -> None:
        """Write the description from which the model can be built again, with the version and the place of the data."""
        config = {
            "version": __version__,
            "model": recipe.model.model_dump(mode="json"),
            "data": spec.to_json(),
            "source": self._paths(recipe.data.source) or self._stored_paths(),
        }
        with disk_errors(self.path):
            write_atomically(self.model / "config.json", json.dumps(config, indent=1).encode())

    def _paths(self, source: str) -> dict[str, str] | None:
        """Return the absolute path of the data and their path from the run folder, or None if the source is not a path."""
        path = os.path.expanduser(source)
        if is_name(source) or not exists(source):
            return None
        paths = {"absolute": os.path.abspath(path)}
        try:
            return paths | {"relative": os.path.relpath(path, self.path)}
        except ValueError:  # on another drive of Windows
            return paths

    def _stored_paths(self) -> dict[str, str] | None:
        """Return the paths of the data that config.json has, which remain if the run continues with data given in Python."""
        try:
            return self._config().get("source")
        except AncestralError:
            return None

    @property
    def sources(self) -> list[str]:
        """The built-in name of the data, or the places where they can be, the most probable first; [] if none is known.

        They are the same place seen from the run folder, which holds after both have moved; the place during training; and the
        source as the recipe has it, for runs of earlier versions.
        """
        source = self.recipe.data.source
        if is_name(source):
            return [source]
        stored = self._config().get("source") or {}
        paths = [os.path.normpath(os.path.join(os.path.abspath(self.path), stored["relative"]))] if "relative" in stored else []
        paths += [stored["absolute"]] if "absolute" in stored else [] if "source" in self._config() else [source]
        return list(dict.fromkeys(paths))

    @property
    def weights(self) -> Path:
        return self.model / "model.safetensors"

    @property
    def remaining_model(self) -> str:
        """A sentence that says which model remains after a failed training."""
        there = self.weights.is_file()
        return f"the averaged model from before the failure is in {self.model}" if there else "no model was written before"

    def save_model(self, weights: Mapping[str, Tensor]) -> None:
        """Write the weights of the model, by name, with their checksum and that of the recipe."""
        tensors = {name: t.detach().contiguous() for name, t in weights.items()}
        metadata = {"checksum": checksum(tensors)}
        if self.recipe_file.is_file():
            metadata["recipe"] = self.recipe.checksum()
        with disk_errors(self.path):
            write_atomically(self.weights, serialise(tensors, metadata))

    @property
    def spec(self) -> DataSpec:
        """The description of the data. Raises AncestralError if it is missing or damaged."""
        return DataSpec.from_json(self._config()["data"])

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images on which the run was trained, None for other data or before a model is written.

        A recipe without a size means this one, also if the size that is chosen without one has changed since.
        """
        if not self.recipe_file.is_file():
            return None
        try:
            shape = self.spec.shape
        except AncestralError:
            return None
        return (shape[1], shape[2]) if len(shape) == 3 else None

    def load_model(
        self, device: str = "auto", precision: Precision = "auto", *, step: int | None = None, network: Network | None = None
    ) -> GenerativeModel:
        """Load the trained model.

        Args:
            device: The device: auto, cpu, cuda or mps.
            precision: The precision of the network.
            step: The step of a stored checkpoint, whose averaged weights are loaded. None: the final model.
            network: The model's own network, if the run was trained with a network that is not the library's.

        Raises:
            AncestralError: If the model is missing, damaged or of another version.
            UsageError: If there is no such checkpoint, or it is from an earlier stage of the training.
        """
        spec, config = self.spec, self._config()
        try:
            section = section_of(config["model"]["family"]).model_validate(migration.model(config["model"]))
            model = build(section.config, network, self.path) if isinstance(section, OwnRecipe) else section.build(spec)
        except (KeyError, ValidationError):
            raise self._foreign(config, "this version does not know its settings") from None
        file = self.weights
        try:
            tensors, metadata = read_tensors(file)
        except FileNotFoundError:
            raise AncestralError(f"{self.path} has no trained model yet: continue it with `ancestral train`") from None
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise AncestralError(
                f"{file} is damaged ({reason}): run the same `ancestral train` again, which writes it again"
            ) from None
        if wrong := problem(tensors, metadata):
            raise AncestralError(f"{file} {wrong}; run the same `ancestral train` again, which writes it again")
        try:
            model.load_state_dict(named_as_in(model, tensors))
        except RuntimeError:
            raise self._foreign(config, "some of its parameters are missing, unknown or of another shape") from None
        size = sum(p.numel() for p in model.parameters())
        runtime = Runtime.choose(device, precision, parameters=size, float64=holds_float64(model))
        runtime.place(model)
        model.precision = runtime.autocast
        model.requires_grad_(False)
        if step is not None:
            self._restore(model, step)
        return model.eval()

    @torch.no_grad()
    def _restore(self, model: GenerativeModel, step: int) -> None:
        """Give the model the averaged weights of a checkpoint."""
        tensors = self.checkpoint_of(step).tensors
        trained = model.prior if isinstance(model, LatentModel) else model  # in the last stage
        names = {id(p): name for name, p in trained.named_parameters()}
        for player in trained.players():
            own = [names[id(p)] for p in player.parameters]
            tensors = migration.checkpoint(tensors, player.name, own, player.parameters)
            for name, p in zip(own, player.parameters, strict=True):
                average = tensors.get(f"{player.name}/average/{name}")
                if average is None or average.shape != p.shape:
                    raise UsageError(
                        f"the checkpoint of step {step} in {self.path} is from an earlier stage of training: choose a later one"
                    )
                p.copy_(average)
        checkpoint.restore_others(model, tensors)

    def _foreign(self, config: Mapping[str, Any], why: str) -> AncestralError:
        """Return the error for a model that this version cannot build."""
        maker = f"ancestral {config['version']}" if "version" in config else "an older version"
        maker = f"another state of {maker}" if config.get("version") == __version__ else maker
        return AncestralError(
            f"the model of {self.path} was made by {maker} and this is {__version__}: {why}; use it with the version that made "
            "it, or train a new run"
        )

    def _config(self) -> dict[str, Any]:
        try:
            config: dict[str, Any] = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
            if not {"model", "data"} <= config.keys():
                raise ValueError
            return config
        except FileNotFoundError:
            raise AncestralError(f"{self.path} has no trained model yet: continue it with `ancestral train`") from None
        except (ValueError, AttributeError):
            file = self.model / "config.json"
            raise AncestralError(f"{file} is damaged: run the same `ancestral train` again, which writes it again") from None

    # checkpoints

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], keep: int) -> None:
        """Write a checkpoint, then delete all but the newest `keep`."""
        with disk_errors(self.path):
            checkpoint.write(self.checkpoints / f"step-{step:08d}.safetensors", tensors, numbers)
            for old in self.checkpoint_files()[:-keep]:
                old.unlink()

    def checkpoint_files(self) -> list[Path]:
        """Return the files of the checkpoints, the oldest first."""
        return sorted(self.checkpoints.glob("step-*.safetensors"))

    def load_checkpoint(self) -> Checkpoint | None:
        """Load the newest undamaged checkpoint. Returns None if there are no checkpoints.

        Raises:
            AncestralError: If there are checkpoints and all are damaged.
        """
        damaged: list[Path] = []
        for file in reversed(self.checkpoint_files()):
            if (found := checkpoint.read(file, damaged)) is not None:
                return found
            damaged.append(file)
        if damaged:
            raise AncestralError(
                f"every checkpoint in {self.checkpoints} is damaged ({', '.join(file.name for file in damaged)}): "
                "delete them to start the training again, or restore them from a backup"
            )
        return None

    def checkpoint_of(self, step: int) -> Checkpoint:
        """Load the checkpoint of a step. Raises UsageError if it does not exist or is damaged."""
        steps = {int(file.stem.removeprefix("step-")): file for file in self.checkpoint_files()}
        found = checkpoint.read(steps[step], []) if step in steps else None
        if found is None:
            why = "is damaged" if step in steps else "does not exist"
            kept = ", ".join(str(other) for other in steps if other != step) or "none"
            raise UsageError(
                f"the checkpoint of step {step} {why} in {self.path}, which has those of {kept}: to store more of them, train "
                "with a larger train.keep; one is written every train.checkpoint_every seconds"
            )
        return found

    # metrics

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a line. Numbers that are not finite become null, since JSON has no other value for them."""
        row = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        with disk_errors(self.path), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return all measurements, without a last line that is incomplete after a kill."""
        if not self.metrics_file.exists():
            return []
        rows = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def rewind_metrics(self, step: int) -> None:
        """Delete the measurements after `step`, because training will repeat them."""
        if self.metrics_file.exists():
            kept = [json.dumps(row) for row in self.metrics() if row["step"] <= step]
            with disk_errors(self.path):
                write_atomically(self.metrics_file, "".join(f"{line}\n" for line in kept).encode())


def diagnoses(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last of the measurements with a diagnosis of each stage, and of the checks between stages."""
    return [dict(row) for row in {row.get("stage"): row for row in rows if "findings" in row}.values()]


def copies(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the last of the measurements with a copy rate, or None."""
    return next((dict(row) for row in reversed(list(rows)) if "copies/rate" in row), None)


def findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the last checks have found wrong with the model, in sentences."""
    found = [finding for row in diagnoses(rows) for finding in row["findings"]]
    copied = [row["copies"] for row in rows if "copies" in row][-1:]  # a sentence, or None if the model did not copy
    return found + [sentence for sentence in copied if sentence]
