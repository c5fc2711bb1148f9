"""Levels fitted to a denoiser: the costs of steps, the best path through them, and what they gain on exact denoisers."""

import itertools
import math
from functools import cache

import pytest
import torch

from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.schedules import VE, VP, Chain, Cosine, Linear, grid
from ancestral.solvers import DPMpp, UniPC, solver
from ancestral.solvers.fitting import Task, cheapest, fit, refine, step_costs

N, D = 48, 4


def mixture():
    """Two clusters in 4 dimensions, of unlike widths."""
    means = torch.tensor([[-1.0, 0.3, 0.5, 0.2], [0.6, -0.4, 0.2, -0.9]])
    return MixtureOracle(torch.tensor([0.3, 0.7]), means, torch.tensor([0.25, 0.1]))


def task(schedule, oracle=None, seed=0, steps=48):
    noise = SampleNoise(range(seed, seed + N))
    first = schedule.levels(torch.ones(1, dtype=torch.float64))[0]
    x = noise.normal((D,)).double() * math.hypot(first.alpha, first.sigma)
    return Task.of(oracle or mixture(), schedule, x, noise, steps)


def usual(of, name, steps, spacing):
    return of.error(solver(name), grid(of.schedule, steps, spacing))


@cache
def fitted(kind):
    of = task(kind())
    return dict(zip((4, 6, 8), fit(of, (4, 6, 8)), strict=True))


@pytest.mark.parametrize("kind", [Linear, VP, VE])
@pytest.mark.parametrize(("steps", "factor", "of_best"), [(4, 2, 1.1), (6, 4, 2.5), (8, 4, 2.5)])
def test_the_error_on_other_samples_falls(kind, steps, factor, of_best):
    """By `factor` against the default, and by `of_best` against the best of twelve built-in samplers."""
    name, times = fitted(kind)[steps]
    held = task(kind(), seed=1000, steps=100)
    error = held.error(solver(name), grid(held.schedule, steps, times))
    samplers = [(s, spacing) for s in ("dpmpp", "unipc", "dpmpp-3") for spacing in ("logsnr", "trailing", "karras", "linear")]
    assert usual(held, "dpmpp", steps, "logsnr") > factor * error
    assert min(usual(held, s, steps, spacing) for s, spacing in samplers) > of_best * error


def test_no_path_is_cheaper_than_that_of_dynamic_programming():
    generator = torch.Generator().manual_seed(0)
    n = 7
    costs = torch.rand(n, n, n + 1, generator=generator, dtype=torch.float64)
    for steps in range(1, n + 1):
        paths = [(0, *middle, n) for middle in itertools.combinations(range(1, n), steps - 1)]
        total = {p: sum(costs[i, j, k] for i, j, k in zip((0, *p), p, p[1:], strict=False)).item() for p in paths}
        assert tuple(cheapest(_possible(costs), steps)) == min(total, key=total.get)
    with pytest.raises(ValueError, match="8 steps through 7 levels"):
        cheapest(costs, 8)


def _possible(costs):
    """The costs of steps that go forward, and of first steps, c[0, 0, k]."""
    i, j, k = torch.meshgrid(*map(torch.arange, costs.shape), indexing="ij")
    return costs.where(((i < j) | ((i == j) & (j == 0))) & (j < k), math.inf)


@pytest.mark.parametrize("method", [DPMpp(order=2), UniPC()])
def test_the_cost_of_a_step_is_the_error_of_the_step_itself(method):
    of = task(Cosine(), steps=12)
    path = of.fine
    costs = step_costs(method, path)
    for i, j, k in ((2, 5, 9), (5, 6, 12), (4, 4, 7)):
        memory = None
        if i < j:
            _, memory = method.step(of.denoise, path.states[i], path.levels[i], path.levels[j], None, of.noise)
        x, _ = method.step(of.denoise, path.states[j], path.levels[j], path.levels[k], memory, of.noise)
        error = (x - path.states[k]).square().mean().sqrt() / math.hypot(path.levels[k].alpha, path.levels[k].sigma)
        assert costs[i, j, k].item() == pytest.approx(error.item(), rel=1e-6)
    assert costs[5, 3, 9] == math.inf
    assert costs[3, 9, 9] == math.inf


def test_the_fine_path_is_the_flow_of_gaussian_data():
    schedule, oracle = Cosine(), GaussianOracle(0.4, torch.linspace(0.2, 1.5, D))
    of = task(schedule, oracle)
    first, *_, last = of.fine.levels
    exact = oracle.flow(of.x, first, last)
    assert (of.fine.states[-1] - exact).abs().max() < 5e-3
    assert torch.equal(of.fine.predictions[3], oracle(of.fine.states[3], of.fine.levels[3]).x)
    assert of.distances(of.fine.states[-1] + 0.5) == pytest.approx(0.5)


def test_refining_never_makes_the_error_larger_and_keeps_the_ends():
    of = task(Linear())
    times = grid(of.schedule, 5, "logsnr")
    found = refine(of, UniPC(), times)
    assert of.error(UniPC(), found) < 0.6 * of.error(UniPC(), times)
    assert found[0] == 1
    assert found[-1] == 0
    assert bool((found.diff() < 0).all())
    one = grid(of.schedule, 1, "logsnr")
    assert torch.equal(refine(of, UniPC(), one), one)


def test_one_gaussian_width_is_solved_by_its_best_level():
    """Of N(m, s^2) in two steps the error depends on one level. None of a dense scan is better than the refined one."""
    of = task(Cosine(), GaussianOracle(0.3, 0.5))
    start = grid(of.schedule, 2, "trailing")
    found = of.error(DPMpp(order=1), refine(of, DPMpp(order=1), start))
    scan = [of.error(DPMpp(order=1), torch.tensor([1, t, 0], dtype=torch.float64)) for t in torch.linspace(0.02, 0.98, 97)]
    assert found <= 1.001 * min(scan)


def test_a_chain_visits_its_own_steps():
    schedule = Chain.cosine(50)
    of = task(schedule)
    ((name, times),) = fit(of, [5])
    visited = grid(schedule, 5, times)
    assert torch.equal(visited * 50, (visited * 50).round())
    assert of.error(solver(name), visited) < usual(of, "dpmpp", 5, "logsnr")


def test_solvers_with_noise_are_refused():
    with pytest.raises(ValueError, match="without noise"):
        step_costs(solver("dpmpp-sde"), task(Cosine(), steps=4).fine)
