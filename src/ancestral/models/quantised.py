"""A vector-quantised bottleneck (van den Oord et al. 2017, arXiv:1711.00937).

The encoder's output is cut into N vectors, each replaced by the nearest of the K rows e_k of a codebook. q(z | x) is
deterministic and the prior uniform over K^N codes, so KL(q || p) = N log K, a constant that the bound does not drop. Gradients
pass straight through the choice. A penalty keeps the encoder near its codes,

    penalty = beta |z_e - sg(e)|^2                                                      (eq. 3, third term)

and the codebook, which is a buffer, has moving averages of the vectors of each code (appendix A.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.models.codec import Encoding, LatentCodec
from ancestral.noise import Noise

DEAD = 0.01  # a code with less than this part of its fair share is replaced by a current vector of the encoder


@configurable
class Quantised(LatentCodec):
    """A codec with a codebook. encoder: to `(n, positions * width)`. decoder: from there. codes: K. commitment: beta."""

    continuous = False
    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        positions: int,
        width: int,
        codes: int = 256,
        commitment: float = 0.25,
        decay: float = 0.99,
    ):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.positions, self.width, self.codes = positions, width, codes
        self.commitment, self.decay = commitment, decay
        self.latent = positions * width
        self.register_buffer("codebook", F.layer_norm(torch.randn(codes, width), (width,)))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", self.codebook.clone())

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.encoder, self.decoder)

    def features(self, y: Tensor, context: Context) -> Tensor:
        """Return z_e. Each vector is normalised, so that neither it nor the codebook can diverge."""
        h = cast(Tensor, self.encoder(y, context)).float()
        return F.layer_norm(h.view(len(h), self.positions, self.width), (self.width,))

    def forward(self, features: Tensor, context: Context, noise: Noise | None) -> tuple[Encoding, Tensor]:
        code = self.code(features, noise)
        return code, self.decoder(code.z, context)

    def code(self, features: Tensor, noise: Noise | None) -> Encoding:
        z_e = features
        k = self.nearest(z_e)
        e = self.codebook[k]
        penalty = self.commitment * (z_e - e).square().flatten(1).sum(1)
        z = (z_e + (e - z_e).detach()).flatten(1)  # straight through
        kl = torch.full((len(z), self.positions), math.log(self.codes), device=z.device)
        return Encoding(z, kl, kl.sum(1), penalty=penalty, codes=(z_e.detach(), k))

    def decode(self, z: Tensor, context: Context) -> Tensor:
        """Decode the codes nearest to z."""
        e = self.codebook[self.nearest(z.view(z.shape[0], self.positions, self.width))]
        return cast(Tensor, self.decoder(e.flatten(1), context))

    def prior(self, noise: Noise) -> Tensor:
        k = (noise.uniform((self.positions,)) * self.codes).long().clamp(max=self.codes - 1)
        return self.codebook[k].flatten(1)

    def nearest(self, z_e: Tensor) -> Tensor:
        """Return the indices `(n, positions)` of the nearest codes, argmin_k |z_e - e_k|."""
        z_e = z_e.float()
        with torch.no_grad(), torch.autocast(z_e.device.type, enabled=False):
            return (self.codebook.square().sum(1) - 2 * z_e @ self.codebook.T).argmin(-1)

    @torch.no_grad()
    def record(self, batch: Batch, code: Encoding, noise: Noise) -> None:
        """Record counts `(K,)` and sums `(K, width)` of the vectors of each code, and for each code a vector to replace it.

        Sample i of a global batch of N proposes one of its own vectors, at random, for the codes i m, ..., i m + m - 1,
        m = K/N.
        """
        assert code.codes is not None
        z_e, k = code.codes
        n, positions = k.shape
        ones = torch.ones(k.numel(), device=k.device)
        batch.record("codebook/counts", torch.zeros_like(self.counts).index_add(0, k.flatten(), ones))
        zeros = torch.zeros_like(self.sums)
        batch.record("codebook/sums", zeros.index_add(0, k.flatten(), z_e.flatten(0, 1)))
        m = math.ceil(self.codes / batch.size)
        which = (noise.uniform((m,)) * positions).long().clamp(max=positions - 1)
        proposed = z_e.gather(1, which[..., None].expand(-1, -1, self.width)).flatten(0, 1)
        start = (0 if batch.part is None else batch.part.start) * m
        kept = max(0, min(n * m, self.codes - start))
        batch.record("codebook/fresh", torch.cat([zeros[:start], proposed[:kept], zeros[start + kept :]]))

    @torch.no_grad()
    def after_step(self, sums: Mapping[str, Tensor]) -> None:
        """Update N_k and m_k, the moving averages of code k's counts and sums; set e_k = m_k / N_k; replace dead codes."""
        now, fresh = sums["codebook/counts"], sums["codebook/fresh"]
        self.counts.lerp_(now, 1 - self.decay)
        self.sums.lerp_(sums["codebook/sums"], 1 - self.decay)
        dead = self.counts < DEAD * now.sum() / self.codes
        self.sums.copy_(torch.where(dead[:, None], fresh, self.sums))
        self.counts.masked_fill_(dead, 1.0)
        self.codebook.copy_(self.sums / self.counts[:, None])

    def diagnose(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return the number of codes with at least a tenth of their fair share, and the perplexity of their use."""
        share = self.counts / self.counts.sum()
        used = int((share > 0.1 / self.codes).sum())
        perplexity = float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))
        findings: tuple[str, ...] = ()
        if used < self.codes / 4:
            findings = (
                f"{used} of {self.codes} codes are in use: the codebook is larger than the data need; "
                f"lower model.codes to {2 ** math.ceil(math.log2(max(2, 2 * used)))}",
            )
        return {"codes_used": float(used), "perplexity": perplexity}, findings
