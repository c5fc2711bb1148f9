"""Search for the latent from which a decoder makes a given sample, by optimisation.

With the prior z ~ N(0, I) and x ~ N(G(z), s^2 I), the most probable latent of a given x is

        z* = argmin_z  |x - G(z)|^2 / (2 s^2) + |z|^2 / 2                                                              (1)

The objective has many local minima, so the search starts from the best of many draws, and descends from several at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.noise import Noise

NOISE = 0.1  # s, in standard deviations of the data
KEPT = 8  # draws from which the search descends


@dataclass(frozen=True)
class Inversion:
    """The state of the search.

    Args:
        z: the best latent so far, `(1, *latent_shape)`.
        x: the decoded latent.
        error: the mean squared error.
        done: the finished share of the work.
    """

    z: Tensor
    x: Tensor
    error: float
    done: float


def invert(
    decode: Callable[[Tensor], Tensor],
    target: Tensor,
    latent_shape: tuple[int, ...],
    noise: Noise,
    *,
    std: float = 1.0,
    steps: int = 300,
    lr: float = 0.1,
) -> Iterator[Inversion]:
    """Search for the z of eq. 1 for one sample, `(1, *shape)`.

    `decode` is a differentiable function from latents to samples in the units of the target, in which the data have deviation
    `std`. `noise` gives the draws.
    """
    s2 = (NOISE * std) ** 2

    def energy(x: Tensor, z: Tensor) -> Tensor:
        return (x - target).square().flatten(1).sum(1) / (2 * s2) + z.square().flatten(1).sum(1) / 2

    with torch.no_grad():
        drawn = noise.normal(latent_shape)
        order = torch.cat([energy(decode(part), part) for part in drawn.split(64)]).argsort()
    z = drawn[order[:KEPT]].clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=lr)
    for step in range(steps + 1):
        with torch.enable_grad():
            x = decode(z)
            e = energy(x, z)
            best = int(e.argmin())
            if step < steps:
                optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
                (z.grad,) = torch.autograd.grad(e.sum() / target.numel(), z)
                found, made = z[best : best + 1].detach().clone(), x[best : best + 1].detach()
                optimizer.step()
            else:
                found, made = z[best : best + 1].detach(), x[best : best + 1].detach()
        yield Inversion(found, made, (made - target).square().mean().item(), step / steps)
