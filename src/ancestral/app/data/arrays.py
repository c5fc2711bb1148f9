"""Data sets from arrays: `.npy` and `.npz` files, numpy arrays and torch tensors.

`axes` names the axes of an array, one letter each: n samples, c channels, h height, w width, l steps of a signal, d numbers of
a vector. `"n h w c"` are images with the channels last, `"n c l"` signals. A letter that occurs several times joins its axes:
`"n n h w"` takes each slice of volumes as an image, `"n d d"` flattens each sample to a vector.

Without `axes` the number of axes and the type decide:

- `(N, D)`: vectors.
- `(N, a, b)`, integers or booleans: grey images of height a and width b.
- `(N, a, b)`, floats: if a and b differ and the smaller is at most 16, signals whose channels are the smaller axis. Otherwise
  grey images.
- `(N, a, b, c)`: images whose channels are the first or the last axis, a or c: the one of them that is 1, 3 or 4; if that is
  true of both or of neither, the one that leaves square images; otherwise the smaller; if they are equal, the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data.annotations import COLUMNS, KNOWN, NUMBER_NAMES, joined, named, plain
from ancestral.app.data.assemble import assemble, count
from ancestral.app.data.columns import STANDARD, Column, Numbers
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.decode import listed
from ancestral.app.data.errors import DataError
from ancestral.app.data.labels import encode
from ancestral.app.data.levels import check_finite
from ancestral.app.data.mapped import levels_of
from ancestral.app.data.npy import ArrayError, map_array, read_arrays
from ancestral.app.data.numbers import numbers_note
from ancestral.app.data.streamed import HELD, SAMPLE, evenly, is_large
from ancestral.errors import UsageError

AXES = {"n d": "vectors", "n l": "signals", "n c l": "signals", "n h w": "images", "n c h w": "images"}  # in any order
ORDERS = {2: ("n d", "n l"), 3: ("n c l", "n l c", "n h w"), 4: ("n c h w", "n h w c")}  # by number of axes
DATA, LABELS = ("x", "images", "data", "x_train", "arr_0"), ("y", "labels", "y_train")
TEST_DATA, TEST_LABELS = ("x_test",), ("y_test",)
CHANNEL_NAMES = "channel_names"
RECORD = "ancestral"  # how samples were drawn, see `ancestral.app.sampling.provenance`
CHANNELS = (1, 3, 4)
EXPECTED = "expected (N, D) vectors, (N, C, L) signals, (N, H, W) or (N, H, W, C) images"


def array_file(path: Path, axes: str | None = None, labels: Any = None, shape: tuple[int, ...] | None = None) -> DataSet:
    """Read an `.npy` or `.npz` file as a `DataSet`.

    The arrays of an `.npz` file:

    - `x` (or `images`, `data`, `x_train`, `arr_0`, or a single array): the samples.
    - `y` (or `labels`, `y_train`), optional: the labels.
    - `x_test`, `y_test`, optional: the held-out split.
    - `channel_names`, optional: the names of the channels of the samples, which are the columns of a table.
    - `captions`, `boxes`, `maps`, `conditioning`, `number`, `number_names`, and arrays of any other name with a row for each
      sample, optional: the annotations that `joined` reads. Those of the held-out split end in `_test`, e.g. `captions_test`.

    `axes` and `shape` are those of the samples, as in `from_array`.

    Raises:
        DataError: if the file cannot be read or used.
    """
    arrays = arrays_of(path)
    data = next((key for key in DATA if key in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if data is None:
        found = listed(list(arrays), 20) or "nothing"
        raise DataError(f"{path} holds no array of data: expected x, images, data or arr_0, found {found}")
    y, x_test, y_test = (next((k for k in keys if k in arrays), None) for keys in (LABELS, TEST_DATA, TEST_LABELS))
    if axes is not None:  # now, because other arrays are compared with the number of samples
        arrays |= {key: arranged(numeric(arrays[key], str(path)), axes, str(path)) for key in (data, x_test) if key is not None}
        axes = named_axes(axes)
    if labels is not None and y is not None:
        raise DataError(f"{path} already holds labels ({y}): leave out `labels`")
    names = {name for column in KNOWN for name in (column, f"{column}_test")} | {NUMBER_NAMES, CHANNEL_NAMES, RECORD}
    further = [key for key in arrays.keys() - {data, y, x_test, y_test} - names if _goes_with(arrays, key, data, x_test)]
    kept = [*KNOWN, *sorted(further)]
    tested = [] if x_test is None else [f"{key}_test" for key in further]
    unused = sorted(arrays.keys() - {data, y, x_test, y_test} - names - {*further, *tested})
    return from_array(
        arrays[data],
        name=path.stem,
        where=str(path),
        labels=labels if y is None else arrays[y],
        test=None if x_test is None else arrays[x_test],
        test_labels=None if y_test is None else arrays[y_test],
        beside={column: arrays[column] for column in kept if column in arrays},
        beside_test={column: arrays[f"{column}_test"] for column in kept if f"{column}_test" in arrays},
        number_names=[str(name) for name in arrays.get(NUMBER_NAMES, ())],
        channels=[str(name) for name in arrays.get(CHANNEL_NAMES, ())],
        axes=axes,
        shape=shape,
        notes=(f"arrays not used: {listed(unused)}",) if unused else (),
    )


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file by name, or that of an `.npy` file as `x`, mapped if large. Raises `DataError`."""
    try:
        if path.suffix.lower() == ".npy" and path.stat().st_size > HELD:
            return {"x": map_array(path)}
        return read_arrays(path)
    except ArrayError as error:
        raise DataError(f"{path} {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def from_array(
    x: np.ndarray | Tensor,
    *,
    name: str = "array",
    where: str = "the array",
    labels: Any = None,
    test: np.ndarray | Tensor | None = None,
    test_labels: Any = None,
    class_names: tuple[str, ...] = (),
    beside: Mapping[str, Any] | None = None,
    beside_test: Mapping[str, Any] | None = None,
    number_names: Sequence[str] = (),
    channels: Sequence[str] = (),
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
    levels: int | None = None,
    notes: tuple[str, ...] = (),
) -> DataSet:
    """Make a `DataSet` of N samples. This module's docstring explains the axes, and `quantise` explains the levels.

    Args:
        x: the samples.
        name: the name of the data.
        where: the words for the source in error messages.
        labels: N whole numbers or names.
        test: a held-out split with the same axes.
        test_labels: labels of the held-out split.
        class_names: names of the labels 0..K-1, if they are known.
        beside: annotations of the samples by name; see `joined`.
        beside_test: annotations of the held-out split.
        number_names: names of the numbers among the annotations.
        channels: names of the channels of the samples, which are the columns of a table.
        axes: the names of the axes, such as "n h w c". None: their number and the type decide.
        shape: the shape of a sample of other data `(c, ...)`. If the array can be read so, it is.
        levels: the number of levels of uint8 samples; None: decided from the values.
        notes: further notes for the user.

    Raises:
        DataError: if a type or a shape is wrong, values are not finite, or labels do not fit.
    """
    arrays = [numeric(a, where) for a in (x, test) if a is not None]
    if len(arrays) == 2 and arrays[0].shape[1:] != arrays[1].shape[1:]:
        found = f"{arrays[0].shape} and {arrays[1].shape}"
        raise DataError(f"x and x_test of {where} must agree in the shape of a sample, found {found}")
    chosen, doubt = (named_axes(axes), "") if axes is not None else usual_axes(arrays[0], where, shape)
    ordered = [arranged(a, axes or chosen, where) for a in arrays]
    layout = AXES[named_axes(chosen)]
    quantised, levels = levels_of(ordered, layout == "images", levels)
    encoded: list[Tensor | None] = [None, None]
    classes: tuple[str, ...] = ()
    if labels is not None:
        if (test is None) != (test_labels is None):
            raise DataError(f"{where} has labels for one split only: give y and y_test, or neither")
        groups = [labels] if test is None else [labels, test_labels]
        known, classes = encode(groups, where, class_names)
        for samples, mine in zip(quantised, known, strict=True):
            if len(samples) != len(mine):
                found = f"{count(len(samples), 'sample')} but {count(len(mine), 'label')}"
                raise DataError(f"{where} has {found}: one label per sample is needed")
        encoded[: len(known)] = known
    elif test_labels is not None:
        raise DataError(f"{where} has labels for one split only: give y and y_test, or neither")
    splits = [
        joined(Split({"x": x, "class": labels}), known or {}, where, number_names)
        for x, labels, known in zip(quantised, encoded, (beside, beside_test), strict=False)
    ]
    train, held_out = splits[0], None if test is None else splits[1]
    if held_out is not None and (beside or {}).keys() != (beside_test or {}).keys():
        one = ", ".join(sorted((beside or {}).keys() ^ (beside_test or {}).keys()))
        raise DataError(f"{where} has {one} for one split only: give each with and without _test, or neither")
    if channels and len(channels) != train["x"].shape[1]:
        given, there = len(channels), count(train["x"].shape[1], "channel")
        raise DataError(f"{count(given, 'name')} are given for {there} of {where}: give one for each")
    about = [f"read as {described(sum(map(len, quantised)), layout, train['x'].shape[1:])}{doubt}"]
    if "number" in train:
        numbers = train["number"]
        assert isinstance(numbers, Numbers)
        about += numbers_note(numbers.names)
    if others := [column for column in train if column not in STANDARD]:
        about.append(f"further columns, for conditions that read them: {listed(others)}")
    about += notes
    names = named(train, held_out)
    return assemble(
        name, train, held_out, levels=levels, classes=classes, channels=tuple(channels), **names, notes=tuple(about)
    )


