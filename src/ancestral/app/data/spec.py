"""`DataSpec`: all that a model, a report or a resumed run needs to know of the data without holding them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from ancestral.app.data.errors import DataError

Kind = Literal["binary", "uint8", "real"]


@dataclass(frozen=True)
class DataSpec:
    """The description of a data set, in the units the models see.

    name: a built-in name, or the stem of the file or folder.
    shape: one sample, channels first: `(C, H, W)` image, `(C, L)` signal, `(D,)` vector.
    kind: `"binary"` two levels, `"uint8"` whole levels `0..levels-1`, `"real"` real numbers.
    range: of the values the models see: `(0, 1)` for levels, the observed minimum and maximum of the training split
    for real data.
    levels: the number of levels (256, 17, 2), None for real data.
    mean, std: per channel (first axis of `shape`), over the training split; `std` is 1 where a channel is constant.
    classes: names in the order of the labels, `()` without labels.
    size: number of training samples.
    fingerprint: 32 hexadecimal digits that change with the training samples or with what is known of them.
    captions: number of training samples with a caption.
    boxes: most boxes of a sample, 0 without. box_classes, map_classes: names of what boxes and the values 1, 2, ... of maps
    show; `()` without.
    paired: channels of the image that goes with each sample, 0 without.
    numbers: names of the numbers that go with each sample. number_mean, number_std: of each, over the training samples of which
    it is known.
    columns: name and shape of what else goes with each sample, for conditions that read a column of that name.
    canvas: the shape of the samples that boxes, maps and images go with; `shape`, unless a model sees samples in another form.
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

    def __post_init__(self) -> None:
        if not self.canvas:
            object.__setattr__(self, "canvas", self.shape)

    @property
    def is_image(self) -> bool:
        """Whether a sample is `(C, H, W)`."""
        return len(self.shape) == 3

    @property
    def dims(self) -> int:
        """The number of values in one sample, D in bits per dimension."""
        return math.prod(self.shape)

    def of_latents(self, shape: tuple[int, ...]) -> DataSpec:
        """The description of such data as latents: real numbers of mean 0 and deviation 1 a channel; all else as here."""
        c = shape[0]
        real: dict[str, Any] = {"kind": "real", "range": None, "levels": None, "mean": (0.0,) * c, "std": (1.0,) * c}
        return replace(self, name=f"{self.name} latents", shape=shape, canvas=self.canvas, **real)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary of strings, numbers and lists."""
        return {key: _lists(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`. Fields with a default may be missing, as earlier versions did not write all of them.

        Raises `DataError` when another field is missing, or one is unknown.
        """
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if wrong := sorted((needed - values.keys()) | (values.keys() - known)):
            raise DataError(
                f"these data are described by another version, or damaged: missing or unknown fields {', '.join(wrong)}"
            )
        plain: dict[str, Any] = {key: _tuples(value) for key, value in values.items()}
        return cls(**plain)


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
