"""Score models of known data: exact, random, and trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ancestral.app.theory.claims import draws, seeded
from ancestral.app.theory.known import Exact
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.models.score import Lambda, Matching, ScoreModel
from ancestral.networks import denoising_network
from ancestral.oracles import MixtureOracle
from ancestral.schedules import VE, Level, Schedule
from ancestral.solvers import Langevin, Solver, UnadjustedLangevin

N = 100_000


LEVEL = Level(0.5, 0.6, 0.8)


WEIGHT = 0.8  # weight of the right mode


MODES = MixtureOracle(torch.tensor([1 - WEIGHT, WEIGHT]), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), torch.tensor([0.02, 0.02]))


_TURN = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)


THREE = MixtureOracle(torch.ones(3), math.sqrt(2) * torch.stack([_TURN.cos(), _TURN.sin()], 1), torch.full((3,), 0.01))


CLEAN, NOISY = 0.07, 3.0  # noise levels: less than the width of a mode, and more than the width of all data


STEPS = 500  # training steps


def family(
    network: nn.Module, schedule: Schedule, d: int = 2, matching: Matching = "denoising", weight: Lambda = "sigma2"
) -> ScoreModel:
    return ScoreModel(network, (d,), schedule=schedule, matching=matching, weight=weight)


class Apart:
    """Noise whose normal and uniform numbers do not depend on the order of the calls."""

    def __init__(self, n: int):
        self.n, self.normals, self.uniforms = n, draws(n, 1), draws(n, 2)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self.normals.normal(shape)

    def stratified(self) -> Tensor:
        return self.uniforms.stratified()


def trained(schedule: Schedule) -> ScoreModel:
    """Train a score network of three modes by `STEPS` steps with the family's own loss."""
    model = family(seeded(lambda: denoising_network((2,), width=64, blocks=2)), schedule)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for i in range(STEPS):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - i / STEPS)
        optimizer.zero_grad()
        model.losses(Batch(THREE.sample(draws(256, 2 * i))), "model", draws(256, 2 * i + 1))["total"].mean().backward()
        optimizer.step()
    return model.requires_grad_(False)


def two_networks() -> tuple[ScoreModel, ScoreModel]:
    """Return two models with the same training: one for very low noise, one for all noise levels."""
    return trained(VE(0.99 * CLEAN, CLEAN)), trained(VE(CLEAN, NOISY))


def angle(model: ScoreModel, u: float, x: Tensor) -> Tensor:
    """Return the angle between the network's score and the true score at noise level u, in degrees `(n,)`."""
    level = Level(0.0, 1.0, u)
    s, truth = model.score(x, level).double(), THREE.score(x.double(), level)
    return torch.rad2deg(torch.cosine_similarity(s, truth, dim=1).clamp(-1, 1).acos())


def around(n: int = 4000) -> tuple[Tensor, Tensor]:
    """Return points `(n, 2)` in the square from -2 to 2, and their distances to the nearest mode."""
    x = 4 * draws(n, 9).uniform((2,)) - 2
    return x, torch.cdist(x, THREE.means.float()).min(1).values


def plain_and_annealed(n: int) -> dict[str, Tensor]:
    """Draw samples `(n, 2)` with the family's own sampler and the exact score: by plain and by annealed Langevin dynamics."""
    model = family(Exact(MODES, "score"), VE(0.05, 8.0))
    methods: dict[str, tuple[Solver, int]] = {"plain": (UnadjustedLangevin(0.1, 0.1), 500), "annealed": (Langevin(40, 0.1), 25)}
    found = {}
    for name, (method, steps) in methods.items():
        for state in model.sample_path(draws(n), Context(), steps=steps, solver=method, spacing="logsnr"):
            found[name] = state.x
    return found
