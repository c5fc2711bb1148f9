"""Resizing of images that are already in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.columns import Column, Pictures
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import cropped
from ancestral.app.data.streamed import Streamed
from ancestral.errors import UsageError


def resize(data: DataSet, size: tuple[int, int]) -> DataSet:
    """Scale the samples with antialiasing to cover `size` (height, width) and crop them at the centre, with all their columns.

    Data with levels get 256 levels, since scaled values lie between fewer levels. Raises `UsageError` for data without images.
    """
    spec = data.spec
    old, new = ("x".join(map(str, shape)) for shape in (spec.shape[1:], size))
    if not spec.is_image:
        raise UsageError(f"size applies to images, and the samples of {spec.name} have shape {spec.shape}: leave it out")
    if spec.shape[1:] == size:
        return data
    train, test = (_at_256(split, spec.levels).resize(size) for split in (data.train, data.test))
    lost = sum(_boxes(before) - _boxes(after) for before, after in ((data.train, train), (data.test, test)))
    notes = (f"{count(lost, 'box', 'boxes')} left out: outside of the image or smaller than a pixel",) if lost else ()
    return assemble(
        spec.name,
        train,
        test,
        levels=None if spec.levels is None else 256,
        classes=spec.classes,
        box_classes=spec.box_classes,
        map_classes=spec.map_classes,
        channels=spec.channels,
        notes=(*data.notes, f"resized from {old} to {new}", *cropped([(spec.shape[1], spec.shape[2])], size), *notes),
    )


def _at_256(split: Split, levels: int | None) -> Split:
    """Convert the samples to 256 levels."""
    if levels is None or levels == 256:
        return split
    scale = np.rint(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)
    x = split["x"]
    if isinstance(x, Streamed):
        return split.with_columns({"x": x.changed(lambda column: Pictures(_scaled(column, scale)), x.source.shape)})
    return split.with_columns({"x": Pictures(_scaled(x, scale))})


def _scaled(column: Column, scale: np.ndarray) -> Tensor:
    return torch.from_numpy(scale[column.values.numpy()])


def _boxes(split: Split) -> int:
    return sum(map(len, split.value("boxes") or ()))
