"""What a file of samples records, so that they can be drawn again: the request, the model's weights, the version.

The record is JSON: a text chunk of a PNG, the description of a TIFF, the array `ancestral` of an `.npz`, or the metadata beside
a `.csv` (W3C, "CSV on the Web"). Pictures of the request, such as the mask of an edit, are part of it. A PNG also has the line
`parameters` that other programs of this field read, and the mark of generated media (IPTC, "Digital Source Type").
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ancestral.app.data.bounded import text_of
from ancestral.app.data.npy import array_of, read_arrays
from ancestral.app.pictures import marked
from ancestral.app.sampling.conditions import Conditions, Sweep
from ancestral.app.sampling.edits import EditRequest
from ancestral.app.sampling.guidance import Guidance
from ancestral.app.sampling.request import SampleRequest, Sampling
from ancestral.app.training.saved import Opened, opened, weights_of
from ancestral.errors import UsageError
from ancestral.files import read_json, write_atomically
from ancestral.version import __version__

KEY = "ancestral"  # of the text chunk, and of the array
DESCRIPTION = 270  # number of a TIFF's tag
BESIDE = "-metadata.json"  # end of the name of the file beside a table
LARGEST = 8 << 20  # bytes of a file that is part of a record
PICTURES = ("map", "image", "inpaint", "mask", "upscale", "vary")
MACHINE = ("device",)  # fields of a request that belong to the machine
_PARTS = {"conditions": Conditions, "guidance": Guidance, "edit": EditRequest}


@dataclass(frozen=True)
class Record:
    """The record of a file of samples.

    Args:
        request: the request of the samples.
        run: the name of the run's folder.
        weights: the checksum of the weights that drew them.
        arrangement: of several requests in one picture: the axes of a grid, or the seeds of a walk; of a file of one sample:
            `{"sample": i}`, its place among those of the request. {}: the file holds the samples of the request.
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

    def chunks(self) -> dict[str, str]:
        """Return the text chunks of a PNG: the mark of generated media, and the record if the request can be written."""
        text = self.to_json()
        mark = marked(edited=bool(self.request.edit.given))
        return mark if text is None else mark | {KEY: text, "parameters": self.parameters()}

    def parameters(self) -> str:
        """Return the settings in the usual form of this field: the prompt, then `Steps: 20, Sampler: dpmpp, Seed: 3, ...`."""
        request, asked, i = self.request, self.request.conditions, self.arrangement.get("sample")
        away = request.guidance.negative or {}
        settings = {
            "Steps": request.steps,
            "Sampler": request.solver,
            "Schedule type": request.spacing if isinstance(request.spacing, str) else request.spacing and "fitted",
            "CFG scale": request.guidance.scale,
            "Seed": request.chosen_seeds()[i or 0],
            "Denoising strength": request.edit.strength,
            "Model hash": self.weights[:10] or None,
            "Model": self.run,
            "Version": f"ancestral {self.version}",
        }
        said = [values for values in (asked.prompts, asked.classes, asked.numbers) if values]
        words = "; ".join(", ".join(values) if i is None else values[i % len(values)] for values in said)
        lines = [words] if words else []
        lines += [f"Negative prompt: {'; '.join(map(str, away.values()))}"] if away else []
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in settings.items() if value is not None)])

    def of_sample(self, i: int) -> Record:
        """Return the record of a file that holds only sample i of the request, or itself if it is one of a single sample."""
        return self if "sample" in self.arrangement else replace(self, arrangement={"sample": i})


def record(
    request: SampleRequest, run: Opened, arrangement: Mapping[str, Any] | None = None, sampling: Sampling | None = None
) -> Record:
    """Return the record of samples of a run, with the sampler that the run's tuning chose.

    Args:
        request: the request.
        run: the run.
        arrangement: as in `Record`. If a setting of a grid is part of the sampler, the sampler is that of the request.
        sampling: the prepared request. With it the record has each default of the sampler, so later versions draw the same.
    """
    sides = [side.get("name") for side in (arrangement or {}).values() if isinstance(side, Mapping)]
    if not {"steps", "solver", "spacing"} & {*sides}:
        request = request.settled(run) if sampling is None else request.explicit(sampling, run)
    return Record(request, run.path.resolve().name, weights_of(run), arrangement or {})


