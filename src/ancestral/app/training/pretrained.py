"""Trained autoencoders that a latent model takes over: of another run, or of the library diffusers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ancestral.app.recipes import LatentRecipe, VAERecipe
from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.models.latent import LatentModel
from ancestral.networks import diffusers


@dataclass(frozen=True)
class Trained:
    """section: the recipe's `model.autoencoder` that describes it. data: what it was trained on, where that is known.
    weights: reads them.
    """

    section: dict[str, Any]
    data: dict[str, Any] | None
    weights: Callable[[], Mapping[str, Tensor]]


def trained(source: str | Path) -> Trained:
    """The autoencoder in a run folder or a folder of the library's. Raises UsageError where there is none."""
    folder = Path(source)
    if Run(folder).recipe_file.is_file():
        return _of_run(Run(folder))
    if (folder / diffusers.CONFIG).is_file():
        return _of_diffusers(folder)
    if (folder / "vae" / diffusers.CONFIG).is_file():
        raise UsageError(f"{folder} is a whole pipeline of diffusers: name its autoencoder, {folder / 'vae'}")
    there = "does not exist" if not folder.exists() else "holds no trained autoencoder"
    raise UsageError(
        f"{folder} {there}: name a run that was trained with --model latent or vae, or a folder of diffusers' {diffusers.NAME}"
    )


def settings(source: str | Path) -> dict[str, Any]:
    """What a recipe says of a latent model that takes it over."""
    found = trained(source)
    return {"model.autoencoder": found.section, "model.pretrained": {"source": str(source), "data": found.data}}


def load_pretrained(autoencoder: nn.Module, source: str | Path) -> None:
    """Give an autoencoder its trained weights. Raises UsageError where those are of another network."""
    try:
        autoencoder.load_state_dict(trained(source).weights())
    except RuntimeError:
        raise UsageError(
            f"the autoencoder of {source} is not the one that the recipe describes: begin anew with --autoencoder {source}"
        ) from None


def _of_run(run: Run) -> Trained:
    recipe = run.recipe.model
    if not isinstance(recipe, LatentRecipe | VAERecipe):
        raise UsageError(
            f"{run.path} is a run of the family {recipe.family}, which has no encoder to fewer numbers: name one that was "
            "trained with --model latent or vae"
        )
    if isinstance(recipe, VAERecipe):
        if recipe.condition:
            raise UsageError(
                f"the latents of {run.path} leave out what its condition tells ({', '.join(recipe.condition)}): train a VAE "
                "without conditions, and give them to the latent model"
            )
        return Trained(recipe.model_dump(mode="json"), run.spec.to_json(), lambda: run.load_model("cpu").state_dict())
    data = run.spec.to_json() if recipe.pretrained is None else recipe.pretrained.data
    return Trained(recipe.autoencoder.model_dump(mode="json"), data, lambda: _first_stage(run))


def _first_stage(run: Run) -> Mapping[str, Tensor]:
    model = run.load_model("cpu")
    assert isinstance(model, LatentModel)
    if not model.known:
        raise UsageError(f"the autoencoder of {run.path} is not trained to its end: continue that run with `ancestral train`")
    return model.autoencoder.state_dict()


def _of_diffusers(folder: Path) -> Trained:
    file = folder / diffusers.CONFIG
    try:
        config = json.loads(file.read_text())
        name = config["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file} does not describe a model of diffusers: it names no _class_name") from None
    if name != diffusers.NAME:
        raise UsageError(f"{file} describes a {name}: of diffusers' autoencoders only {diffusers.NAME} can be taken over")
    if not (folder / diffusers.WEIGHTS).is_file():
        raise UsageError(f"{folder} has no {diffusers.WEIGHTS}: save the model with save_pretrained({str(folder)!r})")
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    section = {"family": "diffusers", "config": plain}
    return Trained(section, None, lambda: {f"network.{key}": v for key, v in diffusers.read(folder).items()})
