"""A transformer over patches, with noise level and conditions in its norms (Peebles & Xie 2023, arXiv:2212.09748, "DiT").

    h <- h + g1 Attention(s1 norm(h) + b1),    h <- h + g2 MLP(s2 norm(h) + b2),    (s1, b1, g1, s2, b2, g2) = W silu(y)

with y the embedding of noise level and context. W starts at zero ("adaLN-zero", section 3.2), so every block starts as the
identity and the network as zero. If the context has tokens, a block has cross-attention between its two parts: queries from
the patches, keys and values from the tokens. SiLU replaces the paper's tanh-GELU, which costs three times as much on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.networks.layers import CrossAttention, NoiseEmbedding, attend, heads, zero


@configurable
class DiT(nn.Module):
    """A diffusion transformer: (z `(n, c, h, w)` or `(n, c, l)`, logsnr `(n,)`, Context) -> a tensor shaped as z.

    Args:
        shape: of a sample.
        width: the number of features of a patch.
        blocks: the number of transformer blocks.
        patch: the side of a patch in pixels.
        head: the features of an attention head.
        dropout: the dropout rate in the blocks.
        context: widths of the context. Its vector modulates the blocks, its tokens enter by cross-attention, and its channels
            are concatenated to those of z.
        second_time: whether `forward` takes a second log SNR `(n,)`, as a `FlowMap` needs.
    """

    place: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 256,
        blocks: int = 6,
        patch: int = 2,
        head: int = 64,
        dropout: float = 0.0,
        context: ContextShape = NOTHING,
        second_time: bool = False,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.patch = (patch if len(shape) == 3 else 1, patch)
        rows, columns = self.grid = tuple(math.ceil(side / p) for side, p in zip((1, *shape[1:])[-2:], self.patch, strict=True))
        if width % 4:
            raise UsageError(f"a transformer's width must be a multiple of 4; got {width}")
        area = self.patch[0] * self.patch[1]
        self.register_buffer("place", positions(rows, columns, width), persistent=False)
        self.stem = nn.Linear((shape[0] + context.channels) * area, width)
        self.noise = NoiseEmbedding(width, second_time=second_time)
        self.context = nn.Linear(context.vector, width) if context.vector else None
        self.blocks = nn.ModuleList([Block(width, heads(width, head), context.tokens, dropout) for _ in range(blocks)])
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.head = zero(nn.Linear(width, shape[0] * area))

    def forward(self, z: Tensor, logsnr: Tensor, context: Context, second: Tensor | None = None) -> Tensor:
        y = self.noise(logsnr, second)
        if self.context is not None:
            y = y + self.context(context.vector)
        y = F.silu(y)
        x = z if context.channels is None else torch.cat([z, context.channels.to(z.dtype)], 1)
        h = self.stem(self.fold(x)) + self.place
        for block in self.blocks:
            h = block(h, y, context, self.grid)
        scale, shift = self.modulation(y)[:, None].chunk(2, -1)
        return self.unfold(self.head(_modulated(h, scale, shift)))

    def fold(self, z: Tensor) -> Tensor:
        """Fold `(n, c, h, w)` into a row for each patch `(n, patches, c p q)`, padded below and right to whole patches."""
        z = z if z.ndim == 4 else z[:, :, None]
        (p, q), (rows, columns) = self.patch, self.grid
        z = F.pad(z, (0, columns * q - z.shape[3], 0, rows * p - z.shape[2]))
        n, c = z.shape[:2]
        return z.reshape(n, c, rows, p, columns, q).permute(0, 2, 4, 1, 3, 5).reshape(n, rows * columns, c * p * q)

    def unfold(self, h: Tensor) -> Tensor:
        """Invert `fold`."""
        (p, q), (rows, columns) = self.patch, self.grid
        n, c = h.shape[0], self.shape[0]
        z = h.reshape(n, rows, columns, c, p, q).permute(0, 3, 1, 4, 2, 5).reshape(n, c, rows * p, columns * q)
        z = z[..., : (1, *self.shape[1:])[-2], : self.shape[-1]]
        return z if len(self.shape) == 3 else z[:, :, 0]


class Block(nn.Module):
    """A block: self-attention of patches, cross-attention to tokens, and an MLP of four times the width; see above."""

    def __init__(self, width: int, heads: int, tokens: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.modulation = zero(nn.Linear(width, 6 * width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.from_context = CrossAttention(width, tokens) if tokens else None
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, y: Tensor, context: Context, grid: tuple[int, int]) -> Tensor:
        s1, b1, g1, s2, b2, g2 = self.modulation(y)[:, None].chunk(6, -1)
        q, k, v = self.qkv(_modulated(h, s1, b1)).chunk(3, -1)
        h = torch.addcmul(h, g1, self._dropped(self.out(attention(q, k, v, self.heads))))
        if self.from_context is not None:
            h = self.from_context(h.mT.unflatten(2, grid), context.tokens, context.mask).flatten(2).mT
        return torch.addcmul(h, g2, self._dropped(self.down(F.silu(self.up(_modulated(h, s2, b2))))))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v by heads; all tensors are `(n, positions, width)`."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return attend(q, k, v).transpose(1, 2).flatten(2)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Return sines and cosines of row and column `(rows * columns, width)`, each a quarter of it (Vaswani et al. 2017)."""
    quarter = width // 4
    frequencies = 10_000.0 ** -(torch.arange(quarter) / quarter)
    angles = [torch.arange(size)[:, None] * frequencies for size in (rows, columns)]
    waves = [torch.cat([a.sin(), a.cos()], 1) for a in angles]
    grid = [waves[0][:, None].expand(-1, columns, -1), waves[1][None].expand(rows, -1, -1)]
    return torch.cat(grid, -1).reshape(rows * columns, -1)


def _modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    h = F.layer_norm(h, h.shape[-1:])
    return torch.addcmul(shift, h, 1 + scale)
