"""Encoders and decoders: residual convolutions for images and signals of any size, an MLP for vectors.

As in the U-Net, the finest convolution sees patches, not pixels. The latents modulate a decoder's blocks, so that they have an
effect at every resolution and not only through the coarsest map. Signals are images of height 1 with flat kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.builtin import built_in
from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.networks.layers import ChannelNorm, SpatialContext, zero


@configurable
@dataclass(frozen=True)
class Plan:
    """The geometry that the encoder and the decoder of one model share.

    Args:
        shape: of a sample.
        channels: the features at each level. Each level has half the resolution of the one before.
        blocks: residual blocks per level.
        patch: the side of the stem's patches.
        context: the widths of the context. The networks use its vector and its channels.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    blocks: int
    patch: int
    context: ContextShape = NOTHING

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        *,
        width: int | None = None,
        blocks: int | None = None,
        patch: int | None = None,
        context: ContextShape = NOTHING,
    ) -> Plan:
        """Make a plan for a shape. An option that is None gets a value from the shape.

        Patches are then 1, 2 or 4, and there are enough levels for a coarsest map of at most 8 per side.
        """
        side = max(shape[1:])
        finest = 16 if len(shape) == 3 else 128
        patch = patch or (1 if side <= finest else 2 if side <= 2 * finest else 4)
        levels = 1 if side == 1 else max(2, 1 + math.ceil(math.log2(max(1.0, side / patch / 8))))
        channels = tuple((width or 32) * min(2**level, 4) for level in range(levels))
        return cls(tuple(shape), channels, blocks or 1, patch, context)

    @property
    def flat(self) -> bool:
        """Whether the samples are signals."""
        return len(self.shape) == 2

    @property
    def kernel(self) -> tuple[int, int]:
        return (1, 3) if self.flat else (3, 3)

    @property
    def halving(self) -> tuple[int, int]:
        return (1, 2) if self.flat else (2, 2)

    @property
    def space(self) -> tuple[int, int]:
        """The height and width of a sample."""
        return (1, self.shape[1]) if self.flat else (self.shape[1], self.shape[2])

    def map_at(self, level: int) -> tuple[int, int]:
        """Return the height and width of the feature map of a level."""
        whole = self.patch * 2 ** (len(self.channels) - 1)
        h, w = (math.ceil(size / whole) * 2 ** (len(self.channels) - 1 - level) for size in self.space)
        return (1, w) if self.flat else (h, w)

    def spatial(self, features: Sequence[int]) -> SpatialContext | None:
        """Return the module that brings a context's channels to levels of these features, or None if it has no channels."""
        if not self.context.channels:
            return None
        sizes = [self.map_at(level) for level in range(len(self.channels))]
        padded = [self.patch * size for size in sizes[0]]
        return SpatialContext(self.context.channels, self.patch, padded, features, sizes)

    def conv(self, c_in: int, c_out: int, stride: tuple[int, int] = (1, 1)) -> nn.Conv2d:
        return nn.Conv2d(c_in, c_out, self.kernel, stride, padding=(self.kernel[0] // 2, 1))


class Residual(nn.Module):
    """A residual block: norm, SiLU, conv; norm modulated by a vector `(n, width)`, SiLU, conv; plus the (projected) input."""

    def __init__(self, plan: Plan, c_in: int, c_out: int, width: int = 0):
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(c_in), plan.conv(c_in, c_out)
        self.modulation = nn.Linear(width, 2 * c_out) if width else None
        self.norm2, self.conv2 = ChannelNorm(c_out), zero(plan.conv(c_out, c_out))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulation is not None:
            scale, shift = self.modulation(vector)[:, :, None, None].chunk(2, 1)
            h = torch.addcmul(shift, h, 1 + scale)
        out: Tensor = self.skip(x) + self.conv2(F.silu(h))
        return out


class Stem(nn.Module):
    """The first layer: samples `(n, c, *space)` -> the finest feature map.

    Samples are padded below and right until every level divides evenly.
    """

    def __init__(self, plan: Plan):
        super().__init__()
        self.plan = plan
        p = plan.patch
        size = 3 if p == 1 else 2 * p
        across = (1, 1, 0) if plan.flat else (size, p, (size - p + 1) // 2)
        kernel, stride, padding = zip(across, (size, p, (size - p + 1) // 2), strict=True)
        self.conv = nn.Conv2d(plan.shape[0] + plan.context.channels, plan.channels[0], kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None, :] if self.plan.flat else x
        h, w = self.plan.map_at(0)
        h, w = h * (1 if self.plan.flat else self.plan.patch), w * self.plan.patch
        out: Tensor = self.conv(F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2])))
        return out


class Head(nn.Module):
    """The last layer: the finest feature map -> `(n, outputs, *space)`, cropped to the size of a sample."""

    def __init__(self, plan: Plan, outputs: int):
        super().__init__()
        self.plan = plan
        p = plan.patch
        self.norm = ChannelNorm(plan.channels[0])
        self.conv = plan.conv(plan.channels[0], outputs * p * (1 if plan.flat else p))

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.conv(F.silu(self.norm(h)))
        p, q = (1, self.plan.patch) if self.plan.flat else (self.plan.patch, self.plan.patch)
        n, folded, rows, columns = y.shape
        y = y.view(n, folded // (p * q), p, q, rows, columns).permute(0, 1, 4, 2, 5, 3).reshape(n, -1, rows * p, columns * q)
        y = y[..., : self.plan.space[0], : self.plan.space[1]]
        return y[:, :, 0] if self.plan.flat else y


class Trunk(nn.Module):
    """The convolutions of an encoder: samples -> the feature maps of all levels, the finest first."""

    def __init__(self, plan: Plan):
        super().__init__()
        self.stem = Stem(plan)
        self.steps = nn.ModuleList()
        c = plan.channels[0]
        for level, c_out in enumerate(plan.channels):
            if level > 0:
                self.steps.append(plan.conv(c, c, plan.halving))
            for _ in range(plan.blocks):
                self.steps.append(Residual(plan, c, c_out, plan.context.vector))
                c = c_out

    def forward(self, y: Tensor, context: Context) -> list[Tensor]:
        h, found = self.stem(y if context.channels is None else torch.cat([y, context.channels.to(y.dtype)], 1)), []
        for step in self.steps:
            if not isinstance(step, Residual):
                found.append(h)
            h = step(h, context.vector) if isinstance(step, Residual) else step(h)
        return [*found, h]


@configurable
class ConvEncoder(nn.Module):
    """A convolutional encoder: (y `(n, c, *space)`, Context) -> `(n, features)`.

    With `local` the output is `(n, positions * features)`, that is `features` numbers for each position of the coarsest map.
    """

    def __init__(self, plan: Plan, features: int, local: bool = False):
        super().__init__()
        self.local = local
        self.trunk = Trunk(plan)
        c = plan.channels[-1]
        rows, columns = plan.map_at(len(plan.channels) - 1)
        self.norm = ChannelNorm(c)
        self.head = nn.Linear(c if local else c * rows * columns, features)

    def forward(self, y: Tensor, context: Context) -> Tensor:
        h = F.silu(self.norm(self.trunk(y, context)[-1])).permute(0, 2, 3, 1)
        out: Tensor = self.head(h).flatten(1) if self.local else self.head(h.flatten(1))
        return out


@configurable
class ConvDecoder(nn.Module):
    """A convolutional decoder: (z, Context) -> `(n, outputs, *space)`, with z shaped as the output of a `ConvEncoder`."""

    def __init__(self, plan: Plan, features: int, outputs: int, local: bool = False, width: int = 128):
        super().__init__()
        self.map = plan.map_at(len(plan.channels) - 1)
        self.local = local
        c = plan.channels[-1]
        self.stem = nn.Linear(features, c if local else c * self.map[0] * self.map[1])
        self.style = None if local else nn.Linear(features + plan.context.vector, width)
        width = plan.context.vector if local else width
        entering = [*plan.channels[1:], c]  # features that a level receives from the coarser one
        self.from_context = plan.spatial(entering)
        self.levels = nn.ModuleList()
        for level, c_out in reversed(list(enumerate(plan.channels))):
            steps: list[nn.Module] = []
            for _ in range(plan.blocks):
                steps.append(Residual(plan, c, c_out, width))
                c = c_out
            if level > 0:
                steps.append(nn.Upsample(scale_factor=plan.halving, mode="nearest"))
            self.levels.append(nn.ModuleList(steps))
        self.head = Head(plan, outputs)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        rows, columns = self.map
        h = self.stem(z.view(z.shape[0], rows, columns, -1) if self.local else z).view(z.shape[0], rows, columns, -1)
        h = h.permute(0, 3, 1, 2)
        vector = context.vector
        if self.style is not None:
            vector = F.silu(self.style(z if vector is None else torch.cat([z, vector], 1)))
        added = [] if self.from_context is None else self.from_context(context.channels)
        for level in self.levels:
            h = h + added.pop() if added else h
            assert isinstance(level, nn.ModuleList)
            for step in level:
                h = step(h, vector) if isinstance(step, Residual) else step(h)
        out: Tensor = self.head(h)
        return out


@configurable
class DenseEncoder(nn.Module):
    """An encoder of residual dense layers: (y `(n, *shape)`, Context) -> `(n, features)`."""

    def __init__(self, shape: Sequence[int], features: int, width: int, blocks: int, context: ContextShape = NOTHING):
        super().__init__()
        self.layers = Dense(math.prod(shape) + context.vector, features, width, blocks)

    def forward(self, y: Tensor, context: Context) -> Tensor:
        out: Tensor = self.layers(_with(y.flatten(1), context))
        return out


@configurable
class DenseDecoder(nn.Module):
    """A decoder of residual dense layers: (z `(n, features)`, Context) -> `(n, outputs * shape[0], *shape[1:])`."""

    def __init__(
        self, shape: Sequence[int], features: int, outputs: int, width: int, blocks: int, context: ContextShape = NOTHING
    ):
        super().__init__()
        self.shape = (outputs * shape[0], *shape[1:])
        self.layers = Dense(features + context.vector, math.prod(self.shape), width, blocks)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        out: Tensor = self.layers(_with(z, context)).view(z.shape[0], *self.shape)
        return out


class Pair(NamedTuple):
    """The networks of an autoencoder.

    Attributes:
        encoder: from samples to `encoded` numbers, at each position if it is local.
        decoder: from `latent` numbers, at each position if it is local, to `repeat` numbers for each value of a sample.
        positions: the number of positions of local latents, 1 otherwise.
    """

    encoder: nn.Module
    decoder: nn.Module
    positions: int


@built_in("autoencoder", "conv")
def convolutional(
    shape: Sequence[int],
    encoded: int,
    latent: int,
    repeat: int,
    *,
    local: bool = False,
    width: int | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    context: ContextShape = NOTHING,
) -> Pair:
    """Build convolutional networks. Raises UsageError for vectors.

    Args:
        shape: of a sample.
        encoded: the numbers that the encoder returns.
        latent: the numbers that the decoder takes.
        repeat: the numbers that the decoder returns for each value of a sample.
        local: whether `encoded` and `latent` count the numbers at each position of the coarsest map.
        width: features of the finest level. None: as `Plan.of` chooses it, and so for blocks and patch.
        blocks: residual blocks per level.
        patch: the side of the stem's patches.
        context: the widths of the context.
    """
    if len(shape) == 1:
        raise UsageError("vectors cannot be convolved: leave model.net out")
    plan = Plan.of(shape, width=width, blocks=blocks, patch=patch, context=context)
    encoder = ConvEncoder(plan, encoded, local=local)
    decoder = ConvDecoder(plan, latent, shape[0] * repeat, local=local)
    return Pair(encoder, decoder, math.prod(plan.map_at(len(plan.channels) - 1)) if local else 1)


@built_in("autoencoder", "mlp")
def dense(
    shape: Sequence[int],
    encoded: int,
    latent: int,
    repeat: int,
    *,
    local: bool = False,
    width: int | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    context: ContextShape = NOTHING,
) -> Pair:
    """Build MLPs. Arguments as in `convolutional`; local latents have 2 to 16 positions. An MLP has no patches."""
    dims = math.prod(shape)
    width, blocks = width or max(128, min(384, 4 * dims)), blocks or (2 if len(shape) == 1 else 1)
    positions = max(2, min(16, dims // 4)) if local else 1
    encoder = DenseEncoder(shape, positions * encoded, width, blocks, context)
    return Pair(encoder, DenseDecoder(shape, positions * latent, repeat, width, blocks, context), positions)


@built_in("autoencoder", "auto")
def suited(shape: Sequence[int], *sizes: int, **options: Any) -> Pair:
    """Build MLPs for vectors, and convolutional networks for signals and images. Arguments as in `convolutional`."""
    return (dense if len(shape) == 1 else convolutional)(shape, *sizes, **options)


class Dense(nn.Sequential):
    """A layer to `width`, residual blocks, a layer to `outputs`."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int):
        super().__init__(
            nn.Linear(inputs, width), *(_Block(width) for _ in range(blocks)), nn.SiLU(), nn.Linear(width, outputs)
        )


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), zero(nn.Linear(width, width))

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(F.silu(self.first(F.silu(h))))
        return out


def _with(x: Tensor, context: Context) -> Tensor:
    return x if context.vector is None else torch.cat([x, context.vector], 1)
