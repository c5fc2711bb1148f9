"""A model in a folder: `config.json` describes it, and `model.safetensors` holds its weights.

Every safetensors file has checksums over all of it: `body` is the hash of the bytes of the tensors, and `header` that of the
header with names, types, shapes and metadata, `body` among them. So a flipped bit anywhere is found, and the metadata can be
checked without reading the tensors. A file of weights also has the hash of its tensors, which identifies the model, and that of
the configuration, so that a file of another model is found. Nothing is unpickled or executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ancestral.errors import AncestralError, DamageError
from ancestral.files import disk_errors, read_json, write_atomically

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 2  # version of the configuration
SIZE = 16  # bytes of a hash
BLANK = "0" * 2 * SIZE  # in place of the hash of the header while it is computed
FORMER = {"told": "from_context", "judge": "logit"}  # names of modules in version 0.1 and today


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files atomically. Raises AncestralError if a tensor is not finite or the disk is full."""
    contents = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    if wrong := problem(contents, {}):
        raise AncestralError(f"the model is not saved to {folder}: it {wrong}")
    text = json.dumps(config, indent=1).encode()
    with disk_errors(folder):
        write_atomically(folder / CONFIG, text)
        write_tensors(folder / WEIGHTS, contents, {"checksum": checksum(contents), "config": _digest(text)})


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with its checksums, atomically. Raises OSError."""
    write_atomically(file, lambda opened: opened.writelines(serialise(tensors, metadata)))


def serialise(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """Return header and body of a safetensors file, the same bytes for the same content.

    The library writes several entries of metadata in an order that changes with the process.
    """
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    end = 8 + int.from_bytes(content[:8], "little")
    body = memoryview(content)[end:]
    about = dict(sorted({**metadata, "body": _digest(body), "header": BLANK}.items()))
    header = {"__metadata__": about, **read_json(content[8:end])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    blank = len(text).to_bytes(8, "little") + text
    return blank.replace(_entry(BLANK), _entry(_digest(blank)), 1), body


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read configuration and tensors. Raises AncestralError, with the file's name, if one is missing, damaged or not finite."""
    config_file, file = folder / CONFIG, folder / WEIGHTS
    try:
        text = config_file.read_bytes()
        config = read_json(text)
        tensors, metadata = read_tensors(file, "save the model again")
    except FileNotFoundError as error:
        missing = error.filename or file
        raise AncestralError(f"{missing} is missing: a saved model is {CONFIG} and {WEIGHTS} in one folder") from None
    except ValueError as error:
        raise DamageError(f"{config_file} is damaged ({error}): save the model again") from None
    if wrong := problem(tensors, {"checksum": "", **metadata}):
        raise DamageError(f"{file} {wrong}; save the model again")
    if metadata.get("config") != _digest(text):
        raise DamageError(f"{config_file} was changed, or is of another model than {WEIGHTS}: save the model again")
    return config, tensors


def read_tensors(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file and its metadata, and check both. Files of earlier versions have no checksums.

    Args:
        file: The file.
        remedy: What a person can do if it is damaged.

    Raises:
        FileNotFoundError: If there is no file.
        DamageError: If the file is damaged.
    """
    metadata = read_metadata(file, remedy)
    try:
        if "body" in metadata and _body(file) != metadata["body"]:
            raise ValueError("its tensors do not match their checksum")
        with safe_open(file, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DamageError(f"{file} is damaged ({str(error).splitlines()[0]}): {remedy}") from None


def read_metadata(file: Path, remedy: str) -> dict[str, str]:
    """Read only the metadata of a safetensors file, and check the header. Arguments and errors as of `read_tensors`."""
    try:
        with file.open("rb") as opened:
            start, size = opened.read(8), os.fstat(opened.fileno()).st_size
            if not 8 < 8 + int.from_bytes(start, "little") <= size:
                raise ValueError("it is cut off")
            text = opened.read(int.from_bytes(start, "little"))
        found = read_json(text)
        metadata: dict[str, str] = dict(found.get("__metadata__") or {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
        written = metadata.keys() & {"body", "header"}
        if written and _digest((start + text).replace(_entry(metadata.get("header", "")), _entry(BLANK), 1)) != metadata.get(
            "header"
        ):
            raise ValueError("its header does not match its checksum")
        return metadata
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DamageError(f"{file} is damaged ({str(error).splitlines()[0]}): {remedy}") from None


def _body(file: Path) -> str:
    """Return the hash of the bytes of a file's tensors."""
    digest = blake2b(digest_size=SIZE)
    with file.open("rb") as opened:
        opened.seek(int.from_bytes(opened.read(8), "little"), os.SEEK_CUR)
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _entry(value: str) -> bytes:
    return f'"header":"{value}"'.encode()


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
    digest = blake2b(digest_size=SIZE)
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _digest(text: bytes | memoryview) -> str:
    return blake2b(text, digest_size=SIZE).hexdigest()
