"""The extractor of 1280 features by EfficientNet-lite0 with ImageNet weights (`ancestral.networks.imagenet`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ancestral.app.evaluation.extractors.base import Pictures
from ancestral.networks import imagenet
from ancestral.runtime import Runtime


class _Features(nn.Module):
    """The means over positions of the last convolution's maps. Pixels in [0, 1] are shifted to [-1, 1] for the weights."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.network.extract_features(x * 2 - 1)
        return maps.mean((2, 3))


def efficientnet(shape: Sequence[int], runtime: Runtime) -> Pictures:
    """Make the extractor for images of a shape. It scales them to squares of a multiple of 32 pixels, at most 224.

    Raises:
        AncestralError: If the packages are not installed.
    """
    side = min(224, max(32, 32 * math.ceil(max(shape[1:]) / 32)))
    about = f"EfficientNet-lite0 with ImageNet weights, on {side}x{side} pixels"
    return Pictures("efficientnet", _Features(imagenet.efficientnet()), about, runtime, size=(side, side), colour=True)
