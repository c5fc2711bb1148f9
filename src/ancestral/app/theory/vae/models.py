"""Models for claims about the VAE: one whose decoder is a network, and linear Gaussian ones with closed forms.

The first has one latent, so integrals over it are sums on a grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ancestral.app.theory.claims import draws, seeded
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.distributions import GaussianLikelihood
from ancestral.gaussian import Gaussian
from ancestral.models.codec import Amortised, Diagonal
from ancestral.models.vae import VAE
from ancestral.networks.autoencoder import DenseDecoder, DenseEncoder

N = 200_000
FEW = 20_000  # draws for each of many points


Z = torch.linspace(-12, 12, 6001)


LAM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25])  # eigenvalues of the data's covariance


class Posterior(nn.Module):
    """A Gaussian posterior that is linear in x, h = (A x, log-variance)."""

    def __init__(self, slope: Tensor, var: Tensor, shift: float = 0.0):
        super().__init__()
        self.slope = nn.Parameter(slope)
        self.shift = nn.Parameter(torch.full((len(slope),), shift))
        self.log_var = nn.Parameter(12 * torch.atanh(var.log() / 12))  # the inverse of the codec's bounded log-variance

    def forward(self, y: Tensor, context: Context) -> Tensor:
        return torch.cat([y @ self.slope.T + self.shift, self.log_var.expand(len(y), -1)], 1)


class Loadings(nn.Module):
    """The linear decoder W z."""

    def __init__(self, W: Tensor):
        super().__init__()
        self.W = nn.Parameter(W)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        return z @ self.W.T


class Cross:
    """Noise with the values +-sqrt(d) for each latent, for which means of quadratic functions are exact."""

    def __init__(self, n: int, latent: int):
        self.n = n
        self.points = math.sqrt(latent) * torch.cat([torch.eye(latent), -torch.eye(latent)])

    def normal(self, shape: object) -> Tensor:
        return self.points.repeat(self.n // len(self.points), 1)


def network(s2: float = 0.3) -> VAE:
    """Make a VAE of two dimensions and one latent with a fixed variance. Encoder and decoder are random networks."""
    encoder, decoder = seeded(lambda: (DenseEncoder((2,), 2, 16, 1), DenseDecoder((2,), 1, 1, 16, 1)))
    return _vae(2, encoder, decoder, Diagonal(1), s2)


def linear(w: float = 1.5, s2: float = 0.5, shift: float = 0.0, inflate: float = 1.0) -> VAE:
    """Make a VAE with p(x | z) = N(w z, s2), so that p(x) = N(0, w^2 + s2) and p(z | x) is N(w x, s2) divided by w^2 + s2.

    q(z | x) is p(z | x) with `inflate` times its variance, shifted by `shift` of its standard deviations.
    """
    var = s2 / (w * w + s2)
    encoder = Posterior(torch.tensor([[w / (w * w + s2)]]), torch.tensor([inflate * var]), shift * math.sqrt(var))
    return _vae(1, encoder, Loadings(torch.tensor([[w]])), Diagonal(1), s2)


def pca(s2: float, latent: int = 2, *, beta: float = 1.0) -> VAE:
    """Make probabilistic PCA at its optimum for data N(0, diag(LAM)) and noise s2 (Tipping & Bishop 1999, eq. 7)."""
    gain = (LAM[:latent] - s2).clamp(min=0)
    W = torch.diag(LAM)[:, :latent] / LAM[:latent] * gain.sqrt()
    slope = W.T / (gain + s2)[:, None]
    return _vae(len(LAM), Posterior(slope, s2 / (gain + s2)), Loadings(W), Diagonal(latent), s2, beta)


def _vae(d: int, encoder: nn.Module, decoder: nn.Module, posterior: Diagonal, s2: float, beta: float = 1.0) -> VAE:
    head = GaussianLikelihood(torch.zeros(d), torch.ones(d), "fixed", s2)
    return VAE(Amortised(encoder, posterior, decoder), shape=(d,), likelihood=head, beta=beta)


def ones(model: VAE, x: Tensor, n: int = FEW) -> dict[str, Tensor]:
    """Return the terms of the loss `(n,)` for n draws of q(z | x) of one x `(1, d)`."""
    with torch.no_grad():
        return model.losses(Batch(x.expand(n, -1)), "model", draws(n))


def posterior_of(model: VAE, x: Tensor) -> Gaussian:
    """Return q(z | x)."""
    q = model.coder(model.coder.features(x, Context()), Context(), None)[0].q
    assert q is not None
    return Gaussian(q.mean.detach().double(), q.var.detach().double())


def crossed(latent: int) -> Tensor:
    """Return data with covariance diag(LAM), in which each point occurs once for each latent of `Cross`."""
    d = len(LAM)
    x = math.sqrt(d) * torch.cat([torch.diag(LAM.sqrt()), -torch.diag(LAM.sqrt())])
    return x.repeat_interleave(2 * latent, 0)
