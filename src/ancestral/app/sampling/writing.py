"""Files of samples, and the check that they fit into memory and on the disk.

Files of data (.npz, .csv, a folder) hold the samples with the values that the data can have (`as_allowed`). A picture of all
samples shows them as the model drew them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.app.sampling.provenance import Record
    from ancestral.app.sampling.request import SampleRequest, Sampling
    from ancestral.conditioning.render import Rendering

BLOCK = 4096  # bytes that a file takes at least
WIDE = 12  # samples of different conditions that stand in one row


def size(bytes_: float) -> str:
    """Write a number of bytes as 12 kB, 784 MB or 1.5 GB."""
    if bytes_ < 1e9:
        return f"{bytes_ / 1e3:,.0f} kB" if bytes_ < 1e6 else f"{bytes_ / 1e6:,.0f} MB"
    return f"{bytes_ / 1e9:,.1f} GB"


def check_memory(n: int, out: Path, spec: DataSpec) -> None:
    """Raise UsageError if n samples and the file that is made of them do not fit into the free memory."""
    from math import floor, log10

    from ancestral.app.pictures import zoom_of
    from ancestral.errors import UsageError
    from ancestral.runtime import free_memory

    zoomed = zoom_of(*spec.shape[1:]) ** 2 if spec.is_image and out.suffix.lower() == ".png" else 1
    each = 64 + spec.dims * (2 * 4 + 8 + 2 * zoomed)  # the batches and all in one as float32; the file's copies; pixels
    need, free = n * each, free_memory()
    if need > free:
        fits = floor(0.5 * free / each)
        fits = fits // 10 ** floor(log10(max(fits, 1))) * 10 ** floor(log10(max(fits, 1)))
        raise UsageError(
            f"{n:,} samples of {'x'.join(map(str, spec.shape))} need about {size(need)} of memory, and {size(free)} are free: "
            f"draw them in parts of at most {fits:,}, each with another `seed` and `out`"
        )


def check_disk(n: int, each: float, out: Path) -> None:
    """Raise UsageError if n samples of `each` bytes do not fit on the disk of `out`."""
    from shutil import disk_usage

    from ancestral.errors import UsageError

    free = disk_usage(out.parent).free
    if n * each > free:
        raise UsageError(
            f"{n:,} samples need about {size(n * each)} in {out}, and {size(free)} are free there: give a smaller `n`, or an "
            "`out` on another disk"
        )


def bytes_each(x: Tensor, out: Path, spec: DataSpec) -> float:
    """Return the bytes that a sample takes on the disk, measured with the samples x."""
    import zlib
    from io import BytesIO

    from ancestral.app.pictures import grid

    suffix = out.suffix.lower()
    if suffix == ".npz":
        return len(zlib.compress(_array(x, spec).tobytes())) / len(x) + 8
    if suffix == ".csv":
        return len(_table(x, spec)) / len(x)
    if suffix == ".png":
        buffer = BytesIO()
        grid(x, spec).save(buffer, "PNG")
        return len(buffer.getvalue()) / len(x) if spec.is_image else 0.0  # plots do not grow
    sizes = [len(_file(sample, single(spec)[0], spec)) for sample in x]
    return sum(-(-each // BLOCK) * BLOCK for each in sizes) / len(x)


def picture_of(
    x: Tensor, sampling: Sampling, request: SampleRequest, spec: DataSpec, renderings: Sequence[Rendering] = ()
) -> Image.Image:
    """Draw the samples of a request as one picture: several conditions side by side with their labels, below what was given.

    renderings: the rendered condition of each sample, in place of labels.
    """
    from ancestral.app.pictures import grid, stacked

    asked, several = request.conditions, sampling.columns
    in_rows = asked.sweep is not None or 1 < several <= (WIDE if several == sampling.n else sampling.n)
    if len(spec.shape) == 1 and in_rows and asked.sweep is None:  # points have a colour for each class
        rows = [asked.labels[i % several] for i in range(len(x))]
        return grid(x, spec, rows=rows)
    picture = grid(x, spec, several if in_rows else None, renderings, across=asked.labels if in_rows and not renderings else ())
    given = request.edit.picture(spec)
    return picture if given is None else stacked({"given": grid(given, spec, len(given)), "samples": picture})


def write(
    x: Tensor, out: Path, spec: DataSpec, seeds: Sequence[int], record: Record | None = None, classes: Sequence[str] = ()
) -> str:
    """Write samples as an array (.npz), a table (.csv), a folder of files, or a file of one sample.

    Args:
        x: the samples `(n, *shape)`.
        out: the file or folder.
        spec: the description of the data.
        seeds: the seed of each sample.
        record: how they were drawn, which the files carry; a `.npy` of one sample has no place for it. None: nothing.
        classes: the name of the class of each sample: the array `y` of an .npz, the column `label` of a table. (): none.

    Returns:
        What the user should know of the files, "" for nothing.

    Raises:
        UsageError: if the file cannot hold the sample.
    """
    from ancestral.app.data.discrete import as_allowed, described
    from ancestral.app.sampling.provenance import BESIDE, KEY
    from ancestral.errors import UsageError
    from ancestral.files import disk_errors, read_json, write_atomically

    text = None if record is None else record.to_json()
    kept, rounded = as_allowed(x, spec), described(spec)
    notes = [f"they have the values of the data: {rounded}"] if rounded else []
    with disk_errors(out.parent):
        if out.suffix.lower() == ".npz":
            if rounded:
                notes.append("what the model drew is there as the array raw")
            write_atomically(out, npz(x, spec, seeds, record, classes))
        elif out.suffix.lower() == ".csv":
            beside = out.with_name(out.name + BESIDE)
            beside.unlink(missing_ok=True)  # of the table that is replaced
            write_atomically(out, _table(kept, spec, classes))
            if text is not None:
                note = {"@context": "http://www.w3.org/ns/csvw", "url": out.name, "notes": [{KEY: read_json(text)}]}
                write_atomically(beside, json.dumps(note, indent=1).encode())
        elif out.suffix:
            suffix, why = single(spec)
            if out.suffix.lower() != suffix:
                raise UsageError(
                    f"cannot write {out}: a file of one sample is a {suffix} file here" + (why and f", because a PNG {why}")
                )
            write_atomically(out, _file(kept[0], suffix, spec, record))
        else:
            suffix, why = single(spec)
            if why:
                notes.append(f"each is a {suffix} file, because a PNG {why}")
            out.mkdir(exist_ok=True)
            for i, (seed, sample) in enumerate(zip(seeds, kept, strict=True)):
                about = None if record is None else record.of_sample(i)
                write_atomically(out / f"{seed}{suffix}", _file(sample, suffix, spec, about), durable=False)
    return "; ".join(notes)


def npz(x: Tensor, spec: DataSpec, seeds: Sequence[int], record: Record | None = None, classes: Sequence[str] = ()) -> bytes:
    """Return the content of an array file: `x` with the values of the data, `seeds`, the record, `raw` if values changed.

    classes: the name of the class of each sample, which is the array `y`.
    """
    from io import BytesIO

    import numpy as np

    from ancestral.app.data.discrete import described
    from ancestral.app.sampling.provenance import KEY

    arrays = {"x": values(x, spec), "seeds": np.array(seeds, dtype=np.uint64)}
    if classes:
        arrays["y"] = np.array(classes)
    if described(spec):
        arrays["raw"] = x.cpu().numpy()
    if record is not None and (text := record.to_json()) is not None:
        arrays[KEY] = np.array(text)
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for options
    return buffer.getvalue()


def values(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Return samples as an array of values that the data can have: uint8 levels, or real numbers."""
    from ancestral.app.data.discrete import as_allowed

    return _array(as_allowed(x, spec), spec)


