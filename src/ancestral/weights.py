"""A model in a folder: `config.json` describes it, and `model.safetensors` holds its weights.

The file of weights has two checksums: of the tensors, by name, type, shape and bytes, and of the configuration. So a flipped
bit, a truncated file or a file of another model is found when it is read. Nothing is unpickled or executed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ancestral.errors import AncestralError
from ancestral.files import disk_errors, write_atomically

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 2  # version of the configuration
FORMER = {"told": "from_context", "judge": "logit"}  # names of modules in version 0.1 and today


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files atomically. Raises AncestralError if a tensor is not finite or the disk is full."""
    contents = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    if wrong := problem(contents, {}):
        raise AncestralError(f"the model is not saved to {folder}: it {wrong}")
    text = json.dumps(config, indent=1).encode()
    metadata = {"checksum": checksum(contents), "config": _digest(text)}
    with disk_errors(folder):
        write_atomically(folder / CONFIG, text)
        write_atomically(folder / WEIGHTS, serialise(contents, metadata))


def serialise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file, the same bytes for the same content.

    The library writes several entries of metadata in an order that changes with the process.
    """
    content = save(dict(tensors), dict(metadata))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[end:]))


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read configuration and tensors. Raises AncestralError, with the file's name, if one is missing, damaged or not finite."""
    config_file, file = folder / CONFIG, folder / WEIGHTS
    try:
        text = config_file.read_bytes()
        config = json.loads(text)
        tensors, metadata = read_tensors(file)
    except FileNotFoundError as error:
        missing = error.filename or file
        raise AncestralError(f"{missing} is missing: a saved model is {CONFIG} and {WEIGHTS} in one folder") from None
    except ValueError:
        raise AncestralError(f"{config_file} is damaged: it is not JSON; save the model again") from None
    except (SafetensorError, OSError) as error:
        raise AncestralError(f"{file} is damaged ({str(error).splitlines()[0]}): save the model again") from None
    if wrong := problem(tensors, {"checksum": "", **metadata}):
        raise AncestralError(f"{file} {wrong}; save the model again")
    if metadata.get("config") != _digest(text):
        raise AncestralError(f"{config_file} was changed, or is of another model than {WEIGHTS}: save the model again")
    return config, tensors


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file and its metadata, without checks. Raises the errors of `safe_open`."""
    with safe_open(file, "pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118


def named_as_in(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a model with the names that they have in it today. Files of earlier versions have some of `FORMER`."""
    known = model.state_dict().keys()
    return {current_name(name, known): t for name, t in tensors.items()}


def current_name(name: str, known: Collection[str]) -> str:
    """Return the name of a tensor among those that a model has, or the name itself if the model has no such tensor."""
    new = ".".join(FORMER.get(part, part) for part in name.split("."))
    return new if name not in known and new in known else name


def problem(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str | None:
    """Return what is wrong with a file's tensors, or None. Files of format 1 have no checksum to compare with."""
    if metadata.get("checksum", found := checksum(tensors)) != found:
        return "is damaged: its tensors do not match its checksum"
    for name, t in tensors.items():
        if not t.isfinite().all():
            return f"is refused: its tensor {name} is not finite"
    return None


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the BLAKE2b hash of name, type, shape and bytes of the tensors, in the order of their names."""
    digest = blake2b(digest_size=16)
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(text: bytes) -> str:
    return blake2b(text, digest_size=16).hexdigest()
