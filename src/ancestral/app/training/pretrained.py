"""Pretrained autoencoders for latent models, from another run or from the library diffusers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ancestral.app.recipes import LatentRecipe, VAERecipe
from ancestral.app.remote import located
from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.files import read_json
from ancestral.models.latent import LatentModel
from ancestral.networks import diffusers


@dataclass(frozen=True)
class Trained:
    """A pretrained autoencoder.

    Args:
        section: The recipe's section `model.autoencoder` that describes it.
        data: The description of its training data, if known.
        weights: A function that reads its weights.
    """

    section: dict[str, Any]
    data: dict[str, Any] | None
    weights: Callable[[], Mapping[str, Tensor]]


def trained(source: str | Path) -> Trained:
    """Find the autoencoder in a run folder or a folder of diffusers. Raises UsageError if there is none."""
    folder = located(source)
    if Run(folder).recipe_file.is_file():
        return _of_run(Run(folder))
    if (folder / diffusers.CONFIG).is_file():
        return _of_diffusers(folder)
    if (folder / "vae" / diffusers.CONFIG).is_file():
        raise UsageError(f"{folder} is a complete pipeline of diffusers: give its autoencoder, {folder / 'vae'}")
    there = "does not exist" if not folder.exists() else "holds no trained autoencoder"
    raise UsageError(
        f"{folder} {there}: give a run that was trained with --model latent or vae, or a folder of diffusers' {diffusers.NAME}"
    )


def settings(source: str | Path) -> dict[str, Any]:
    """Return the recipe settings of a latent model with this pretrained autoencoder."""
    found = trained(source)
    return {"model.autoencoder": found.section, "model.pretrained": {"source": str(source), "data": found.data}}


def load_pretrained(autoencoder: nn.Module, source: str | Path) -> None:
    """Load the pretrained weights into an autoencoder. Raises UsageError if they are of another network."""
    try:
        autoencoder.load_state_dict(trained(source).weights())
    except RuntimeError:
        raise UsageError(
            f"the autoencoder of {source} is not the one that the recipe describes: start a new run with --autoencoder {source}"
        ) from None


def _of_run(run: Run) -> Trained:
    recipe = run.recipe.model
    if not isinstance(recipe, LatentRecipe | VAERecipe):
        raise UsageError(
            f"{run.path} is a run of the family {recipe.family}, which has no autoencoder: give a run that was trained with "
            "--model latent or vae"
        )
    if isinstance(recipe, VAERecipe):
        if recipe.condition:
            raise UsageError(
                f"the latents of {run.path} lack the information of its condition ({', '.join(recipe.condition)}): train a VAE "
                "without conditions, and give the conditions to the latent model"
            )
        return Trained(recipe.model_dump(mode="json"), run.spec.to_json(), lambda: run.load_model("cpu").state_dict())
    data = run.spec.to_json() if recipe.pretrained is None else recipe.pretrained.data
    return Trained(recipe.autoencoder.model_dump(mode="json"), data, lambda: _first_stage(run))


def _first_stage(run: Run) -> Mapping[str, Tensor]:
    model = run.load_model("cpu")
    assert isinstance(model, LatentModel)
    if not model.known:
        raise UsageError(f"the training of the autoencoder of {run.path} is not finished: continue it with `ancestral train`")
    return model.autoencoder.state_dict()


def _of_diffusers(folder: Path) -> Trained:
    file = folder / diffusers.CONFIG
    try:
        config = read_json(file.read_bytes())
        name = config["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file} does not describe a model of diffusers: it has no _class_name") from None
    if name != diffusers.NAME:
        raise UsageError(f"{file} describes a {name}: {diffusers.NAME} is the only autoencoder of diffusers that can be used")
    if not (folder / diffusers.WEIGHTS).is_file():
        raise UsageError(f"{folder} has no {diffusers.WEIGHTS}: save the model with save_pretrained({str(folder)!r})")
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    section = {"family": "diffusers", "config": plain}
    return Trained(section, None, lambda: {f"network.{key}": v for key, v in diffusers.read(folder).items()})
