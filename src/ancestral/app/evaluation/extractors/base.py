"""The protocol, and the plain parts that extractors share."""

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
    """From samples to feature vectors.

    name: part of the metrics' names. about: what it is and how good, for the report. coarse: whether its figures are only a
    rough guide.
    """

    name: str
    about: str
    coarse: bool

    def __call__(self, x: Tensor, progress: Progress = silent) -> np.ndarray:
        """Samples `(n, *shape)` in the units of the data -> float64 `(n, d)`."""


class Coordinates:
    """Vectors, and what has no better features, as they are: each coordinate in units of its deviation in the data."""

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

    network: `(n, 3 or 1, h, w)` in [0, 1] -> `(n, d)`. size: (height, width) to which images are scaled, antialiased where they
    shrink; None: as they are. colour: whether grey images are repeated to three channels.
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
