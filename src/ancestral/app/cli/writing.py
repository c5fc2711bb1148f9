"""Functions with which a command reads seeds and writes samples.

Files of data (.npz, .csv, a folder) hold the samples with the values that the data can have (`as_allowed`), a picture of all
samples shows them as the model drew them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.conditioning.render import Rendering


def integers(text: str) -> list[int]:
    """Read seeds that are separated by commas. Raises UsageError if the text holds anything else."""
    from ancestral.errors import UsageError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"cannot read the seeds {text!r}: write integers separated by commas, e.g. 3,7,9") from None


def check_suffix(option: str, path: Path, known: tuple[str, ...]) -> None:
    """Raise UsageError if the path's suffix is not among `known`. "" stands for a folder."""
    from ancestral.errors import UsageError

    if path.suffix.lower() not in known:
        kinds = ", ".join(suffix or "a folder" for suffix in known)
        raise UsageError(f"cannot write {path}: {option} takes {kinds}")


def write(
    x: Tensor, out: Path, spec: DataSpec, seeds: Sequence[int], columns: int | None, shown: Sequence[Rendering] = ()
) -> str:
    """Write samples as a grid (.png, with the conditions `shown`), an array (.npz), a table (.csv) or a folder of files.

    Returns:
        What the user should know of the files, "" for nothing.
    """
    from io import BytesIO

    import numpy as np

    from ancestral.app.data.discrete import as_allowed, described
    from ancestral.app.pictures import save_grid
    from ancestral.files import disk_errors, write_atomically

    kept, rounded = as_allowed(x, spec), described(spec)
    notes = [f"they have the values of the data: {rounded}"] if rounded else []
    with disk_errors(out.parent):
        if out.suffix.lower() == ".png":
            save_grid(x, out, spec, columns, shown)
            return ""
        if out.suffix.lower() == ".npz":
            arrays = {"x": _array(kept, spec), "seeds": np.array(seeds, dtype=np.uint64)}
            if rounded:
                arrays["raw"] = x.cpu().numpy()
                notes.append("what the model drew is there as the array raw")
            buffer = BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for options
            write_atomically(out, buffer.getvalue())
        elif out.suffix.lower() == ".csv":
            write_atomically(out, _table(kept, spec))
        else:
            suffix, why = single(spec)
            if why:
                notes.append(f"each is a {suffix} file, because a PNG {why}")
            out.mkdir(exist_ok=True)
            for seed, sample in zip(seeds, kept, strict=True):
                (out / f"{seed}{suffix}").write_bytes(_file(sample, suffix, spec))
    return "; ".join(notes)


def single(spec: DataSpec) -> tuple[str, str]:
    """Return the suffix of a file that holds one sample with its values, and why it is not .png."""
    if not spec.is_image:
        return ".npy", "holds only images"
    if spec.shape[0] not in (1, 3):
        return ".npy", f"does not hold {spec.shape[0]} channels"
    if spec.levels is not None:
        return ".png", ""
    return ".tif" if spec.shape[0] == 1 else ".npy", "does not hold real numbers"


def _file(x: Tensor, suffix: str, spec: DataSpec) -> bytes:
    """Return the content of a file of one sample."""
    from io import BytesIO

    import numpy as np
    from PIL import Image

    from ancestral.app.pictures import to_uint8

    buffer = BytesIO()
    if suffix == ".npy":
        np.save(buffer, _array(x, spec))
    elif suffix == ".tif":
        Image.fromarray(x[0].float().cpu().numpy()).save(buffer, "TIFF")
    else:
        image = to_uint8(x[None], spec)[0]
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def _table(x: Tensor, spec: DataSpec) -> bytes:
    import csv
    from io import StringIO

    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(spec.channels or [f"column{i + 1}" for i in range(spec.dims)])
    for row in _array(x, spec):
        table.writerow([int(value) if value == int(value) else str(value) for value in row])
    return text.getvalue().encode()


def _array(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Return samples as they are in an array file: uint8 levels, or real numbers."""
    import numpy as np

    array: np.ndarray = x.cpu().numpy()
    return array if spec.levels is None else np.rint(array * (spec.levels - 1)).astype(np.uint8)


def draw_trajectory(frames: Sequence[Tensor], path: Path, spec: DataSpec) -> None:
    """Draw the path of the samples as an animation (.gif) or a strip."""
    from ancestral.app.pictures import grid, save_animation, strip
    from ancestral.files import disk_errors

    with disk_errors(path.parent):
        if path.suffix.lower() == ".gif":
            save_animation([grid(x[:64], spec) for x in frames], path)
        else:
            strip(frames, spec).save(path)
