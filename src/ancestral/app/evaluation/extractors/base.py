"""The protocol of extractors, and the simple classes that they share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.app.training.stage import Progress, silent
from ancestral.runtime import Runtime

BATCH = 500


class Extractor(Protocol):
    """A function from samples to feature vectors.

    Attributes:
        name: Its name, which is part of the metrics' names.
        about: A description and its quality, for the report.
        coarse: Whether its figures are only a rough guide.
    """

    name: str
    about: str
    coarse: bool

    def __call__(self, x: Tensor, progress: Progress = silent) -> np.ndarray:
        """Return the features, float64 `(n, d)`, of samples `(n, *shape)` in the units of the data."""


class Coordinates:
    """The coordinates themselves as features, each in units of its deviation in the data. For data without better features."""

    name, coarse = "coordinates", False

    def __init__(self, mean: np.ndarray, std: np.ndarray):
        self.mean, self.std = mean, std
        self.about = "the standardised coordinates themselves"

    def __call__(self, x: Tensor, progress: Progress = silent) -> np.ndarray:
        flat: np.ndarray = x.flatten(1).cpu().double().numpy()
        standard: np.ndarray = (flat - self.mean) / self.std
        return standard


class Pictures:
    """Features of images by a network.

    Args:
        name: The name of the extractor.
        network: The network, from `(n, 3 or 1, h, w)` in [0, 1] to `(n, d)`.
        about: The description for the report.
        runtime: Device and precision.
        size: (height, width) to which images are scaled, with antialiasing if they shrink. None: images are not scaled.
        colour: Whether grey images are repeated to three channels.
        coarse: Whether the figures are only a rough guide.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        about: str,
        runtime: Runtime,
        *,
        size: tuple[int, int] | None = None,
        colour: bool = False,
        coarse: bool = False,
    ):
        self.name, self.about, self.coarse = name, about, coarse
        self.network, self.runtime, self.size, self.colour = network.eval(), runtime, size, colour
        runtime.place(network)

    def __call__(self, x: Tensor, progress: Progress = silent) -> np.ndarray:
        features = []
        with torch.inference_mode(), self.runtime.autocast():
            for part in x.split(BATCH):
                features.append(self.network(self._prepared(part)).float().cpu())
                progress(f"features ({self.name}): {sum(map(len, features)):,} of {len(x):,}")
        return torch.cat(features).double().numpy()

    def _prepared(self, x: Tensor) -> Tensor:
        x = x.to(self.runtime.device, torch.float32)
        if self.colour:
            x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, size=self.size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
