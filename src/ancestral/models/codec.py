"""Latent codes: encoder and decoder of a variational autoencoder.

The prior of every kind of latent is N(0, I), except for a codebook, whose prior is uniform. A `LatentCodec` infers an
`Encoding` of a sample and decodes its z. The posterior q(z | x) may be a diagonal Gaussian, a Gaussian with full covariance, or
a flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.errors import AncestralError
from ancestral.gaussian import Gaussian
from ancestral.noise import Noise

PosteriorName = Literal["diagonal", "full", "flow"]


@dataclass(frozen=True)
class Encoding:
    """The encoding of n samples.

    Args:
        z: a draw of q(z | x), or its mean if there is no noise, `(n, d)`.
        kl: terms that add up to KL(q || p), `(n, k)`; k = d if each dimension has a term.
        log_ratio: log q(z | x) - log p(z) at z, `(n,)`.
        q: the posterior, if it is a diagonal Gaussian.
        penalty: a term that training adds to -ELBO, `(n,)`.
        codes: for a codebook, the encoder's vectors `(n, positions, width)` and the code of each.
    """

    z: Tensor
    kl: Tensor
    log_ratio: Tensor
    q: Gaussian | None = None
    penalty: Tensor | None = None
    codes: tuple[Tensor, Tensor] | None = None


class LatentCodec(nn.Module):
    """A codec from samples in model units to encodings, and from encodings to the decoder's output.

    `latent` is d, the dimensions of z. `continuous` is whether z has a density.
    """

    latent: int
    continuous = True

    def features(self, y: Tensor, context: Context) -> Any:
        """Return the features of x on which the posterior depends. They are computed once for any number of draws."""
        raise NotImplementedError

    def forward(self, features: Any, context: Context, noise: Noise | None) -> tuple[Encoding, Tensor]:
        """Return an encoding and the decoder's output h at its z. If noise is None, z is the posterior's mean."""
        raise NotImplementedError

    def code(self, features: Any, noise: Noise | None) -> Encoding:
        """Return only the encoding, without a call of the decoder if possible."""
        raise NotImplementedError

    def decode(self, z: Tensor, context: Context) -> Tensor:
        """Return the decoder's output at z."""
        raise NotImplementedError

    def prior(self, noise: Noise) -> Tensor:
        """Draw z ~ p(z) `(n, d)`."""
        return noise.normal((self.latent,))

    def record(self, batch: Batch, code: Encoding, noise: Noise) -> None:
        """Record the sums over a part of a training batch that `after_step` needs."""

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the networks that are only called as a whole."""
        return ()

    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Update the parts that are not learned by gradient, from the recorded sums over a training batch."""

    def diagnose(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return numbers and findings of this codec for a diagnosis."""
        return {}, ()


@configurable
class Amortised(LatentCodec):
    """A codec with one group of latents: an encoder that outputs the parameters of a posterior, and a decoder."""

    def __init__(self, encoder: nn.Module, posterior: Posterior, decoder: nn.Module):
        super().__init__()
        self.encoder, self.posterior, self.decoder = encoder, posterior, decoder
        self.latent = posterior.latent

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.encoder, self.decoder)

    def features(self, y: Tensor, context: Context) -> Tensor:
        return cast(Tensor, self.encoder(y, context)).float()

    def forward(self, features: Tensor, context: Context, noise: Noise | None) -> tuple[Encoding, Tensor]:
        code = self.code(features, noise)
        return code, self.decoder(code.z, context)

    def code(self, features: Tensor, noise: Noise | None) -> Encoding:
        code: Encoding = self.posterior(features, noise)
        return code

    def decode(self, z: Tensor, context: Context) -> Tensor:
        return cast(Tensor, self.decoder(z, context))


class Posterior(nn.Module):
    """The posterior q(z | x). Subclasses define `forward(h, noise)` for the encoder's output h `(n, outputs)`."""

    def __init__(self, latent: int, outputs: int):
        super().__init__()
        self.latent, self.outputs = latent, outputs

    def forward(self, h: Tensor, noise: Noise | None) -> Encoding:
        raise NotImplementedError


@configurable
class Diagonal(Posterior):
    """The posterior N(mean, diag(var)), whose KL has a closed form (Kingma & Welling 2014, appendix B).

    Args:
        latent: numbers at each position of a map. h has the means and log variances of one position after the other.
        positions: the number of positions.
    """

    def __init__(self, latent: int, positions: int = 1):
        super().__init__(positions * latent, 2 * positions * latent)
        self.positions = positions

    def forward(self, h: Tensor, noise: Noise | None) -> Encoding:
        mean, log_var = (part.flatten(1) for part in h.unflatten(1, (self.positions, -1)).chunk(2, -1))
        q = Gaussian(mean, bounded(log_var).exp())
        z = mean if noise is None else q.draw(noise.normal((self.latent,)))
        return Encoding(z, q.kl_terms(), q.log_prob(z) - log_standard(z), q)


@configurable
class Full(Posterior):
    """The posterior N(mean, L L^T), L lower triangular; KL = 1/2 sum_j [sum_i L_ji^2 + mean_j^2 - 1 - 2 log L_jj]."""

    def __init__(self, latent: int):
        super().__init__(latent, 2 * latent + latent * (latent - 1) // 2)
        self.register_buffer("below", torch.tril_indices(latent, latent, -1), persistent=False)

    def forward(self, h: Tensor, noise: Noise | None) -> Encoding:
        d = self.latent
        mean, var = _mean_var(h, d)
        L = torch.diag_embed(var.sqrt())
        rows, columns = cast(Tensor, self.below)
        L = L.index_put((torch.arange(len(h), device=h.device)[:, None], rows, columns), h[:, 2 * d :] / math.sqrt(d))
        eps = torch.zeros_like(mean) if noise is None else noise.normal((d,))
        z = mean + (L @ eps[..., None])[..., 0]
        kl = 0.5 * (L.square().sum(2) + mean**2 - 1 - var.log())
        return Encoding(z, kl, log_standard(eps) - 0.5 * var.log().sum(1) - log_standard(z))


@configurable
class Flow(Posterior):
    """The posterior of an inverse autoregressive flow (Kingma et al. 2016, arXiv:1606.04934), by zuko.

    z = f(u) with u ~ N(mean, diag(var)), so log q(z | x) = log N(u) - log |df/du|. Its KL is estimated at the draw.
    """

    def __init__(self, latent: int, steps: int = 2, context: int = 32):
        super().__init__(latent, 2 * latent + context)
        try:
            from zuko.flows import MAF
        except ImportError:
            raise AncestralError("a flow posterior needs the package zuko: pip install 'ancestral[flows]'") from None
        self.flow = MAF(latent, context, transforms=steps, hidden_features=(max(64, 2 * latent),))

    def forward(self, h: Tensor, noise: Noise | None) -> Encoding:
        d = self.latent
        u = Gaussian(*_mean_var(h, d))
        start = u.mean if noise is None else u.draw(noise.normal((d,)))
        z, ladj = self.flow(h[:, 2 * d :]).transform.call_and_ladj(start)
        log_ratio = u.log_prob(start) - ladj.float() - log_standard(z.float())
        return Encoding(z.float(), log_ratio[:, None], log_ratio)


POSTERIORS: dict[PosteriorName, type[Diagonal] | type[Full] | type[Flow]] = {"diagonal": Diagonal, "full": Full, "flow": Flow}


def log_standard(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) `(n,)`."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def bounded(log_var: Tensor) -> Tensor:
    """Bound a log variance smoothly, so that its exponential does not overflow. Near 0 it hardly changes."""
    return 12 * torch.tanh(log_var / 12)


def _mean_var(h: Tensor, d: int) -> tuple[Tensor, Tensor]:
    return h[:, :d], bounded(h[:, d : 2 * d]).exp()
