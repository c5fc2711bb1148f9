"""Parts that the networks share, in the forms that are fast on CPU, CUDA and MPS alike.

Images are kept in channels-last memory; norms and attention work on the same memory seen as `(n, h, w, c)`.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)


class NoiseEmbedding(nn.Module):
    """logsnr `(n,)` -> `(n, width)`: sines and cosines of geometrically spaced frequencies, then a small MLP.

    logsnr spans about 40 nats; the slowest wave is longer than that, the fastest resolves a tenth of a nat.
    """

    frequencies: Tensor

    def __init__(self, width: int, features: int = 64, slowest: float = 0.05, fastest: float = 10.0):
        super().__init__()
        ladder = torch.linspace(math.log(slowest), math.log(fastest), features // 2).exp()
        self.register_buffer("frequencies", ladder, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, logsnr: Tensor) -> Tensor:
        angle = logsnr[:, None] * self.frequencies
        out: Tensor = self.mlp(torch.cat([angle.cos(), angle.sin()], 1))
        return out


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
        self.heads = next(n for n in range(max(1, channels // head), 0, -1) if channels % n == 0)
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


def zero(module: M) -> M:
    """The module with all parameters zero: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
