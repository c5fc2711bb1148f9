"""Extrapolation from one denoiser to another, in an interval of noise levels: eq. 1 of `ancestral.guidance`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.schedules import Level


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """The base class of guidance between two denoisers.

    Args:
        scale: 0 is the unwanted denoiser, 1 the wanted one.
        interval: (low, high], the noise levels u = sigma / alpha at which guidance acts, for data of deviation 1. At all other
            levels the wanted denoiser is used alone (Kynkaanniemi et al. 2024, arXiv:2404.07724, whose data have deviation
            1/2, so that their sigma is u / 2). None: guidance acts at all levels.
        rescale: the share of the excess contrast that is removed, see `between`.

    Raises:
        UsageError: if the scale is not finite, the interval is empty, or rescale is outside [0, 1].
    """

    scale: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise UsageError(f"the scale of guidance must be a finite number; got {self.scale:g}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            low, high = self.interval
            raise UsageError(
                f"guidance acts between two noise levels sigma/alpha, the lower one first, e.g. 0.2,5; got {low:g},{high:g}"
            )
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"rescale must be a share from 0 to 1; got {self.rescale:g}")

    def acts(self, t: Level) -> bool:
        return self.interval is None or self.interval[0] < t.u <= self.interval[1]

    def between(self, left: Tensor, wanted: Tensor) -> Tensor:
        """Apply eq. 1 to estimates of x `(n, *shape)`, and then x <- x (1 - rescale + rescale std(wanted) / std(x)).

        std is over all dimensions of one sample. Source: Lin et al. 2023 (arXiv:2305.08891), section 3.4. It is applied to x,
        because x shows whether a picture is overexposed. Theirs is applied to v, which is -x if no signal is left.
        """
        x = left + self.scale * (wanted - left)
        if self.rescale == 0:
            return x
        wanted_std, std = (v.flatten(1).std(1, correction=0).view(-1, *[1] * (x.ndim - 1)) for v in (wanted, x))
        ratio = torch.where(std > 0, wanted_std / std, 1.0)  # a constant sample has no contrast
        return x * (1 - self.rescale + self.rescale * ratio)
