"""The recipe, which holds all settings of a run: YAML on disk, checked pydantic models in memory."""

from __future__ import annotations

import math
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, ValidationError, create_model

from ancestral.app import migration
from ancestral.app.data import DataError, is_name
from ancestral.app.data.bounded import text_of
from ancestral.app.recipes import FAMILIES, FamilyRecipe, Section
from ancestral.app.recipes.own import OWN, OwnRecipe
from ancestral.app.recipes.yaml_text import read_yaml
from ancestral.errors import UsageError
from ancestral.registry import names
from ancestral.suggest import unknown

DEFAULT_FAMILY = "diffusion"
LONGEST = 200  # characters of a value in a message
SECTIONS = ("data", "model", "train")


class DataRecipe(Section):
    """The data."""

    source: str = Field(description="a built-in name, a folder of images, or an .npy, .npz, .parquet or .csv file")
    size: int | tuple[int, int] | None = Field(None, description="height and width of the images; None: no resizing")
    axes: str | None = Field(
        None, description="names of the axes of an array, e.g. n h w c; None: their number and the type of the values decide"
    )
    flip: bool = Field(False, description="mirror half of the training images from left to right")


class PlayerRecipe(Section):
    """The settings of one player, e.g. train.players.discriminator.lr=2e-3."""

    lr: float | None = Field(None, gt=0, description="peak learning rate of the player; None: train.lr")
    turns: int = Field(1, ge=1, description="updates of the player in each step")


