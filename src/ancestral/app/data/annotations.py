"""What is known of samples that come as arrays: captions, boxes, maps, images that go with images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ancestral.app.data.dataset import Split
from ancestral.app.data.errors import DataError

KNOWN = ("captions", "boxes", "maps", "conditioning")


def joined(split: Split, beside: Mapping[str, Any], where: str) -> Split:
    """The samples with what is known of each.

    captions: N strings. boxes: whole numbers `(N, k, 5)`, rows (class, left, top, width, height) in pixels, class -1 where a
    sample has fewer than k. maps: whole numbers `(N, H, W)` from 0, background, to 255. conditioning: uint8 `(N, C, H, W)` or
    `(N, H, W, C)`. Raises `DataError` for a wrong type or shape.
    """
    n, space = len(split), tuple(split.array.shape[2:])
    for name, values in beside.items():
        if len(values) != n:
            raise DataError(f"{where} has {n:,} samples and {len(values):,} {name}: one a sample is needed")
        if name != "captions" and len(space) != 2:
            raise DataError(f"{name} of {where} go with images, and its samples have shape {tuple(split.array.shape[1:])}")
        array = np.asarray(values)
        if name == "captions":
            texts = [None if text is None else str(text).strip() or None for text in values]
            split = replace(split, captions=tuple(texts))
        elif name == "boxes":
            if array.ndim != 3 or array.shape[2] != 5 or array.dtype.kind not in "iu":
                raise DataError(f"boxes of {where} must be whole numbers (N, k, 5), found {array.dtype} {array.shape}")
            rows = torch.from_numpy(array.astype(np.int64))
            split = replace(split, boxes=tuple(row[row[:, 0] >= 0] for row in rows))
        elif name == "maps":
            whole = array.dtype.kind in "iub" and array.shape[1:] == space and array.min() >= 0 and array.max() <= 255
            if not whole:
                raise DataError(f"maps of {where} must be whole numbers from 0 to 255 of shape {(n, *space)}")
            split = replace(split, maps=torch.from_numpy(array.astype(np.uint8)))
        else:
            array = array if array.ndim == 4 and array.shape[2:] == space else np.moveaxis(array, -1, 1)
            if array.ndim != 4 or array.shape[2:] != space or array.dtype != np.uint8:
                raise DataError(f"conditioning of {where} must be uint8 images of the same size as the samples")
            split = replace(split, paired=torch.from_numpy(np.ascontiguousarray(array)))
    return split


def named(*splits: Split | None) -> dict[str, tuple[str, ...]]:
    """Names of the classes in boxes and maps that have none but numbers, as `assemble` takes them."""
    boxes = [rows for split in splits if split is not None for rows in split.boxes or () if len(rows)]
    maps = [split.maps for split in splits if split is not None and split.maps is not None]
    top = max((int(rows[:, 0].max()) for rows in boxes), default=-1)
    most = max((int(m.max()) for m in maps), default=0)
    return {
        "box_classes": tuple(str(i) for i in range(top + 1)),
        "map_classes": tuple(str(i) for i in range(1, most + 1)),
    }
