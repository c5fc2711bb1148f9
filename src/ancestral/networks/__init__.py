"""Networks. They map tensors to tensors and do not depend on losses."""

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
from ancestral.networks.diffusers import DiffusersUNet, unet_config
from ancestral.networks.dit import DiT
from ancestral.networks.foreign import FromTime, Preconditioned
from ancestral.networks.mlp import MLP
from ancestral.networks.unet import UNet
from ancestral.registry import lookup

DENSE = 12  # numbers at each position from which one level is enough


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
    """Build the registered network `net` for samples of the given shape. "auto" is an MLP for `(d,)`, else a U-Net.

    An option that is None gets a value from the shape. The patch is 1, 2 or 4, the smallest of these for which the finest map
    has at most 16 positions per side (256 for a signal), or else 4. There are at least two levels, and enough for a coarsest
    map of at most 8 per side. But if the finest map has at most 8 per side and 12 or more numbers at each position, as latents
    have, there is one level, because a coarser map would lose these numbers.

    Args:
        shape: of one sample.
        net: the name of the network.
        width: features of a block, or of the finest level.
        channels: features of each level.
        blocks: residual blocks, per level if there are levels.
        patch: the side of patches.
        dropout: the dropout rate in blocks.
        context: the widths of the context. A network for vectors uses only the context's vector.

    Raises:
        UsageError: if the name is unknown, or the network does not have an option.
    """
    options = {"width": width, "channels": channels, "blocks": blocks, "patch": patch, "dropout": dropout, "context": context}
    network: nn.Module = lookup("network", net)(shape, **options)
    return network


@built_in("network", "auto")
def auto(shape: Sequence[int], **options: Any) -> nn.Module:
    """Build an MLP for vectors, else a U-Net: the network that is fastest on a CPU."""
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
    """Build an MLP for vectors `(d,)`."""
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
    """Build a transformer for signals `(c, l)` and images `(c, h, w)`."""
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
    """Build a U-Net for signals `(c, l)` and images `(c, h, w)`."""
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


@built_in("network", "unet-diffusers")
def unet_diffusers(
    shape: Sequence[int],
    *,
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    context: ContextShape = NOTHING,
) -> nn.Module:
    """Build a UNet2DModel, or for tokens a UNet2DConditionModel, of the library diffusers for images `(c, h, w)`."""
    if len(shape) != 3:
        raise UsageError("the network unet-diffusers is for images: leave model.net out")
    if patch or width:
        raise UsageError("the network unet-diffusers has channels and blocks, but no width and no patches: leave them out")
    return DiffusersUNet(unet_config(shape, channels, blocks or 1, dropout, bool(context.tokens)), context=context)


def _neighbours(shape: Sequence[int], net: str) -> None:
    if len(shape) == 1:
        raise UsageError(f"the network {net} is for signals and images, and these samples are vectors: leave model.net out")


def patch_size(shape: Sequence[int], net: str = "auto", patch: int | None = None) -> int:
    """Return the side of patches for samples `(c, l)` or `(c, h, w)`. If `patch` is given, return it."""
    if patch is not None:
        return patch
    side = max(shape[1:])
    finest = 16 if len(shape) == 3 else 256
    found = 1 if side <= finest else 2 if side <= 2 * finest else 4
    if net == "dit" and side / found > 8 and len(shape) == 3:
        found *= 2  # attention between at most 64 patches is cheap
    return found


__all__ = [
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "DiT",
    "DiffusersUNet",
    "Discriminator",
    "FromTime",
    "Generator",
    "Plan",
    "Preconditioned",
    "UNet",
    "VectorDiscriminator",
    "VectorGenerator",
    "denoising_network",
    "patch_size",
]
