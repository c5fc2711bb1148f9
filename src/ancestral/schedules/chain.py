"""The forward process in discrete steps."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.configuration import configurable
from ancestral.schedules.base import Level, Schedule, posterior


@configurable
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
