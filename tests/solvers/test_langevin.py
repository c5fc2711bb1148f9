"""Langevin dynamics, reverse SDEs and the finer ODE solvers against closed forms."""

import math
from itertools import pairwise

import pytest
import torch

from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.schedules import VE, VP, Chain, Cosine, Level, Linear, SubVP, grid
from ancestral.solvers import (
    DormandPrince,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    RungeKutta4,
    State,
    StochasticHeun,
    UnadjustedLangevin,
    UniPC,
)
from ancestral.solvers.langevin import langevin_step, ncsn_step

SCHEDULES = [VP(), SubVP(), Cosine(), Linear(), VE(), Chain.linear()]
ids = lambda s: type(s).__name__  # noqa: E731


def last(method, oracle, x, levels, noise):
    *_, state = method(oracle, x, levels, noise)
    return state


@pytest.mark.parametrize("step", [0.02, 0.5, 1.5])
def test_stationary_variance_of_unadjusted_langevin(step):
    """v / (1 - eta/(2 v)), v = s^2 + u^2 the variance at the level, eta = step u^2; whatever alpha."""
    n, std, t = 20_000, 0.4, Level(0.5, 0.6, 0.6 * 0.8)
    v, eta = std**2 + t.u**2, step * t.u**2
    noise = StreamNoise(n, 0, 0)
    x = t.alpha * math.sqrt(v) * noise.normal((1,)).double()
    for _ in range(60 if step > 0.1 else 400):
        x = langevin_step(GaussianOracle(0.0, std), x, t, eta, noise)
    expected = t.alpha**2 * v / (1 - eta / (2 * v))
    assert x.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / n))


def test_the_annealed_recursion():
    """v <- (1 - eta_i/v_i)^2 v + 2 eta_i, v_i = s^2 + u_i^2, through a sequence of levels; then Tweedie's shrinkage."""
    n, std = 40_000, 0.5
    levels = VE(0.1, 5.0).levels(grid(VE(0.1, 5.0), 8, "logsnr"))
    noise = StreamNoise(n, 0, 0)
    x = 5.0 * noise.normal((1,)).double()
    v = 25.0
    for t in levels[:-1]:
        for _ in range(3):
            v = (1 - 0.2 * t.u**2 / (std**2 + t.u**2)) ** 2 * v + 2 * 0.2 * t.u**2
    v *= (std**2 / (std**2 + levels[-2].u ** 2)) ** 2
    state = last(Langevin(repeats=3, step_size=0.2), GaussianOracle(0.0, std), x, levels, noise)
    assert state.x.var().item() == pytest.approx(v, rel=4 * math.sqrt(2 / n))
    assert state.nfe == 8 * 3 + 1


@pytest.mark.parametrize(("ratio", "repeats"), [(1.05, 5), (1.7, 5), (1.6, 100)])
def test_the_step_of_ncsn_v2_brings_the_noise_to_the_level(ratio, repeats):
    e = ncsn_step(ratio, repeats)
    v = ratio**2
    for _ in range(repeats):
        v = (1 - e) ** 2 * v + 2 * e
    assert v == pytest.approx(1, abs=0.3)
    for other in (0.7 * e, min(1.3 * e, 0.999)):
        w = ratio**2
        for _ in range(repeats):
            w = (1 - other) ** 2 * w + 2 * other
        assert abs(v - 1) <= abs(w - 1) + 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=ids)
@pytest.mark.parametrize(
    ("method", "steps", "tolerance"),
    [
        (Langevin(), 60, 0.12),
        (PredictorCorrector(), 100, 0.05),
        (PredictorCorrector(EulerMaruyama(), 2), 200, 0.06),
        (EulerMaruyama(), 400, 0.06),
        (StochasticHeun(), 60, 0.04),
        (RungeKutta4(), 30, 0.03),
        (DormandPrince(), 30, 0.03),
    ],
    ids=["langevin", "pc", "pc-em", "em", "churn", "rk4", "adaptive"],
)
def test_every_solver_reaches_the_gaussian_on_every_schedule(method, steps, tolerance, schedule):
    n, oracle = 8000, GaussianOracle(0.7, 0.4)
    noise = StreamNoise(n, 0, 0)
    levels = schedule.levels(grid(schedule, steps, "logsnr"))
    r = math.hypot(levels[0].alpha, levels[0].sigma)
    x = last(method, oracle, r * noise.normal((1,)), levels, noise).x
    assert x.mean().item() == pytest.approx(0.7, abs=4 * 0.4 / math.sqrt(n) + 0.01)
    assert x.std().item() == pytest.approx(0.4, rel=4 / math.sqrt(2 * n) + tolerance)


def test_langevin_at_one_level_finds_the_nearest_mode_only():
    """What annealing is for: weights .3 and .7, but chains from a symmetric start divide about evenly between the modes."""
    oracle = MixtureOracle([0.1, 0.9], [[-2.0], [2.0]], [0.04, 0.04])
    n = 2000
    levels = VE().levels(grid(VE(), 300, "logsnr"))
    noise = StreamNoise(n, 0, 0)
    start = levels[0].sigma * noise.normal((1,))
    one = last(UnadjustedLangevin(u=0.2), oracle, start, levels, noise).x
    annealed = last(Langevin(), oracle, start, levels, noise).x
    assert (one < 0).float().mean().item() > 0.25
    assert (annealed < 0).float().mean().item() == pytest.approx(0.1, abs=0.05)


