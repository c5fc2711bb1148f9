"""Features of a network with random weights. They are better than pixels, and they need no training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256)


class RandomFeatures(nn.Module):
    """Three random convolutions with ReLU.

    The features are the mean and the deviation of each map over positions, 2 (64 + 128 + 256) numbers. The filters are
    orthogonal with a fixed seed.

    Args:
        shape: `(c, h, w)`, or `(c, l)`, which is treated as height 1.
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        kernel = (3, 3) if len(shape) == 3 else (1, 3)
        widths = (shape[0], *WIDTHS)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel, padding=(kernel[0] // 2, 1)) for a, b in pairwise(widths))
        generator = torch.Generator().manual_seed(0)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.orthogonal_(conv.weight, 2**0.5, generator=generator)
            nn.init.uniform_(conv.bias, -0.1, 0.1, generator=generator) if conv.bias is not None else None
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = (x[:, :, None, :] if x.ndim == 3 else x) - 0.5
        features = []
        for conv in self.convs:
            h = F.relu(conv(h))
            features += [h.mean((2, 3)), h.std((2, 3))]
            pool = (min(2, h.shape[2]), min(2, h.shape[3]))
            h = F.avg_pool2d(h, pool)
        return torch.cat(features, 1)
