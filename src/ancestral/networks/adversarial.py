"""Generators and discriminators without normalisation (after Huang et al. 2024, arXiv:2501.05441, "R3GAN").

Both networks have residual pairs of 3x3 convolutions with leaky ReLUs, in opposite order of the levels. The discriminator has
no norm that couples positions or samples, so the gradient with respect to its input, which R1 and R2 penalise, is cheap and
exact. The initial weights keep the variance instead: the last convolution of a branch starts at zero, and the one before it is
scaled down with depth ("Fixup", Zhang et al. 2019, arXiv:1901.09321).
The finest `patch` x `patch` pixels are folded into channels, as in the U-Net, so that no convolution runs at full resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable, transformed
from ancestral.errors import UsageError
from ancestral.networks.layers import SpatialContext, zero

M = TypeVar("M", nn.Conv2d, nn.Linear)
SLOPE = 0.2  # slope of the leaky ReLU for negative numbers


def adversarial_networks(
    shape: Sequence[int],
    *,
    width: int | None = None,
    channels: Sequence[int] | None = None,
    blocks: int | None = None,
    patch: int | None = None,
    latent: int | None = None,
    context: ContextShape = NOTHING,
) -> tuple[nn.Module, nn.Module]:
    """Build (generator, discriminator) for samples of a shape: MLPs for `(d,)`, convolutional for `(c, l)` and `(c, h, w)`.

    An option that is None gets a value from the shape: patches as in the U-Net, and enough levels for a coarsest map of at
    most 7 per side, at least two.

    Raises:
        UsageError: if the networks for that shape do not have an option.
    """
    if len(shape) == 1:
        if channels or patch:
            raise UsageError("networks for vectors have width and blocks, but no channels or patch: leave them out")
        width, blocks = width or max(128, min(512, 4 * shape[0])), blocks or 3
        generator = VectorGenerator(shape[0], width, blocks, latent or max(8, min(64, 2 * shape[0])), context)
        return generator, VectorDiscriminator(shape[0], width, blocks, context)
    side, finest = max(shape[1:]), 16 if len(shape) == 3 else 256
    if patch is None:
        patch = 1 if side <= finest else 2 if side <= 2 * finest else 4
    if channels is None:
        levels = max(2, 1 + math.ceil(math.log2(max(1.0, side / patch / 7))))
        channels = [(width or (64 if patch == 1 else 48)) * min(2**level, 4) for level in range(levels)]
    return (
        Generator(shape, channels, blocks or 1, patch, latent or 64, context),
        Discriminator(shape, channels, blocks or 1, patch, context),
    )


class Pyramid:
    """The geometry of both networks: shape `(c, h, w)` or `(c, l)`, patches, and the size of each level, finest first.

    Signals are images of height 1 with flat kernels. Sides that are not divisible are padded, below and right.
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int], patch: int):
        self.shape, self.channels = tuple(shape), tuple(channels)
        self.signal = len(shape) == 2
        self.space = (1, shape[1]) if self.signal else (shape[1], shape[2])
        self.patch = (1 if self.signal else patch, patch)
        self.half = (1 if self.signal else 2, 2)
        self.kernel = (1 if self.signal else 3, 3)
        halvings = len(channels) - 1
        self.coarsest = tuple(
            math.ceil(s / (p * k**halvings)) for s, p, k in zip(self.space, self.patch, self.half, strict=True)
        )
        self.padded = tuple(s * p * k**halvings for s, p, k in zip(self.coarsest, self.patch, self.half, strict=True))
        self.area = self.patch[0] * self.patch[1]
        self.folded = shape[0] * self.area

    def fold(self, x: Tensor) -> Tensor:
        """Fold samples into `(n, c p q, h/p, w/q)`, channels-last."""
        x = x[:, :, None] if self.signal else x
        (p, q), (h, w) = self.patch, self.padded
        x = F.pad(x, (0, w - x.shape[-1], 0, h - x.shape[-2])) if x.shape[-2:] != (h, w) else x
        n, c = x.shape[:2]
        x = x.reshape(n, c, h // p, p, w // q, q).permute(0, 2, 4, 1, 3, 5).reshape(n, h // p, w // q, c * self.area)
        return x.permute(0, 3, 1, 2)

    def spatial(self, channels: int) -> SpatialContext:
        """Return the module that brings a context's channels to each level."""
        p, k = self.patch[1], self.half[1]
        sizes = [(self.padded[0] // (p * k**i), self.padded[1] // (p * k**i)) for i in range(len(self.channels))]
        return SpatialContext(channels, p, self.padded, self.channels, sizes)

    def unfold(self, x: Tensor) -> Tensor:
        """Invert `fold`."""
        (p, q), (h, w) = self.patch, self.padded
        n, c = x.shape[0], self.shape[0]
        x = x.permute(0, 2, 3, 1).reshape(n, h // p, w // q, c, p, q).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
        x = x[..., : self.space[0], : self.space[1]]
        return x[:, :, 0] if self.signal else x


@configurable
class Generator(nn.Module):
    """A convolutional generator: (z `(n, latent)`, Context) -> samples `(n, *shape)`.

    The context's vector is concatenated to z, and its channels are added at every level.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] = (64, 128),
        blocks: int = 1,
        patch: int = 2,
        latent: int = 64,
        context: ContextShape = NOTHING,
    ):
        super().__init__()
        self.latent = latent
        self.pyramid = geometry = Pyramid(shape, channels, patch)
        self.stem = _Stem(latent, context, channels[-1] * math.prod(geometry.coarsest))
        depth = blocks * len(channels)
        self.levels = nn.ModuleList()
        for c, finer in zip(reversed(channels), [*reversed(channels[:-1]), None], strict=True):
            steps: list[nn.Module] = [_Block(c, geometry.kernel, depth) for _ in range(blocks)]
            if finer is not None:
                steps += [_project(c, finer), nn.Upsample(scale_factor=geometry.half, mode="nearest")]
            self.levels.append(nn.Sequential(*steps))
        self.head = _conv(channels[0], geometry.folded, geometry.kernel)
        self.from_context = geometry.spatial(context.channels) if context.channels else None

    def forward(self, z: Tensor, context: Context) -> Tensor:
        n, (h, w) = z.shape[0], self.pyramid.coarsest
        x = self.stem(z, context).view(n, h, w, -1).permute(0, 3, 1, 2)
        added = [] if self.from_context is None else self.from_context(context.channels)
        for level in self.levels:
            x = level(x + added.pop() if added else x)
        return self.pyramid.unfold(self.head(F.leaky_relu(x, SLOPE)))


@configurable
class Discriminator(nn.Module):
    """A convolutional discriminator: (x `(n, *shape)`, Context) -> logits `(n,)`.

    The context's vector y enters by projection: l = w f(x) + <V y, f(x)> (Miyato & Koyama 2018, arXiv:1802.05637, eq. 4).
    The context's channels are concatenated to those of x.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int] = (64, 128),
        blocks: int = 1,
        patch: int = 2,
        context: ContextShape = NOTHING,
    ):
        super().__init__()
        self.pyramid = geometry = Pyramid(shape, channels, patch)
        self.stem = _conv(geometry.folded + context.channels * geometry.area, channels[0], geometry.kernel)
        depth = blocks * len(channels)
        self.levels = nn.ModuleList()
        for c, coarser in zip(channels, [*channels[1:], None], strict=True):
            steps: list[nn.Module] = [_Block(c, geometry.kernel, depth) for _ in range(blocks)]
            if coarser is not None:
                steps += [nn.AvgPool2d(geometry.half), _project(c, coarser)]
            self.levels.append(nn.Sequential(*steps))
        area = math.prod(geometry.coarsest)
        self.place = nn.Parameter(torch.randn(channels[-1], *geometry.coarsest) / math.sqrt(area))  # weights of positions
        self.logit = _Logit(channels[-1], context)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        h = self.stem(self.pyramid.fold(x if context.channels is None else torch.cat([x, context.channels.to(x.dtype)], 1)))
        for level in self.levels:
            h = level(h)
        out: Tensor = self.logit((F.leaky_relu(h, SLOPE) * self.place).sum((2, 3)), context)
        return out


@configurable
class VectorGenerator(nn.Module):
    """An MLP generator: (z `(n, latent)`, Context) -> vectors `(n, features)`."""

    def __init__(self, features: int, width: int = 128, blocks: int = 3, latent: int = 16, context: ContextShape = NOTHING):
        super().__init__()
        self.latent = latent
        self.stem = _Stem(latent, context, width)
        self.blocks = nn.Sequential(*[_VectorBlock(width, blocks) for _ in range(blocks)])
        self.head = nn.Linear(width, features)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        out: Tensor = self.head(F.leaky_relu(self.blocks(self.stem(z, context)), SLOPE))
        return out


@configurable
class VectorDiscriminator(nn.Module):
    """An MLP discriminator: (x `(n, features)`, Context) -> logits `(n,)`."""

    def __init__(self, features: int, width: int = 128, blocks: int = 3, context: ContextShape = NOTHING):
        super().__init__()
        self.stem = nn.Linear(features, width)
        self.blocks = nn.Sequential(*[_VectorBlock(width, blocks) for _ in range(blocks)])
        self.logit = _Logit(width, context)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        out: Tensor = self.logit(F.leaky_relu(self.blocks(self.stem(x)), SLOPE), context)
        return out


class _Stem(nn.Module):
    """W [z, U y] `(n, out)` for the context's vector y.

    It is linear, so that a smaller scale of z moves a sample from its draw towards the mean of its condition.
    """

    def __init__(self, latent: int, context: ContextShape, out: int):
        super().__init__()
        self.from_context = nn.Linear(context.vector, latent, bias=False) if context.vector else None
        self.mix = nn.Linear(2 * latent if context.vector else latent, out)
        nn.init.normal_(self.mix.weight, std=1 / math.sqrt(self.mix.in_features))
        if self.from_context is not None:
            nn.init.normal_(self.from_context.weight, std=1 / math.sqrt(context.vector))

    def forward(self, z: Tensor, context: Context) -> Tensor:
        h: Tensor = self.mix(z if self.from_context is None else torch.cat([z, self.from_context(context.vector)], 1))
        return h


class _Logit(nn.Module):
    """The last layer of a discriminator: (features `(n, c)`, Context) -> logits `(n,)`."""

    def __init__(self, features: int, context: ContextShape):
        super().__init__()
        self.real = nn.Linear(features, 1)
        self.fits = nn.Linear(context.vector, features, bias=False) if context.vector else None

    def forward(self, f: Tensor, context: Context) -> Tensor:
        l: Tensor = self.real(f)[:, 0]
        if self.fits is not None:
            l = l + (self.fits(context.vector) * f).sum(1) / math.sqrt(f.shape[1])
        return l


class _Block(nn.Module):
    """x + conv(lrelu(conv(lrelu(x)))), which starts as the identity. Half the width inside halves the cost."""

    def __init__(self, channels: int, kernel: tuple[int, int], depth: int):
        super().__init__()
        inside = max(1, channels // 2)
        self.first = _shrunk(_conv(channels, inside, kernel), depth)
        self.second = zero(_conv(inside, channels, kernel, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x + h


class _VectorBlock(nn.Module):
    def __init__(self, width: int, depth: int):
        super().__init__()
        self.first = _shrunk(nn.Linear(width, width), depth)
        self.second = zero(nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x + h


def _project(c_in: int, c_out: int) -> nn.Module:
    """Return a 1x1 convolution that keeps the variance, or the identity if the width does not change."""
    if c_in == c_out:
        return nn.Identity()
    conv = _conv(c_in, c_out, (1, 1), bias=False)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(c_in))
    return conv


def _conv(c_in: int, c_out: int, kernel: tuple[int, int], bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=bias)


def _shrunk(layer: M, depth: int) -> M:
    """Initialise a layer that is not the last of its branch by Fixup: He's draw divided by sqrt(depth)."""
    nn.init.kaiming_normal_(layer.weight, SLOPE, nonlinearity="leaky_relu")
    with torch.no_grad():
        layer.weight /= math.sqrt(depth)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def spectral(network: nn.Module) -> nn.Module:
    """Divide each layer's weight by its largest singular value (Miyato et al. 2018, arXiv:1802.05957), by power iteration.

    Zero weights have no singular direction, so layers that would start at zero start from He's draw instead.
    """
    for layer in [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
        if not layer.weight.any():
            nn.init.kaiming_normal_(layer.weight, SLOPE, nonlinearity="leaky_relu")
        nn.utils.parametrizations.spectral_norm(layer)
        parametrized(layer).eval()
    return transformed(network, spectral)


def parametrized(layer: nn.Module) -> nn.Module:
    """Return the spectral normalisation of a layer's weight.

    It stays in evaluation mode, in which a read of the weight changes nothing. `iterate` does its power iteration.
    """
    norms: nn.Module = layer.parametrizations.weight[0]  # type: ignore[union-attr,index,assignment]
    return norms


def hold(network: nn.Module) -> None:
    """Keep the normalisations of `spectral` in evaluation mode."""
    for layer in network.modules():
        if nn.utils.parametrize.is_parametrized(layer, "weight"):
            parametrized(layer).eval()


@torch.no_grad()
def iterate(network: nn.Module) -> None:
    """Do one step of the power iteration of every layer that `spectral` normalises."""
    for layer in network.modules():
        if nn.utils.parametrize.is_parametrized(layer, "weight"):
            norm = parametrized(layer)
            norm.train()
            norm(layer.parametrizations.weight.original)  # type: ignore[union-attr]
            norm.eval()
