"""A GAN in the plane: its critic as a landscape, its samples through training, and the gradient of two objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.app.lab.plane import lattice, mlp, plane_of, rounded, seeded, trained
from ancestral.errors import UsageError
from ancestral.models.gan import GAN
from ancestral.models.objectives import OBJECTIVES, Name, Penalties
from ancestral.noise import SampleNoise

CELLS, SHOWN, ARROWS = 48, 300, 60
BATCH, EVERY, LATENT, HALF = 128, 20, 4, 2.6
SHOWN_OBJECTIVES: tuple[Name, ...] = ("minimax", "non-saturating", "relativistic")


def gan(
    source: str | Sequence[Sequence[float]],
    objective: str = "non-saturating",
    penalty: float = 0.0,
    turns: int = 2,
    steps: int = 600,
) -> Iterator[dict[str, Any]]:
    """Train a GAN on points, and yield D as a landscape, samples of fixed seeds, and the generator's gradients at some of them.

    The gradient with respect to a sample x = G(z) is, for the losses of `Minimax` and `NonSaturating`,

        -D(x)/2 grad l(x)     and     -(1 - D(x))/2 grad l(x),          D = sigmoid(l).

    Args:
        source: as in `plane_of`.
        objective: "minimax", "non-saturating" or "relativistic".
        penalty: the weight of the penalties R1 and R2 of the critic's gradient.
        turns: the updates of the critic in each step. With many, it becomes certain.
        steps: the number of training steps.

    Raises:
        UsageError: if the objective is unknown, or the turns are not 1 to 10.
    """
    if not 1 <= turns <= 10:
        raise UsageError(f"the critic has 1 to 10 turns in each step; got {turns}")
    if objective not in SHOWN_OBJECTIVES:
        raise UsageError(f"the objective is one of {', '.join(SHOWN_OBJECTIVES)}; got {objective}")
    plane, name = plane_of(source), objective

    def make() -> GAN:
        penalties = Penalties(r1=penalty, r2=penalty)
        return GAN(mlp(LATENT, 2), critic_network(), shape=(2,), latent=LATENT, objective=name, penalties=penalties)

    model = seeded(make, 0)
    assert isinstance(model, GAN)
    grid = lattice(HALF, CELLS)
    z = SampleNoise(range(SHOWN)).normal((LATENT,))
    for step, losses in enumerate(
        trained(model, lambda step: plane.sample(BATCH, 1 + step), steps, 2e-3, 0.0, {"discriminator": turns}), 1
    ):
        if step % EVERY and step != steps and step > 1:
            continue
        with torch.no_grad():
            landscape = model.critic(grid).sigmoid()
        samples = model.decode(z).detach()
        few = samples[:ARROWS]
        arrows = {key: _gradient(model, few, key) for key in ("minimax", "non-saturating")}
        yield {
            "step": step,
            "steps": steps,
            "half": HALF,
            "cells": CELLS,
            "critic": rounded(landscape, 3),
            "samples": rounded(samples),
            "arrows": {key: rounded(-value, 4) for key, value in arrows.items()},
            "strength": {key: float(value.norm(dim=1).mean()) for key, value in arrows.items()},
            "certain": float(model.critic(samples).detach().sigmoid().mean()),
            "losses": {player: terms["total"] for player, terms in losses.items()},
        }


def critic_network() -> nn.Module:
    """Build the critic: points `(n, 2)` -> logits `(n,)`."""
    return nn.Sequential(mlp(2, 1, 128), nn.Flatten(0))


def _gradient(model: GAN, x: Tensor, name: Name) -> Tensor:
    """Return the gradient of the generator's loss with respect to its samples x, `(n, 2)`."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        loss = OBJECTIVES[name].generator(model.critic(x)).sum()
        (slope,) = torch.autograd.grad(loss, x)
    return slope
