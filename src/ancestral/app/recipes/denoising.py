"""What the recipes of all families with a denoiser share: its network."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field
from torch import nn

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import FamilyRecipe
from ancestral.app.recipes.choices import NetworkName
from ancestral.conditioning import ContextShape
from ancestral.networks import denoising_network, patch_size

SMALLER = (48, 32, 16)  # widths of a U-Net whose default is too slow for the budget


class DenoisingRecipe(FamilyRecipe):
    """A family whose network sees noisy samples of every level."""

    net: NetworkName = Field("auto", description="the network; auto is what is fastest on a CPU")
    width: int | None = Field(None, ge=1, description="features of the network's finest level")
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="features of each level; overrides width")
    blocks: int | None = Field(None, ge=1, description="residual blocks a level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    dropout: float = Field(0.0, ge=0, lt=1, description="rate of features left out in training")

    def smaller(self) -> Self | None:
        """Width 48, then 32 and 16, where neither a width nor anything else of the network was asked for."""
        if self.channels or self.blocks or self.patch or self.net != "auto":
            return None
        widths = [width for width in SMALLER if self.width is None or width < self.width]
        if not widths or self.width not in (None, *SMALLER):
            return None
        return self.model_copy(update={"width": widths[0]})

    @property
    def size(self) -> str:
        return f"model.width={self.width}"

    def folded(self, spec: DataSpec) -> int:
        """Numbers of a sample that the network's stem folds into one position of its maps."""
        if len(spec.shape) == 1:
            return 1
        side = patch_size(spec.shape, self.net, self.patch)
        return spec.shape[0] * math.prod([side] * (len(spec.shape) - 1))

    def network(self, spec: DataSpec, context: ContextShape) -> nn.Module:
        """The network for such samples, told so much of each. Raises UsageError for a setting that it has not."""
        return denoising_network(
            spec.shape,
            net=self.net,
            width=self.width,
            channels=self.channels,
            blocks=self.blocks,
            patch=self.patch,
            dropout=self.dropout,
            context=context,
        )
