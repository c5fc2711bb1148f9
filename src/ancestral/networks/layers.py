"""Parts that the networks share, in forms that are fast on CPU, CUDA and MPS.

Images stay in channels-last memory. Norms and attention work on a view `(n, h, w, c)` of the same memory.
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
    """An embedding of the noise level, logsnr `(n,)` -> `(n, width)`.

    It has sines and cosines of geometrically spaced frequencies, and then a small MLP. logsnr spans about 40 nats. The slowest
    wave is longer than that, and the fastest resolves a tenth of a nat.

    Args:
        width: of the embedding.
        features: the number of sines and cosines.
        slowest, fastest: the smallest and largest frequency, in radians per nat.
        second_time: whether it also takes the log SNR of a second level, which is the target level of a flow map. The part of
            the second level starts at zero.
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
            raise ValueError("a second time is needed if the network was built with second_time=True, and is not allowed else")
        return out if self.second is None or second is None else out + self.second(self._waves(second))

    def _waves(self, logsnr: Tensor) -> Tensor:
        angle = logsnr[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position `(n, c, h, w)`, with a learned scale and shift.

    In channels-last memory this is one contiguous kernel. Group norm has to read the picture twice.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return y.permute(0, 3, 1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v; all tensors are `(n, heads, positions, d)`. A key whose mask is False has weight 0.

    On CUDA it is one fused kernel. On a CPU, with the short sequences of coarse maps, the plain form is about ten times faster
    in training.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Residual self-attention between the positions of a feature map: `(n, c, h, w)` -> the same shape."""

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
        mixed = attend(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        y: Tensor = self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + y


class CrossAttention(nn.Module):
    """Residual cross-attention from a feature map to tokens (Rombach et al. 2022, arXiv:2112.10752, section 3.3):

        softmax(Q K^T / sqrt(d)) V,    Q = W_q f,  K = W_k tau(y),  V = W_v tau(y)

    Map f `(n, c, h, w)`, tokens tau(y) `(n, m, e)`, mask `(n, m)` -> shaped as f. A token whose mask is False has weight 0.
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
        mixed = attend(q, k, v, None if mask is None else mask[:, None, None, :]).transpose(1, 2).reshape(n, h * w, c)
        y: Tensor = self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + y


class SpatialContext(nn.Module):
    """A context's channels for networks from a vector to a picture: `(n, c, h, w)` -> a map for each level, to be added.

    Patches are folded into channels. The finest level gets all values, and coarser levels get averages.

    Args:
        channels: of the context.
        patch: the side of a patch.
        padded: the height and width to which pictures are padded, below and right.
        features, sizes: of each level, finest first.
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
    """Return the number of attention heads, which divides the channels. A head has about `head` features or more."""
    return next(n for n in range(max(1, channels // head), 0, -1) if channels % n == 0)


def zero(module: M) -> M:
    """Set all parameters of a module to zero, so that its residual block starts as the identity, and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
