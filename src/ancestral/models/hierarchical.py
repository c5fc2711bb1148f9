"""Several groups of latents, from coarse to fine (Sonderby et al. 2016, arXiv:1602.02282; Child 2020, arXiv:2011.10650).

    p(z) = prod_l p(z_l | z_<l),     q(z | x) = prod_l q(z_l | z_<l, x)

Both run top-down through one network, so the posterior gives only the difference of a group from its prediction by coarser
groups. With p(z_l | z_<l) = N(m, s^2) and z_l = m + s e_l the prior of e is N(0, I). A posterior relative to it (Vahdat &
Kautz 2020, arXiv:2007.03898, section 3.2) is q(e_l | e_<l, x) = N(dm, ds^2), and KL(q(z_l) || p(z_l)) is
KL(q(e_l) || N(0, I)). The network can make the shift m by itself, so a group adds only s e_l.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.gaussian import Gaussian
from ancestral.models.codec import Encoding, LatentCodec, bounded, log_standard
from ancestral.networks.autoencoder import Head, Plan, Residual, Trunk
from ancestral.networks.layers import zero
from ancestral.noise import Noise


@configurable
class Hierarchical(LatentCodec):
    """A codec with several groups of latents.

    Args:
        plan: the geometry of encoder and decoder.
        outputs: the number of channels of the decoder's output.
        groups: the number of groups, spread evenly over the levels of the plan, the coarsest first.
        channels: the number of channels of each group's map.
        vectors: whether samples are `(n, d)`. The plan then has them as `(n, d, 1)`.
    """

    def __init__(self, plan: Plan, outputs: int, groups: int, channels: int = 4, vectors: bool = False):
        super().__init__()
        self.vectors = vectors
        self.plan, self.channels = plan, channels
        top = len(plan.channels) - 1
        self.levels = [top - g * (top + 1) // groups for g in range(groups)]
        self.sizes = [channels * plan.map_at(level)[0] * plan.map_at(level)[1] for level in self.levels]
        self.latent = sum(self.sizes)
        self.encoder = Trunk(plan)
        self.start = nn.Parameter(0.1 * torch.randn(1, plan.channels[-1], *plan.map_at(top)))
        self.groups = nn.ModuleList(_Group(plan, level, channels) for level in self.levels)
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(plan.channels))  # towards the finer level
        self.head = Head(plan, outputs)
        self.from_context = plan.spatial(plan.channels)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.encoder,)

    def features(self, y: Tensor, context: Context) -> list[Tensor]:
        return cast(list[Tensor], self.encoder(y[..., None] if self.vectors else y, context))

    def forward(self, features: list[Tensor], context: Context, noise: Noise | None) -> tuple[Encoding, Tensor]:
        added = self._features_of(context)
        h = self._start(len(features[0]), added)
        draws: list[Tensor] = []
        means: list[Tensor] = []
        variances: list[Tensor] = []
        for level, group in self._walk():
            h = self._rise(h, level, added)
            mean, var = group.posterior(h, features[level], context)
            e = mean if noise is None else mean + var.sqrt() * noise.normal(mean.shape[1:])
            for kept, value in ((draws, e), (means, mean), (variances, var)):
                kept.append(value.flatten(1))
            h = group(h, e, context)
        q = Gaussian(torch.cat(means, 1), torch.cat(variances, 1))
        z = torch.cat(draws, 1)
        return Encoding(z, q.kl_terms(), q.log_prob(z) - log_standard(z)), self._out(h, added)

    def decode(self, z: Tensor, context: Context) -> Tensor:
        added = self._features_of(context)
        h = self._start(z.shape[0], added)
        for (level, group), e in zip(self._walk(), z.split(self.sizes, 1), strict=True):
            h = self._rise(h, level, added)
            h = group(h, e.view(z.shape[0], self.channels, *self.plan.map_at(level)), context)
        return self._out(h, added)

    def _features_of(self, context: Context) -> list[Tensor]:
        """Return the spatial context of each level, the finest first; [] if the context has no channels."""
        return [] if self.from_context is None else self.from_context(context.channels)

    def _start(self, n: int, added: list[Tensor]) -> Tensor:
        h = self.start.expand(n, -1, -1, -1)
        return h + added[-1] if added else h

    def _out(self, h: Tensor, added: list[Tensor]) -> Tensor:
        out: Tensor = self.head(self._rise(h, 0, added))
        return out[..., 0] if self.vectors else out

    def _walk(self) -> list[tuple[int, _Group]]:
        return [(level, cast(_Group, group)) for level, group in zip(self.levels, self.groups, strict=True)]

    def _rise(self, h: Tensor, level: int, added: list[Tensor]) -> Tensor:
        """Return h at the resolution of a level. Each level on the way gets its spatial context once."""
        at = next(i for i in range(len(self.plan.channels)) if tuple(h.shape[2:]) == self.plan.map_at(i))
        for finer in range(at - 1, level - 1, -1):
            h = self.ups[finer](F.interpolate(h, scale_factor=self.plan.halving, mode="nearest"))
            h = h + added[finer] if added else h
        return h


class _Group(nn.Module):
    """One group: the posterior of e given h and the encoder's map, and the layers that add e to h."""

    def __init__(self, plan: Plan, level: int, channels: int):
        super().__init__()
        c = plan.channels[level]
        self.infer = Residual(plan, 2 * c, c, plan.context.vector)
        self.relative = zero(nn.Conv2d(c, 2 * channels, 1))
        self.scale = nn.Conv2d(c, channels, 1)
        self.add = nn.Conv2d(channels, c, 1)
        self.blocks = nn.ModuleList(Residual(plan, c, c, plan.context.vector) for _ in range(plan.blocks))

    def posterior(self, h: Tensor, seen: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        out = self.relative(F.silu(self.infer(torch.cat([h, seen.to(h.dtype)], 1), context.vector))).float()
        mean, log_var = out.chunk(2, 1)
        return mean, bounded(log_var).exp()

    def forward(self, h: Tensor, e: Tensor, context: Context) -> Tensor:
        h = h + self.add(e * torch.tanh(self.scale(h) / 4).mul(4).exp())
        for block in self.blocks:
            h = block(h, context.vector)
        return h
