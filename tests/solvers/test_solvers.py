"""Solvers against exact flows: their order, and what they do at the ends of a schedule."""

import math

import numpy as np
import pytest
import torch

from ancestral.errors import UsageError
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle, MixtureOracle, PointsOracle
from ancestral.prediction import Prediction
from ancestral.schedules import VE, VP, Chain, Cosine, Linear, SubVP, grid
from ancestral.solvers import SOLVERS, Ancestral, DPMpp, Euler, Heun, UniPC, solver

X = torch.tensor([[1.3], [-0.4]], dtype=torch.float64)
NOISE = SampleNoise([0, 1])


def last(method, denoise, x, levels, noise=NOISE):
    *_, state = method(denoise, x, levels, noise)
    return state


def order(method, schedule, start=-9.0, end=3.0):
    """The slope of log(error) against log(steps) over 10-160 steps, even in logsnr."""
    oracle, counts, errors = GaussianOracle(0.7, 0.4), (10, 20, 40, 80, 160), []
    for n in counts:
        levels = schedule.levels(schedule.time(torch.linspace(start, end, n + 1, dtype=torch.float64)))
        x = X * levels[0].sigma
        errors.append((last(method, oracle, x, levels).x - oracle.flow(x, levels[0], levels[-1])).abs().max().item())
    fine = slice(1, None)
    return -np.polyfit(np.log(counts[fine]), np.log(errors[fine]), 1)[0], errors


@pytest.mark.parametrize("schedule", [VP(), VE(), Linear()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize(
    ("method", "expected"), [(Ancestral(0), 1), (Euler(), 1), (DPMpp(1), 1), (Heun(), 2), (DPMpp(2), 2), (DPMpp(3), 3)]
)
def test_order_of_convergence(method, expected, schedule):
    """On Gaussian data, whose flow is known. Second-order multistep still gains on its order at these step counts."""
    slope, errors = order(method, schedule, start=-8.5)
    assert slope == pytest.approx(expected, abs=0.2 if method != DPMpp(2) else 0.6)
    assert slope > expected - 0.2
    assert errors[-1] < 0.01


@pytest.mark.parametrize(("method", "expected"), [(UniPC(2), 2), (UniPC(3), 3)])
def test_unipc_reaches_its_order_and_the_corrector_adds_to_it(method, expected):
    slope, _ = order(method, VP())
    assert slope > expected - 0.2


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", [VP(), SubVP(), Cosine(), Linear(), VE(), Chain.linear()], ids=lambda s: type(s).__name__)
def test_exact_on_a_point_mass(name, schedule):
    """Where the data are one point, every prediction is that point and every method must end on it."""
    point = torch.tensor([[0.3, -1.2]])
    levels = schedule.levels(grid(schedule, 5))
    state = last(solver(name), PointsOracle(point), levels[0].sigma * torch.randn(4, 2), levels, SampleNoise(range(4)))
    torch.testing.assert_close(state.x, point.expand(4, 2))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", SOLVERS)
def test_few_steps_are_finite(name, steps):
    oracle = GaussianOracle(0.7, 0.4)
    for schedule in (Cosine(), VP(), VE()):
        levels = schedule.levels(grid(schedule, steps))
        assert last(solver(name), oracle, levels[0].sigma * torch.randn(4, 1), levels, SampleNoise(range(4))).x.isfinite().all()


def test_ddim_on_the_cosine_schedule_has_its_closed_form():
    """On N(0, 1) each step multiplies by cos of its angle: x_0 = cos^N(pi / 2N) x_1."""
    n = 10
    levels = Cosine().levels(grid(Cosine(), n))
    torch.testing.assert_close(last(Ancestral(0), GaussianOracle(), X, levels).x, math.cos(math.pi / 2 / n) ** n * X)


def test_euler_is_ddim():
    levels = VP().levels(grid(VP(), 12))
    oracle = MixtureOracle([0.3, 0.7], [[-1.0], [2.0]], [0.25, 0.04])
    torch.testing.assert_close(last(Euler(), oracle, X, levels).x, last(Ancestral(0), oracle, X, levels).x)


def test_ddim_with_eta_one_has_the_variance_of_the_ddpm_posterior():
    """sigma^2 = (1 - abar_{t-1})/(1 - abar_t) (1 - abar_t/abar_{t-1}) = beta~_t for every step of T = 1000."""
    chain, n = Chain.linear(), 4
    nothing = lambda x_t, t: Prediction(torch.zeros_like(x_t), x_t, t.alpha, t.sigma)  # noqa: E731
    x_t = torch.randn(n, 3, dtype=torch.float64)
    for i in range(2, 1001):
        t, s = chain.level(i), chain.level(i - 1)
        mean, variance = chain.posterior(torch.zeros_like(x_t), x_t, i)
        x_s, _ = Ancestral(1).step(nothing, x_t, t, s, None, SampleNoise(range(n)))
        z = SampleNoise(range(n)).normal((3,)).double()
        abar, before = chain.alphas_bar[i - 1].item(), chain.alphas_bar[i - 2].item()
        assert variance == pytest.approx((1 - before) / (1 - abar) * (1 - abar / before), rel=1e-9)
        torch.testing.assert_close(x_s, mean + math.sqrt(variance) * z)


@pytest.mark.parametrize("method", [Ancestral(1), DPMpp(2, sde=True)], ids=["ddpm", "sde"])
def test_stochastic_samplers_reach_the_distribution(method):
    """Many steps on a Gaussian give its mean and standard deviation."""
    n, schedule = 4000, Chain.linear(1000)
    noise = StreamNoise(n, 0, 0)
    levels = schedule.levels(grid(schedule, 1000))
    x = last(method, GaussianOracle(0.7, 0.4), noise.normal((1,)), levels, noise).x
    assert x.mean().item() == pytest.approx(0.7, abs=4 * 0.4 / math.sqrt(n))
    assert x.std().item() == pytest.approx(0.4, rel=0.06)


def test_ode_samplers_reach_a_mixture():
    noise = SampleNoise(range(4000))
    oracle = MixtureOracle([0.3, 0.7], [[-1.0], [2.0]], [0.25, 0.04])
    x = last(DPMpp(2), oracle, noise.normal((1,)), VP().levels(grid(VP(), 60)), noise).x
    assert (x < 0.5).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert x[x > 0.5].std().item() == pytest.approx(0.2, rel=0.1)


def test_states_tell_the_walk():
    levels = VP().levels(grid(VP(), 3))
    states = list(Heun()(GaussianOracle(), X, levels, NOISE))
    assert [s.done for s in states] == [0, 1, 2, 3]
    assert [s.nfe for s in states] == [0, 2, 4, 5]
    assert [s.t for s in states] == levels
    assert states[0].prediction is None
    assert states[-1].prediction is not None


def test_names():
    assert solver("heun").order == 2
    assert solver(method := UniPC()) is method
    with pytest.raises(UsageError, match="unknown solver 'hean': did you mean 'heun'"):
        solver("hean")
    with pytest.raises(ValueError, match="order 1, 2 or 3; got 4"):
        DPMpp(4)
