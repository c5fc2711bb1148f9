"""Parts of the encoders of several kinds: attention over a set of tokens, and pictures at a network's resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Transformer(nn.Module):
    """A transformer: tokens `(n, m, width)`, mask `(n, m)` -> the same shape as the tokens.

    It has pre-normalised self-attention and MLPs of 4 times the width, and a norm at the end. It does not see the order of
    tokens, so an order must be encoded in the tokens. Tokens whose mask is False are not attended to.
    """

    def __init__(self, width: int, layers: int = 2, heads: int = 4):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, mask)
        out: Tensor = self.norm(tokens)
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, m, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, m, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)).masked_fill(~mask[:, None, None, :], -math.inf)
        x = x + self.out((scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(n, m, width))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Spatial(nn.Module):
    """An encoder of pictures `(n, c, *canvas)` into channels `(n, width, *space)`.

    The canvas is folded into channels by the smallest whole factor that covers it, padded below and right. Two 3x3 convolutions
    follow.
    """

    def __init__(self, channels: int, width: int, canvas: Sequence[int], space: Sequence[int]):
        super().__init__()
        self.space = tuple(space)
        self.factor = max(math.ceil(a / b) for a, b in zip(canvas, space, strict=True))
        self.layers = nn.Sequential(
            nn.Conv2d(channels * self.factor**2, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h, w = (size * self.factor for size in self.space)
        out: Tensor = self.layers(F.pixel_unshuffle(F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2])), self.factor))
        return out


def fourier(x: Tensor, octaves: int = 6) -> Tensor:
    """Return Fourier features of x `(..., k)` in [0, 1]: x, and sin and cos of pi 2^j x, `(..., k (1 + 2 octaves))`."""
    angle = (x[..., None] * math.pi * 2.0 ** torch.arange(octaves, device=x.device)).flatten(-2)
    return torch.cat([x, angle.sin(), angle.cos()], -1)
