"""A U-Net for images of any size and for signals.

The stem folds `patch` x `patch` pixels into channels (space-to-depth), so that no convolution runs at full resolution. Of all
changes that were tried on a CPU, this one improves quality per second most. Blocks are pre-activated residual pairs of 3x3
convolutions, modulated by noise level and context (Dhariwal & Nichol 2021, arXiv:2105.05233). Each block of the downward path
has one skip connection, to one block of the upward path (Ronneberger et al. 2015). The extra skips and blocks that are often
added took a third of the time and did not improve the quality accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable
from ancestral.networks.layers import Attention, ChannelNorm, CrossAttention, NoiseEmbedding, zero


@configurable
class UNet(nn.Module):
    """A convolutional U-Net: (z `(n, c, h, w)` or `(n, c, l)`, logsnr `(n,)`, Context) -> a tensor shaped as z.

    Args:
        in_channels: c.
        channels: the features at each level. Each level has half the resolution of the one before.
        blocks: residual blocks per level, in each of the two paths.
        patch: the side of the stem's patches.
        attention: the number of coarsest levels that have attention, between their positions and to the tokens.
        dropout: the dropout rate in the blocks.
        context: widths of the context. Its vector modulates the blocks, its tokens enter by cross-attention, and its channels
            are concatenated to those of z at the stem.
        dims: 2 for images, 1 for signals, which are treated as images of height 1 with flat kernels.
        second_time: whether `forward` takes a second log SNR `(n,)`, as a `FlowMap` needs.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (64, 128),
        blocks: int = 1,
        patch: int = 2,
        attention: int = 1,
        dropout: float = 0.0,
        context: ContextShape = NOTHING,
        dims: int = 2,
        second_time: bool = False,
    ):
        super().__init__()
        self.dims = dims
        self.patch = (patch if dims == 2 else 1, patch)
        self.kernel = (3 if dims == 2 else 1, 3)
        self.factor = 2 ** (len(channels) - 1)
        width = 4 * channels[0]
        area = self.patch[0] * self.patch[1]
        self.noise = NoiseEmbedding(width, second_time=second_time)
        self.context = nn.Linear(context.vector, width) if context.vector else None
        self.stem = self._conv((in_channels + context.channels) * area, channels[0])

        def block(c_in: int, c_out: int, level: int) -> nn.ModuleList:
            attends = level >= len(channels) - attention
            residual = _Block(c_in, c_out, width, self.kernel, dropout)
            cross = [CrossAttention(c_out, context.tokens)] if attends and context.tokens else []
            return nn.ModuleList([residual, Attention(c_out), *cross] if attends else [residual])

        self.down = nn.ModuleList()
        c, skips = channels[0], []
        for level, c_out in enumerate(channels):
            if level > 0:
                self.down.append(_Down(c, self.dims, self.kernel))
            for _ in range(blocks):
                self.down.append(block(c, c_out, level))
                skips.append(c := c_out)
        self.middle = block(c, c, len(channels) - 1)
        self.up = nn.ModuleList()
        for level, c_out in reversed(list(enumerate(channels))):
            for _ in range(blocks):
                self.up.append(block(c + skips.pop(), c_out, level))
                c = c_out
            if level > 0:
                self.up.append(_Up(c, self.dims, self.kernel))
        self.norm = ChannelNorm(c)
        self.head = zero(self._conv(c, in_channels * area))

    def _conv(self, c_in: int, c_out: int) -> nn.Conv2d:
        return _conv(c_in, c_out, self.kernel)

    def forward(self, z: Tensor, logsnr: Tensor, context: Context, second: Tensor | None = None) -> Tensor:
        x = z if context.channels is None else torch.cat([z, context.channels.to(z.dtype)], 1)
        x = x if self.dims == 2 else x[:, :, None, :]
        space = x.shape[-2:]
        x = self._fold(x)
        embedding = self.noise(logsnr, second)
        if self.context is not None:
            embedding = embedding + self.context(context.vector)
        embedding = F.silu(embedding)

        h = self.stem(x)
        skips = []
        for level in self.down:
            h = _run(level, h, embedding, context)
            if not isinstance(level, _Down):
                skips.append(h)
        h = _run(self.middle, h, embedding, context)
        for level in self.up:
            h = _run(level, h if isinstance(level, _Up) else torch.cat([h, skips.pop()], 1), embedding, context)
        out = self._unfold(self.head(F.silu(self.norm(h))), space)
        return out if self.dims == 2 else out[:, :, 0]

    def _fold(self, x: Tensor) -> Tensor:
        """Fold `(n, c, h, w)` into `(n, c p q, h/p, w/q)`, zero-padded below and right until every level divides evenly."""
        p, q = self.patch
        multiples = (p * (self.factor if self.dims == 2 else 1), q * self.factor)
        pad_h, pad_w = (-size % multiple for size, multiple in zip(x.shape[-2:], multiples, strict=True))
        x = F.pad(x, (0, pad_w, 0, pad_h)) if pad_h or pad_w else x
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // p, p, w // q, q).permute(0, 2, 4, 1, 3, 5).reshape(n, h // p, w // q, c * p * q)
        return x.permute(0, 3, 1, 2)

    def _unfold(self, x: Tensor, space: Sequence[int]) -> Tensor:
        p, q = self.patch
        n, folded, h, w = x.shape
        c = folded // (p * q)
        x = x.permute(0, 2, 3, 1).reshape(n, h, w, c, p, q).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h * p, w * q)
        return x[..., : space[0], : space[1]]


def _run(level: nn.Module, h: Tensor, embedding: Tensor, context: Context) -> Tensor:
    for module in level if isinstance(level, nn.ModuleList) else [level]:
        if isinstance(module, _Block):
            h = module(h, embedding)
        elif isinstance(module, CrossAttention):
            h = module(h, context.tokens, context.mask)
        else:
            h = module(h)
    return h


def _conv(c_in: int, c_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2))


class _Block(nn.Module):
    """A residual block: norm, SiLU, conv; norm modulated by the embedding, SiLU, conv; plus the (projected) input."""

    def __init__(self, c_in: int, c_out: int, width: int, kernel: tuple[int, int], dropout: float):
        super().__init__()
        self.norm1 = ChannelNorm(c_in)
        self.conv1 = _conv(c_in, c_out, kernel)
        self.norm2 = ChannelNorm(c_out)
        self.modulation = zero(nn.Linear(width, 2 * c_out))
        self.dropout = dropout
        self.conv2 = zero(_conv(c_out, c_out, kernel))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        out: Tensor = self.skip(x) + self.conv2(h)
        return out


class _Down(nn.Module):
    def __init__(self, channels: int, dims: int, kernel: tuple[int, int]):
        super().__init__()
        self.conv = _conv(channels, channels, kernel, (2, 2) if dims == 2 else (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _Up(nn.Module):
    def __init__(self, channels: int, dims: int, kernel: tuple[int, int]):
        super().__init__()
        self.scale = (2.0, 2.0) if dims == 2 else (1.0, 2.0)
        self.conv = _conv(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=self.scale, mode="nearest"))
        return y
