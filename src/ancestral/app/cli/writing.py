"""Functions with which a command reads seeds and writes samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    x: Tensor,
    out: Path,
    spec: DataSpec,
    seeds: Sequence[int],
    columns: int | None,
    shown: Sequence[Rendering] = (),
    across: Sequence[str] = (),
    given: Tensor | None = None,
) -> None:
    """Write samples as a grid (.png), an array (.npz), or a folder of single pictures.

    The grid has the conditions `shown`, or the labels `across` above its columns, and the `given` pictures above the samples.
    """
    from io import BytesIO

    import numpy as np
    from PIL import Image

    from ancestral.app.pictures import grid, save, stacked, to_uint8
    from ancestral.files import disk_errors, write_atomically

    with disk_errors(out.parent):
        if out.suffix.lower() == ".png":
            picture = grid(x, spec, columns, shown, across=across)
            if given is not None:
                picture = stacked({"given": grid(given, spec, len(given)), "samples": picture})
            save(picture, out)
        elif out.suffix.lower() == ".npz":
            array = x.cpu().numpy()
            if spec.levels is not None:
                array = np.rint(array * (spec.levels - 1)).astype(np.uint8)
            buffer = BytesIO()
            np.savez_compressed(buffer, x=array, seeds=np.array(seeds, dtype=np.uint64))
            write_atomically(out, buffer.getvalue())
        else:
            out.mkdir(exist_ok=True)
            for seed, image in zip(seeds, to_uint8(x, spec), strict=True):
                Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out / f"{seed}.png")


def draw_trajectory(frames: Sequence[Tensor], path: Path, spec: DataSpec) -> None:
    """Draw the path of the samples as an animation (.gif) or a strip."""
    from ancestral.app.pictures import film, save, save_animation, strip
    from ancestral.files import disk_errors

    with disk_errors(path.parent):
        if path.suffix.lower() == ".gif":
            save_animation(film(frames, spec), path)
        else:
            save(strip(frames, spec), path)
