"""Data with known distributions, and the networks of their exact denoisers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ancestral.app.theory.claims import Along, Sides, equal, mean, seeded, table
from ancestral.conditioning import Context
from ancestral.models.base import Standardize
from ancestral.networks import denoising_network
from ancestral.oracles import MixtureOracle
from ancestral.prediction import PredictionType
from ancestral.schedules import Level, Levels

X = torch.linspace(-9, 9, 4001, dtype=torch.float64)
MIXTURE = MixtureOracle(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0], [2.0]]),
    torch.tensor([0.25, 0.04], dtype=torch.float64),
)
M, S = 0.7, 0.4  # mean and deviation of Gaussian data


def times(n: int = 9, low: float = 0.1, high: float = 0.9) -> Tensor:
    """Return n equally spaced points."""
    return torch.linspace(low, high, n, dtype=torch.float64)


def as_it_is(*shape: int) -> Standardize:
    """Return the standardisation of data that are already in model units."""
    return Standardize(shape, (0.0,) * shape[0], (1.0,) * shape[0], None)


def distribution(oracle: MixtureOracle, points: Tensor, level: Level | None = None) -> Tensor:
    """Return P(x_t < point) for data on the line."""
    alpha, sigma = (level.alpha, level.sigma) if level else (1.0, 0.0)
    std = (alpha**2 * oracle.variances + sigma**2).sqrt()
    below: Tensor = torch.special.ndtr((points - alpha * oracle.means) / std)
    return oracle.weights @ below


def binned(at: Tensor, *values: Tensor, n: int = 12) -> Iterator[Tensor]:
    """Average values `(k,)` at positions `at` over n parts of the unit interval. Returns the means `(n,)` of `at` first."""
    parts = [(at * n).long().clamp(max=n - 1) == i for i in range(n)]
    return table([v[part].double().mean() for v in (at, *values)] for part in parts)


def histogram(
    what: str, x: Tensor, oracle: MixtureOracle, level: Level | None = None, axis: str = "x", bias: float = 0.005
) -> Sides:
    """Compare counts of samples `(n, 1)` in bins with the integral of the density. bias: the allowed bias of a bin's share."""
    edges = torch.linspace(float(x.quantile(0.001)), float(x.quantile(0.999)), 41, dtype=torch.float64)
    width = edges[1] - edges[0]
    inside = torch.searchsorted(edges, x[:, 0].double().contiguous()) - 1
    share, error = mean((inside[:, None] == torch.arange(40)).double())
    exact = distribution(oracle, edges, level).diff()
    along = Along(axis, (edges[1:] + edges[:-1]) / 2, "density")
    return equal(what, share / width, exact / width, error / width, float(bias / width), along)


class Exact(nn.Module):
    """The network of an oracle's denoiser at unit scale. For the target score its output is sigma score = -eps."""

    def __init__(self, oracle: MixtureOracle, target: PredictionType):
        super().__init__()
        self.oracle, self.target = oracle, target

    def forward(self, z: Tensor, logsnr: Tensor, context: Context) -> Tensor:
        alpha, sigma = logsnr.double().sigmoid().sqrt(), (-logsnr.double()).sigmoid().sqrt()
        p = self.oracle(z, Levels(alpha, alpha, sigma))
        return -p.eps if self.target == "score" else p.read(self.target)


def random_network(d: int, width: int = 16) -> nn.Module:
    """Make the family's own network of vectors with random weights in every layer."""

    def make() -> nn.Module:
        network = denoising_network((d,), width=width, blocks=1)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        return network

    return seeded(make)
