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

    scale: 0 is the one to be left behind, 1 the wanted one.
    interval: (low, high], the noise levels u = sigma / alpha at which guidance acts, in units of data of deviation 1; at all
    others the wanted denoiser is taken as it is (Kynkaanniemi et al. 2024, arXiv:2404.07724, whose data have deviation
    1/2: their sigma is u / 2). None: at all.
    rescale: how much of the excess of contrast is taken back, see `between`.
    Raises UsageError for a scale that is not finite, an empty interval, or a rescale outside [0, 1].
    """

    scale: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise UsageError(f"the scale of guidance is a finite number; got {self.scale:g}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            low, high = self.interval
            raise UsageError(
                f"guidance acts between two noise levels sigma/alpha, the lower one first, e.g. 0.2,5; got {low:g},{high:g}"
            )
        if not 0 <= self.rescale <= 1:
            raise UsageError(f"rescale is a share from 0 to 1; got {self.rescale:g}")

    def acts(self, t: Level) -> bool:
        return self.interval is None or self.interval[0] < t.u <= self.interval[1]

    def between(self, left: Tensor, wanted: Tensor) -> Tensor:
        """Eq. 1 for estimates of x `(n, *shape)`, then x <- x (1 - rescale + rescale std(wanted) / std(x)).

        std is over all dimensions of one sample. Source: Lin et al. 2023 (arXiv:2305.08891), section 3.4, on the reading x, in
        which a picture is overexposed: theirs is v, which is -x where no signal is left.
        """
        x = left + self.scale * (wanted - left)
        if self.rescale == 0:
            return x
        wanted_std, std = (v.flatten(1).std(1, correction=0).view(-1, *[1] * (x.ndim - 1)) for v in (wanted, x))
        ratio = torch.where(std > 0, wanted_std / std, 1.0)  # a constant sample has no contrast
        return x * (1 - self.rescale + self.rescale * ratio)
