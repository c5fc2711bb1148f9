"""The base of the recipes of families with a denoiser: the settings of its network."""

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
    """A family whose network denoises samples at every noise level."""

    net: NetworkName = Field("auto", description="the network; auto: the fastest on a CPU")
    width: int | None = Field(None, ge=1, description="features of the network's finest level")
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="features of each level; overrides width")
    blocks: int | None = Field(None, ge=1, description="residual blocks per level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate in training")

    def smaller(self) -> Self | None:
        """Return the recipe with width 48, then 32 and 16, if no setting of the network was given."""
        if self.channels or self.blocks or self.patch or self.net != "auto":
            return None
        widths = [width for width in SMALLER if self.width is None or width < self.width]
        if not widths or self.width not in (None, *SMALLER):
            return None
        return self.model_copy(update={"width": widths[0]})

    @property
    def smallest(self) -> bool:
        return self.width is not None and self.width <= SMALLER[-1]

    @property
    def size(self) -> str:
        return f"model.width={self.width}"

    def folded(self, spec: DataSpec) -> int:
        """Return how many numbers of a sample the network's stem folds into one position of its maps."""
        if len(spec.shape) == 1:
            return 1
        side = patch_size(spec.shape, self.net, self.patch)
        return spec.shape[0] * math.prod([side] * (len(spec.shape) - 1))

    def network(self, spec: DataSpec, context: ContextShape) -> nn.Module:
        """Build the network for such samples and contexts. Raises UsageError for a setting that the network does not have."""
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
