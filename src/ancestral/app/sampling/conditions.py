"""Conditions of a request: classes, prompts and files become the `condition` of a model, with a value for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ancestral.app.data.bounded import text_of
from ancestral.app.data.errors import DataError
from ancestral.app.data.images import ImageError, read_numbers
from ancestral.app.data.spec import DataSpec
from ancestral.app.sampling.pictures import Picture, picture_size, read_picture
from ancestral.conditioning import ImageCondition, MapCondition
from ancestral.conditioning.render import Rendering
from ancestral.errors import UsageError
from ancestral.files import read_json
from ancestral.models import GenerativeModel
from ancestral.noise import StreamNoise

IMAGES = ("image", "upscale", "sketch")  # kinds that `image` can give; the first that the model has is used


@dataclass(frozen=True)
class Sweep:
    """Evenly spaced values of one number, from `start` to `stop`, for samples that share their seed.

    Args:
        name: a kind of condition, e.g. "number", or the name of one of several numbers.
        start: the first value.
        stop: the last value.
        count: the number of values.

    Raises:
        UsageError: if there are fewer than 2 values.
    """

    name: str
    start: float
    stop: float
    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise UsageError(f"a sweep has at least 2 values; got {self.count}")

    @classmethod
    def read(cls, text: str) -> Sweep:
        """Read NAME=START:STOP:COUNT. Raises UsageError for any other text."""
        name, _, values = text.partition("=")
        try:
            start, stop, count = values.split(":")
            return cls(name, float(start), float(stop), int(count))
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot read the sweep {text!r}: write NAME=START:STOP:COUNT, e.g. number=0:1:8") from None

    def values(self) -> list[float]:
        return [self.start + (self.stop - self.start) * i / (self.count - 1) for i in range(self.count)]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions of a request. The samples take several classes, prompts or numbers in turn.

    Args:
        classes: by name, or by number if no name is a number.
        prompts: texts.
        numbers: for the kind `number`, each as `ancestral.conditioning.numbers.read` reads it, e.g. "0.3" or "angle=30,size=2".
        layout: boxes `[[class, left, top, width, height], ...]` in pixels, or a JSON file of them.
        map: a class for every pixel, as a tensor or a picture file.
        image: a picture for the kind `image`, `upscale` (its small form) or `sketch` (its edges), whichever the model has.
        sweep: values of one number, one column each; the samples of a row share their seed.
        others: values of any kind by its name, as `model.sample` takes them.

    Raises:
        UsageError: if two kinds have several values, but not equally many.
    """

    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    layout: Path | str | Sequence[Any] | None = None
    map: Picture | None = None
    image: Picture | None = None
    sweep: Sweep | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        several = {"class": self.classes, "prompt": self.prompts, "number": self.numbers}
        lengths = {name: len(values) for name, values in several.items() if len(values) > 1}
        if self.sweep is not None and lengths:
            raise UsageError("a sweep cannot be combined with several classes, prompts or numbers: give one of each at most")
        if len(set(lengths.values())) > 1:
            plural = {"class": "classes", "prompt": "prompts", "number": "numbers"}
            found = " and ".join(f"{n} {plural[name]}" for name, n in lengths.items())
            raise UsageError(f"{found} cannot be combined: give equally many of each, or one")

    def __bool__(self) -> bool:
        """Return whether any condition is given."""
        given = (self.layout, self.map, self.image, self.sweep)
        return bool(self.classes or self.prompts or self.numbers or self.others) or any(v is not None for v in given)

    @property
    def columns(self) -> int:
        """The number of different conditions that the samples take in turn. A grid of samples has as many columns."""
        if self.sweep is not None:
            return self.sweep.count
        return max(len(self.classes), len(self.prompts), len(self.numbers), 1)

    @property
    def labels(self) -> list[str]:
        """The different conditions that the samples take in turn, in words; [] if there is one."""
        if self.sweep is not None:
            return [f"{self.sweep.name} {value:.4g}" for value in self.sweep.values()]
        classes = [f"class {name}" if name.isdigit() else name for name in self.classes]
        several = [values for values in (classes, self.prompts, self.numbers) if len(values) > 1]
        return [", ".join(values) for values in zip(*several, strict=True)]

    def condition(self, model: GenerativeModel, spec: DataSpec | None, n: int | None = None) -> dict[str, Any]:
        """Return the condition of n samples as `model.sample` takes it. If n is None, one condition serves all samples.

        Raises:
            UsageError: if a file cannot be read or used, or if there are several conditions and n is None.
        """
        if n is None and self.columns > 1:
            raise UsageError(
                f"only one condition can be used here, and there are {self.columns} classes or prompts: choose one"
            )

        def turns(values: Sequence[Any]) -> Any:
            return values[0] if n is None else [values[i % len(values)] for i in range(n)]

        found: dict[str, Any] = {}
        if self.classes:
            found["class"] = turns(self.classes)
        if self.prompts:
            found["text"] = turns(self.prompts)
        if self.sweep is not None and self.sweep.name != "number" and self.sweep.name in model.conditioner.kinds:
            found[self.sweep.name] = turns(self.sweep.values())
        elif self.sweep is not None:
            name, fixed = "" if self.sweep.name == "number" else f"{self.sweep.name}=", "".join(f"{t}," for t in self.numbers)
            found["number"] = turns(_numbers([f"{fixed}{name}{v:.9g}" for v in self.sweep.values()], model))
        elif self.numbers:
            found["number"] = turns(_numbers(self.numbers, model))
        if self.layout is not None:
            found["layout"] = _boxes(self.layout)
        if self.map is not None:
            found["map"] = self.map if isinstance(self.map, Tensor) else _map(self.map, model)
        if self.image is not None:
            name, value = _image(self.image, model, spec)
            found[name] = value
        return {**found, **self.others}

    def render(self, model: GenerativeModel, condition: Mapping[str, Any], n: int) -> list[Rendering]:
        """Return the condition of n samples as pictures and words for people."""
        raw = model.conditioner.parse(condition, n)
        texts = [self.prompts[i % len(self.prompts)] for i in range(n)] if self.prompts else None
        return model.conditioner.render(raw, texts)

    def opposite(self, negative: str | None) -> dict[str, Any] | None:
        """Return the condition from which guidance leads away: another text, or another class if no text is given.

        Raises:
            UsageError: if neither a text nor a class is given.
        """
        if negative is None:
            return None
        text = self.prompts or "text" in self.others
        if not text and not self.classes and "class" not in self.others:
            raise UsageError("`negative` needs a condition to which guidance leads: give one with `prompt` or `class`")
        return {"text" if text else "class": negative}


