"""Checkpoints: all tensors and numbers that training needs to continue exactly, in one checksummed file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ancestral.files import write_atomically


@dataclass(frozen=True)
class Checkpoint:
    """All that training needs to continue: tensors and numbers by name. damaged: newer files that could not be read."""

    file: Path
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    damaged: list[Path]


def write(file: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Write a checkpoint to `file`, whole or not at all."""
    contents = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    write_atomically(file, save(contents, {"numbers": json.dumps(dict(numbers)), "crc32": str(_crc32(contents))}))


def read(file: Path, damaged: list[Path]) -> Checkpoint | None:
    """None if the file is damaged."""
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if int(metadata["crc32"]) != _crc32(tensors):
            return None
        return Checkpoint(file, tensors, json.loads(metadata["numbers"]), damaged)
    except (SafetensorError, ValueError, KeyError, TypeError, OSError):
        return None


def _crc32(tensors: Mapping[str, Tensor]) -> int:
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def other_tensors(model: nn.Module, trained: Iterable[Tensor]) -> dict[str, Tensor]:
    """The tensors of a model that are not parameters in training: "buffer/NAME", what has no gradient, and "fixed/NAME", the
    parameters of other stages. trained: the parameters in training.
    """
    saved = model.state_dict()
    ids = {id(p) for p in trained}
    buffers = {f"buffer/{name}": buffer for name, buffer in model.named_buffers() if name in saved}
    return buffers | {f"fixed/{name}": p.data for name, p in model.named_parameters() if id(p) not in ids}


@torch.no_grad()
def restore_others(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `other_tensors`, from all tensors of a checkpoint."""
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "buffer":
            model.get_buffer(name).copy_(value)
        elif kind == "fixed":
            model.get_parameter(name).copy_(value)
