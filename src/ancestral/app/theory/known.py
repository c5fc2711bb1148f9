"""Data of which all is known, and the networks of their exact denoisers."""

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
M, S = 0.7, 0.4  # of Gaussian data


def times(n: int = 9, low: float = 0.1, high: float = 0.9) -> Tensor:
    """Points of an axis."""
    return torch.linspace(low, high, n, dtype=torch.float64)


def as_it_is(*shape: int) -> Standardize:
    """Data whose units are the model's."""
    return Standardize(shape, (0.0,) * shape[0], (1.0,) * shape[0], None)


def distribution(oracle: MixtureOracle, points: Tensor, level: Level | None = None) -> Tensor:
    """P(x_t < point) of data on the line."""
    alpha, sigma = (level.alpha, level.sigma) if level else (1.0, 0.0)
    std = (alpha**2 * oracle.variances + sigma**2).sqrt()
    below: Tensor = torch.special.ndtr((points - alpha * oracle.means) / std)
    return oracle.weights @ below


def binned(at: Tensor, *values: Tensor, n: int = 12) -> Iterator[Tensor]:
    """Means of values `(k,)` over n parts of the unit interval, by where they are: first of `at` itself, `(n,)` each."""
    parts = [(at * n).long().clamp(max=n - 1) == i for i in range(n)]
    return table([v[part].double().mean() for v in (at, *values)] for part in parts)


def histogram(
    what: str, x: Tensor, oracle: MixtureOracle, level: Level | None = None, axis: str = "x", bias: float = 0.005
) -> Sides:
    """Samples `(n, 1)` on the line, counted in bins, against what a bin of the density has. bias: of a share, in a bin."""
    edges = torch.linspace(float(x.quantile(0.001)), float(x.quantile(0.999)), 41, dtype=torch.float64)
    width = edges[1] - edges[0]
    inside = torch.searchsorted(edges, x[:, 0].double().contiguous()) - 1
    share, error = mean((inside[:, None] == torch.arange(40)).double())
    exact = distribution(oracle, edges, level).diff()
    along = Along(axis, (edges[1:] + edges[:-1]) / 2, "density")
    return equal(what, share / width, exact / width, error / width, float(bias / width), along)


class Exact(nn.Module):
    """The network of an oracle's denoiser: what it has to output at unit scale, for the target score sigma score = -eps."""

    def __init__(self, oracle: MixtureOracle, target: PredictionType):
        super().__init__()
        self.oracle, self.target = oracle, target

    def forward(self, z: Tensor, logsnr: Tensor, context: Context) -> Tensor:
        alpha, sigma = logsnr.double().sigmoid().sqrt(), (-logsnr.double()).sigmoid().sqrt()
        p = self.oracle(z, Levels(alpha, alpha, sigma))
        return -p.eps if self.target == "score" else p.read(self.target)


def random_network(d: int, width: int = 16) -> nn.Module:
    """The family's own network of vectors, made random in every layer."""

    def make() -> nn.Module:
        network = denoising_network((d,), width=width, blocks=1)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        return network

    return seeded(make)
