"""Images already in memory at another size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.images import fit
from ancestral.errors import UsageError


def resize(data: DataSet, size: tuple[int, int]) -> DataSet:
    """The same samples scaled, antialiased, to cover `size` (height, width) and cropped at the centre.

    Levels become 256, since scaled values fall between fewer. Raises `UsageError` for what is no image, and for
    images with boxes or maps, whose truth is in pixels.
    """
    spec = data.spec
    old, new = ("x".join(map(str, shape)) for shape in (spec.shape[1:], size))
    if not spec.is_image:
        raise UsageError(f"size applies to images, and the samples of {spec.name} have shape {spec.shape}: leave it out")
    if spec.shape[1:] == size:
        return data
    if any(known is not None for known in (data.train.maps, data.train.boxes, data.train.paired)):
        raise UsageError(
            f"the boxes, maps or images that go with {spec.name} hold for images of {old} only: leave out the size"
        )
    train, test = (_resized(split, size, spec.levels) for split in (data.train, data.test))
    levels = None if spec.levels is None else 256
    notes = (*data.notes, f"resized from {old} to {new}")
    return assemble(spec.name, train, test, levels=levels, classes=spec.classes, notes=notes)


def _resized(split: Split, size: tuple[int, int], levels: int | None) -> Split:
    planes = split.array.flatten(0, 1).numpy()
    if levels is not None and levels != 256:
        planes = np.rint(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)[planes]
    out = np.stack([np.asarray(fit(Image.fromarray(plane), size)) for plane in planes])
    return replace(split, array=torch.from_numpy(out).reshape(*split.array.shape[:2], *size))
