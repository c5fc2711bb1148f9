"""Pairs of distributions whose best discriminator is known: data are p = N(0, 1), samples are q = N(1, 1).

Expectations over a pair (x, y) are sums over a grid of pairs. So an objective is called as in training: for the loss of each
player on a pair of logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.app.theory.claims import seeded
from ancestral.conditioning import Context
from ancestral.gaussian import Gaussian
from ancestral.models.gan import GAN
from ancestral.models.objectives import (
    Name,
    Objective,
    Penalties,
)
from ancestral.networks.adversarial import adversarial_networks

GRID = torch.linspace(-8, 9, 681, dtype=torch.float64)


COARSE = slice(None, None, 4)
STEP = float(GRID[1] - GRID[0])


N = 400_000


class Point(nn.Module):
    """The generator G(z) = theta + spread z. Samples are one point for spread 0, and N(theta, 1) for spread 1."""

    latent = 1

    def __init__(self, theta: float, spread: float):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.spread = spread

    def forward(self, z: Tensor, context: Context) -> Tensor:
        return self.theta + self.spread * z


class Line(nn.Module):
    """The discriminator with the logit l(x) = psi x + c."""

    def __init__(self, psi: float, c: float = 0.0):
        super().__init__()
        self.psi, self.c = nn.Parameter(torch.tensor(psi)), nn.Parameter(torch.tensor(c))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.psi * x[:, 0] + self.c


def descended(objective: Objective, p: Tensor, q: Tensor, rate: float, steps: int = 300) -> Tensor:
    """Return the logits that gradient descent on J_D finds from 0. Steps are relative to the weight of each point."""
    p, q = p / p.sum(), q / q.sum()
    l = torch.zeros_like(p)
    for _ in range(steps):
        l = l - rate * slope(objective, l, p, q)
    return l


def game(objective: Name, generator: nn.Module, discriminator: nn.Module, r1: float = 0.0) -> GAN:
    return GAN(generator, discriminator, (1,), objective=objective, penalties=Penalties(r1=r1))


def networks(objective: Name) -> GAN:
    """Make a GAN with the family's own networks of vectors and random weights in every layer."""

    def make() -> tuple[nn.Module, nn.Module]:
        both = adversarial_networks((1,), width=16)
        for network in both:
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.3)
        return both

    return game(objective, *seeded(make))


def density(at: float) -> Tensor:
    """Return N(at, 1) on the grid as weights that sum to one."""
    weights = Gaussian(torch.tensor(at), torch.ones(1)).log_prob(GRID[:, None]).exp() * STEP
    return weights / weights.sum()


def loss_of_d(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return E_{x ~ p, y ~ q} J_D(l(x), l(y)) for l on the grid."""
    real, fake = torch.broadcast_tensors(l[:, None], l[None, :])
    return p @ objective.discriminator(real, fake) @ q


def slope(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return the derivative of J_D in l(x) at each point, relative to the weight of the point."""
    l = l.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss_of_d(objective, l, p, q), l)
    return g / (p + q)


def beside(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return J_D of discriminators that differ a little from l."""
    waves = [0.1 * torch.cos(k * GRID) for k in (0, 1, 3)]
    return torch.stack([loss_of_d(objective, l + sign * wave, p, q) for wave in waves for sign in (-1, 1)])


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """Return ½ KL(p ‖ m) + ½ KL(q ‖ m), where m is the mixture (p + q)/2."""
    m = (p + q) / 2
    return (p @ (p / m).log() + q @ (q / m).log()) / 2


P, Q = density(0.0), density(1.0)


LOG_RATIO = P.log() - Q.log()
SHIFTS = torch.linspace(0, 4, 17, dtype=torch.float64)
