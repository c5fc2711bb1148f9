"""Likelihoods p(x | z): distributions of x that depend on a decoder's output, in nats and in the units of the data.

A `Likelihood` turns the output h of a network into an `Observation`. No constant is dropped: each density integrates to one,
and each probability of levels sums to one, so values of different models can be compared if both are of the same kind.
Shapes: h `(n, outputs * c, *space)` -> densities `(n,)` of x `(n, c, *space)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from ancestral.configuration import configurable, optional_in_state
from ancestral.errors import UsageError
from ancestral.gaussian import Gaussian
from ancestral.noise import Noise
from ancestral.units import dtype_of

Variance = Literal["optimal", "learned", "fixed"]


class Observation(Protocol):
    """The interface of p(x | z) for n latents."""

    @property
    def mean(self) -> Tensor:
        """The mean E[x | z] `(n, *shape)`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x | z) `(n,)`."""

    def draw(self, noise: Noise) -> Tensor:
        """Draw x ~ p(x | z)."""


@dataclass(frozen=True)
class Normal:
    """The normal distribution N(mean, var), with one var for all dimensions or one for each."""

    mean: Tensor
    var: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        return Gaussian(self.mean, self.var).log_prob(x)

    def draw(self, noise: Noise) -> Tensor:
        return Gaussian(self.mean, self.var).draw(noise.normal(self.mean.shape[1:]))


@dataclass(frozen=True)
class Bernoulli:
    """The Bernoulli distribution: x in {0, 1} with P(x = 1) = sigmoid(logits).

    For x between 0 and 1, `log_prob` is a negative cross-entropy and not a likelihood.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        return (x * self.logits - softplus(self.logits)).flatten(1).sum(1)

    def draw(self, noise: Noise) -> Tensor:
        return (noise.uniform(self.logits.shape[1:]) < self.mean).float()


@dataclass(frozen=True)
class ContinuousBernoulli:
    """The continuous Bernoulli distribution: density e^(l x) l/(e^l - 1) on [0, 1], where l is the logit.

    Source: Loaiza-Ganem & Cunningham 2019 (arXiv:1907.06845), eq. 2-5.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean 1/(1 - e^-l) - 1/l, or 1/2 + l/12 near l = 0."""
        near = self.logits.abs() < 1e-2
        safe = torch.where(near, 1.0, self.logits)
        return torch.where(near, 0.5 + self.logits / 12, -1 / torch.expm1(-safe) - 1 / safe)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return l x - l/2 - log(sinh(u)/u), u = |l|/2, in which the last term is the even part of log((e^l - 1)/l)."""
        u = self.logits.abs() / 2
        safe = u.clamp(min=1e-2)
        normaliser = torch.where(u < 1e-2, u**2 / 6, safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe)))
        return (self.logits * (x - 0.5) - normaliser).flatten(1).sum(1)

    def draw(self, noise: Noise) -> Tensor:
        """Draw x by the inverse of the distribution function, e^(l x) = 1 - u + u e^l, in a form that does not overflow."""
        u, size = noise.uniform(self.logits.shape[1:]), self.logits.abs()
        safe = size.clamp(min=1e-3)
        x = 1 + torch.log(u + (1 - u) * torch.exp(-safe)) / safe  # for l > 0; the mirror image for l < 0
        return torch.where(size < 1e-3, u, torch.where(self.logits > 0, x, 1 - x)).clamp(0, 1)


@dataclass(frozen=True)
class LogisticMixture:
    """A discretised mixture of logistics (Salimans et al. 2017, arXiv:1701.05517, eq. 2).

    The probability of a level 0, 1/(L-1), ..., 1 is the mass of the mixture in its bin. The outer bins are open.

    Args:
        weights: log w_k, `(n, c, k, *space)`.
        means: of the parts, of the same shape.
        log_scales: of the parts, of the same shape.
        levels: L.
    """

    weights: Tensor
    means: Tensor
    log_scales: Tensor
    levels: int

    @property
    def mean(self) -> Tensor:
        """Return the mean of the mixture without bins, with each part clipped to the range."""
        return (self.weights.exp() * self.means.clamp(0, 1)).sum(2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability `(n,)` of levels x.

        With a, b the bin's edges in units of the scale, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b-a)).
        """
        half = 0.5 / (self.levels - 1)
        x = x.unsqueeze(2)
        a, b = ((x + side - self.means) * torch.exp(-self.log_scales) for side in (half, -half))
        lower, upper = logsigmoid(a), logsigmoid(-b)
        within = lower + upper + torch.log(-torch.expm1(-2 * half * torch.exp(-self.log_scales)))
        inside = torch.where(x < half, lower, torch.where(x > 1 - half, upper, within))
        return torch.logsumexp(self.weights + inside, 2).flatten(1).sum(1)

    def draw(self, noise: Noise) -> Tensor:
        u = noise.uniform((*self.means.shape[1:2], *self.means.shape[3:])).unsqueeze(2)
        k = (self.weights.exp().cumsum(2) < u).sum(2, keepdim=True).clamp(max=self.means.shape[2] - 1)
        mean, scale = self.means.gather(2, k).squeeze(2), self.log_scales.gather(2, k).squeeze(2).exp()
        v = noise.uniform(mean.shape[1:]).clamp(1e-6, 1 - 1e-6)
        return ((mean + scale * v.logit()) * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)


