"""Reader of pictures from users, which become tensors in the form of a model's samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.images import Header, ImageError, extent, inspect, read, read_values
from ancestral.app.data.spec import DataSpec
from ancestral.errors import UsageError

Picture = Path | str | Tensor  # a file, or its content in the units of the data


def read_picture(
    picture: Picture, spec: DataSpec | None, argument: str, size: tuple[int, int] | None = None, channels: int | None = None
) -> Tensor:
    """Return the picture in the units of the data. A file is scaled and cropped, `(1, c, h, w)`. A tensor does not change.

    Args:
        picture: a file or a tensor.
        spec: the description of the model's data. Only a file needs it.
        argument: the name of the picture in error messages.
        size: height and width. None: the size of the samples.
        channels: the number of channels. None: that of the samples.

    Raises:
        UsageError: if samples are not pictures, or the file cannot be read.
    """
    if isinstance(picture, Tensor):
        return picture[None] if picture.ndim == 3 else picture
    if spec is None:
        raise UsageError(f"the file of `{argument}` can be read only for the model of a run: give the run, or give a tensor")
    if channels is not None:
        spec = replace(spec, shape=(channels, *spec.shape[1:]))
    if not spec.is_image or spec.range is None or spec.shape[0] not in (1, 3):
        raise UsageError(f"samples of {spec.name} are not pictures: leave `{argument}` out")
    low, high = spec.range
    shape = size or (spec.shape[1], spec.shape[2])
    try:
        if _in_units(Path(picture), spec):
            values = read_values(Path(picture), shape, spec.shape[0] == 1)
            return torch.from_numpy(values if spec.levels is None else np.rint(values) / (spec.levels - 1))[None]
        pixels, _ = read(Path(picture), shape, spec.shape[0] == 1)
    except ImageError as broken:
        raise UsageError(f"cannot read the picture {picture}: {broken.reason}") from None
    x = pixels.astype(np.float32) / 255
    if spec.levels is not None:
        x = np.rint(x * (spec.levels - 1)) / (spec.levels - 1)
    return torch.from_numpy(np.ascontiguousarray(low + (high - low) * x))[None]


def _in_units(path: Path, spec: DataSpec) -> bool:
    """Return whether a picture of more than 8 bits holds values in the units of the data, as 12-bit data in 16-bit files.

    Real values may lie outside of the range of the data by the width of that range. Raises `ImageError`.
    """
    found = inspect(path)
    if spec.range is None or found.depth == 8 or (spec.shape[0] == 1 and not found.grey):
        return False
    lowest, highest, _ = extent(path)
    if spec.levels is not None:
        return lowest >= 0 and highest < spec.levels
    low, high = spec.range
    return low - (high - low) <= lowest and highest <= high + (high - low)


def picture_size(picture: Picture) -> tuple[int, int]:
    """Return height and width of a picture. Raises UsageError if its file cannot be read."""
    if isinstance(picture, Tensor):
        return picture.shape[-2], picture.shape[-1]
    found = header(picture)
    return found.height, found.width


def header(picture: Path | str) -> Header:
    """Read the header of a picture file. Raises UsageError if it cannot be read."""
    try:
        return inspect(Path(picture))
    except ImageError as broken:
        raise UsageError(f"cannot read the picture {picture}: {broken.reason}") from None
