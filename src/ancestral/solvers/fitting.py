"""Noise levels that are fitted to a trained denoiser, so that a solver of few steps ends near the exact solution.

The target is an accurate solution of the probability-flow ODE from the same noise, a `FinePath`. Three parts use it:

- `step_costs`: the error of every possible step between its levels. The step of a multistep solver is linear in the states and
  predictions before it. So the mean square error of a step is a quadratic form in their inner products, and the errors of all
  steps need no further evaluation of the denoiser.
- `cheapest`: the levels with the least sum of these errors, by dynamic programming (Chen et al. 2024, arXiv:2405.11326, for
  solvers of one step. Here the cost of a step depends on the step before it, too).
- `refine`: Gauss-Newton steps in log u, u = sigma/alpha, that bring the solver's true ends nearer to those of the fine path.
  They see what the sum cannot: how the errors of several steps add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor

from ancestral.noise import Noise
from ancestral.prediction import Prediction
from ancestral.registry import lookup
from ancestral.schedules import Level, Schedule, grid
from ancestral.solvers.base import Denoise, Solver
from ancestral.solvers.dpm import DPMpp

FITTED = ("unipc", "dpmpp-3")  # solvers without noise and of one evaluation a step, so steps are evaluations
PLANNED = ("unipc", "dpmpp")  # such solvers whose step depends on one step before it
REFINED = 10  # steps
FINE = 48  # levels of the fine path
PLAN = 32  # of these, between which paths are planned: the number of possible steps grows with the cube
WIDTH = 0.1  # of the differences in log u that approximate derivatives
LARGEST = 0.7  # change of log u in one step
ITERATIONS = 4  # of Gauss-Newton
ENOUGH = 0.02  # relative gain below which no further step is made
DIGITS = 6  # of a time


@dataclass(frozen=True)
class FinePath:
    """An accurate solution of the ODE. levels: N noisy ones and the clean one.

    states: at all levels, `(N + 1, n, d)`. predictions: of the clean sample at the noisy levels, `(N, n, d)`.
    """

    levels: list[Level]
    states: Tensor
    predictions: Tensor

    def thinned(self, n: int) -> FinePath:
        """Return the path at n of its noisy levels, evenly spread, and at the clean one."""
        total = len(self.predictions)
        kept = torch.linspace(0, total - 1, min(n, total)).round().long()
        with_end = torch.cat([kept, torch.tensor([total])])
        return FinePath([self.levels[i] for i in with_end.tolist()], self.states[with_end], self.predictions[kept])


@dataclass(frozen=True)
class Task:
    """Samples for which levels are fitted or errors measured: a denoiser, the start at t = 1, and the fine path."""

    denoise: Denoise
    schedule: Schedule
    x: Tensor
    noise: Noise
    fine: FinePath

    @classmethod
    def of(cls, denoise: Denoise, schedule: Schedule, x: Tensor, noise: Noise, steps: int = FINE) -> Task:
        """Solve the ODE from x `(n, *shape)` at t = 1 in `steps` steps of order 3."""
        levels = schedule.levels(grid(schedule, steps, "karras"))
        found = list(DPMpp(order=3)(denoise, x, levels, noise))
        predictions = [state.prediction.x.flatten(1) for state in found if state.prediction is not None]
        return cls(
            denoise,
            schedule,
            x,
            noise,
            FinePath(levels, torch.stack([s.x.flatten(1) for s in found]), torch.stack(predictions)),
        )

    def distances(self, x: Tensor) -> Tensor:
        """Return the root mean square distance of each sample from the end of its fine path, `(n,)` float64."""
        return (x.flatten(1) - self.fine.states[-1]).cpu().double().square().mean(1).sqrt()

    def error(self, solver: Solver, times: Tensor) -> float:
        """Return the mean of the distances at the ends of a solver that visits these times."""
        *_, last = solver(self.denoise, self.x, self.schedule.levels(times), self.noise)
        return self.distances(last.x).mean().item()


def fit(task: Task, counts: Sequence[int]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield for each number of steps the name of the best solver and its fitted times, `steps` + 1 numbers from 1 to 0.

    Two kinds of starts are tried with each of `FITTED`: the levels of `cheapest`, by the costs of each of `PLANNED`; and even
    steps of t, or the times of the number before, whose widest steps are halved. The best of each kind is improved by `refine`.
    Because the cost of this grows with the square of the steps, more than `REFINED` get the better of two starts as it is.
    """
    coarse = task.fine.thinned(PLAN)
    costs = [step_costs(lookup("solver", name)(), coarse) for name in PLANNED]
    times: Tensor | None = None

    def best(pairs: Iterable[tuple[str, Tensor]]) -> tuple[str, Tensor]:
        return min(pairs, key=lambda pair: task.error(lookup("solver", pair[0])(), pair[1]))

    for steps in counts:
        planned = [torch.tensor([coarse.levels[i].t for i in cheapest(each, steps)], dtype=torch.float64) for each in costs]
        others = [grid(task.schedule, steps, "trailing")]
        if times is not None and len(times) <= steps:
            others.append(_halved(times, steps))
        if steps > REFINED:
            name, times = best([(FITTED[0], planned[0]), (FITTED[0], others[-1])])
        else:
            starts = [best(product(FITTED, plans)) for plans in (planned, others)]
            name, times = best([(name, refine(task, lookup("solver", name)(), start)) for name, start in starts])
        yield name, (1.0, *(float(f"{t:.{DIGITS}g}") for t in times[1:-1].tolist()), 0.0)