def _switch(value: Any) -> Any:
    """Return "on" or "off" for the booleans that YAML reads in their place."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class TrainRecipe(Section):
    """The training."""

    budget: str = Field(description="90s, 2m, 20000it, 5epochs")
    epochs: float | None = Field(None, gt=0, description="passes through the data after which a time budget also ends")
    batch: int = Field(64, ge=1, description="samples per step")
    accumulate: int = Field(1, ge=1, description="parts into which a batch is split, to save memory or for several processes")
    strategy: Literal["replicated", "sharded"] = Field(
        "replicated", description="what several processes hold: the whole model each, or shards of it (FSDP2)"
    )
    ordered: bool = Field(
        False, description="add the gradients of parts in order, so that any number of processes gives the same bits"
    )
    lr: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    warmup: int = Field(100, ge=0, description="steps in which the learning rate rises to its peak")
    decay: float = Field(
        0.5, ge=0, le=1, description="last share of the budget, in which the learning rate falls to 0 as a cosine"
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    clip: float | None = Field(
        1.0, gt=0, description="largest norm of the gradient of the mean loss per dimension; None: no clipping"
    )
    ema: float | None = Field(
        0.1, gt=0, lt=0.28, description="width of the average of parameters, relative to the run's length; None: no average"
    )
    start_from: str | None = Field(None, description="run from whose averaged weights training starts")
    players: dict[str, PlayerRecipe] = Field({}, description="settings of single players, by name")
    seed: int = Field(0, ge=-(1 << 63), lt=1 << 63, description="random seed for weights, noise and data order")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic of the networks; auto: bf16 if it is fast, on older GPUs fp16"
    )
    compile: Annotated[Literal["auto", "off", "on"], BeforeValidator(_switch)] = Field(
        "auto", description="whether networks are compiled (torch.compile); auto: on a GPU, if training is long"
    )
    keep: int = Field(2, ge=1, description="number of stored checkpoints")
    checkpoint_every: float = Field(60.0, gt=0, description="seconds between checkpoints")
    previews: int = Field(8, ge=0, description="pictures of samples during training")
    memorisation: Annotated[Literal["stop", "warn", "off"], BeforeValidator(_switch)] = Field(
        "stop",
        description="what happens when the copy rate of the samples doubles: training stops and keeps the weights from before, "
        "or only says it; off: no check",
    )
    diagnoses: int = Field(32, ge=0, description="checks of the model's health during training, for families that have one")

    def factor(self, step: int, progress: float) -> float:
        """Return the factor of the peak learning rate: linear warm-up, 1, then a cosine to 0 over the last `decay` of training.

        Args:
            step: the step of the stage.
            progress: the progress of the stage, in [0, 1].
        """
        fall = max(0.0, (progress - (1 - self.decay)) / self.decay) if self.decay else 0.0
        return min(1.0, (step + 1) / max(1, self.warmup)) * (1 + math.cos(math.pi * fall)) / 2


class Recipe(Section):
    """A run: data, model, training."""

    data: DataRecipe
    model: SerializeAsAny[FamilyRecipe]
    train: TrainRecipe

    @classmethod
    def of(cls, values: dict[str, Any]) -> Recipe:
        """Check the values of a recipe. Raises UsageError, which names all wrong settings."""
        values = migration.recipe(values)
        checked = _with_model(family_of(values), section_of(family_of(values)))
        try:
            return checked.model_validate(values)
        except ValidationError as error:
            raise UsageError("; ".join(_plain(checked, problem) for problem in error.errors())) from None

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe. Raises UsageError if the file is not a recipe."""
        try:
            values = read_yaml(text_of(path))
        except DataError as error:
            raise UsageError(f"cannot read the recipe: {error}") from None
        except ValueError as error:
            raise UsageError(f"cannot read the recipe {path}: {error}") from None
        if not isinstance(values, dict):
            found = "nothing" if values is None else f"a {type(values).__name__}"
            raise UsageError(f"{path} is no recipe: it holds {found} in place of the sections {', '.join(SECTIONS)}")
        return cls.of(values)

    def flat(self) -> dict[str, Any]:
        """Return all settings under their full names, such as "train.batch"."""
        return _flatten(self.model_dump(mode="json"))

    def dump(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def without_places(self) -> Recipe:
        """Return the recipe with names in place of the paths of its data, of a pretrained autoencoder and of an earlier run."""
        values = self.model_dump(mode="json")
        pretrained = values["model"].get("pretrained")
        places = [(values["train"], "start_from"), *([(pretrained, "source")] if pretrained else [])]
        for section, name in [*places, *([] if is_name(self.data.source) else [(values["data"], "source")])]:
            if section.get(name):
                section[name] = PurePath(section[name]).name
        return type(self).of(values)

    def checksum(self) -> str:
        """Return the BLAKE2b hash of the recipe without places, by which weights name it."""
        return blake2b(self.without_places().dump().encode(), digest_size=16).hexdigest()

    def differences(self, other: Recipe) -> list[str]:
        """Return the differences to another recipe, as "train.budget: 2m -> 5m"."""
        mine, theirs = self.flat(), other.flat()
        return [f"{key}: {mine.get(key)} -> {theirs.get(key)}" for key in mine | theirs if mine.get(key) != theirs.get(key)]


def family_of(values: dict[str, Any]) -> str:
    """Return the family in unchecked values of a recipe. Raises UsageError if it is unknown."""
    section = values.get("model") or {}
    family = section.get("family", DEFAULT_FAMILY) if isinstance(section, dict) else DEFAULT_FAMILY
    if not isinstance(family, str) or (family != OWN and family not in FAMILIES):
        raise UsageError(unknown("model", str(family)[:LONGEST], FAMILIES))
    return family


def section_of(family: str) -> type[FamilyRecipe]:
    """Return the class of the section `model` for a family."""
    return OwnRecipe if family == OWN else FAMILIES[family]


@cache
def _with_model(family: str, section: type[FamilyRecipe]) -> type[Recipe]:
    """Return the class Recipe with the family's own section as `model`."""
    default = ... if section is OwnRecipe else section(family=family)
    return create_model("Recipe", __base__=Recipe, model=(section, default))


def parse(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Read "section.name=value" as {"section.name": value}, with values in YAML. Raises UsageError for other texts."""
    settings = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        try:
            settings[migration.setting(path)] = read_yaml(text)
        except ValueError as error:
            raise UsageError(f"cannot read {assignment[:LONGEST]!r}: {error}") from None
        if not equals:
            hint = (
                "; several conditions take commas (train, compare: --condition class,text)"
                if assignment in names("condition")
                else ""
            )
            raise UsageError(
                f"cannot read {assignment[:LONGEST]!r}: write a setting as section.name=value, e.g. train.batch=128{hint}"
            )
    return settings


def override(values: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of nested values with {"section.name": value} applied. Raises UsageError if a section would get a value."""
    values = deepcopy(values)
    for path, value in settings.items():
        if path in SECTIONS and not isinstance(value, dict):
            raise UsageError(f"{path!r} is a section of the recipe, without a value: write {path}.name=value")
        *sections, name = path.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"{section!r} is a section of the recipe, without a value: write {section}.name=value")
        place[name] = value
    return values


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _plain(recipe: type[BaseModel], problem: Any) -> str:
    """Write one of pydantic's problems in words, with a similar name if a setting is unknown."""
    section: Any = recipe
    names: list[str] = []
    known: dict[str, Any] = {}
    for part in problem["loc"]:
        if kinds := {kind.model_fields["family"].default: kind for kind in _kinds(section)}:
            section = kinds[part]  # the path contains the family of such a section
        elif settings := _fields(section):
            names.append(str(part))
            known, section = settings, settings[part].annotation if part in settings else None
    where = ".".join(names)
    if problem["type"] == "extra_forbidden":
        close = get_close_matches(names[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)
        return f"unknown setting {where!r}: {hint}"
    if problem["type"] == "missing":
        return f"the setting {where!r} is missing"
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}={str(problem['input'])[:LONGEST]}: {message}"


def _fields(section: Any) -> dict[str, Any]:
    """Return the settings of a section, which may be optional."""
    options = [section, *get_args(section)]
    return next((kind.model_fields for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), {})


def _kinds(section: Any) -> list[Any]:
    """Return the classes of a section that has one of several families, [] for other sections."""
    bare = [getattr(kind, "__origin__", kind) for kind in get_args(section)]  # the types within Annotated
    return [kind for kind in bare if isinstance(kind, type) and issubclass(kind, Section) and "family" in kind.model_fields]
