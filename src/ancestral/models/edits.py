"""Edits of given samples: variation, inpainting, upscaling, and reconstruction from any linear measurement.

An edit changes one part of a sampling path: its start, its solver or its denoiser. So edits work with every solver, schedule
and kind of guidance, and need no training. Given samples are in the units of the data, `(n, *shape)`, or `(1, *shape)` for all
samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.errors import UsageError
from ancestral.guidance import ClassifierGuidance, Posterior, RePaint
from ancestral.guidance.posterior import Operator
from ancestral.models.base import Standardize
from ancestral.noise import Noise
from ancestral.schedules import Level
from ancestral.solvers import Denoise, Solver, State


@dataclass(frozen=True)
class SamplePath:
    """A sampling path that has not begun. eps: the noise `(n, *shape)` at its start. levels: from noise to data."""

    denoise: Denoise
    solver: Solver
    eps: Tensor
    levels: list[Level]
    start: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """The start: x_t = alpha_t x + sigma_t eps for a given x, or (alpha_1^2 + sigma_1^2)^(1/2) eps without one.

        The latter has the scale of x_1 for data of variance 1.
        """
        first = self.levels[0]
        if self.start is None:
            return math.hypot(first.alpha, first.sigma) * self.eps
        return first.alpha * self.start + first.sigma * self.eps

    def states(self, noise: Noise) -> Iterator[State]:
        if len(self.levels) == 1:
            return iter([State(self.x, self.levels[0], None, 0, 0, 0)])
        return self.solver(self.denoise, self.x, self.levels, noise)


class Edit:
    """A change of a sampling path."""

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        """Return the path with the edit. Raises UsageError if a given tensor does not have the shape of the model's samples."""
        raise NotImplementedError

    def part(self, rows: slice) -> Edit:
        """Return the edit for some of the samples."""
        return replace(  # type: ignore[type-var]
            self, **{name: v[rows] for name, v in vars(self).items() if isinstance(v, Tensor) and len(v) > 1}
        )


@dataclass(frozen=True)
class Vary(Edit):
    """Variation of x: noise is added and removed again (Meng et al. 2022, SDEdit, arXiv:2108.01073, Algorithm 1).

    Sampling starts at the level at which the share `strength` of the steps remains. Strength 0 gives x itself, and 1 gives a
    new sample without any part of x. Raises UsageError for another strength.
    """

    x: Tensor
    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is from 0 (the picture itself) to 1 (a new sample); got {self.strength:g}")

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        check(self.x, *path.eps.shape)
        steps = len(path.levels) - 1
        left = round(self.strength * steps)
        if left == steps:
            return path
        x = standardize.normalize(self.x.to(path.eps)).expand_as(path.eps)
        return replace(path, start=x, levels=path.levels[steps - left :])


@dataclass(frozen=True)
class Inpaint(Edit):
    """Inpainting: the known part of x is kept, and `RePaint` generates the rest.

    `known` is bool, True for the part that is kept, and broadcasts against x. A model that was trained with the condition
    `inpaint` gets x and `known` as this condition.
    """

    x: Tensor
    known: Tensor
    repeats: int = 10
    condition: ClassVar[str] = "inpaint"

    def raw(self, n: int, shape: Sequence[int]) -> Tensor:
        """Return the image, with 0 for unknown pixels, and the mask: `(n, c + 1, h, w)`. A pixel is known in all channels."""
        self._check(n, shape)
        x = self.x.float().expand(n, *shape)
        known = self.known.bool().expand(n, *shape).all(1, keepdim=True).to(x)
        return torch.cat([x * known, known], 1)

    def _check(self, n: int, shape: Sequence[int]) -> None:
        check(self.x, n, *shape)
        fits = zip(self.known.shape, (n, *shape), strict=False)
        if self.known.ndim != self.x.ndim or any(a not in (1, b) for a, b in fits):
            raise UsageError(f"the mask has shape {_by(self.known.shape)} and the samples {_by((n, *shape))}: make it fit")

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        self._check(len(path.eps), path.eps.shape[1:])
        x, known = standardize.normalize(self.x.to(path.eps)), self.known.to(path.eps.device).bool()
        return replace(path, solver=RePaint(path.solver, x, known, self.repeats))


@dataclass(frozen=True)
class Measured(Edit):
    """Samples of p(x | y) for y = A x + noise of deviation sigma_y, by `Posterior`.

    A is a linear map of x. x, y and sigma_y are in model units.
    """

    A: Operator
    y: Tensor
    sigma_y: float = 0.01
    iterations: int = 5

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        y = self.y.to(path.eps)
        return replace(path, denoise=Posterior(path.denoise, self.A, y, self.sigma_y, self.iterations))


@dataclass(frozen=True)
class Classified(Edit):
    """Samples that are guided by a classifier of noisy samples, by `ClassifierGuidance`.

    log_prob: (x_t `(n, *shape)` in the models' units, level) -> log p(y | x_t) `(n,)`, differentiable.
    """

    log_prob: Callable[[Tensor, Level], Tensor]
    scale: float = 1.0

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        return replace(path, denoise=ClassifierGuidance(path.denoise, self.log_prob, self.scale))


@dataclass(frozen=True)
class Upscale(Edit):
    """Upscaling: pictures whose means over blocks are given.

    `small` is `(n, c, h, w)`, the model's size divided by whole numbers. `sigma_y` is the allowed error of the means, in units
    of the channels' deviation. A model that was trained with the condition `upscale` gets `small` as this condition.
    Raises UsageError for another shape.
    """

    small: Tensor
    sigma_y: float = 0.01
    iterations: int = 5
    condition: ClassVar[str] = "upscale"

    def raw(self, n: int, shape: Sequence[int]) -> Tensor:
        """Return the small pictures, `(n, c, h, w)`."""
        return self.small.float().expand(n, *self.small.shape[1:])

    def __call__(self, path: SamplePath, standardize: Standardize) -> SamplePath:
        shape, small = tuple(path.eps.shape[1:]), tuple(self.small.shape[1:])
        if len(shape) != 3 or len(small) != 3 or small[0] != shape[0] or shape[1] % small[1] or shape[2] % small[2]:
            raise UsageError(f"samples of shape {_by(shape)} cannot be shrunk to {_by(small)} by means over blocks")
        block = (shape[1] // small[1], shape[2] // small[2])
        y = standardize.normalize(self.small.to(path.eps))
        return Measured(lambda x: F.avg_pool2d(x, block), y, self.sigma_y, self.iterations)(path, standardize)


def check(x: Tensor, n: int, *shape: int) -> None:
    """Raise UsageError unless x holds n samples of the shape, or one for all."""
    if x.shape[1:] != shape or len(x) not in (1, n):
        raise UsageError(
            f"there are {len(x)} samples of shape {_by(x.shape[1:])}, and {n} of shape {_by(shape)} are needed: give {n} or one"
        )


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
