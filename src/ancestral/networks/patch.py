"""A patch discriminator, which has a logit for every neighbourhood (Isola et al. 2017, arXiv:1611.07004).

Errors of a reconstruction are local, so a map of logits gives a better signal than one number. The finest pixels are folded
into channels as in the other networks, so that the first convolution has a quarter or a sixteenth of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.configuration import configurable
from ancestral.networks.adversarial import SLOPE, Pyramid


@configurable
class PatchCritic(nn.Module):
    """A patch discriminator: pictures or signals `(n, *shape)` -> (logits `(n, positions)`, features of each layer).

    It has three 3x3 convolutions after the folding, the second with stride 2. In pictures of side 64, each logit sees a
    neighbourhood of side about 36.
    """

    def __init__(self, shape: Sequence[int], width: int = 64):
        super().__init__()
        side = max(shape[1:])
        patch = 1 if side <= 16 else 2 if side <= 32 else 4
        self.pyramid = geometry = Pyramid(shape, (width, 2 * width), patch)
        kernel = geometry.kernel
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(geometry.folded, width, kernel, padding=padding),
                nn.Conv2d(width, 2 * width, kernel, geometry.half, padding),
                nn.Conv2d(2 * width, 2 * width, kernel, padding=padding),
            ]
        )
        self.logit = nn.Conv2d(2 * width, 1, 1)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, SLOPE, nonlinearity="leaky_relu")  # type: ignore[arg-type]
        nn.init.normal_(self.logit.weight, std=1 / math.sqrt(2 * width))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h, features = self.pyramid.fold(x), []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), SLOPE)
            features.append(h)
        return self.logit(h).flatten(1).float(), features


def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the mean distance of two lists of features over the layers `(n,)` (feature matching, Wang et al. 2018, eq. 4)."""
    return torch.stack([(p - q).float().abs().flatten(1).mean(1) for p, q in zip(a, b, strict=True)]).mean(0)
