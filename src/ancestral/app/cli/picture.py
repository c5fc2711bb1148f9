"""One picture that a person gives, as the samples of a model are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ancestral.app.data.images import Header
    from ancestral.app.data.spec import DataSpec


def read_picture(image: Path, spec: DataSpec, option: str, size: tuple[int, int] | None = None) -> Tensor:
    """The picture `(1, c, h, w)` in the units of the data, scaled and cropped to `size`; None: the model's.

    option: which the picture was given to, for the message. Raises UsageError if samples are no pictures, or it cannot be read.
    """
    import numpy as np
    import torch

    from ancestral.app.data.images import ImageError, read
    from ancestral.errors import UsageError

    if not spec.is_image or spec.range is None or spec.shape[0] not in (1, 3):
        raise UsageError(f"samples of {spec.name} are no pictures: leave {option} out")
    try:
        pixels, _ = read(image, size or (spec.shape[1], spec.shape[2]), spec.shape[0] == 1)
    except ImageError as broken:
        raise UsageError(f"cannot read the picture {image}: {broken.reason}") from None
    low, high = spec.range
    x = pixels.astype(np.float32) / 255
    if spec.levels is not None:
        x = np.rint(x * (spec.levels - 1)) / (spec.levels - 1)
    return torch.from_numpy(np.ascontiguousarray(low + (high - low) * x))[None]


def header(image: Path) -> Header:
    """What a picture is. Raises UsageError if it cannot be read."""
    from ancestral.app.data.images import ImageError, inspect
    from ancestral.errors import UsageError

    try:
        return inspect(image)
    except ImageError as broken:
        raise UsageError(f"cannot read the picture {image}: {broken.reason}") from None