def single(spec: DataSpec) -> tuple[str, str]:
    """Return the suffix of a file that holds one sample with its values, and why it is not .png."""
    if not spec.is_image:
        return ".npy", "holds only images"
    if spec.shape[0] not in (1, 3):
        return ".npy", f"does not hold {spec.shape[0]} channels"
    if spec.levels is not None:
        return ".png", ""
    return ".tif" if spec.shape[0] == 1 else ".npy", "does not hold real numbers"


def _file(x: Tensor, suffix: str, spec: DataSpec, record: Record | None = None) -> bytes:
    """Return the content of a file of one sample. record: how it was drawn, which a .png or .tif carries."""
    from io import BytesIO

    import numpy as np
    from PIL import Image

    from ancestral.app.pictures import one, png

    buffer = BytesIO()
    if suffix == ".npy":
        np.save(buffer, _array(x, spec))
    elif suffix == ".tif":
        text = None if record is None else record.to_json()
        Image.fromarray(x[0].float().cpu().numpy()).save(buffer, "TIFF", **({} if text is None else {"description": text}))
    else:
        return png(one(x, spec), record.chunks() if record else None)
    return buffer.getvalue()


def _table(x: Tensor, spec: DataSpec, classes: Sequence[str] = ()) -> bytes:
    import csv
    from io import StringIO

    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    of_class = [[name] for name in classes] or [[]] * len(x)
    table.writerow([*(spec.channels or [f"column{i + 1}" for i in range(spec.dims)]), *["label"] * bool(classes)])
    for row, label in zip(_array(x, spec), of_class, strict=True):
        table.writerow([*(int(value) if value == int(value) else str(value) for value in row), *label])
    return text.getvalue().encode()


def _array(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Return samples as they are in an array file: uint8 levels, or real numbers."""
    import numpy as np

    array: np.ndarray = x.cpu().numpy()
    return array if spec.levels is None else np.rint(array * (spec.levels - 1)).astype(np.uint8)


def draw_trajectory(frames: Sequence[Tensor], path: Path, spec: DataSpec) -> None:
    """Draw the path of the samples as an animation (.gif) or a strip."""
    from ancestral.app.pictures import film, save, save_animation, strip
    from ancestral.files import disk_errors

    with disk_errors(path.parent):
        if path.suffix.lower() == ".gif":
            save_animation(film(frames, spec), path)
        else:
            save(strip(frames, spec), path)