def from_columns(
    columns: Mapping[str, Any],
    *,
    name: str = "columns",
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
    labels: Any = None,
) -> DataSet:
    """Make a `DataSet` of named columns, e.g. `{"x": images, "class": names, "number": angles}`.

    Args:
        columns: `x` `(N, ...)` as in `from_array`; `class`; `text`, `boxes`, `map`, `image`, `number` as `joined` reads them,
            by either name (`text` or `captions`, ...); `number_names`, `channel_names`; columns of any other name.
        name: the name of the data.
        axes: the names of the axes of `x`, as in `from_array`.
        shape: the shape of a sample, as in `from_array`.
        labels: N whole numbers or names, unless there is a column `class`.

    Raises:
        DataError: if there is no `x`, a column has another length, or values have a wrong type or shape.
    """
    given = {key: values for key, values in columns.items() if values is not None}
    given |= {key: given[key].values for key in (*DATA, *LABELS, "class") if isinstance(given.get(key), Column)}
    x = next((given.pop(key) for key in DATA if key in given), None)
    if x is None:
        raise DataError(f"the columns hold no samples: expected one named x, found {', '.join(given) or 'nothing'}")
    y = next((given.pop(key) for key in ("class", *LABELS) if key in given), labels)
    number_names, channels = given.pop(NUMBER_NAMES, ()), given.pop(CHANNEL_NAMES, ())
    plural = {column: array for array, column in reversed(COLUMNS.items())}
    beside = {plural.get(key, key): values for key, values in given.items()}
    return from_array(
        x,
        name=name,
        where="the columns",
        labels=y,
        beside=beside,
        number_names=number_names,
        channels=[str(channel) for channel in channels],
        axes=axes,
        shape=shape,
    )