class Likelihood(nn.Module):
    """The base class of maps from a decoder's output to p(x | z).

    `outputs` is the number of network outputs per number of x. `discrete` is True for a probability of levels, and False for a
    density.
    """

    outputs = 1
    discrete = False

    def forward(self, h: Tensor, batch_error: Tensor | None = None) -> Observation:
        """Return p(x | z) for h, float32.

        `batch_error` is the mean of `error` over the training batch, for likelihoods that use it.
        """
        raise NotImplementedError

    def error(self, h: Tensor, x: Tensor) -> Tensor | None:
        """Return the error of each sample `(n,)`, whose mean over a training batch is `batch_error`; None: not used."""
        return None

    def after_step(self, batch_error: Tensor) -> None:
        """Update running averages with the mean of `error` over the last training batch."""


@configurable
class GaussianLikelihood(Likelihood):
    """The Gaussian likelihood N(m + s h, v s^2), where m, s are mean and deviation of each channel, and v is one number.

    A variance that falls with the error lets a decoder become sharp (Dai & Wipf 2019, arXiv:1903.05789).

    Args:
        mean, std: m and s, `(c, 1, ..., 1)`.
        variance: "fixed" is v = `value`; "learned" is v by gradient. "optimal" is v* = E |x - m - s h|^2/(s^2 D) over the batch
            (`error`), which maximises the likelihood, with the reconstruction term D/2 [log(2 pi v*) + 1] (Rybkin et al. 2021,
            arXiv:2006.13202, eq. 5). Without a batch, the moving average of v*, or the result of `fit_after`, is used.
        value: v at the start.
    """

    value: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, std: Tensor, variance: Variance = "optimal", value: float = 1.0):
        super().__init__()
        self.variance = variance
        self.register_buffer("shift", mean)
        self.register_buffer("scale", std)
        optional_in_state(self, "shift", "scale")
        log_value = torch.tensor(math.log(value))
        if variance == "learned":
            self.log_value = nn.Parameter(log_value)
        else:
            self.register_buffer("value", log_value.exp())

    def forward(self, h: Tensor, batch_error: Tensor | None = None) -> Normal:
        mean = self.shift + self.scale * h
        if self.variance == "learned":
            v = self.log_value.exp()
        else:
            v = self.value if batch_error is None else batch_error.clamp(min=1e-8)
        return Normal(mean, v * self.scale**2)

    def error(self, h: Tensor, x: Tensor) -> Tensor | None:
        """Return |x - m - s h|^2/(s^2 D) `(n,)` if the variance is "optimal".

        The derivative of the loss with respect to v is 0 at v*, so v can be used without gradient.
        """
        if self.variance != "optimal":
            return None
        return (((x - self.shift) / self.scale).to(h.dtype) - h).square().flatten(1).mean(1)

    @torch.no_grad()
    def after_step(self, batch_error: Tensor) -> None:
        v = batch_error.clamp(min=1e-8)
        self.value.lerp_(torch.where(v.isfinite(), v, self.value), 0.05)


@configurable
class BernoulliLikelihood(Likelihood):
    """The likelihood Bernoulli(sigmoid(h))."""

    discrete = True

    def forward(self, h: Tensor, batch_error: Tensor | None = None) -> Bernoulli:
        return Bernoulli(h)


@configurable
class ContinuousBernoulliLikelihood(Likelihood):
    """The continuous Bernoulli likelihood with logit h."""

    def forward(self, h: Tensor, batch_error: Tensor | None = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(h)


@configurable
class LogisticLikelihood(Likelihood):
    """The likelihood of a discretised mixture of `parts` logistics for each number of x.

    Args:
        mean, std: of each channel, `(c, 1, ..., 1)`.
        levels: the number of levels of the data.
        parts: the number of logistics.

    Raises:
        UsageError: for fewer than 2 levels.
    """

    discrete = True
    shift: Tensor
    scale: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, std: Tensor, levels: int, parts: int = 5):
        super().__init__()
        if levels < 2:
            raise UsageError(f"the likelihood logistic is of data with at least 2 levels; got levels={levels}")
        self.outputs = 3 * parts
        self.levels = levels
        self.register_buffer("shift", mean.unsqueeze(1))
        self.register_buffer("scale", std.unsqueeze(1))
        optional_in_state(self, "shift", "scale")
        self.register_buffer("spread", torch.linspace(-1, 1, parts).view(-1, *[1] * (mean.ndim - 1)), persistent=False)

    def forward(self, h: Tensor, batch_error: Tensor | None = None) -> LogisticMixture:
        n, c = h.shape[0], self.shift.shape[0]
        weights, means, scales = h.view(n, c, 3, -1, *h.shape[2:]).unbind(2)
        log_scales = (scales - 1).clamp(min=-7.0) + self.scale.log()
        return LogisticMixture(weights.log_softmax(2), self.shift + self.scale * (means + self.spread), log_scales, self.levels)


LikelihoodName = Literal["gaussian", "gaussian-learned", "gaussian-fixed", "bernoulli", "continuous-bernoulli", "logistic"]


def likelihood(
    name: LikelihoodName, mean: Sequence[float], std: Sequence[float], dims: int, levels: int | None, value: float = 1.0
) -> Likelihood:
    """Return the likelihood `name` for data with these means and deviations of channels, and `dims` axes of space."""
    shift, scale = (torch.tensor(v, dtype=torch.float64).view(-1, *[1] * dims) for v in (mean, std))
    shift, scale = (v.to(dtype_of(shift, scale)) for v in (shift, scale))
    if name == "bernoulli":
        return BernoulliLikelihood()
    if name == "continuous-bernoulli":
        return ContinuousBernoulliLikelihood()
    if name == "logistic":
        return LogisticLikelihood(shift, scale, levels or 256)
    variances: dict[str, Variance] = {"gaussian": "optimal", "gaussian-learned": "learned", "gaussian-fixed": "fixed"}
    return GaussianLikelihood(shift, scale, variances[name], value)
