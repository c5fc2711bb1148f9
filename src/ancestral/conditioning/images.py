"""Conditions on an image: one that is given with each sample, or one that is computed from the sample itself.

Samples are in the units of the data. Networks get levels, which are in [0, 1], as 2x - 1, and real numbers unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Spatial
from ancestral.conditioning.render import Rendering
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.noise import Noise
from ancestral.transfer import onto

CHANNELS = 16


@configurable
class ImageCondition(Condition):
    """A condition on an image for each sample: the image -> channels.

    Raw tensors are `(n, *shape)`, uint8 levels of 256 or numbers in the units of the data.

    Args:
        shape: `(c, h, w)` of the image.
        canvas: height and width of a sample.
        space: height and width of the channels.
        levels: whether the data are levels in [0, 1].
    """

    source: ClassVar[str | None] = "image"

    def __init__(self, shape: Sequence[int], canvas: Sequence[int], space: Sequence[int], levels: bool):
        super().__init__()
        self.shape, self.canvas, self.levels = tuple(shape), tuple(canvas), levels
        self.tau = Spatial(shape[0], CHANNELS, canvas, space)
        self.null = nn.Parameter(torch.zeros(CHANNELS, *space))
        self.widths = ContextShape(channels=CHANNELS)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.shape, self.levels)

    def column(self, values: Tensor) -> Tensor:
        return values

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor from one image `(c, h, w)`, or n images."""
        images = torch.as_tensor(value)
        if images.shape[-3:] != self.shape or images.ndim not in (3, 4):
            raise UsageError(f"an image condition must have shape {self.shape}, found {tuple(images.shape)}")
        return one_or_each(images, n, images.ndim == 3, "images", lambda image: image)

    def mirror(self, raw: Tensor) -> Tensor:
        return raw.flip(-1)

    def render(self, raw: Tensor) -> Rendering:
        x = raw.float() / 255 if raw.dtype == torch.uint8 else raw
        x = self.as_input(x[None])[0][: 3 if len(x) >= 3 else 1]
        return Rendering(pictures=(x.clamp(0, 1) if self.levels else (x - x.min()) / (x.max() - x.min()).clamp(min=1e-12),))

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        if raw is None:
            return Context(channels=self.null.expand(n, -1, -1, -1))
        x = onto(raw, self.null.device)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return Context(channels=where(drop, self.null, self.tau(self.as_input(2 * x - 1 if self.levels else x))))

    def as_input(self, x: Tensor) -> Tensor:
        """Return the image as the encoder sees it, at the size of the canvas."""
        return x


@configurable
class UpscaleCondition(ImageCondition):
    """A condition on the sample at a smaller size. Raw tensors are `(n, c, h / factor, w / factor)`.

    Each of their pixels is the mean of `factor` x `factor` pixels.
    """

    source = None

    def __init__(self, channels: int, canvas: Sequence[int], space: Sequence[int], levels: bool, factor: int):
        if any(size % factor for size in canvas):
            raise UsageError(f"images of {canvas[0]}x{canvas[1]} are not a multiple of model.factor={factor}: choose another")
        super().__init__((channels, *(size // factor for size in canvas)), canvas, space, levels)
        self.factor = factor

    def derive(self, x: Tensor, noise: Noise) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def as_input(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=float(self.factor), mode="nearest")


@configurable
class SketchCondition(ImageCondition):
    """A condition on the sample's edges. Raw tensors are `(n, 1, h, w)` in [0, 1]."""

    source = None

    def __init__(self, canvas: Sequence[int], space: Sequence[int]):
        super().__init__((1, *canvas), canvas, space, levels=True)

    def derive(self, x: Tensor, noise: Noise) -> Tensor:
        return edges(x)


@configurable
class InpaintCondition(ImageCondition):
    """A condition on the sample with a hidden part. Raw tensors are `(n, c + 1, h, w)`.

    Their first c channels are the image, with 0 for hidden pixels. The last channel is 1 for known and 0 for hidden pixels.
    """

    source = None

    def __init__(self, channels: int, canvas: Sequence[int], space: Sequence[int], levels: bool):
        super().__init__((channels + 1, *canvas), canvas, space, levels)

    def derive(self, x: Tensor, noise: Noise) -> Tensor:
        known = 1 - hidden(noise, self.canvas).to(x)
        return torch.cat([x * known, known], 1)

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor from (image, known), `(c, h, w)` and `(h, w)`, or n of each.

        `known` is 1 for a pixel that is kept and 0 for a pixel that is generated.
        """
        if not isinstance(value, Tensor):
            image, known = (torch.as_tensor(part).float() for part in value)
            if image.shape[-2:] != known.shape[-2:]:
                a, b = ("x".join(map(str, part.shape[-2:])) for part in (image, known))
                raise UsageError(f"the mask of known pixels has {b} pixels, and the image has {a}: give both the same size")
            known = known.expand(*image.shape[:-3], *known.shape[-2:]).unsqueeze(-3)
            value = torch.cat([image * known, known], -3)
        return super().parse(value, n)

    def put_back(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return x with the known pixels of the image in place of the model's."""
        if x.shape[1:] != (self.shape[0] - 1, *self.shape[1:]):  # latents
            return x
        raw = raw.to(x) / 255 if raw.dtype == torch.uint8 else raw.to(x)
        return torch.where(raw[:, -1:] > 0.5, raw[:, :-1], x)

    def as_input(self, x: Tensor) -> Tensor:
        image, known = x[:, :-1], x[:, -1:]
        return torch.cat([torch.where(known > (0 if self.levels else 0.5), image, 0.0), known], 1)


def edges(x: Tensor) -> Tensor:
    """Return the magnitude of Sobel's gradient of the mean channel, at most 1: `(n, c, h, w)` -> `(n, 1, h, w)`.

    A step of height 1 has magnitude 1.
    """
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(x) / 4
    kernels = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate"), kernels)
    return gradient.square().sum(1, keepdim=True).sqrt().clamp(max=1)


def hidden(noise: Noise, size: Sequence[int], strokes: int = 4) -> Tensor:
    """Draw random hidden areas `(n, 1, *size)`, bool. They depend only on `noise`.

    Three shapes are equally likely: a rectangle whose sides are half of the image's on average, one of the four halves, or
    strokes of a brush.
    """
    u = noise.uniform((6 + 5 * strokes,))
    h, w = size
    y = ((torch.arange(h, device=u.device) + 0.5) / h)[:, None]
    x = ((torch.arange(w, device=u.device) + 0.5) / w)[None, :]

    def number(i: int) -> Tensor:
        return u[:, i, None, None]

    tall, wide = 0.25 + 0.5 * number(1), 0.25 + 0.5 * number(2)
    top, left = (1 - tall) * number(3), (1 - wide) * number(4)
    rectangle = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    axis = torch.where(number(1) < 0.5, y, x)
    half = torch.where(number(2) < 0.5, axis < 0.5, axis >= 0.5)
    painted = torch.zeros_like(half)
    for i in range(6, 6 + 5 * strokes, 5):
        ay, ax, by, bx = (number(i + j) for j in range(4))
        along = (((y - ay) * (by - ay) + (x - ax) * (bx - ax)) / ((by - ay) ** 2 + (bx - ax) ** 2 + 1e-6)).clamp(0, 1)
        distance2 = (y - ay - along * (by - ay)) ** 2 + (x - ax - along * (bx - ax)) ** 2
        painted |= distance2 < (0.04 + 0.08 * number(i + 4)) ** 2
    which = number(0)
    return torch.where(which < 1 / 3, rectangle, torch.where(which < 2 / 3, half, painted))[:, None]