def read(source: Path | bytes, folder: Path) -> Record:
    """Read the record of a file of samples.

    Args:
        source: a PNG, TIFF, `.npz` or `.csv` file, or the content of a PNG.
        folder: where the pictures of the request are written, each under the hash of its content.

    Raises:
        UsageError: if the file cannot be read, or has no record that this version can read.
    """
    name = source if isinstance(source, Path) else "the picture"
    text = _text(source)
    if text is None:
        raise UsageError(
            f"{name} does not say how it was made: only files that ancestral drew do, and only as they were written"
        )
    try:
        values = read_json(text)
        request, arrangement = from_json(values["request"], folder), dict(values.get("arrangement", {}))
        return Record(request, str(values["run"]), str(values["weights"]), arrangement, str(values["version"]))
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"the record of {name} is damaged or of another version of ancestral") from None


def _text(source: Path | bytes) -> str | None:
    """Return the text of a file's record, or None. Raises UsageError if the file cannot be read."""
    name = source if isinstance(source, Path) else "the picture"
    suffix = source.suffix.lower() if isinstance(source, Path) else ".png"
    try:
        if isinstance(source, Path) and suffix == ".npz":
            arrays = read_arrays(source, [KEY])
            return str(arrays[KEY]) if KEY in arrays else None
        if isinstance(source, Path) and suffix == ".csv":
            beside = source.with_name(source.name + BESIDE)
            return json.dumps(read_json(text_of(beside))["notes"][0][KEY]) if beside.is_file() else None
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
            text = getattr(image, "text", {}).get(KEY)
            if text is None and image.format == "TIFF":
                text = getattr(image, "tag_v2", {}).get(DESCRIPTION)
            return None if text is None else str(text)
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist: check the path") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, BadZipFile, Image.DecompressionBombError):
        kind = {".npz": "an array file", ".csv": "a table with metadata"}.get(suffix, "a PNG")
        raise UsageError(f"{name} is not {kind} that can be read") from None
    except (KeyError, IndexError, TypeError):
        raise UsageError(f"the record of {name} is damaged or of another version of ancestral") from None


def find_run(found: Record, source: Path) -> Path:
    """Return the folder of the run that drew a file of samples: around the file, or in the folder that commands start in.

    Raises:
        UsageError: if no run there has these weights.
    """
    near = source.resolve().parent
    places = [near, near.parent, *_folders(near), Path.cwd(), Path("runs"), *_folders(Path("runs")), *_folders(Path.cwd())]
    named: Path | None = None
    for place in dict.fromkeys(places):
        if not any((place / part).is_file() for part in ("recipe.yaml", "config.json")):
            continue
        if found.weights and weights_of(opened(place)) == found.weights:
            return place
        if place.resolve().name == found.run:
            named = named or place
    if named is not None:
        raise UsageError(f"{source} was drawn by other weights of {named}: to draw its request with today's, name the run")
    raise UsageError(f"{source} was drawn by the run {found.run!r}, which is neither beside it nor here: name the run's folder")


def _folders(place: Path) -> Iterator[Path]:
    """Yield the folders in a folder, in the order of their names."""
    try:
        yield from sorted(inner for inner in place.iterdir() if inner.is_dir())
    except OSError:
        return


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


def from_client(values: Mapping[str, Any], folder: Path) -> SampleRequest:
    """Return the request of a client, as `from_json`. Raises UsageError for values of any other form."""
    try:
        request = from_json(values, folder)
    except UsageError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"this is not a request for samples ({str(error).splitlines()[0]})") from None
    if not isinstance(request.batch, int | None) or not isinstance(request.n, int | None):
        raise UsageError("`n` and `batch` are whole numbers")
    return request


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
        return read_json(text_of(value))
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
        return torch.from_numpy(array_of(base64.b64decode(value["npy"])))
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
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.png"
    if not path.exists():
        write_atomically(path, content)
    return path