def _halved(times: Tensor, steps: int) -> Tensor:
    """Return times for more steps: the widest step of t is halved until there are so many."""
    while len(times) <= steps:
        i = int(times.diff().argmin())
        times = torch.cat([times[: i + 1], times[i : i + 2].mean(0, keepdim=True), times[i + 1 :]])
    return times


def step_costs(solver: Solver, path: FinePath) -> Tensor:
    """Return the errors c[i, j, k] `(N, N, N + 1)`, float64, of one step from fine level j to k after one from i to j.

    c[j, j, k] is the error of a first step. Impossible steps are infinite. The states before the step are those of the fine
    path. An error is a root mean square of x / (alpha^2 + sigma^2)^(1/2), which the flow of data of deviation 1 neither
    magnifies nor shrinks.

    The weights of states and predictions in a step are what the solver makes of unit vectors.
    """
    n = len(path.predictions)
    gram = _gram(torch.cat([path.states, path.predictions]))
    x_i, x_j, m_i, m_j = torch.eye(4, dtype=torch.float64).unsqueeze(1)
    nothing = _NoNoise()
    index, weights = [], []
    for j in range(n):
        for i in range(j + 1):
            memory = None
            if i < j:
                _, memory = solver.step(_Answer(m_i), x_i, path.levels[i], path.levels[j], None, nothing)
            for k in range(j + 1, n + 1):
                x, _ = solver.step(_Answer(m_j), x_j, path.levels[j], path.levels[k], memory, nothing)
                index.append((i, j, k))
                weights.append(x[0])
    i, j, k = torch.tensor(index).T
    parts = torch.stack([i, j, n + 1 + i, n + 1 + j, k], 1)
    w = torch.cat([torch.stack(weights), -torch.ones(len(index), 1, dtype=torch.float64)], 1)
    square = torch.einsum("ma,mab,mb->m", w, gram[parts[:, :, None], parts[:, None, :]], w)
    size = torch.tensor([math.hypot(level.alpha, level.sigma) for level in path.levels], dtype=torch.float64)
    costs = torch.full((n, n, n + 1), math.inf, dtype=torch.float64)
    costs[i, j, k] = square.clamp(min=0).sqrt() / size[k]
    return costs