def _numbers(texts: Sequence[str], model: GenerativeModel) -> list[Any]:
    kind: Any = dict(model.conditioner.kinds.items()).get("number")
    if kind is None:
        raise UsageError("this model was not trained with numbers: `number` is for runs with the condition number")
    read = import_module("ancestral.conditioning.numbers").read
    return [read(text, kind.names) for text in texts]


def _boxes(layout: Path | str | Sequence[Any]) -> Any:
    if not isinstance(layout, Path | str):
        return layout
    try:
        return read_json(text_of(Path(layout)))
    except DataError as error:
        raise UsageError(f"cannot read the layout: {error}") from None
    except ValueError as error:
        raise UsageError(
            f'cannot read the layout {layout} ({error}): write [["class", left, top, width, height], ...] in pixels'
        ) from None


def _map(path: Path | str, model: GenerativeModel) -> Tensor:
    """Read a map, and scale and crop it in the same way as the maps in training."""
    kind = dict(model.conditioner.kinds.items()).get("map")
    if not isinstance(kind, MapCondition):
        raise UsageError("this model was not trained with a map: `map` is for runs with the condition map")
    try:
        return torch.from_numpy(read_numbers(Path(path), (kind.canvas[0], kind.canvas[1])))
    except ImageError as broken:
        raise UsageError(f"cannot read the map {path}: {broken.reason}") from None


def _image(picture: Picture, model: GenerativeModel, spec: DataSpec | None) -> tuple[str, Tensor]:
    """Return the kind of image condition that the model has, and its raw value, derived from the picture if necessary."""
    name = next((kind for kind in IMAGES if kind in model.conditioner.kinds), None)
    if name is None:
        raise UsageError(
            f"this model was not trained with an image: `image` is for runs with the condition {' or '.join(IMAGES)}"
        )
    kind = model.conditioner.kinds[name]
    assert isinstance(kind, ImageCondition)
    small = name == "upscale" and picture_size(picture) == tuple(kind.shape[1:])
    size = kind.shape[1:] if small else kind.canvas
    channels = None
    if spec is not None:
        channels = spec.paired if name == "image" else spec.canvas[0]
        if name == "image":  # conditioning images have a range of their own
            spec = replace(spec, range=(0.0, 1.0), levels=None)
    x = read_picture(picture, spec, "image", (size[0], size[1]), channels)
    return name, x[0] if name == "image" or small else kind.derive(x, StreamNoise(1, 0, 0))[0]