def _goes_with(arrays: Mapping[str, np.ndarray], key: str, data: str, x_test: str | None) -> bool:
    """Return whether the array `key` has a row for each sample, and the array `key` + `_test` one for each held-out sample."""
    pairs = [(key, data)] if x_test is None else [(key, data), (f"{key}_test", x_test)]
    fits = all(a in arrays and arrays[a].ndim and len(arrays[a]) == len(arrays[b]) for a, b in pairs)
    return fits and plain(key, arrays[key]) is not None


def numeric(x: np.ndarray | Tensor, where: str) -> np.ndarray:
    """Return the data as a numpy array of finite numbers with at least 2 axes and 1 value."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x if x.dtype == torch.float64 or not x.is_floating_point() else x.float()).numpy()
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where} must hold numbers, found the type {x.dtype}")
    if x.ndim < 2 or not x.size:
        raise DataError(f"{where} has shape {x.shape}: {EXPECTED}")
    check_finite(x[evenly(len(x), SAMPLE, x[0].nbytes).numpy()] if is_large(x) else x, where)
    return x


def named_axes(axes: str) -> str:
    """Return the names of the axes of samples that are arranged from `axes`, a key of `AXES`. Raises UsageError."""
    letters = _letters(axes)
    found = next((known for known in AXES if set(known.split()) == set(letters)), None)
    if found is None:
        raise UsageError(
            f"cannot read the axes {axes!r}: name each axis by a letter, n for the samples and c h w for channels, height and "
            'width of images, c l for channels and steps of signals or d for numbers of vectors, e.g. "n h w c"'
        )
    return found


def _letters(axes: str) -> list[str]:
    return [letter for letter in axes.lower() if letter not in " ,()"]


def arranged(x: np.ndarray, axes: str, where: str) -> np.ndarray:
    """Return the samples as `(N, D)`, `(N, C, L)` or `(N, C, H, W)`. Axes of one letter are joined in their order."""
    letters, wanted = _letters(axes), named_axes(axes).split()
    if len(letters) != x.ndim:
        raise DataError(f"{where} has shape {x.shape}, and the axes {axes!r} name {len(letters)} axes: name all {x.ndim}")
    groups = [[i for i, letter in enumerate(letters) if letter == name] for name in wanted]
    sizes = [math.prod(x.shape[i] for i in group) for group in groups]
    if wanted in (["n", "l"], ["n", "h", "w"]):
        sizes.insert(1, 1)  # a single channel
    return x.transpose([i for group in groups for i in group]).reshape(sizes)


def usual_axes(x: np.ndarray, where: str, shape: tuple[int, ...] | None) -> tuple[str, str]:
    """Return the axes of an array for which none were given, and a remark for the note if others are likely too."""
    if x.ndim > 4:
        raise DataError(
            f"{where} has shape {x.shape}, which has {x.ndim} axes, and samples have at most 3: name the axes (train, "
            'compare: --axes "n n h w c" takes each slice as an image, since a letter that occurs twice joins two axes)'
        )
    fits = (axes for axes in ORDERS[x.ndim] if shape is not None and arranged(x, axes, where).shape[1:] == shape)
    if known := next(fits, None):
        return known, ""
    if x.ndim == 2:
        return "n d", ""
    if x.ndim == 3:
        a, b = x.shape[1:]
        signals = x.dtype.kind == "f" and min(a, b) <= 16 and a != b
        return ("n h w" if not signals else "n c l" if a < b else "n l c"), ""
    a, b, c = x.shape[1:]
    if (a in CHANNELS) != (c in CHANNELS):
        return ("n c h w" if a in CHANNELS else "n h w c"), ""
    if (b == c) != (a == b):
        first = b == c
    else:
        first = a <= c
    axes, other = ("n c h w", "n h w c") if first else ("n h w c", "n c h w")
    return axes, f'; the axes are taken as "{axes}" (train, compare: --axes "{other}" for the other order)'


def described(n: int, layout: str, shape: tuple[int, ...]) -> str:
    """Describe n samples of a shape, e.g. `20 images of 8x8 in 1 channel`."""
    match layout:
        case "vectors":
            return f"{count(n, 'vector')} of {count(shape[0], 'number')}"
        case "signals":
            return f"{count(n, 'signal')} of {count(shape[0], 'channel')} and {shape[1]:,} steps"
        case _:
            return f"{count(n, 'image')} of {shape[1]}x{shape[2]} in {count(shape[0], 'channel')}"
