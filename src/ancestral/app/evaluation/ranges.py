"""The range of pictures and signals of other software, in comparison with that of the data."""

from __future__ import annotations

from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.errors import UsageError

UNIT, SYMMETRIC, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)


def like(x: Tensor, data: DataSet, name: str, rescale: bool | None = None) -> Tensor:
    """Return samples `(n, *shape)` in the range of the data.

    Args:
        x: The samples.
        data: The data with which they are compared.
        name: The name of the samples, for messages.
        rescale: True: convert samples from their usual range to that of the data. False: leave them as they are. None: refuse
            them if the ranges differ.

    Raises:
        UsageError: If the ranges differ, with both and the remedy.
    """
    if len(data.spec.shape) == 1 or rescale is False:
        return x
    real = data.x("train")
    theirs, ours = usual_range(x), UNIT if data.spec.levels is not None else usual_range(real)
    if theirs == ours or ours is None or (data.spec.levels is None and _alike(x, real)):
        return x
    there, here = (f"[{float(v.min()):.4g}, {float(v.max()):.4g}]" for v in (x, real))
    unlike = f"the values of {name} lie in {there} and those of {data.spec.name} in {here}"
    if theirs is None:
        raise UsageError(
            f"{unlike}: convert the samples to the range of the data, or take them as they are "
            "with --no-rescale (Python: rescale=False)"
        )
    if not rescale:
        raise UsageError(
            f"{unlike}: convert the samples from {_written(theirs)} to {_written(ours)} with --rescale, or take them as they "
            "are with --no-rescale (Python: rescale=True or False)"
        )
    return (x - theirs[0]) / (theirs[1] - theirs[0]) * (ours[1] - ours[0]) + ours[0]


def usual_range(x: Tensor) -> tuple[float, float] | None:
    """Return the usual range of values, [0, 1], [-1, 1] or [0, 255], or None for other units.

    A network overshoots, so values may lie outside of [0, 1] and [-1, 1] by a half. Pictures in [-1, 1] have values below -1/2.
    """
    low, high = float(x.min()), float(x.max())
    if high <= 1.5:
        return UNIT if low > -0.5 else SYMMETRIC if low >= -1.5 else None
    return BYTES if low > -16 and 32 < high < 272 else None


def _alike(x: Tensor, real: Tensor) -> bool:
    """Return whether most values of x end where those of real data end, within a quarter of their span.

    Measurements in units of their own seldom end at 0 or 1, and samples of them may have other extremes. Between [0, 1] and
    [-1, 1] one end moves by half of the span.
    """
    ends = [[_quantile(values, share) for share in (0.005, 0.995)] for values in (x, real)]
    span = ends[1][1] - ends[1][0]
    return all(abs(a - b) <= span / 4 for a, b in zip(*ends, strict=True))


def _quantile(x: Tensor, share: float) -> float:
    """Return a quantile of all values; torch.quantile takes at most 2^24."""
    values = x.flatten()
    return values.kthvalue(1 + round(share * (len(values) - 1))).values.item()


def _written(limits: tuple[float, float]) -> str:
    return f"[{limits[0]:g}, {limits[1]:g}]"
