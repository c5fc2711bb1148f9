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
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.errors import UsageError

Spacing = Literal["trailing", "linear", "logsnr", "karras"]
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

    t_min = 1e-3  # the last time that a grid visits before 0
    u_range = U_RANGE  # the least and the largest sigma/alpha that it visits

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


@dataclass(frozen=True)
class SubVP(VP):
    """sub-VP: alpha as VP's, sigma = 1 - alpha^2, always below VP's noise (Song et al. 2021, eq. 29)."""

    def sigma(self, t: Tensor) -> Tensor:
        return super().sigma2(t)

    def sigma2(self, t: Tensor) -> Tensor:
        return self.sigma(t) ** 2


@dataclass(frozen=True)
class Cosine(Schedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Nichol & Dhariwal 2021 without its offset); no signal is left at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * (1 - t))  # the cosine, exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)


@dataclass(frozen=True)
class Linear(Schedule):
    """The straight line of flow matching, alpha = 1 - t, sigma = t (Lipman et al. 2023; Liu et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t for t > 0 and sigma(0) = 0
    (Song et al. 2021, eq. 31 and appendix C). In units of data with standard deviation 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    t_min = 1e-9  # sigma jumps from sigma_min to 0 at t = 0
    u_range = (0.0, math.inf)  # its ends are its own

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        ladder = math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min)
        return torch.where(t > 0, ladder.exp(), torch.zeros_like(t))


@dataclass(frozen=True)
class Ladder(VE):
    """VE on a geometric ladder of `rungs` levels from sigma_max to sigma_min, the only ones that are trained on (Song & Ermon
    2019, section 4.1). `grid(ladder, ladder.rungs, "logsnr")` visits each.
    """

    rungs: int = 10

    def noisy(self, t: Tensor) -> Tensor:
        """Even t give even rungs."""
        return ((t * self.rungs).floor().clamp(0, self.rungs - 1) / (self.rungs - 1)).clamp(self.t_min, 1)


class Chain(Schedule):
    """The discrete Markov chain of DDPM (Ho et al. 2020, arXiv:2006.11239), steps i = 1..T at times t = i/T.

        q(x_i | x_{i-1}) = N(sqrt(alpha_i) x_{i-1}, (1 - alpha_i) I),    alpha_i = 1 - beta_i            (eq. 2)
        q(x_i | x_0)     = N(sqrt(abar_i) x_0, (1 - abar_i) I),          abar_i = alpha_1 ... alpha_i    (eq. 4)

    The paper's `alpha_i` and `abar_i` are the attributes `alphas` and `alphas_bar`; the schedule's signal scale is
    alpha(i/T) = sqrt(abar_i). Between steps log abar is interpolated linearly: the process with piecewise constant beta.

    betas: `(T,)` variances, each in (0, 1). Raises ValueError otherwise.
    """

    def __init__(self, betas: Tensor):
        betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        if betas.ndim != 1 or not len(betas) or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"betas must be a vector of numbers in (0, 1); got shape {tuple(betas.shape)}")
        self.betas = betas
        self.T = len(betas)
        self.t_min = 1 / self.T

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> Chain:
        """Ho et al. 2020, section 4: beta from 1e-4 to 0.02."""
        return cls(torch.linspace(first, last, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Chain:
        """Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17: abar_i = f(i/T)/f(0), f(t) = cos^2((t + s)/(1 + s) pi/2)."""
        t = torch.linspace(0, 1, T + 1, dtype=torch.float64)
        f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
        return cls((1 - f[1:] / f[:-1]).clamp(max=beta_max))

    @classmethod
    def constant(cls, T: int, alpha: float) -> Chain:
        """The same alpha at every step, so that abar_i = alpha^i."""
        return cls(torch.full((T,), 1 - alpha, dtype=torch.float64))

    @classmethod
    def of(cls, schedule: Schedule, T: int = 1000, least: float = 0.0) -> Chain:
        """A chain of T steps, even in logsnr, through the noise levels of a schedule in continuous time; a chain is itself.

        abar_i = 1/(1 + u_i^2): networks that see z and logsnr alone (`ancestral.denoiser`) cannot tell the two apart.
        least: the first level's u = sigma/alpha, if above the schedule's first.
        """
        if isinstance(schedule, Chain):
            return schedule
        first, last = schedule.levels(torch.tensor([schedule.t_min, 1.0], dtype=torch.float64))
        low, high = schedule.u_range
        low, high = max(first.u, least, low), min(last.u, high)
        log_u = torch.linspace(math.log(high), math.log(low), T, dtype=torch.float64).flip(0)
        log_abar = -F.softplus(2 * log_u)
        return cls(-torch.expm1(log_abar.diff(prepend=torch.zeros(1, dtype=torch.float64))))

    @property
    def alphas(self) -> Tensor:
        return 1 - self.betas

    @cached_property
    def _log_alphas_bar(self) -> Tensor:
        """Log abar_i for i = 0..T, `(T + 1,)`."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-self.betas).cumsum(0)])

    @property
    def alphas_bar(self) -> Tensor:
        """abar_i for i = 1..T, `(T,)`."""
        return self._log_alphas_bar[1:].exp()

    def _log_abar(self, t: Tensor) -> Tensor:
        position = t * self.T
        nearest = position.detach().round()
        position = torch.where((position - nearest).abs() < 1e-9, nearest + (position - position.detach()), position)
        i = position.detach().floor().clamp(0, self.T - 1).long()
        start = self._log_alphas_bar[i]
        return start + (position - i) * (self._log_alphas_bar[i + 1] - start)

    def alpha(self, t: Tensor) -> Tensor:
        return (self._log_abar(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma2(t).sqrt()

    def sigma2(self, t: Tensor) -> Tensor:
        return -torch.expm1(self._log_abar(t))

    def level(self, i: int) -> Level:
        """The noise level after i steps, 0 <= i <= T."""
        return self.levels(torch.tensor([i / self.T], dtype=torch.float64))[0]

    def step(self, x: Tensor, i: int, eps: Tensor) -> Tensor:
        """One forward step, a draw from q(x_i | x_{i-1}) with the noise eps: sqrt(alpha_i) x + sqrt(beta_i) eps."""
        beta = self.betas[i - 1].item()
        return math.sqrt(1 - beta) * x + math.sqrt(beta) * eps

    def posterior(self, x: Tensor, x_t: Tensor, i: int) -> tuple[Tensor, float]:
        """q(x_{i-1} | x_i, x_0) as (mean, variance): mu~_i and beta~_i of eq. 7."""
        return posterior(x, x_t, self.level(i), self.level(i - 1))

    def noisy(self, t: Tensor) -> Tensor:
        """The chain's step that t in (i-1)/T .. i/T ends in: i/T. Uniform t give uniform steps."""
        return (t * self.T).ceil().clamp(1, self.T) / self.T


def grid(schedule: Schedule, steps: int, spacing: Spacing = "trailing", *, rho: float = 7.0) -> Tensor:
    """The times that a sampler visits: `(steps + 1,)` float64, from 1 down to 0.

    trailing: evenly from 1 to 0 (Lin et al. 2023, arXiv:2305.08891).
    linear:   evenly from 1 to the schedule's first noisy time, then 0.
    logsnr:   even steps of logsnr between the same ends, then 0 (Lu et al. 2022, arXiv:2206.00927).
    karras:   even steps of (sigma/alpha)^(1/rho), then 0 (Karras et al. 2022, eq. 5).
    On a `Chain` times are rounded to its steps, and those that coincide are visited once.

    Raises UsageError for steps < 1 or an unknown spacing.
    """
    if steps < 1:
        raise UsageError(f"a sampler needs at least 1 step; got {steps}")
    fraction = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "trailing":
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
    elif spacing == "linear":
        times = 1 + fraction * (schedule.t_min - 1)
    elif spacing in ("logsnr", "karras"):
        ends = schedule.at(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
        high, low = (ends.sigma / ends.alpha).clamp(*schedule.u_range)
        if spacing == "logsnr":
            log_u = high.log() + fraction * (low.log() - high.log())
        else:
            log_u = rho * (high ** (1 / rho) + fraction * (low ** (1 / rho) - high ** (1 / rho))).log()
        times = schedule.time(-2 * log_u)
        times[0] = 1.0  # the prior, where the schedule's end lies beyond the range
    else:
        raise UsageError(f"unknown spacing {spacing!r}: choose trailing, linear, logsnr or karras")
    if isinstance(schedule, Chain):
        times = torch.unique((times * schedule.T).round().clamp(min=1)).flip(0) / schedule.T
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])
