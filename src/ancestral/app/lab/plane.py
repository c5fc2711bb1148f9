"""Data in the plane for experiments: a built-in set, or points that a person drew. Both have an exact density."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor, nn

from ancestral.app.data.toys import DENSITIES
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.noise import StreamNoise
from ancestral.oracles import MixtureOracle
from ancestral.suggest import unknown

SETS = tuple(DENSITIES)
FEWEST, MOST = 3, 600  # drawn points
SPREAD = 0.07  # deviation of the noise around a drawn point
CURVE = 256  # parts of a mixture that stands for a curve


@dataclass(frozen=True)
class Points:
    """Points of the plane with an exact density.

    Args:
        oracle: the distribution.
        halves: the distributions of two classes, where the set has classes.
    """

    oracle: MixtureOracle
    halves: tuple[MixtureOracle, ...] = ()

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return n points `(n, 2)`."""
        return self.oracle.sample(StreamNoise(n, seed, 0))

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """The exact mean `(2,)` and covariance `(2, 2)`."""
        w, m, v = self.oracle.weights, self.oracle.means, self.oracle.variances
        mean = w @ m
        centred = m - mean
        return mean, torch.einsum("k,ki,kj->ij", w, centred, centred) + torch.diag(w @ v)


def plane_of(source: str | Sequence[Sequence[float]]) -> Points:
    """Return a built-in set by its name, or the points that a person drew, each with a little noise around it.

    Raises:
        UsageError: if the name is unknown, or the points are too few or are not points.
    """
    if isinstance(source, str):
        return _built_in(source)
    points = torch.tensor([list(map(float, p[:2])) for p in source], dtype=torch.float64).reshape(-1, 2)
    if not FEWEST <= len(points) <= MOST or not bool(points.isfinite().all()) or float(points.abs().max()) > 100:
        raise UsageError(f"draw between {FEWEST} and {MOST} points, near the middle; there are {len(points)}")
    return Points(MixtureOracle(torch.ones(len(points)), points, torch.full((len(points),), SPREAD**2)))


@cache
def _built_in(name: str) -> Points:
    if name not in SETS:
        raise UsageError(unknown("set of points", name, SETS))
    whole = DENSITIES[name]()
    k = len(whole.weights)
    halves = tuple(_part(whole, slice(i * k // 2, (i + 1) * k // 2)) for i in range(2)) if name != "swiss-roll" else ()
    return Points(_thinned(whole), tuple(_thinned(half) for half in halves))


def _part(oracle: MixtureOracle, rows: slice) -> MixtureOracle:
    return MixtureOracle(oracle.weights[rows], oracle.means[rows], oracle.variances[rows])


def _thinned(oracle: MixtureOracle) -> MixtureOracle:
    """Return a curve's mixture with fewer parts, which are still nearer to each other than they are wide."""
    every = max(1, len(oracle.weights) // CURVE)
    return _part(oracle, slice(every // 2, None, every))


def lattice(half: float, n: int) -> Tensor:
    """Return n x n points `(n n, 2)` of the square of half width `half`, row by row from the top."""
    line = torch.linspace(-half, half, n)
    y, x = torch.meshgrid(-line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def rounded(x: Tensor, digits: int = 3) -> list[object]:
    """Return a tensor as nested lists of short numbers."""
    values: list[object] = torch.round(x.detach().double(), decimals=digits).tolist()
    return values


def seeded(make: Callable[[], GenerativeModel], seed: int) -> GenerativeModel:
    """Build a model whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def mlp(inputs: int, outputs: int, width: int = 64) -> nn.Module:
    """Build a small network of two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))


def trained(
    model: GenerativeModel,
    data: Callable[[int], Tensor],
    steps: int,
    lr: float,
    beta1: float = 0.9,
    turns: Mapping[str, int] | None = None,
) -> Iterator[dict[str, dict[str, float]]]:
    """Train a model by Adam with its own losses. Yields the mean of each term of each player after every step.

    Args:
        model: the model.
        data: the batch of a step.
        steps: the number of steps.
        lr: the learning rate, which falls linearly to a tenth.
        beta1: the decay of Adam's mean of gradients.
        turns: the updates of a player in each step, 1 for players that are not named.
    """
    players = {p.name: torch.optim.Adam(p.parameters, lr=lr, betas=(beta1, 0.99)) for p in model.players()}
    for step in range(steps):
        found = {}
        for name, optimizer in players.items():
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - 0.9 * step / steps)
            most = (turns or {}).get(name, 1)
            for turn in range(most):
                draw = step * most + turn
                with torch.enable_grad():
                    terms = model.loss(data(draw), seed=draw, player=name)
                    optimizer.zero_grad()
                    torch.autograd.backward(terms["total"].mean() / model.loss_unit)
                optimizer.step()
            found[name] = {term: float(value.detach().mean()) for term, value in terms.items()}
        yield found
