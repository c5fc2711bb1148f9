"""What a picture of samples records, so that they can be drawn again: the request, the model's weights, the version.

The record is JSON in a text chunk of the PNG. Pictures of the request, such as the mask of an edit, are part of it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ancestral.app.sampling.conditions import Conditions, Sweep
from ancestral.app.sampling.edits import EditRequest
from ancestral.app.sampling.guidance import Guidance
from ancestral.app.sampling.request import SampleRequest
from ancestral.app.training.saved import Opened, weights_of
from ancestral.errors import UsageError
from ancestral.version import __version__

KEY = "ancestral"  # of the text chunk
LARGEST = 8 << 20  # bytes of a file that is part of a record
PICTURES = ("map", "image", "inpaint", "mask", "upscale", "vary")
MACHINE = ("device",)  # fields of a request that belong to the machine
_PARTS = {"conditions": Conditions, "guidance": Guidance, "edit": EditRequest}


@dataclass(frozen=True)
class Record:
    """The record of a picture.

    Args:
        request: the request of the samples.
        run: the name of the run's folder.
        weights: the checksum of the weights that drew them.
        arrangement: of several requests in one picture: the axes of a grid, or the seeds of a walk. {}: there is one request.
        version: the version of ancestral.
    """

    request: SampleRequest
    run: str
    weights: str
    arrangement: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__

    def to_json(self) -> str | None:
        """Return the record as text, or None if the request holds objects that cannot be written, such as a model."""
        request = to_json(self.request)
        if request is None:
            return None
        values = {"version": self.version, "run": self.run, "weights": self.weights, "request": request}
        return json.dumps(values | ({"arrangement": dict(self.arrangement)} if self.arrangement else {}))


def record(request: SampleRequest, run: Opened, arrangement: Mapping[str, Any] | None = None) -> str | None:
    """Return the text that a picture of the samples of a run carries, or None if the request cannot be written.

    It has the sampler that the run's tuning chose, unless that is a setting of a grid.
    """
    sides = [side.get("name") for side in (arrangement or {}).values() if isinstance(side, Mapping)]
    if not {"steps", "solver", "spacing"} & {*sides}:
        request = request.settled(run)
    return Record(request, run.path.resolve().name, weights_of(run), arrangement or {}).to_json()


def read(picture: Path | bytes, folder: Path) -> Record:
    """Read the record of a picture.

    Args:
        picture: a PNG file or its content.
        folder: where the pictures of the request are written, each under the hash of its content.

    Raises:
        UsageError: if the file is no PNG, or has no record that this version can read.
    """
    name = picture if isinstance(picture, Path) else "the picture"
    try:
        with Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture)) as image:
            text = getattr(image, "text", {}).get(KEY)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UsageError(f"{name} is not a PNG that can be read") from None
    if text is None:
        raise UsageError(
            f"{name} does not say how it was made: only PNGs that ancestral drew do, and only as they were written"
        )
    try:
        values = json.loads(text)
        request, arrangement = from_json(values["request"], folder), dict(values.get("arrangement", {}))
        return Record(request, str(values["run"]), str(values["weights"]), arrangement, str(values["version"]))
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"the record of {name} is damaged or of another version of ancestral") from None


def to_json(request: SampleRequest) -> dict[str, Any] | None:
    """Return a request as plain values without its defaults, or None if it holds objects that cannot be written."""
    try:
        return {name: value for name, value in _changed(request).items() if name not in MACHINE}
    except TypeError:
        return None


def from_json(values: Mapping[str, Any], folder: Path) -> SampleRequest:
    """Return the request of plain values. Its pictures are written to `folder`.

    Raises:
        UsageError: if the parts of the request contradict each other.
        TypeError, ValueError: if the values are not those of a request.
    """
    plain = {name: value for name, value in values.items() if name not in MACHINE}
    parts: dict[str, Any] = {}
    for name, kind in _PARTS.items():
        inner = dict(plain.pop(name, {}))
        if isinstance(sweep := inner.get("sweep"), Mapping):
            inner["sweep"] = Sweep(**sweep)
        parts[name] = kind(**{key: _read(key, value, folder) for key, value in inner.items()})
    if plain.get("seeds") is not None:
        plain["seeds"] = tuple(map(int, plain["seeds"]))
    if isinstance(plain.get("spacing"), list):
        plain["spacing"] = tuple(map(float, plain["spacing"]))
    return SampleRequest(**plain, **parts)


def _changed(part: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as plain values."""
    found = {}
    for each in fields(part):
        value = getattr(part, each.name)
        default = each.default if each.default is not MISSING else cast(Any, each.default_factory)()
        if isinstance(value, Tensor) or value != default:
            found[each.name] = _plain(each.name, value)
    return found


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        buffer = io.BytesIO()
        np.save(buffer, value.cpu().numpy())
        return {"npy": base64.b64encode(buffer.getvalue()).decode()}
    if isinstance(value, Conditions | Guidance | EditRequest):
        return _changed(value)
    if isinstance(value, Sweep):
        return vars(value)
    if isinstance(value, Path | str) and name in PICTURES:
        return _content(Path(value))
    if isinstance(value, Path) and name == "layout":
        return json.loads(value.read_text(encoding="utf-8"))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain("", inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain("", inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written")


def _content(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    if len(content) > LARGEST:
        raise TypeError(f"{path} is too large for a record")
    return {"file": base64.b64encode(content).decode()}


def _read(name: str, value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"npy"}:
        return torch.from_numpy(np.load(io.BytesIO(base64.b64decode(value["npy"])), allow_pickle=False))
    if isinstance(value, Mapping) and value.keys() == {"file"}:
        return kept(base64.b64decode(value["file"]), folder)
    if isinstance(value, Mapping):
        return {key: _read("", inner, folder) for key, inner in value.items()}
    if name in (*PICTURES, "layout") and isinstance(value, str):  # a record names no file of this machine
        raise ValueError("a picture is the content of a file")
    if isinstance(value, list) and name != "layout":
        return tuple(value)
    return value


def kept(content: bytes, folder: Path) -> Path:
    """Write a file under the hash of its content, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.png"
    if not path.exists():
        path.write_bytes(content)
    return path
