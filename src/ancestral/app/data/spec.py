"""`DataSpec`: the description of data that models, reports and resumed runs use without the data themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from ancestral.app.data.errors import DataError

Kind = Literal["binary", "uint8", "real"]
Allowed = tuple[float, ...] | Literal["whole", "count"] | None  # what a channel can be; see `allowed_values`


@dataclass(frozen=True)
class DataSpec:
    """The description of a data set, in model units.

    Args:
        name: a built-in name, or the stem of the file or folder.
        shape: shape of a sample, channels first: `(C, H, W)` image, `(C, L)` signal, `(D,)` vector.
        kind: `"binary"` two levels, `"uint8"` whole levels `0..levels-1`, `"real"` real numbers.
        range: range of the values in model units: `(0, 1)` for levels, minimum and maximum of the training split for real data.
        levels: the number of levels (256, 17, 2), None for real data.
        mean: mean of each channel (first axis of `shape`) over the training split.
        std: standard deviation of each channel over the training split, 1 for a constant channel.
        classes: names of the classes in the order of the labels, `()` without labels.
        size: number of training samples.
        fingerprint: 32 hexadecimal digits that change with the training samples or their annotations.
        captions: number of training samples with a caption.
        boxes: largest number of boxes of a sample, 0 without boxes.
        box_classes: names of the classes of boxes, `()` without boxes.
        map_classes: names of the values 1, 2, ... of maps, `()` without maps.
        paired: number of channels of the conditioning images, 0 without such images.
        canvas: the shape of the samples to which boxes, maps and conditioning images belong. It is `shape`, unless a model sees
            samples in another form.
        numbers: names of the numbers of each sample.
        number_mean: mean of each number over the training samples for which it is known.
        number_std: standard deviation of each number over these samples.
        columns: name and shape of each further column, for conditions that read it.
        channels: names of the channels (first axis of `shape`), which are the columns of a table; `()` if they have none.
        allowed: what each channel can be, in model units: a few values, "whole" numbers, "count" (whole numbers from 0), or
            None for any number. () if every channel can be any number.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    range: tuple[float, float] | None
    levels: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    size: int
    fingerprint: str
    captions: int = 0
    boxes: int = 0
    box_classes: tuple[str, ...] = ()
    map_classes: tuple[str, ...] = ()
    paired: int = 0
    canvas: tuple[int, ...] = ()
    numbers: tuple[str, ...] = ()
    number_mean: tuple[float, ...] = ()
    number_std: tuple[float, ...] = ()
    columns: tuple[tuple[str, tuple[int, ...]], ...] = ()
    channels: tuple[str, ...] = ()
    allowed: tuple[Allowed, ...] = ()

    def __post_init__(self) -> None:
        if not self.canvas:
            object.__setattr__(self, "canvas", self.shape)

    @property
    def is_image(self) -> bool:
        """Whether the samples are images `(C, H, W)`."""
        return len(self.shape) == 3

    @property
    def dims(self) -> int:
        """The number of values in one sample."""
        return math.prod(self.shape)

    def of_latents(self, shape: tuple[int, ...]) -> DataSpec:
        """Return the description of these data as latents: real numbers with mean 0 and deviation 1 in each channel."""
        c = shape[0]
        real: dict[str, Any] = {"kind": "real", "range": None, "levels": None, "mean": (0.0,) * c, "std": (1.0,) * c}
        real |= {"channels": (), "allowed": ()}
        return replace(self, name=f"{self.name} latents", shape=shape, canvas=self.canvas, **real)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary of strings, numbers and lists."""
        return {key: _lists(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataSpec:
        """Read the result of `to_json`. Fields with a default may be missing, as earlier versions did not write all of them.

        Raises:
            DataError: if another field is missing, or one is unknown.
        """
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if wrong := sorted((needed - values.keys()) | (values.keys() - known)):
            raise DataError(
                f"the description of the data is damaged or of another version: missing or unknown fields {', '.join(wrong)}"
            )
        plain: dict[str, Any] = {key: _tuples(value) for key, value in values.items()}
        return cls(**plain)


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
