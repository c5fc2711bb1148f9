"""Functions with which a command reads seeds and writes samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.conditioning.render import Rendering

BLOCK = 4096  # bytes that a file takes at least


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


def size(bytes_: float) -> str:
    """Write a number of bytes as 12 kB, 784 MB or 1.5 GB."""
    if bytes_ < 1e9:
        return f"{bytes_ / 1e3:,.0f} kB" if bytes_ < 1e6 else f"{bytes_ / 1e6:,.0f} MB"
    return f"{bytes_ / 1e9:,.1f} GB"


def check_memory(n: int, out: Path, spec: DataSpec) -> None:
    """Raise UsageError if n samples and the file that is made of them do not fit into the free memory."""
    from math import floor, log10

    import psutil

    from ancestral.app.pictures import zoom_of
    from ancestral.errors import UsageError

    zoomed = zoom_of(*spec.shape[1:]) ** 2 if spec.is_image and out.suffix.lower() == ".png" else 1
    each = 64 + spec.dims * (2 * 4 + 8 + 2 * zoomed)  # the batches and all in one as float32; the file's copies; pixels
    need, free = n * each, psutil.virtual_memory().available
    if need > free:
        fits = floor(0.5 * free / each)
        fits = fits // 10 ** floor(log10(max(fits, 1))) * 10 ** floor(log10(max(fits, 1)))
        raise UsageError(
            f"{n:,} samples of {'x'.join(map(str, spec.shape))} need about {size(need)} of memory, and {size(free)} are free: "
            f"draw them in parts of at most {fits:,}, each with another --seed and --out"
        )


def check_disk(n: int, each: float, out: Path) -> None:
    """Raise UsageError if n samples of `each` bytes do not fit on the disk of `out`."""
    from shutil import disk_usage

    from ancestral.errors import UsageError

    free = disk_usage(out.parent).free
    if n * each > free:
        raise UsageError(
            f"{n:,} samples need about {size(n * each)} in {out}, and {size(free)} are free there: give a smaller -n, or an "
            "--out on another disk"
        )


def bytes_each(x: Tensor, out: Path, spec: DataSpec) -> float:
    """Return the bytes that a sample takes on the disk, measured with the samples x."""
    import zlib
    from io import BytesIO

    from ancestral.app.pictures import grid, to_uint8

    if out.suffix.lower() == ".npz":
        return len(zlib.compress(_array(x, spec).tobytes())) / len(x) + 8
    if out.suffix.lower() == ".png":
        buffer = BytesIO()
        grid(x, spec).save(buffer, "PNG")
        return len(buffer.getvalue()) / len(x) if spec.is_image else 0.0  # plots do not grow
    total = 0
    for image in to_uint8(x, spec):
        buffer = BytesIO()
        _picture(image).save(buffer, "PNG")
        total += -(-len(buffer.getvalue()) // BLOCK) * BLOCK
    return total / len(x)


def _array(x: Tensor, spec: DataSpec) -> np.ndarray:
    """Return samples as they are in an array file: uint8 levels, or real numbers."""
    import numpy as np

    array: np.ndarray = x.cpu().numpy()
    return array if spec.levels is None else np.rint(array * (spec.levels - 1)).astype(np.uint8)


def _picture(image: np.ndarray) -> Image:
    from PIL import Image

    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def write(
    x: Tensor, out: Path, spec: DataSpec, seeds: Sequence[int], columns: int | None, renderings: Sequence[Rendering] = ()
) -> None:
    """Write samples as a grid (.png, with the conditions `renderings`), an array (.npz), or a folder of single pictures."""
    from io import BytesIO

    import numpy as np

    from ancestral.app.pictures import save_grid, to_uint8
    from ancestral.files import disk_errors, write_atomically

    with disk_errors(out.parent):
        if out.suffix.lower() == ".png":
            save_grid(x, out, spec, columns, renderings)
        elif out.suffix.lower() == ".npz":
            buffer = BytesIO()
            np.savez_compressed(buffer, x=_array(x, spec), seeds=np.array(seeds, dtype=np.uint64))
            write_atomically(out, buffer.getvalue())
        else:
            out.mkdir(exist_ok=True)
            for seed, image in zip(seeds, to_uint8(x, spec), strict=True):
                _picture(image).save(out / f"{seed}.png")


def draw_trajectory(frames: Sequence[Tensor], path: Path, spec: DataSpec) -> None:
    """Draw the path of the samples as an animation (.gif) or a strip."""
    from ancestral.app.pictures import grid, save_animation, strip
    from ancestral.files import disk_errors

    with disk_errors(path.parent):
        if path.suffix.lower() == ".gif":
            save_animation([grid(x[:64], spec) for x in frames], path)
        else:
            strip(frames, spec).save(path)
