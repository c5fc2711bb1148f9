"""Solvers against exact flows: their order, and what they do at the ends of a schedule."""

import math

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


STARTS = [-8.5, -2.0, 0.0]  # log SNR, from almost pure noise to the middle of the process
FLOWS = {"ddim": 1, "euler": 1, "dpmpp-1": 1, "heun": 2, "dpmpp": 2, "dpmpp-3": 3, "unipc": 3, "rk4": 4}
MOMENTS = {"ddpm": 1, "euler-maruyama": 1, "dpmpp-sde": 2, "churn": 2}


def path(schedule, start, steps):
    """Levels even in log SNR, from start to 3."""
    return schedule.levels(schedule.time(torch.linspace(start, 3, steps + 1, dtype=torch.float64)))


def slope(method, schedule, start, counts=(160, 320)):
    """log2 of how much a doubling of the steps divides the error, on Gaussian data, whose flow is known."""
    oracle, errors = GaussianOracle(0.7, 0.4), []
    for n in counts:
        levels = path(schedule, start, n)
        x = X * math.hypot(levels[0].alpha, levels[0].sigma)
        state = last(method, oracle, x, levels)
        errors.append((state.x - oracle.flow(x, levels[0], levels[-1])).abs().max().item())
    assert errors[-1] < 0.01
    return math.log2(errors[0] / errors[1]), state.nfe / counts[-1]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("schedule", [VP(), VE(), Linear()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("name", FLOWS)
def test_order_of_convergence(name, schedule, start):
    """Multistep of order 2 still gains on its order from almost pure noise, where x_hat changes little at first."""
    order, evaluations = slope(solver(name), schedule, start)
    assert order == pytest.approx(FLOWS[name], abs=0.2 if name == "dpmpp" else 0.1)
    assert evaluations == {"heun": 2, "rk4": 4}.get(name, 1)


@pytest.mark.parametrize(("start", "order"), [(-8.5, 4.7), (-2.0, 4.9), (0.0, 3.0)])
def test_the_start_limits_unipc_3_to_order_3(start, order):
    """From almost pure noise its first step adds nothing that shows, and the others are of order 4."""
    assert slope(UniPC(3), VP(), start, (80, 160))[0] == pytest.approx(order, abs=0.1)
    assert slope(UniPC(3), VP(), 0.0, (320, 640))[0] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("schedule", [VP(), VE(), Linear()], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("method", [*MOMENTS, Ancestral(0.5), DPMpp(1, sde=True), DPMpp(3, sde=True)], ids=str)
def test_order_of_the_moments(method, schedule, start, moments):
    """Mean and variance at the end, exactly, against alpha m and alpha^2 s^2 + sigma^2."""
    m, s, counts, errors = 0.7, 0.4, (80, 160), []
    order = min(solver(method).order, 2)
    for n in counts:
        levels = path(schedule, start, n)
        (mean, var), end = ((level.alpha * m, level.alpha**2 * s**2 + level.sigma**2) for level in (levels[0], levels[-1]))
        begin = torch.tensor([mean]), torch.tensor([[math.sqrt(var)]], dtype=torch.float64)
        found = moments(solver(method), GaussianOracle(m, s), levels, *begin, draws=n)
        errors.append(max(abs(f.item() - e) for f, e in zip(found, end, strict=True)))
    rate = math.log2(errors[0] / errors[1])
    assert rate > order - 0.1
    assert rate < order + (0.6 if method == DPMpp(3, sde=True) else 0.1)
    assert errors[-1] < 0.02


def test_each_solver_with_an_order_is_tested_for_it():
    tested = FLOWS | MOMENTS
    for name in SOLVERS:
        if not name.startswith("unipc"):  # its `order` is that of the predictor
            assert solver(name).order == tested.get(name)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule", [VP(), SubVP(), Cosine(), Linear(), VE(), Chain.linear()], ids=lambda s: type(s).__name__)
def test_exact_on_a_point_mass(name, schedule):
    """Data of one point: every prediction is that point, and every method must end on it."""
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
