"""The run folder, which holds all files of a run.

    recipe.yaml            the settings
    model/                 config.json + model.safetensors: the averaged weights, ready for sampling
    checkpoints/           step-00001234.safetensors: all that training needs to continue exactly
    metrics.jsonl          one line per measurement
    latents.safetensors    the latents of the data, if encoding took long
    samples/               previews, as pictures and as tensors
    evaluation/, evaluation.json, report.html      the results of `evaluate` and `report`

Every file is written under a temporary name and then renamed, so that the last good file survives a kill at any time. Every
file that is read again has a checksum, and names the run to which it belongs (`Run.id`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ancestral.app import migration, records
from ancestral.app.data import DataSpec, exists, is_name
from ancestral.app.data.errors import DataError
from ancestral.app.recipes.own import OwnRecipe
from ancestral.app.recipes.recipe import Recipe, section_of
from ancestral.app.remote import located
from ancestral.app.training import checkpoint
from ancestral.app.training.checkpoint import Checkpoint
from ancestral.conditioning.vocabulary import well_formed
from ancestral.errors import AncestralError, DamageError, UsageError
from ancestral.files import disk_errors, read_json, write_atomically
from ancestral.models import GenerativeModel
from ancestral.models.latent import LatentModel
from ancestral.models.saved import Network, build
from ancestral.runtime import Precision, Runtime, holds_float64
from ancestral.version import __version__
from ancestral.weights import checksum, named_as_in, problem, read_metadata, read_tensors, write_tensors

REPAIR = "run the same `ancestral train` again, which writes it again"
HEADER = re.compile(rb"# run (?P<id>[0-9a-f]{16}) checksum (?P<checksum>[0-9a-f]{32}).*\n")  # the first line of recipe.yaml
CHECK = "check"  # the hash in each line of metrics.jsonl
Value = bool | int | float | str | None | list[str]  # of a measurement


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
    def id(self) -> str | None:
        """The identity of the run: a hash of its first recipe and its data. None for a run of an earlier version."""
        try:
            header = HEADER.match(self.recipe_file.read_bytes())
        except FileNotFoundError:
            return None
        return None if header is None else header["id"].decode()

    @property
    def recipe(self) -> Recipe:
        """The settings. Raises AncestralError if the file is missing, damaged or was changed."""
        try:
            content = self.recipe_file.read_bytes()
        except OSError:
            return Recipe.load(self.recipe_file)
        header = HEADER.match(content)
        if header is not None and header["checksum"].decode() != _recipe_checksum(header["id"], content[header.end() :]):
            raise DamageError(
                f"{self.recipe_file} is damaged or was changed (it does not match its checksum): the same `ancestral train` "
                "writes it again from a checkpoint; to train with other settings, give them with another --out"
            )
        try:
            content.decode()
            return Recipe.load(self.recipe_file)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise DamageError(f"{self.recipe_file} is damaged (line {line} has a byte that is not UTF-8): restore it") from None
        except RecursionError:
            raise DamageError(f"{self.recipe_file} is damaged (its values are nested too deep): restore it") from None
        except UsageError as error:
            named = str(self.recipe_file) in str(error)
            raise error if named else UsageError(f"{self.recipe_file}: {error}") from None

    def write_recipe(self, recipe: Recipe, run_id: str | None) -> None:
        """Write the settings with the identity of the run and a checksum."""
        content = recipe.dump().encode()
        if run_id is not None:
            checksum = _recipe_checksum(run_id.encode(), content)
            content = f"# run {run_id} checksum {checksum}: change a copy of this file, not this file\n".encode() + content
        with disk_errors(self.path):
            write_atomically(self.recipe_file, content)

    def repair_recipe(self) -> str | None:
        """Write the settings again from the newest checkpoint if they are missing or damaged, and return a note, or None."""
        try:
            if self.recipe_file.is_file() or not self.checkpoint_files():
                _ = self.recipe if self.recipe_file.is_file() else None
                return None
            why = "is missing"
        except AncestralError:
            why = "is damaged"
        for file in reversed(self.checkpoint_files()):
            numbers = checkpoint.read_numbers(file) or {}
            if "recipe" in numbers and "run" in numbers:
                self.write_recipe(Recipe.of(numbers["recipe"]), numbers["run"])
                return f"{self.recipe_file} {why}: it is written again from {file.name}"
        return None

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
                self.write_recipe(recipe, identity_of(recipe, fingerprint))
                return
        stored = before = self.recipe
        if stored.data.source != recipe.data.source and self._trained_on(fingerprint):
            stored = stored.model_copy(update={"data": stored.data.model_copy(update={"source": recipe.data.source})})
        different = stored.differences(recipe)
        if any(not change.startswith(("train.budget:", "train.strategy:", "train.memorisation:")) for change in different):
            raise UsageError(
                f"{self.path} holds a run of another recipe ({'; '.join(different)}): "
                "choose another folder with --out, or delete this one"
            )
        if stored is not before or self.id is None:  # a run of an earlier version gets an identity
            self.write_recipe(stored, self.id or identity_of(before, fingerprint))

    def _trained_on(self, fingerprint: str | None) -> bool:
        """Return whether the run is of the data with this fingerprint."""
        try:
            return fingerprint is not None and self.spec.fingerprint == fingerprint
        except AncestralError:  # the description is missing or damaged
            return False

    def rewrite(self, recipe: Recipe) -> None:
        """Replace the recipe by one with another budget or source."""
        self.write_recipe(recipe, self.id)

    # model

    def describe(self, spec: DataSpec, recipe: Recipe) -> None:
        """Write the description from which the model can be built again, with the version and the place of the data."""
        config = {
            "run": self.id,
            "version": __version__,
            "model": recipe.model.model_dump(mode="json"),
            "data": spec.to_json(),
            "source": self._paths(recipe.data.source) or self._stored_paths(),
        }
        records.write(self.config_file, config)

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
            return self.config.source
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
        config = self.config
        stored = config.source or {}
        paths = [os.path.normpath(os.path.join(os.path.abspath(self.path), stored["relative"]))] if "relative" in stored else []
        paths += [stored["absolute"]] if "absolute" in stored else [] if config.source is None else [source]
        return list(dict.fromkeys(paths))

    @property
    def weights(self) -> Path:
        return self.model / "model.safetensors"

    @property
    def remaining_model(self) -> str:
        """A sentence that says which model remains after a failed training."""
        there = self.weights.is_file()
        return f"the averaged model from before the failure is in {self.model}" if there else "no model was written before"

    def save_model(self, weights: Mapping[str, Tensor], recipe: Recipe) -> None:
        """Write the weights of the model, by name, with their checksum and that of the stored recipe."""
        tensors = {name: t.detach().contiguous() for name, t in weights.items()}
        metadata = {"checksum": checksum(tensors), "recipe": recipe.checksum()}
        if (run_id := self.id) is not None:
            metadata["run"] = run_id
        with disk_errors(self.path):
            write_tensors(self.weights, tensors, metadata)

    @property
    def spec(self) -> DataSpec:
        """The description of the data. Raises AncestralError if it is missing or damaged."""
        try:
            DataSpec.from_json(self.config.data)  # names missing and unknown fields
            return records.formed(self.config.data, DataSpec)
        except (DataError, ValueError) as error:
            raise DamageError(f"{self.config_file} is damaged ({error}): {REPAIR}") from None

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
        spec, config = self.spec, self.config
        try:
            section = section_of(config.model["family"]).model_validate(migration.model(config.model))
            model = build(section.config, network, self.path) if isinstance(section, OwnRecipe) else section.build(spec)
        except (KeyError, TypeError, ValidationError):
            raise self._foreign(config, "this version does not know its settings") from None
        tensors = self._weights()
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

    def _weights(self) -> dict[str, Tensor]:
        """Read the weights. Raises AncestralError if they are missing, damaged or of another run."""
        try:
            tensors, metadata = read_tensors(self.weights, REPAIR)
        except FileNotFoundError:
            raise self._untrained(self.weights) from None
        if wrong := problem(tensors, metadata):
            raise DamageError(f"{self.weights} {wrong}; {REPAIR}")
        self._check_run(self.weights, metadata.get("run"))
        return tensors

    def _check_run(self, file: Path, run_id: str | None) -> None:
        """Raise DamageError if a file belongs to another run than the recipe. Files of earlier versions name no run."""
        if run_id is not None and run_id != self.id:
            raise DamageError(f"{file} and {self.recipe_file.name} are of different runs: restore the one that was changed")

    def weights_notes(self) -> list[str]:
        """Return what is wrong with the header of the weights, which can be read in little time, in sentences."""
        try:
            self._check_run(self.weights, read_metadata(self.weights, REPAIR).get("run"))
            return []
        except FileNotFoundError:
            return [f"{self.weights} is missing: {REPAIR}"]
        except DamageError as error:
            return [str(error)]

    def model_problems(self) -> list[str]:
        """Return what is wrong with the files of the model, which training writes again, in sentences."""
        found = []
        for file, read in ((self.config_file, lambda: self.spec), (self.weights, self._weights)):
            try:
                if file.exists():
                    read()
            except AncestralError as error:
                found.append(f"{str(error).removesuffix(f': {REPAIR}').removesuffix(f'; {REPAIR}')}: it is written again")
        return found

    def _untrained(self, file: Path) -> AncestralError:
        there = f"{file.name} is missing" if self.checkpoint_files() else "no model was written"
        return AncestralError(f"{self.path} has no trained model yet ({there}): continue it with `ancestral train`")

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

    def _foreign(self, config: Config, why: str) -> AncestralError:
        """Return the error for a model that this version cannot build."""
        maker = "an older version" if config.version is None else f"ancestral {config.version}"
        maker = f"another state of {maker}" if config.version == __version__ else maker
        return AncestralError(
            f"the model of {self.path} was made by {maker} and this is {__version__}: {why}; use it with the version that made "
            "it, or train a new run"
        )

    @property
    def config_file(self) -> Path:
        return self.model / "config.json"

    @property
    def config(self) -> Config:
        """The description of the model and its data. Raises AncestralError if it is missing, damaged or of another run."""
        try:
            config = records.read(self.config_file, Config, REPAIR)
        except FileNotFoundError:
            raise self._untrained(self.config_file) from None
        self._check_run(self.config_file, config.run)
        return config

    # checkpoints

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], keep: int) -> None:
        """Write a checkpoint, then delete all but the newest `keep`."""
        with disk_errors(self.path):
            checkpoint.write(self.checkpoints / f"step-{step:08d}.safetensors", tensors, numbers)
            for old in self.checkpoint_files()[:-keep]:
                old.unlink()

    def checkpoint_files(self) -> list[Path]:
        """Return the files of the checkpoints, the oldest first."""
        return sorted(
            file for file in self.checkpoints.glob("step-*.safetensors") if file.stem.removeprefix("step-").isdecimal()
        )

    def counters(self) -> dict[str, Any]:
        """Return the numbers of the newest checkpoint whose header is sound, {} if there is none."""
        return self.counted()[0]

    def counted(self) -> tuple[dict[str, Any], list[str]]:
        """Return the same, and a note for each newer checkpoint that cannot be used."""
        notes: list[str] = []
        for file in reversed(self.checkpoint_files()):
            numbers = checkpoint.read_numbers(file)
            if numbers is not None and numbers.get("run", self.id) == self.id:
                return numbers, notes
            notes.append(f"{file} is damaged or of another run")
        return {}, notes

    def load_checkpoint(self) -> Checkpoint | None:
        """Load the newest undamaged checkpoint. Returns None if there are no checkpoints.

        Raises:
            AncestralError: If there are checkpoints and all are damaged.
        """
        damaged: list[Path] = []
        for file in reversed(self.checkpoint_files()):
            if (found := checkpoint.read(file, damaged, self.id)) is not None:
                return found
            damaged.append(file)
        if any("run" in (checkpoint.read_numbers(file) or {}) for file in damaged):
            raise DamageError(
                f"{self.recipe_file} and the checkpoints in {self.checkpoints} are of different runs, or are damaged: restore "
                "the ones that were changed"
            )
        if damaged:
            names = ", ".join(file.name for file in damaged)
            raise DamageError(
                f"every checkpoint in {self.checkpoints} is damaged ({names}): delete them to start the "
                "training again, or restore them from a backup"
            )
        return None

    def checkpoint_of(self, step: int) -> Checkpoint:
        """Load the checkpoint of a step. Raises UsageError if it does not exist or is damaged."""
        steps = {int(file.stem.removeprefix("step-")): file for file in self.checkpoint_files()}
        found = checkpoint.read(steps[step], [], self.id) if step in steps else None
        if found is None:
            why = "is damaged or of another run" if step in steps else "does not exist"
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
            file.write(_line(row, self.id))

    def metrics(self) -> list[dict[str, Any]]:
        """Return all measurements, without lines that are damaged or incomplete after a kill."""
        return self.measured()[0]

    def measured(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return all measurements, and notes that say which are left out because their lines are damaged or lost."""
        try:
            *lines, last = self.metrics_file.read_bytes().split(b"\n")
        except FileNotFoundError:
            lines, last = [], b""
        except OSError as error:
            raise DamageError(f"{self.metrics_file} cannot be read ({error.strerror}): restore it") from None
        rows, damaged, notes, run_id = [], [], [], self.id
        for number, line in enumerate([*lines, *([last] if last else [])], 1):
            row = _row(line, run_id)
            if row is not None:
                rows.append(row)
            elif number <= len(lines):  # the last line may be incomplete after a kill
                damaged.append(number)
        if damaged:
            which = f"{damaged[0]:,} is" if len(damaged) == 1 else f"{damaged[0]:,} and {len(damaged) - 1:,} more are"
            notes.append(f"{self.metrics_file}: line {which} damaged or of another run, and left out")
        if (lost := self.counters().get("rows", 0) - len(lines)) > 0:
            notes.append(f"{self.metrics_file}: {lost:,} of its lines {'is' if lost == 1 else 'are'} lost")
        return rows, notes

    def lines(self) -> int:
        """Return the number of lines of metrics.jsonl."""
        try:
            return self.metrics_file.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def rewind_metrics(self, step: int) -> None:
        """Delete the measurements after `step`, because training will repeat them."""
        if self.metrics_file.exists():
            kept = "".join(_line(row, self.id) for row in self.metrics() if row["step"] <= step)
            with disk_errors(self.path):
                write_atomically(self.metrics_file, kept.encode())


