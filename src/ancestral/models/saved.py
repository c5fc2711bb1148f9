"""Loading of models that were saved with `model.save(folder)`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ancestral import weights
from ancestral.configuration import decode, foreign_modules
from ancestral.errors import AncestralError, UsageError
from ancestral.models import autoencoder, diffusion, distilled, gan, latent, score, vae  # noqa: F401  # their classes can be built then
from ancestral.models.base import GenerativeModel
from ancestral.networks import adversarial, diffusers  # noqa: F401  # and these

Network = nn.Module | Mapping[str, nn.Module]


def load_model(folder: str | Path, network: Network | None = None) -> GenerativeModel:
    """Load the model in a folder that `GenerativeModel.save` wrote, on the CPU and in evaluation mode.

    Args:
        folder: the folder with `config.json` and `model.safetensors`.
        network: the model's own network, if its class is not ancestral's: a new one, into which the weights are loaded. If
            there are several, each by the name of the argument: `{"generator": ..., "critic": ...}`.

    Raises:
        UsageError: if a network is missing, or given but not needed.
        AncestralError: with the file's name, if a file is missing, damaged, not finite or of another network.
    """
    folder = Path(folder)
    config, tensors = weights.read(folder)
    if config.get("format") != weights.FORMAT:
        raise AncestralError(
            f"{folder / weights.CONFIG} has format {config.get('format')}, and this version reads {weights.FORMAT}: use the "
            "version that wrote it"
        )
    model = build(config, network, folder)
    foreign = foreign_modules(config)
    try:
        model.load_state_dict(weights.named_as_in(model, tensors))
    except RuntimeError as error:
        why = str(error).splitlines()[1:2]
        whose = "the network that was given is not the one that was saved" if foreign else "this version builds another network"
        raise AncestralError(f"{folder / weights.WEIGHTS} does not fit: {whose} ({''.join(why).strip()})") from None
    return model.eval()


def build(config: Mapping[str, Any], network: Network | None, folder: Path) -> GenerativeModel:
    """Build the untrained model of a configuration (`GenerativeModel.config`).

    Args:
        config: the configuration.
        network: as in `load_model`, also for errors.
        folder: the folder of the model, for messages.
    """
    settings = {key: value for key, value in config.items() if key not in ("format", "version", "family")}
    _check(folder, foreign_modules(settings), network)
    model = decode(settings, network)
    if not isinstance(model, GenerativeModel):
        raise AncestralError(f"{folder / weights.CONFIG} describes no model")
    return model


def _check(folder: Path, foreign: Mapping[str, str], network: Network | None) -> None:
    """Raise UsageError unless exactly the foreign networks are given."""
    names = [name.rsplit(".", 1)[-1] for name in foreign]
    given = {} if network is None else network
    if isinstance(given, nn.Module):
        if not foreign:
            raise UsageError(f"the model in {folder} has no network of your own: leave network out")
        missing = len(foreign) > 1
    else:
        missing = any(path not in given and name not in given for path, name in zip(foreign, names, strict=True))
        if extra := [name for name in given if name not in (*names, *foreign)]:
            raise UsageError(f"the model in {folder} has no network {extra[0]!r} of your own: leave it out")
    if missing:
        wanted = ", ".join(f'"{name}": {cls}(...)' for name, cls in zip(names, foreign.values(), strict=True))
        wanted = f"{next(iter(foreign.values()))}(...)" if len(foreign) == 1 else f"{{{wanted}}}"
        raise UsageError(
            f"the {' and '.join(foreign)} of the model in {folder} is your own, and no file holds its code: give it with "
            f'ancestral.load("{folder}", network={wanted})'
        )
