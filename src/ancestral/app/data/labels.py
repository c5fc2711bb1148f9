"""Conversion of labels of any type to int64 labels and class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.errors import DataError
from ancestral.errors import printable


def encode(groups: Sequence[Any], where: str, names: Sequence[str] = ()) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return int64 labels for each of `groups` and the names of the classes.

    Whole numbers that are exactly 0..K-1 do not change. Other whole numbers, and strings, are numbered in ascending order.

    Args:
        groups: whole numbers or strings, e.g. the training and the test labels.
        where: where the labels come from, for messages.
        names: the names of the labels 0..K-1, if they are known.

    Raises:
        DataError: if labels have another type, or do not fit the names.
    """
    arrays = [_flat(group, where) for group in groups]
    if names:
        if any(array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= len(names) for array in arrays):
            raise DataError(f"the labels of {where} must be whole numbers from 0 to {len(names) - 1}, one for each class name")
        return [torch.from_numpy(array.astype(np.int64)) for array in arrays], tuple(names)
    if len({array.dtype.kind for array in arrays}) > 1:
        raise DataError(f"the labels of {where} are numbers in one split and names in the other: use one kind")
    if arrays[0].dtype == object:  # an array of strings would take as much memory for each as for the longest
        texts = sorted(set().union(*arrays))
        codes = {text: code for code, text in enumerate(texts)}
        numbers = [np.fromiter((codes[text] for text in array), np.int64, len(array)) for array in arrays]
        return [torch.from_numpy(array) for array in numbers], tuple(map(printable, texts))
    values = np.unique(np.concatenate(arrays))
    encoded = [torch.from_numpy(np.searchsorted(values, a).astype(np.int64)) for a in arrays]
    return encoded, tuple(map(str, values.tolist()))


def _flat(labels: Any, where: str) -> np.ndarray:
    """Return labels as an int64 array `(N,)`, or as one of objects that are strings."""
    if isinstance(labels, list | tuple) and labels and all(isinstance(label, str) for label in labels):
        return np.fromiter(labels, object, len(labels))
    try:
        array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    except ValueError:
        raise DataError(
            f"the labels of {where} must be one number or name per sample, found lists of different lengths"
        ) from None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        raise DataError(f"the labels of {where} must be one number or name per sample, found the shape {array.shape}")
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"the labels of {where} are bytes that are not UTF-8 text: save them as strings") from None
    if array.dtype.kind == "O" and all(isinstance(label, int) for label in array):  # larger than any int64
        array = array.astype(str)
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(label, str) for label in array)):
        return array.astype(object)
    if array.dtype == np.uint64 and array.max() >= 1 << 63:  # larger than any int64
        return array.astype(str).astype(object)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    numbers = array if array.dtype.kind == "f" else np.full(len(array), np.nan)
    whole = np.isfinite(numbers) & (np.floor(numbers) == numbers)
    if whole.all():
        return array.astype(np.int64)
    i = int(whole.argmin())
    raise DataError(f"the labels of {where} must be whole numbers or names, found {array[i]} at index {i}")
