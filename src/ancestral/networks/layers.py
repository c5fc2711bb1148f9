"""Parts that the networks share, in the forms that are fast on CPU, CUDA and MPS alike.

Images are kept in channels-last memory; norms and attention work on the same memory seen as `(n, h, w, c)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)


class NoiseEmbedding(nn.Module):
    """logsnr `(n,)` -> `(n, width)`: sines and cosines of geometrically spaced frequencies, then a small MLP.

    logsnr spans about 40 nats; the slowest wave is longer than that, the fastest resolves a tenth of a nat.

    second_time: whether it takes the log SNR of a second level too, where a flow map leads to. Its part is zero at first.
    """

    frequencies: Tensor

    def __init__(self, width: int, features: int = 64, slowest: float = 0.05, fastest: float = 10.0, second_time: bool = False):
        super().__init__()
        frequencies = torch.linspace(math.log(slowest), math.log(fastest), features // 2).exp()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.second = None
        if second_time:
            self.second = nn.Sequential(nn.Linear(features, width), nn.SiLU(), zero(nn.Linear(width, width)))

    def forward(self, logsnr: Tensor, second: Tensor | None = None) -> Tensor:
        out: Tensor = self.mlp(self._waves(logsnr))
        if (self.second is None) != (second is None):
            raise ValueError("a network takes a second time if it is built with second_time=True, and then needs it")
        return out if self.second is None or second is None else out + self.second(self._waves(second))

    def _waves(self, logsnr: Tensor) -> Tensor:
        angle = logsnr[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position `(n, c, h, w)`, with a learned scale and shift.

    In channels-last memory this is one contiguous kernel, where group norm has to walk the picture twice.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return y.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Self-attention between the positions of a feature map, added to it: `(n, c, h, w)` -> the same.

    Written as softmax(q k^T / sqrt(d)) v: with the short sequences of a U-Net's coarse levels the plain form is faster in
    training than the fused kernel, on a CPU by an order of magnitude.
    """

    def __init__(self, channels: int, head: int = 64):
        super().__init__()
        self.heads = heads(channels, head)
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(c // self.heads)).softmax(-1)
        mixed = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(n, h * w, c)
        y: Tensor = self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + y


class CrossAttention(nn.Module):
    """What a feature map reads in tokens, added to it (Rombach et al. 2022, arXiv:2112.10752, section 3.3):

        softmax(Q K^T / sqrt(d)) V,    Q = W_q f,  K = W_k tau(y),  V = W_v tau(y)

    `(n, c, h, w)`, tau(y) `(n, m, e)`, mask `(n, m)` -> shaped as the map. A masked token has weight exactly 0.
    """

    def __init__(self, channels: int, tokens: int, head: int = 64):
        super().__init__()
        self.heads = heads(channels, head)
        self.norm = ChannelNorm(channels)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(tokens, 2 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        n, c, h, w = x.shape
        d = c // self.heads
        f = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        q = self.q(f).view(n, h * w, self.heads, d).transpose(1, 2)
        k, v = self.kv(tokens).view(n, -1, 2, self.heads, d).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(d)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
        mixed = (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(n, h * w, c)
        y: Tensor = self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + y


class SpatialContext(nn.Module):
    """A context's channels for networks that grow a picture from a vector: `(n, c, h, w)` -> a map for each level, to be added.

    Patches are folded into channels, so that the finest level sees all; coarser ones see averages. features, sizes: of each
    level, finest first. padded: height and width up to which pictures are padded, below and right.
    """

    def __init__(
        self, channels: int, patch: int, padded: Sequence[int], features: Sequence[int], sizes: Sequence[tuple[int, int]]
    ):
        super().__init__()
        self.patch, self.padded = patch, tuple(padded)
        self.sizes = list(sizes)
        self.project = nn.ModuleList(nn.Conv2d(channels * patch**2, c, 1) for c in features)

    def forward(self, channels: Tensor) -> list[Tensor]:
        pad = (0, self.padded[1] - channels.shape[3], 0, self.padded[0] - channels.shape[2])
        folded = F.pixel_unshuffle(F.pad(channels, pad), self.patch)
        pairs = zip(self.project, self.sizes, strict=True)
        return [project(F.adaptive_avg_pool2d(folded, size)) for project, size in pairs]


def heads(channels: int, head: int) -> int:
    """The number of attention heads of about that size that divides the channels."""
    return next(n for n in range(max(1, channels // head), 0, -1) if channels % n == 0)


def zero(module: M) -> M:
    """The module with all parameters zero: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
