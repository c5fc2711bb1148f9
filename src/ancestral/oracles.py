"""Data whose score is known: Gaussians, Gaussian mixtures, and finite sets of points.

If x ~ sum_k w_k N(mu_k, S_k) and x_t = alpha x + sigma eps, then x_t is again a mixture, with components
N(alpha mu_k, C_k), C_k = alpha^2 S_k + sigma^2 I, and responsibilities gamma_k(x_t), so that

    score(x_t)  = sum_k gamma_k C_k^-1 (alpha mu_k - x_t)
    E[x | x_t]  = (x_t + sigma^2 score) / alpha                                   (Tweedie; Robbins 1956)
                = sum_k gamma_k [mu_k + alpha S_k C_k^-1 (x_t - alpha mu_k)]       which also holds at alpha = 0

An oracle is a perfect denoiser, with which every solver, loss and likelihood can be compared. The call `oracle(x_t, level)`
returns a `Prediction`, as that of a trained network does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ancestral.noise import Noise
from ancestral.prediction import Prediction
from ancestral.schedules import Level, Levels


class MixtureOracle:
    """The denoiser of a Gaussian mixture, which is exact at every noise level.

    Samples `(n, *shape)` are flattened to D = prod(shape), and results have their shape.

    Args:
        weights: `(K,)`; they are normalised.
        means: `(K, D)`.
        variances: `(K,)` isotropic, `(K, D)` diagonal, or `(K, D, D)` full covariances.
    """

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor):
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.weights = self.weights / self.weights.sum()
        self.means = torch.as_tensor(means, dtype=torch.float64)
        variances = torch.as_tensor(variances, dtype=torch.float64)
        self.basis: Tensor | None = None  # (K, D, D), columns are the eigenvectors of the covariances
        if variances.ndim == 3:
            variances, self.basis = torch.linalg.eigh(variances)
        if variances.ndim == 1:
            variances = variances[:, None]
        self.variances = variances.expand(self.means.shape)

    def _terms(self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return centred samples in each component's eigenbasis, their variances, S_k in that basis, and log w_k N_k."""
        means, variances, weights = (v.to(x_t) for v in (self.means, self.variances, self.weights))
        centred = x_t.flatten(1)[:, None, :] - alpha * means  # (n, K, D)
        if self.basis is not None:
            centred = torch.einsum("nkd,kde->nke", centred, self.basis.to(x_t))
        total = alpha**2 * variances + sigma**2
        log_n = -0.5 * (centred**2 / total + total.log() + math.log(2 * math.pi)).sum(-1)
        return centred, total, variances, weights.log() + log_n

    def _rotate_back(self, vectors: Tensor) -> Tensor:
        return vectors if self.basis is None else torch.einsum("nke,kde->nkd", vectors, self.basis.to(vectors))

    def log_density(self, x_t: Tensor, level: Level) -> Tensor:
        """Return log p(x_t) `(n,)` in nats."""
        return self._terms(x_t, level.alpha, level.sigma)[-1].logsumexp(-1)

    def score(self, x_t: Tensor, level: Level) -> Tensor:
        """Return grad log p(x_t), shaped as x_t."""
        centred, total, _, log_joint = self._terms(x_t, level.alpha, level.sigma)
        by_component = self._rotate_back(-centred / total)
        return (log_joint.softmax(-1)[..., None] * by_component).sum(1).view_as(x_t)

    def __call__(self, x_t: Tensor, level: Level | Levels) -> Prediction:
        """Return the prediction with the posterior mean E[x | x_t], at one level for all samples or at one for each."""
        alpha, sigma = _each(level.alpha, x_t, 3), _each(level.sigma, x_t, 3)
        centred, total, variances, log_joint = self._terms(x_t, alpha, sigma)
        by_component = self.means.to(x_t) + self._rotate_back(alpha * variances / total * centred)
        x = (log_joint.softmax(-1)[..., None] * by_component).sum(1).view_as(x_t)
        return Prediction(x, x_t, _each(level.alpha, x_t, x_t.ndim), _each(level.sigma, x_t, x_t.ndim))

    def error(self, level: Level) -> float:
        """Return E|x - E[x | x_t]|^2 / D in closed form. For several components it is their average, a lower bound."""
        var = self.variances / (1 + self.variances * math.exp(level.logsnr))
        return float((self.weights @ var).mean())

    def sample(self, noise: Noise) -> Tensor:
        """Draw clean samples `(n, D)`, float32."""
        d = self.means.shape[1]
        k = torch.searchsorted(self.weights.cumsum(0), noise.uniform().cpu().double()).clamp(max=len(self.weights) - 1)
        x = self.variances[k].sqrt() * noise.normal((d,)).cpu().double()
        if self.basis is not None:
            x = torch.einsum("ne,nde->nd", x, self.basis[k])
        return (self.means[k] + x).float()


def _each(value: float | Tensor, like: Tensor, ndim: int) -> float | Tensor:
    return value.to(like).view(-1, *[1] * (ndim - 1)) if isinstance(value, Tensor) else value


class GaussianOracle(MixtureOracle):
    """The denoiser of x ~ N(mean, std^2), whose probability flow is known in closed form. mean, std: numbers or `(D,)`."""

    def __init__(self, mean: float | Tensor = 0.0, std: float | Tensor = 1.0):
        m, s = (torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in (mean, std))
        m, s = torch.broadcast_tensors(m, s)
        super().__init__(torch.ones(1), m[None], s[None] ** 2)

    def flow(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """Return the end at level s of the probability flow from x_t at level t. The standardised position is constant:

        (x_s - alpha_s m) / std_s = (x_t - alpha_t m) / std_t,    std_t^2 = alpha_t^2 s^2 + sigma_t^2.
        """
        mean, var = self.means.to(x_t)[0], self.variances.to(x_t)[0]
        std_t, std_s = ((level.alpha**2 * var + level.sigma**2).sqrt() for level in (t, s))
        return (s.alpha * mean + std_s / std_t * (x_t.flatten(1) - t.alpha * mean)).view_as(x_t)


_EXACT = "donot_use_mm_for_euclid_dist"  # |a|^2 + |b|^2 - 2ab cancels, and is divided by sigma^2


class PointsOracle:
    """The exact denoiser of a finite data set: E[x | x_t] = sum_i softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)) x_i.

    A sampler with this denoiser returns training points. points: `(N, *shape)`.
    """

    def __init__(self, points: Tensor):
        self.points = points.flatten(1)

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        points = self.points.to(x_t)
        distance2 = torch.cdist(x_t.flatten(1), level.alpha * points, compute_mode=_EXACT) ** 2
        x = (-distance2 / (2 * level.sigma**2)).softmax(1) @ points
        return Prediction(x.view_as(x_t), x_t, level.alpha, level.sigma)
