"""Conversion of runs of format 1 to format 2. Only this module knows both formats.

Format 1 is that of version 0.1. Its recipes have other names of settings, and its checkpoints hold all parameters of a player
in one tensor, in the order of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from hashlib import blake2b
from typing import Any

from torch import Tensor

from ancestral.files import read_json
from ancestral.weights import current_name

MODEL = {"drop": "condition_dropout", "taken": "pretrained", "ladder": "noise_levels"}  # settings of the section model
TARGETS = {"flow": "velocity"}
SCHEDULES = {"ladder": "geometric"}


def recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unchecked values of a recipe with the current names of settings and values."""
    new = deepcopy(dict(values))
    section = new.get("model")
    if isinstance(section, dict):
        new["model"] = _model(section)
    return new


def model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Do the same for a recipe's section `model`, as it is in a run's config.json."""
    return _model(deepcopy(dict(values)))


def setting(path: str) -> str:
    """Return the current name of one setting, e.g. model.drop -> model.condition_dropout."""
    *sections, name = path.split(".")
    return ".".join([*sections, MODEL.get(name, name)]) if sections[:1] == ["model"] else path


def _model(section: dict[str, Any]) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for name, value in section.items():
        if name in ("prior", "autoencoder") and isinstance(value, dict):
            value = _model(value)
        elif name == "target" and isinstance(value, str):
            value = TARGETS.get(value, value)
        elif name == "schedule" and isinstance(value, str):
            value = SCHEDULES.get(value, value)
        new[MODEL.get(name, name)] = value
    return new


def tuning(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a tuning.json, which format 1 has as a text with a checksum. Raises ValueError if it is damaged."""
    text = values.get("tuning")
    if text is None:
        return values
    if not isinstance(text, str) or blake2b(text.encode(), digest_size=16).hexdigest() != values.get("checksum"):
        raise ValueError("its content does not match its checksum")
    return dict(read_json(text))


def checkpoint(
    tensors: Mapping[str, Tensor], player: str, names: Iterable[str], parameters: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return a checkpoint's tensors with those of a player by parameter name. Names of format 2 are those of today."""
    names, parameters = list(names), list(parameters)
    if f"{player}/value" not in tensors:
        return {_current(key, player, names): value for key, value in tensors.items()}
    total = sum(p.numel() for p in parameters)
    new: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not key.startswith(f"{player}/") or value.numel() != total or not value.ndim:
            new[key] = value
            continue
        offset = 0
        for name, p in zip(names, parameters, strict=True):
            part = value[offset : offset + p.numel()]
            new[f"{key}/{name}"] = part.as_strided(p.shape, p.stride(), part.storage_offset())
            offset += p.numel()
    return new


def _current(key: str, player: str, names: list[str]) -> str:
    """Return the key PLAYER/KIND/NAME of a tensor with the parameter's name of today. Other keys do not change."""
    head, _, name = key.rpartition("/")
    return f"{head}/{current_name(name, names)}" if key.startswith(f"{player}/") else key
