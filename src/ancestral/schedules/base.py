"""The forward process: how much signal and how much noise a sample holds at time t.

Every diffusion, score and flow model of this package corrupts data by

    x_t = alpha(t) x + sigma(t) eps,      eps ~ N(0, I),      t in [0, 1],

so a schedule is two functions. What else one needs follows from them (Kingma et al. 2021, arXiv:2107.00630):

    snr = alpha^2 / sigma^2,   logsnr = log snr                      strictly decreasing in t
    dx = f(t) x dt + g(t) dw,  f = d log(alpha)/dt,  g^2 = d(sigma^2)/dt - 2 f sigma^2

    x_t | x_s    ~ N(a x_s, var),   a = alpha_t / alpha_s,   var = sigma_t^2 - a^2 sigma_s^2           (s < t)
    x_s | x_t, x ~ N(a (sigma_s/sigma_t)^2 x_t + alpha_s (var/sigma_t^2) x,  var (sigma_s/sigma_t)^2)

Coefficients are float64 on the CPU; whoever uses them casts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

U_RANGE = (0.002, 80.0)  # sigma/alpha of grids and chains: a schedule that ends in pure noise has no end


@dataclass(frozen=True)
class Level:
    """One noise level of x_t = alpha x + sigma eps, as a step of a sampler knows it; a training batch has `Levels`."""

    t: float
    alpha: float
    sigma: float

    @property
    def u(self) -> float:
        """Noise relative to signal, sigma / alpha; infinite where no signal is left."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @property
    def logsnr(self) -> float:
        """log(alpha^2 / sigma^2), +-infinity at the ends."""
        return -2 * math.log(self.u) if 0 < self.u < math.inf else math.copysign(math.inf, 1 - self.u)


@dataclass(frozen=True)
class Levels:
    """The noise levels of a training batch: `(n,)` float64 tensors on the CPU."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


CLEAN = Level(0.0, 1.0, 0.0)  # of data


def transition(s: Level, t: Level) -> tuple[float, float]:
    """The forward kernel x_t | x_s ~ N(a x_s, var I) for s earlier (less noisy) than t: returns (a, var)."""
    a = t.alpha / s.alpha
    return a, max(t.sigma**2 - (a * s.sigma) ** 2, 0.0)


def posterior(x: Tensor, x_t: Tensor, t: Level, s: Level) -> tuple[Tensor, float]:
    """The reverse kernel given the clean sample, x_s | x_t, x ~ N(mean, variance I), s < t.

    x, x_t: any equal shape. For a chain with t = s + 1 this is DDPM's q(x_{t-1} | x_t, x_0) with variance beta~_t
    (Ho et al. 2020, eq. 6-7).
    """
    a, var = transition(s, t)
    keep = (s.sigma / t.sigma) ** 2
    return (a * keep) * x_t + (s.alpha * var / t.sigma**2) * x, var * keep


class Schedule:
    """Signal scale alpha(t) and noise scale sigma(t). Subclasses define the two; t is any float64 tensor in [0, 1]."""

    t_min = 1e-3  # the last time before 0 of grids that do not trail
    u_range = U_RANGE  # the least and the largest sigma/alpha that grids in these terms visit, but for their first time

    def alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def sigma2(self, t: Tensor) -> Tensor:
        """sigma^2, which has a derivative also where sigma is 0 and has none."""
        return self.sigma(t) ** 2

    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2/sigma^2): +infinity where sigma = 0, -infinity where alpha = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse of `logsnr`, by bisection on [0, 1] to float64 accuracy; clamped outside the schedule's range."""
        low, high = torch.zeros_like(logsnr), torch.ones_like(logsnr)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.logsnr(middle) < logsnr  # too far: logsnr decreases in t
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d log(alpha)/dt of the stochastic differential equation dx = f x dt + g dw."""
        return _derivative(lambda t: self.alpha(t).log(), t)

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)^2 = d(sigma^2)/dt - 2 f sigma^2."""
        return _derivative(self.sigma2, t) - 2 * self.drift(t) * self.sigma2(t)

    def at(self, t: Tensor) -> Levels:
        """Noise levels of a batch: t `(n,)` -> `Levels` of `(n,)` float64 tensors."""
        t = t.to("cpu", torch.float64)
        return Levels(t, self.alpha(t), self.sigma(t))

    def levels(self, times: Tensor) -> list[Level]:
        """The levels of a grid, as Python floats."""
        at = self.at(times)
        return [Level(*values) for values in zip(at.t.tolist(), at.alpha.tolist(), at.sigma.tolist(), strict=True)]

    def noisy(self, t: Tensor) -> Tensor:
        """The times of the schedule at which there is noise to train on: t within [t_min, 1]."""
        return t.clamp(self.t_min, 1)


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.enable_grad():
        t = t.detach().requires_grad_()
        (slope,) = torch.autograd.grad((function(t) + 0 * t).sum(), t)  # 0 t: a constant has a derivative, too
    return slope
