"""Options that several commands share, with their help, and functions that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ancestral.builtin import explained
from ancestral.errors import UsageError

Features = Annotated[
    str | None,
    Parameter(
        help=f"Networks in whose outputs (features) distances are measured: {explained('extractor')}. Several take commas. "
        "Default: those that suit the data."
    ),
]
SPACING = (
    f"Rule that spreads the steps over the noise levels: {explained('spacing')}. Or the times of all levels with commas, e.g. "
    "1,0.6,0.3,0.1,0. Default: what `ancestral tune` fitted, else logsnr."
)


def integers(text: str) -> list[int]:
    """Read seeds that are separated by commas. Raises UsageError if the text holds anything else."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"cannot read the seeds {text!r}: write integers separated by commas, e.g. 3,7,9") from None


def spacing_of(text: str | None) -> str | tuple[float, ...] | None:
    """Read a spacing: a name, or times that are separated by commas. Raises UsageError if a time is no number."""
    if text is None or "," not in text:
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"cannot read the times {text!r}: write numbers from 1 to 0, e.g. 1,0.6,0.3,0.1,0") from None


def check_suffix(option: str, path: Path, known: tuple[str, ...]) -> None:
    """Raise UsageError if the path's suffix is not among `known`. "" stands for a folder."""
    if path.suffix.lower() not in known:
        kinds = ", ".join(suffix or "a folder" for suffix in known)
        raise UsageError(f"cannot write {path}: {option} takes {kinds}")
