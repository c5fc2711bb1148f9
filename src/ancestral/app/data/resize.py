"""Images already in memory at another size."""

from __future__ import annotations

import numpy as np
import torch

from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.columns import Pictures
from ancestral.app.data.dataset import DataSet, Split
from ancestral.errors import UsageError


def resize(data: DataSet, size: tuple[int, int]) -> DataSet:
    """The same samples scaled, antialiased, to cover `size` (height, width) and cropped at the centre, with all their columns.

    Levels become 256, since scaled values fall between fewer. Raises `UsageError` for what is no image.
    """
    spec = data.spec
    old, new = ("x".join(map(str, shape)) for shape in (spec.shape[1:], size))
    if not spec.is_image:
        raise UsageError(f"size applies to images, and the samples of {spec.name} have shape {spec.shape}: leave it out")
    if spec.shape[1:] == size:
        return data
    train, test = (_at_256(split, spec.levels).resize(size) for split in (data.train, data.test))
    lost = sum(_boxes(before) - _boxes(after) for before, after in ((data.train, train), (data.test, test)))
    notes = (f"{count(lost, 'box', 'boxes')} outside of the images, or less than a pixel, left out",) if lost else ()
    return assemble(
        spec.name,
        train,
        test,
        levels=None if spec.levels is None else 256,
        classes=spec.classes,
        box_classes=spec.box_classes,
        map_classes=spec.map_classes,
        notes=(*data.notes, f"resized from {old} to {new}", *notes),
    )


def _at_256(split: Split, levels: int | None) -> Split:
    """The samples in 256 levels."""
    if levels is None or levels == 256:
        return split
    scale = np.rint(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)
    return split.with_columns({"x": Pictures(torch.from_numpy(scale[split["x"].values.numpy()]))})


def _boxes(split: Split) -> int:
    return sum(map(len, split.value("boxes") or ()))
