"""Checkpoints: all tensors and numbers that training needs to continue exactly, in one checksummed file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.errors import DamageError
from ancestral.files import read_json
from ancestral.weights import current_name, read_metadata, read_tensors, write_tensors

ANY = ""  # in place of the identity of a run


@dataclass(frozen=True)
class Checkpoint:
    """All tensors and numbers that training needs to continue, by name. damaged: newer files that could not be read."""

    file: Path
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    damaged: list[Path]


def write(file: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write a checkpoint to `file` atomically."""
    write_tensors(file, tensors, {"numbers": json.dumps(dict(numbers))})


def read(file: Path, damaged: list[Path], run: str | None = ANY) -> Checkpoint | None:
    """Read a checkpoint. Returns None if the file is damaged, or of another run than that with the given identity."""
    try:
        tensors, metadata = read_tensors(file, "")
        numbers = _numbers(metadata)
        if "crc32" in metadata and int(metadata["crc32"]) != _crc32(tensors):  # of an earlier version
            return None
        return Checkpoint(file, tensors, numbers, damaged) if numbers.get("run", run) == run or run == ANY else None
    except (DamageError, FileNotFoundError, ValueError):
        return None


def read_numbers(file: Path) -> dict[str, Any] | None:
    """Read only the numbers of a checkpoint. Returns None if they are damaged."""
    try:
        return _numbers(read_metadata(file, ""))
    except (DamageError, FileNotFoundError, ValueError):
        return None


def _numbers(metadata: Mapping[str, str]) -> dict[str, Any]:
    found = read_json(metadata.get("numbers", ""))
    if not isinstance(found, dict):
        raise ValueError("there are no numbers")
    return found


def _crc32(tensors: Mapping[str, Tensor]) -> int:
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def other_tensors(model: nn.Module, trained: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model that are not in training: "buffer/NAME" for buffers, "fixed/NAME" for other parameters.

    Args:
        model: The model.
        trained: The parameters in training. Other parameters are those of other stages.
    """
    saved = model.state_dict()
    ids = {id(p) for p in trained}
    buffers = {f"buffer/{name}": buffer for name, buffer in model.named_buffers() if name in saved}
    return buffers | {f"fixed/{name}": p.data for name, p in model.named_parameters() if id(p) not in ids}


@torch.no_grad()
def restore_others(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of `other_tensors` from all tensors of a checkpoint back into the model."""
    known = model.state_dict().keys()
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        name = current_name(name, known)
        if kind == "buffer":
            model.get_buffer(name).copy_(value)
        elif kind == "fixed":
            model.get_parameter(name).copy_(value)
