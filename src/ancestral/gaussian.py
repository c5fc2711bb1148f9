"""Gaussian arithmetic: log-density, entropy, Kullback-Leibler divergence, reparameterised draws. All in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """The normal distribution N(mean, diag(var)), with independent dimensions.

    Densities are per sample, summed over all axes but the first: `(n,)`.

    Args:
        mean, var: `(n, *shape)`, or tensors that broadcast to it; var > 0.
    """

    mean: Tensor
    var: Tensor

    def draw(self, eps: Tensor) -> Tensor:
        """Return mean + sqrt(var) eps for standard normal eps `(n, *shape)` (Kingma & Welling 2014, section 2.4)."""
        return self.mean + self.var.sqrt() * eps

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; mean, var) `(n,)`."""
        return _per_sample(-0.5 * ((x - self.mean) ** 2 / self.var + self.var.log() + math.log(2 * math.pi)))

    def entropy(self) -> Tensor:
        """Return the entropy, the sum of 1/2 log(2 pi e var), `(n,)`."""
        var = torch.broadcast_to(self.var, torch.broadcast_shapes(self.mean.shape, self.var.shape))
        return _per_sample(0.5 * (var.log() + math.log(2 * math.pi * math.e)))

    def kl(self, other: Gaussian | None = None) -> Tensor:
        """Return KL(self || other) `(n,)`; other = None is the standard normal."""
        return _per_sample(self.kl_terms(other))

    def kl_terms(self, other: Gaussian | None = None) -> Tensor:
        """Return each dimension's term of the KL: 1/2 [var/var' + (mean - mean')^2/var' - 1 - log(var/var')]."""
        if other is None:
            return 0.5 * (self.var + self.mean**2 - 1 - self.var.log())
        ratio = self.var / other.var
        return 0.5 * (ratio + (self.mean - other.mean) ** 2 / other.var - 1 - ratio.log())


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Interpolate from a to b `(n, *shape)` along the great circle, so that the norm stays typical of normal draws.

    The result is sin((1 - s) w)/sin w a + sin(s w)/sin w b, where w is the angle between a and b and s the share (Shoemake
    1985). If w is tiny, it is the straight line.

    Args:
        a: the first end.
        b: the second end.
        share: s from 0 (a) to 1 (b); it broadcasts against a.
    """
    u, v = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True).clamp(min=1e-12) for x in (a, b))
    w = (u * v).sum(1).clamp(-1, 1).acos().view(-1, *[1] * (a.ndim - 1))
    sin = w.sin()
    straight = sin < 1e-4
    safe = torch.where(straight, 1.0, sin)
    left = torch.where(straight, 1 - share, ((1 - share) * w).sin() / safe)
    right = torch.where(straight, share, (share * w).sin() / safe)
    return left * a + right * b


def _per_sample(terms: Tensor) -> Tensor:
    return terms.flatten(1).sum(1)
