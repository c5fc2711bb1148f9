"""The aggregate prior: a density p(z) that is where the data are (Dai & Wipf 2019, arXiv:1903.05789).

A VAE's aggregate posterior q(z) = E_x q(z | x) is seldom N(0, I), and latents in regions where the two differ give bad samples.
A mixture of Gaussians fitted to q(z) closes most of the gap at almost no cost. Beyond `AXES` dimensions it is on the principal
axes B, with one variance s^2 for all other directions:

    z = m + A c + B a + s (I - B B^T) eps,      a ~ sum_k w_k N(mean_k, L_k L_k^T)

with c the context of the decoder as numbers, and A a regression. The distribution of latents depends on the decoder's context,
so there is one mixture for samples without a condition, and one about A c for samples with a condition.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ancestral.conditioning import Context
from ancestral.noise import Noise

AXES = 64
ENOUGH = 4096  # draws for the fit; more take longer and change little
RIDGE = 1e-2  # ridge relative to the mean variance of c, so that A is not large if there are few draws


class Mixture(nn.Module):
    """A density of z `(n, d)`, which is stored in buffers and is N(0, I) before the fit.

    Args:
        latent: d.
        parts: the largest number of Gaussians.
        context_dims: the number of columns of c `(n, context_dims)`, on which the density depends.
    """

    slope: Tensor
    centre: Tensor
    axes: Tensor
    rest: Tensor
    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, latent: int, parts: int = 16, context_dims: int = 0):
        super().__init__()
        self.latent, self.r, self.parts = latent, min(latent, AXES), parts
        if context_dims:
            self.register_buffer("slope", torch.zeros(context_dims, latent))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("axes", torch.eye(latent, self.r))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("weights", torch.eye(parts)[0])
        self.register_buffer("means", torch.zeros(parts, self.r))
        self.register_buffer("factors", torch.eye(self.r).repeat(parts, 1, 1))

    def draw(self, noise: Noise, c: Tensor | None = None) -> Tensor:
        """Draw z `(n, d)`."""
        u = noise.uniform().to(self.weights.device)
        k = (self.weights.cumsum(0) < u[:, None]).sum(1).clamp(max=self.parts - 1)
        eps = noise.normal((self.latent,))
        with torch.autocast(eps.device.type, enabled=False):
            a: Tensor = self.means[k] + (self.factors[k] @ (eps @ self.axes)[..., None])[..., 0]
            z: Tensor = self.centre + a @ self.axes.T
            z = z if c is None else z + c.float() @ self.slope
            return z if self.r == self.latent else z + self.rest * (eps - eps @ self.axes @ self.axes.T)

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the log density `(n,)`."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float() - self.centre
            z = z if c is None else z - c.float() @ self.slope
            a = z @ self.axes
            u = torch.linalg.solve_triangular(self.factors, (a[:, None] - self.means).permute(1, 2, 0), upper=False)
            log_det = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
            part = self.weights.log() - log_det - 0.5 * u.square().sum(1).T
            density: Tensor = part.logsumexp(1) - 0.5 * self.latent * math.log(2 * math.pi)
            if self.r == self.latent:
                return density
            beyond = (z.square().sum(1) - a.square().sum(1)).clamp(min=0) / self.rest**2
            return density - 0.5 * beyond - (self.latent - self.r) * self.rest.log()

    @torch.no_grad()
    def fit(self, z: Tensor, c: Tensor | None = None) -> None:
        """Fit to draws z `(n, d)` of the aggregate posterior. The number of parts is the best on a held-out fifth."""
        from sklearn.mixture import GaussianMixture

        if len(z) < 10 or not z.isfinite().all():
            return
        some = slice(None, None, max(1, len(z) // ENOUGH))
        z = z[some][:ENOUGH].cpu().double()
        if c is not None:
            c = c[some][:ENOUGH].cpu().double()
            slope = regression(c, z)
            self.slope.copy_(slope)
            z = z - c @ slope
        self.centre.copy_(z.mean(0))
        z = z - z.mean(0)
        _, _, V = torch.linalg.svd(z, full_matrices=False)
        basis = torch.cat([V[: self.r].T, torch.eye(self.latent, self.r, dtype=z.dtype)], 1)
        axes = torch.linalg.qr(basis).Q[:, : self.r]  # orthonormal even if there are fewer draws than axes
        self.axes.copy_(axes)
        a = (z @ axes).numpy()
        beyond = (z.square().sum() - (z @ axes).square().sum()) / len(z) / max(1, self.latent - self.r)
        self.rest.copy_(beyond.clamp(min=1e-6).sqrt())
        held, fitted = a[::5], a[[i for i in range(len(a)) if i % 5]]

        def candidate(parts: int) -> GaussianMixture:
            return GaussianMixture(parts, reg_covar=1e-4, max_iter=25, random_state=0)

        numbers = [k for k in (1, self.parts // 4, self.parts) if k == 1 or 1 < k <= len(fitted) // (2 * self.r)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EM may stop at its limit of iterations
            best = max(numbers, key=lambda k: candidate(k).fit(fitted).score(held))
            found = candidate(best).fit(a)
        self.weights.zero_()[:best].copy_(torch.from_numpy(found.weights_))
        self.means[:best].copy_(torch.from_numpy(found.means_))
        self.factors[:best].copy_(torch.linalg.cholesky(torch.from_numpy(found.covariances_)))


def regression(c: Tensor, z: Tensor) -> Tensor:
    """Return A `(context_dims, d)` of z = A c + const by ridge regression, or 0 if it does not help on a held-out fifth."""

    def least(c: Tensor, z: Tensor) -> Tensor:
        c, z = c - c.mean(0), z - z.mean(0)
        spread = c.T @ c
        ridge = RIDGE * spread.diagonal().mean() + 1e-12
        slope: Tensor = torch.linalg.solve(spread + ridge * torch.eye(len(spread), dtype=c.dtype), c.T @ z)
        return slope

    held = torch.arange(len(z)) % 5 == 0
    draft = least(c[~held], z[~held])
    residual = z[held] - c[held] @ draft
    better = residual.var(0, unbiased=False).sum() < z[held].var(0, unbiased=False).sum()
    return least(c, z) if better else torch.zeros_like(draft)


def aggregate(
    free: Mixture,
    given: Mixture | None,
    context: Context | None,
    null: Context,
    evaluate: Callable[[Mixture, Tensor | None], Tensor],
) -> Tensor:
    """Return `evaluate(mixture, c)` for n samples. The mixture is `given` for samples whose context is not the null."""
    without = evaluate(free, None)
    if given is None or context is None:
        return without
    pairs = ((context.vector, null.vector), (context.channels, null.channels))
    differs = [a.ne(b).flatten(1).any(1) for a, b in pairs if a is not None and b is not None]
    conditional = torch.stack(differs).any(0).view(-1, *[1] * (without.ndim - 1))
    return torch.where(conditional, evaluate(given, numbers(context)), without)


def numbers(context: Context) -> Tensor:
    """Return the context as numbers c `(n, context_dims)`: its vector, and the means of its channels."""
    parts = [context.vector, None if context.channels is None else context.channels.mean((2, 3))]
    return torch.cat([part.float() for part in parts if part is not None], 1)
