"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738).

Samples for the discriminator, real or generated, are changed at random, so that it cannot memorise a small training set. The
generator is trained through the changes and does not learn them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.noise import Noise


def augment(x: Tensor, noise: Noise, rate: float = 1.0) -> Tensor:
    """Change images `(n, c, h, w)` or signals `(n, c, l)` in model units: colour, translation, cutout, drawn for each sample.

    Args:
        x: the samples.
        noise: the randomness.
        rate: the share of samples that are changed. If it is below 1, the generator does not learn the changes as a part of
            the data (Karras et al. 2020b, arXiv:2006.06676).
    """
    altered = x
    for alter in (colour, translate, cut_out):
        altered = alter(altered, noise)
    return torch.where(noise.uniform((1,) * (x.ndim - 1)) < rate, altered, x)


def colour(x: Tensor, noise: Noise) -> Tensor:
    """Change colours: brightness + U(-1/2, 1/2), saturation x U(0, 2), contrast x U(1/2, 3/2)."""
    column = (1,) * (x.ndim - 1)
    x = x + noise.uniform(column) - 0.5
    if x.ndim == 4 and x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * 2 * noise.uniform(column)
    mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    return mean + (x - mean) * (0.5 + noise.uniform(column))


def translate(x: Tensor, noise: Noise, ratio: float = 1 / 8) -> Tensor:
    """Translate samples by whole pixels, at most `ratio` of each side. New pixels repeat the edge."""
    n, dims = len(x), x.ndim - 2
    shift = noise.uniform((dims,))
    for axis, size in enumerate(x.shape[2:], start=2):
        most = int(size * ratio + 0.5)
        by = (shift[:, axis - 2] * (2 * most + 1)).floor().long() - most
        at = (torch.arange(size, device=x.device) + by[:, None]).clamp(0, size - 1)
        x = x.gather(axis, at.view(n, *[size if a == axis else 1 for a in range(1, x.ndim)]).expand_as(x))
    return x


def cut_out(x: Tensor, noise: Noise, ratio: float = 1 / 2) -> Tensor:
    """Set a box of `ratio` of each side at a random position to 0, the mean of the data."""
    n, dims = len(x), x.ndim - 2
    centre = noise.uniform((dims,))
    inside = torch.ones(n, *[1] * (x.ndim - 1), dtype=torch.bool, device=x.device)
    for axis, size in enumerate(x.shape[2:], start=2):
        half = max(0.5, size * ratio / 2)
        far = (torch.arange(size, device=x.device) + 0.5 - centre[:, axis - 2, None] * size).abs()
        inside = inside & (far < half).view(n, *[size if a == axis else 1 for a in range(1, x.ndim)])
    return x.masked_fill(inside, 0.0)
