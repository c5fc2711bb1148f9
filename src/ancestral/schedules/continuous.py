"""Forward processes in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.builtin import built_in
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.schedules.base import Schedule


@built_in("schedule", "vp")
@configurable
@dataclass(frozen=True)
class VP(Schedule):
    """Variance preserving with linear beta(t) = beta_min + t (beta_max - beta_min) (Song et al. 2021, eq. 33).

    log alpha(t) = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2,   sigma^2 = 1 - alpha^2.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma2(t).sqrt()

    def sigma2(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self._log_alpha(t))


@built_in("schedule", "sub-vp")
@configurable
@dataclass(frozen=True)
class SubVP(VP):
    """sub-VP: alpha as VP's, sigma = 1 - alpha^2, always below VP's noise (Song et al. 2021, eq. 29)."""

    def sigma(self, t: Tensor) -> Tensor:
        return super().sigma2(t)

    def sigma2(self, t: Tensor) -> Tensor:
        return self.sigma(t) ** 2


@built_in("schedule", "cosine")
@configurable
@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Nichol & Dhariwal 2021 without its offset); no signal is left at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * (1 - t))  # the cosine, exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)


@built_in("schedule", "linear")
@configurable
@dataclass(frozen=True)
class Linear(Schedule):
    """The straight line of flow matching, alpha = 1 - t, sigma = t (Lipman et al. 2023; Liu et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t


@built_in("schedule", "ve")
@configurable
@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t for t > 0 and sigma(0) = 0
    (Song et al. 2021, eq. 31 and appendix C). In units of data with standard deviation 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    t_min = 1e-9  # sigma jumps from sigma_min to 0 at t = 0
    u_range = (0.0, math.inf)  # grids visit all its levels

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        log_sigma = math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min)
        return torch.where(t > 0, log_sigma.exp(), torch.zeros_like(t))


@built_in("schedule", "geometric")
@configurable
@dataclass(frozen=True)
class GeometricLevels(VE):
    """VE with training only at `count` geometric levels from sigma_max to sigma_min (Song & Ermon 2019, section 4.1).

    `grid(schedule, schedule.count, "logsnr")` visits each level. One level is sigma_max. Raises UsageError for count < 1.
    """

    count: int = 10

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"a geometric schedule needs at least 1 level; got {self.count}")

    def noisy(self, t: Tensor) -> Tensor:
        """Return the level of each t. Uniform t give uniform levels."""
        if self.count == 1:
            return torch.ones_like(t)
        return ((t * self.count).floor().clamp(0, self.count - 1) / (self.count - 1)).clamp(self.t_min, 1)
