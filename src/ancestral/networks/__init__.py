"""Networks: they know tensors, not losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from ancestral.builtin import built_in
from ancestral.conditioning import NOTHING, ContextShape
from ancestral.errors import UsageError
from ancestral.networks.adversarial import Discriminator, Generator, VectorDiscriminator, VectorGenerator
from ancestral.networks.autoencoder import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, Plan
from ancestral.networks.dit import DiT
from ancestral.networks.mlp import MLP
from ancestral.networks.unet import UNet
from ancestral.registry import lookup

DENSE = 12  # numbers of a position


def denoising_network(
    shape: Sequence[int],
    *,
    net: str = "auto",
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    context: ContextShape = NOTHING,
) -> nn.Module:
    """The registered network of that name for samples of that shape: auto takes an MLP for `(d,)`, else a U-Net.

    context: the widths of what it is told; vectors are told a vector alone.

    What is None follows from the shape: patches of 1, 2 or at most 4, so that the finest map has 16 positions a side (that of
    a signal 256) where that suffices; as many levels as bring the coarsest map to at most 8, and at least two, but one where
    so small a map has 12 numbers or more at each position, as latents have: they would be lost on a coarser one.
    Raises UsageError for an unknown name and for an option that the network does not have.
    """
    options = {"width": width, "channels": channels, "blocks": blocks, "patch": patch, "dropout": dropout, "context": context}
    network: nn.Module = lookup("network", net)(shape, **options)
    return network


@built_in("network", "auto")
def auto(shape: Sequence[int], **options: Any) -> nn.Module:
    """The network that is fastest on a CPU."""
    return mlp(shape, **options) if len(shape) == 1 else unet(shape, **options)


@built_in("network", "mlp")
def mlp(
    shape: Sequence[int],
    *,
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    context: ContextShape = NOTHING,
) -> nn.Module:
    """An MLP for vectors `(d,)`."""
    if len(shape) > 1:
        raise UsageError("the network mlp is for vectors: leave model.net out, or choose unet or dit")
    if dropout or channels or patch:
        raise UsageError("a network for vectors has width and blocks, but no dropout, channels or patch: leave them out")
    return MLP(shape[0], width or max(128, min(512, 4 * shape[0])), blocks or 3, context)


@built_in("network", "dit")
def dit(
    shape: Sequence[int],
    *,
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    context: ContextShape = NOTHING,
) -> nn.Module:
    """A transformer for signals `(c, l)` and images `(c, h, w)`."""
    _neighbours(shape, "dit")
    if channels:
        raise UsageError("a transformer has width and blocks, but no levels of channels: leave model.channels out")
    return DiT(shape, width or 256, blocks or 6, patch_size(shape, "dit", patch), dropout=dropout, context=context)


@built_in("network", "unet")
def unet(
    shape: Sequence[int],
    *,
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    context: ContextShape = NOTHING,
) -> nn.Module:
    """A U-Net for signals `(c, l)` and images `(c, h, w)`."""
    _neighbours(shape, "unet")
    side = max(shape[1:])
    patch = patch_size(shape, "unet", patch)
    if channels is None:
        levels = max(2, 1 + math.ceil(math.log2(max(1.0, side / patch / 8))))
        base = width or 64
        channels = [base * min(2**level, 4) for level in range(levels)]
        if side / patch <= 8 and shape[0] * patch ** (len(shape) - 1) >= DENSE:
            channels = [width or 128]
    return UNet(
        shape[0],
        channels,
        blocks=blocks or 1,
        patch=patch,
        dropout=dropout,
        context=context,
        dims=len(shape) - 1,
    )


def _neighbours(shape: Sequence[int], net: str) -> None:
    if len(shape) == 1:
        raise UsageError(f"vectors have no neighbours for a {net}: leave model.net out")


def patch_size(shape: Sequence[int], net: str = "auto", patch: int | None = None) -> int:
    """The patches' side for samples `(c, l)` or `(c, h, w)`. patch: the one asked for, if any."""
    if patch is not None:
        return patch
    side = max(shape[1:])
    finest = 16 if len(shape) == 3 else 256
    found = 1 if side <= finest else 2 if side <= 2 * finest else 4
    if net == "dit" and side / found > 8 and len(shape) == 3:
        found *= 2  # at most 64 patches, whose attention is cheap
    return found


__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "DiT",
    "Discriminator",
    "Generator",
    "Plan",
    "UNet",
    "VectorDiscriminator",
    "VectorGenerator",
    "denoising_network",
    "patch_size",
]