@dataclass(frozen=True)
class Config:
    """The content of model/config.json. source: {} in runs of earlier versions, None if the data were given in Python."""

    model: dict[str, Any]
    data: dict[str, Any]
    source: dict[str, str] | None = field(default_factory=dict)
    version: str | None = None
    run: str | None = None


def identity_of(recipe: Recipe, fingerprint: str | None) -> str:
    """Return the identity of a run that begins with this recipe and these data. It does not depend on their places."""
    return blake2b(f"{recipe.checksum()} {fingerprint}".encode(), digest_size=8).hexdigest()


def _recipe_checksum(run_id: bytes, content: bytes) -> str:
    return blake2b(run_id + b"\n" + content, digest_size=16).hexdigest()


def _line(row: Mapping[str, Any], run_id: str | None) -> str:
    return json.dumps({**row, CHECK: _hash(row, run_id)}) + "\n"


def _hash(row: Mapping[str, Any], run_id: str | None) -> str:
    """Return a hash of a measurement and its run."""
    return blake2b(json.dumps(row).encode(), digest_size=4, key=(run_id or "").encode()).hexdigest()


def _row(line: bytes, run_id: str | None) -> dict[str, Any] | None:
    """Return the measurement of a line, or None if it is damaged. Lines of earlier versions have no hash."""
    try:
        row = read_json(line)
        records.formed(row, dict[str, Value])
        check = row.pop(CHECK, None)
        return row if check in (None, _hash(row, run_id)) and type(row["step"]) is int else None
    except (ValueError, KeyError):
        return None


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