def cheapest(costs: Tensor, steps: int) -> list[int]:
    """Return the path 0 = i_0 < ... < i_steps = N with the least sum of costs[i_(m-1), i_m, i_(m+1)], m = 0.., i_(-1) = 0.

    Raises ValueError if there are fewer than `steps` levels.
    """
    n = len(costs)
    if not 1 <= steps <= n:
        raise ValueError(f"{steps} steps through {n} levels")
    best = torch.full((n, n + 1), math.inf, dtype=torch.float64)  # of paths whose last step is from j to k
    best[0] = costs[0, 0]
    before = []
    for _ in range(steps - 1):
        best, i = (best[:, :n, None] + costs).min(0)
        before.append(i)
    path = [n, int(best[:, n].argmin())]
    for i in reversed(before):
        path.append(int(i[path[-1], path[-2]]))
    return path[::-1]


def refine(task: Task, solver: Solver, times: Tensor) -> Tensor:
    """Return times `(steps + 1,)` whose ends are nearer to those of the fine path; the first and the last time stay.

    Levenberg-Marquardt steps in log u of the other levels minimise the mean distance of a sample. Its square is weighted by its
    inverse, so that a few samples that end elsewhere do not decide.
    """
    schedule = task.schedule
    levels = schedule.levels(times)
    if len(levels) < 3:
        return times
    at = torch.tensor([math.log(level.u) for level in levels[1:-1]], dtype=torch.float64)
    low, high = (math.log(task.fine.levels[i].u) for i in (-2, 1))

    def place(log_u: Tensor) -> Tensor:
        return torch.cat([times[:1], schedule.time(-2 * log_u), times[-1:]])

    def solve(log_u: Tensor, begun: list[tuple[Tensor, Any]]) -> list[tuple[Tensor, Any]]:
        states, levels = list(begun), schedule.levels(place(log_u))
        for t, s in pairwise(levels[len(begun) - 1 :]):
            states.append(solver.step(task.denoise, states[-1][0], t, s, states[-1][1], task.noise))
        return states

    start = [(task.x, None)]
    states = solve(at, start)
    best, damping = task.distances(states[-1][0]).mean().item(), 1e-3
    for _ in range(ITERATIONS):
        end = states[-1][0].flatten(1)
        weights = (1 / task.distances(end).clamp(min=1e-12)).sqrt()[:, None]
        residual = ((end - task.fine.states[-1]).cpu().double() * weights).flatten()
        columns = []
        for i in range(len(at)):
            moved = at.clone()
            moved[i] -= WIDTH  # towards less noise
            x = solve(moved, states[: i + 1])[-1][0].flatten(1)  # the states before that level are known
            columns.append((((x - end).cpu().double() * weights) / -WIDTH).flatten())
        jacobian = torch.stack(columns, 1)
        normal, slope = jacobian.T @ jacobian, jacobian.T @ residual
        scale = normal.diagonal().clamp(min=1e-12 * float(normal.diagonal().max()) + 1e-30)
        gain = 0.0
        for _ in range(4):
            step = torch.linalg.solve(normal + damping * scale.diag(), -slope).clamp(-LARGEST, LARGEST)
            proposed = at + step
            if bool((proposed.diff() < 0).all()) and low <= float(proposed[-1]) and float(proposed[0]) <= high:
                tried = solve(proposed, start)
                error = task.distances(tried[-1][0]).mean().item()
                if error < best:
                    gain, at, states, best, damping = 1 - error / best, proposed, tried, error, damping / 5
                    break
            damping = max(10 * damping, 1e-2)
        if gain < ENOUGH:
            break
    return place(at)


def _gram(vectors: Tensor) -> Tensor:
    """Return the mean products of vectors `(m, n, d)` over samples and dimensions, `(m, m)`, float64 on the CPU."""
    total = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for sample in vectors.unbind(1):
        v = sample.cpu().double()
        total += v @ v.T
    return total / vectors[0].numel()


@dataclass(frozen=True)
class _Answer:
    """A denoiser that always gives the same prediction."""

    x: Tensor

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        return Prediction(self.x, x_t, t.alpha, t.sigma)


class _NoNoise:
    """A source of noise for solvers that draw none."""

    n = 1

    def normal(self, shape: Sequence[int]) -> Tensor:
        raise ValueError("levels are fitted for solvers without noise")

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return self.normal(shape)

    def stratified(self) -> Tensor:
        return self.normal(())
