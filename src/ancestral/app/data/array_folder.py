"""Reader of `.npy` files that hold one sample each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ancestral.app.data.arrays import AXES, arranged, arrays_of, named_axes, numeric, usual_axes
from ancestral.app.data.bounded import check_memory
from ancestral.app.data.decode import Decoded, listed
from ancestral.app.data.errors import DataError


def samples_of(root: Path, names: Sequence[str], axes: str | None, shape: tuple[int, ...] | None) -> tuple[Decoded, str, str]:
    """Return the samples as channels-first arrays, their layout (a value of `AXES`), and a remark about the axes for the note.

    Args:
        root: the folder.
        names: the files, relative to it.
        axes: the names of the axes of all samples, of which the first is n. None: `arrays` decides.
        shape: the shape of a sample, as in `from_array`.

    Raises:
        DataError: if the arrays differ in shape, or are no numbers.
    """
    rows: list[np.ndarray] = []
    kept: list[int] = []
    left_out: list[str] = []
    largest = 0
    for i, name in enumerate(names):
        try:
            found = list(arrays_of(root / name).values())
        except DataError as error:
            left_out.append(f"{name} ({str(error).removeprefix(f'{root / name} ')})")
            continue
        if len(found) != 1:
            left_out.append(f"{name} (holds {len(found)} arrays)")
            continue
        (row,) = found
        if rows and row.shape != rows[0].shape:
            raise DataError(
                f"the .npy files of {root} must hold one sample each, all of one shape, and "
                f"{names[kept[0]]} has {rows[0].shape}, {name} {row.shape}: make them equal, or give one of the files"
            )
        if row.nbytes > largest:
            largest = row.nbytes
            check_memory(str(root), 2.0 * largest * len(names), f"its {len(names):,} arrays need")
        rows.append(row)
        kept.append(i)
    if not rows:
        raise DataError(f"no array in {root} can be read: {listed(left_out)}")
    where = f"the array of all files of {root}"
    array = numeric(np.stack(rows), where)
    chosen, doubt = (axes, "") if axes is not None else usual_axes(array, where, shape)
    samples = arranged(array, chosen, where)
    if len(samples) != len(rows):
        raise DataError(f"each .npy file of {root} is one sample: name the axes so that n is the first and only that one")
    return Decoded(samples, np.array(kept), tuple(left_out), ()), AXES[named_axes(chosen)], doubt