def test_adaptive_agrees_with_the_fixed_grid():
    oracle = MixtureOracle([0.3, 0.7], [[-1.0], [2.0]], [0.25, 0.04])
    levels = VP().levels(grid(VP(), 100, "logsnr"))
    x = torch.randn(50, 1, dtype=torch.float64)
    fixed = last(RungeKutta4(), oracle, x, levels, None)
    adaptive = last(DormandPrince(1e-7, 1e-7), oracle, x, levels, None)
    torch.testing.assert_close(adaptive.x, fixed.x, atol=1e-4, rtol=0)
    rough = last(DormandPrince(), oracle, x, levels, None)
    assert rough.nfe < adaptive.nfe
    assert (rough.done, rough.total) == (100, 100)


@pytest.mark.parametrize("snr", [0.16, 0.5])
def test_the_corrector_takes_the_step_of_its_paper(snr, moments):
    """v <- (1 - eta/v)^2 v + 2 eta with eta = 2 (snr u)^2 in units of y = x/alpha; v = s^2 + u^2 at the level."""
    t = SubVP().levels(torch.tensor([0.4], dtype=torch.float64))[0]

    class Stay(UnadjustedLangevin):
        def step(self, denoise, x, t, s, memory, noise):
            return x, None

    class Once(PredictorCorrector):
        def __call__(self, denoise, x, levels, noise):
            yield State(self.step(denoise, x, *levels, None, noise)[0], levels[-1], None, 0, 1, 1)

    eta, v = 2 * (snr * t.u) ** 2, 0.16 + t.u**2
    start = torch.zeros(1), torch.tensor([[t.alpha * math.sqrt(v)]])
    _, found = moments(Once(Stay(), corrections=1, snr=snr), GaussianOracle(0.0, 0.4), [t, t], *start, draws=1)
    assert found.item() == pytest.approx(t.alpha**2 * ((1 - eta / v) ** 2 * v + 2 * eta), rel=1e-6)


@pytest.mark.parametrize(("u_s", "rise"), [(0.9, 1 + 0.5 * math.log(1 / 0.9)), (0.1, math.sqrt(2))])
def test_churn_rises_as_far_as_it_says(u_s, rise):
    """u_t = 1 by the factor 1 + churn log(u_t/u_s), at most sqrt(2), and the noise added is what is missing there."""
    seen, oracle = [], GaussianOracle(0.0, 0.4)

    def denoise(x, level):
        seen.append((x, level))
        return oracle(x, level)

    x = torch.zeros(2, 1, dtype=torch.float64)
    StochasticHeun(0.5).step(denoise, x, Level(0.5, 1.0, 1.0), Level(0.4, 1.0, u_s), None, SampleNoise([0, 1]))
    z = SampleNoise([0, 1]).normal((1,)).double()
    assert seen[0][1].u == pytest.approx(rise)
    torch.testing.assert_close(seen[0][0], math.sqrt(rise**2 - 1) * z)


def test_the_step_that_ncsn_v2_chooses_is_of_the_levels_behind(moments):
    """The variance through four levels with eta_i = e(u_{i-1}/u_i) u_i^2, the first of u_1/u_2, then Tweedie's shrinkage."""
    std, levels = 0.5, VE(0.1, 5.0).levels(torch.tensor([1.0, 0.8, 0.5, 0.3, 0.0], dtype=torch.float64))
    u = [level.u for level in levels]
    v = u[0] ** 2
    for ratio, level in zip((u[0] / u[1], u[0] / u[1], u[1] / u[2], u[2] / u[3]), u[:4], strict=True):
        e = ncsn_step(ratio, 3)
        for _ in range(3):
            v = (1 - e * level**2 / (std**2 + level**2)) ** 2 * v + 2 * e * level**2
    v *= (std**2 / (std**2 + u[3] ** 2)) ** 2
    _, found = moments(Langevin(repeats=3), GaussianOracle(0.0, std), levels, torch.zeros(1), torch.tensor([[u[0]]]), draws=12)
    assert found.item() == pytest.approx(v, rel=1e-6)


def test_one_level_begins_at_that_levels_scale():
    levels = VP().levels(grid(VP(), 3))
    state = next(iter(UnadjustedLangevin(u=0.3)(GaussianOracle(), torch.ones(1, 1), levels, SampleNoise([0]))))
    r = math.hypot(levels[0].alpha, levels[0].sigma)
    assert (state.x.item(), state.t.u) == (pytest.approx(math.hypot(1, 0.3) / r), 0.3)


def test_a_predictor_that_remembers_goes_on_from_where_the_corrector_has_come():
    """UniPC steps from the point it remembers: kept, each correction would be lost but for the last."""
    levels = VP().levels(grid(VP(), 4))
    oracle = GaussianOracle(0.0, 0.4)
    *_, last = PredictorCorrector(UniPC(order=2))(oracle, torch.ones(3, 1), levels, SampleNoise(range(3)))
    x, noise = torch.ones(3, 1), SampleNoise(range(3))
    for t, s in pairwise(levels):
        x, _ = UniPC(order=2).step(oracle, x, t, s, None, noise)
        x = langevin_step(oracle, x, s, 2 * (0.16 * s.u) ** 2, noise) if s.sigma > 0 else x
    torch.testing.assert_close(last.x, x)


def test_the_corrector_alone_keeps_the_marginal():
    """The marginal of sub-VP is kept, for which the corrector of other software fails."""
    n, t = 20_000, SubVP().levels(torch.tensor([0.4], dtype=torch.float64))[0]
    oracle, noise = GaussianOracle(0.0, 0.4), StreamNoise(n, 0, 0)
    true = math.sqrt(t.alpha**2 * 0.16 + t.sigma**2)
    x = true * noise.normal((4,))

    class Stay(UnadjustedLangevin):
        def step(self, denoise, x, t, s, memory, noise):
            return x, None

    for _ in range(30):
        x, _ = PredictorCorrector(Stay()).step(oracle, x, t, t, None, noise)
    assert x.std().item() == pytest.approx(true, rel=0.06)
