"""The forward process against its closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ancestral.errors import UsageError
from ancestral.gaussian import Gaussian
from ancestral.registry import names
from ancestral.schedules import VE, VP, Chain, Cosine, GeometricLevels, Linear, SubVP, grid, posterior, transition

CONTINUOUS = [VP(), SubVP(), Cosine(), Linear(), VE()]
ALL = [*CONTINUOUS, Chain.linear(), Chain.cosine()]
ids = lambda s: type(s).__name__  # noqa: E731


def inner(n=50):
    return torch.linspace(0.01, 0.99, n, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ALL, ids=ids)
def test_signal_falls_and_noise_rises(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert schedule.alpha(t)[0] == pytest.approx(1)
    assert schedule.sigma(t)[0] == 0
    assert (schedule.logsnr(t).diff()[1:] < 0).all()


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Chain.linear(), Chain.cosine()], ids=ids)
def test_variance_is_preserved(schedule):
    t = inner()
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


@pytest.mark.parametrize("schedule", ALL, ids=ids)
def test_time_inverts_logsnr(schedule):
    t = inner()
    torch.testing.assert_close(schedule.time(schedule.logsnr(t)), t, atol=1e-9, rtol=0)


def test_vp_has_song_drift_and_diffusion():
    """dx = -beta/2 x dt + sqrt(beta) dw (Song et al. 2021, eq. 11)."""
    t, vp = inner(), VP()
    beta = 0.1 + t * 19.9
    torch.testing.assert_close(vp.drift(t), -beta / 2)
    torch.testing.assert_close(vp.diffusion2(t), beta)


def test_sub_vp_has_song_diffusion():
    """g^2 = beta (1 - exp(-2 int beta)) (Song et al. 2021, eq. 28)."""
    t = inner()
    beta, integral = 0.1 + t * 19.9, 0.1 * t + t**2 * 19.9 / 2
    torch.testing.assert_close(SubVP().diffusion2(t), -beta * torch.expm1(-2 * integral))


def test_ve_diffusion():
    """g^2 = d sigma^2/dt = 2 sigma^2 log(sigma_max/sigma_min), without drift."""
    t, ve = inner(), VE(0.01, 50.0)
    torch.testing.assert_close(ve.diffusion2(t), 2 * ve.sigma(t) ** 2 * math.log(5000))
    assert (ve.drift(t) == 0).all()


def test_the_diffusion_rate_at_time_zero():
    """g^2 at t = 0, where sigma has no derivative, is beta_min for VP, 0 for sub-VP, -T log alpha_1 for a chain."""
    zero = torch.zeros(1, dtype=torch.float64)
    assert VP().diffusion2(zero).item() == pytest.approx(0.1)
    assert SubVP().diffusion2(zero).item() == 0
    chain = Chain.linear()
    assert chain.diffusion2(zero).item() == pytest.approx(-1000 * math.log(1 - 1e-4))


def test_all_geometric_levels_are_visited_whatever_the_ends():
    schedule = GeometricLevels(0.001, 300.0, count=12)
    visited = schedule.at(grid(schedule, 12, "logsnr")[:-1]).sigma
    torch.testing.assert_close(visited, torch.logspace(math.log10(300), -3, 12, dtype=torch.float64))


def test_one_geometric_level_is_the_noisiest():
    one = GeometricLevels(0.001, 300.0, count=1)
    assert (one.noisy(torch.rand(9, dtype=torch.float64)) == 1).all()
    assert one.at(grid(one, 1, "logsnr")[:-1]).sigma.item() == pytest.approx(300)
    with pytest.raises(UsageError, match="at least 1 level; got 0"):
        GeometricLevels(count=0)


def test_a_chain_of_one_step_ends_in_noise():
    assert Chain.of(Cosine(), 1).level(1).u == pytest.approx(80)
    assert Chain.of(VE(0.01, 200.0), 3).level(3).u == pytest.approx(200)


@pytest.mark.parametrize("schedule", [VP(), SubVP(), Cosine(), Linear(), VE()], ids=ids)
def test_diffusion_is_minus_dsnr_dt(schedule):
    """g^2 SNR / sigma^2 = -dSNR/dt, which is what makes the VLB's weight (Kingma et al. 2021, eq. 17)."""
    t, h = inner(), 1e-6
    snr = lambda t: schedule.logsnr(t).exp()  # noqa: E731
    slope = (snr(t + h) - snr(t - h)) / (2 * h)
    torch.testing.assert_close(schedule.diffusion2(t) * snr(t) / schedule.sigma(t) ** 2, -slope, rtol=1e-5, atol=1e-6)


def test_ddpm_reference_values():
    chain = Chain.linear()
    assert chain.alphas_bar[499].item() == pytest.approx(0.0785872429, abs=1e-10)
    assert chain.alphas_bar[999].item() == pytest.approx(4.0358297654e-5, rel=1e-9)


def test_chain_rejects_what_is_no_variance():
    for betas in ([0.1, 1.0], [0.0, 0.1], [], [[0.1]]):
        with pytest.raises(ValueError, match=r"betas must be a vector of numbers in \(0, 1\)"):
            Chain(torch.tensor(betas))


@pytest.mark.parametrize(
    "chain", [Chain.linear(200), Chain.constant(200, 0.97), Chain.cosine(200)], ids=["linear", "constant", "cosine"]
)
def test_single_steps_compose_to_the_closed_form(chain):
    """The mean and variance of x_i by i steps of q(x_i | x_{i-1}) are those of q(x_i | x_0): the geometric series."""
    mean, var = 1.0, 0.0
    for i, alpha in enumerate(chain.alphas.tolist(), start=1):
        mean, var = math.sqrt(alpha) * mean, alpha * var + 1 - alpha
        level = chain.level(i)
        assert level.alpha == pytest.approx(mean, rel=1e-9)
        assert level.sigma**2 == pytest.approx(var, rel=1e-9)


def test_steps_drawn_one_by_one_have_the_mean_and_variance_of_one_draw():
    chain, n = Chain.linear(100, 1e-3, 0.1), 40_000
    generator = torch.Generator().manual_seed(1)
    x = torch.full((n,), 1.5)
    for i in range(1, 101):
        x = chain.step(x, i, torch.randn(n, generator=generator))
    level = chain.level(100)
    assert x.mean().item() == pytest.approx(1.5 * level.alpha, abs=4 * level.sigma / math.sqrt(n))
    assert x.var().item() == pytest.approx(level.sigma**2, rel=4 * math.sqrt(2 / n))


def test_kl_to_the_prior_falls_to_zero():
    def kl(i, chain):
        level = chain.level(i)
        x = torch.tensor([[2.0]], dtype=torch.float64)
        return Gaussian(level.alpha * x, torch.full_like(x, level.sigma**2)).kl().item()

    for chain in (Chain.linear(), Chain.constant(1000, 0.98)):
        values = [kl(i, chain) for i in (10, 100, 300, 1000)]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 1e-4


@pytest.mark.parametrize("schedule", [VP(), SubVP(), Linear(), VE(), Chain.linear(50)], ids=ids)
def test_transition_composes(schedule):
    """x_s then x_t | x_s has the marginal of x_t."""
    s, t = schedule.levels(torch.tensor([0.3, 0.8], dtype=torch.float64))
    a, var = transition(s, t)
    assert a * s.alpha == pytest.approx(t.alpha)
    assert a**2 * s.sigma**2 + var == pytest.approx(t.sigma**2)


def test_posterior_is_bayes():
    """q(x_s | x_t, x) as the product of the two Gaussians q(x_t | x_s) q(x_s | x), normalised."""
    s, t = VP().levels(torch.tensor([0.3, 0.5], dtype=torch.float64))
    x, x_t = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64)
    a, var = transition(s, t)
    precision = a**2 / var + 1 / s.sigma**2
    mean, variance = posterior(x, x_t, t, s)
    assert variance == pytest.approx(1 / precision)
    torch.testing.assert_close(mean, (a * x_t / var + s.alpha * x / s.sigma**2) / precision)


def test_chain_posterior_is_eq_7_of_ddpm():
    chain, i = Chain.linear(), 300
    x, x_t = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64)
    beta, alpha = chain.betas[i - 1].item(), chain.alphas[i - 1].item()
    abar, before = chain.alphas_bar[i - 1].item(), chain.alphas_bar[i - 2].item()
    mean, variance = chain.posterior(x, x_t, i)
    assert variance == pytest.approx((1 - before) / (1 - abar) * beta)
    expected = math.sqrt(before) * beta / (1 - abar) * x + math.sqrt(alpha) * (1 - before) / (1 - abar) * x_t
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("spacing", names("spacing"))
@pytest.mark.parametrize("schedule", ALL, ids=ids)
def test_grids_run_from_one_to_zero(schedule, spacing):
    times = grid(schedule, 20, spacing)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert len(times) == 21 or isinstance(schedule, Chain)


def test_grid_spacings_are_even_in_their_own_measure():
    vp = VP()
    assert grid(vp, 10).diff().std() < 1e-12
    assert vp.logsnr(grid(vp, 10, "logsnr")[1:-1]).diff().std() < 1e-6  # the first time is the prior
    ve = VE()
    assert (ve.sigma(grid(ve, 10, "karras")[:-1]) ** (1 / 7)).diff().std() < 1e-9


def test_karras_grid_is_eq_5():
    ve, n = VE(0.002, 80.0), 18
    expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)]
    torch.testing.assert_close(
        ve.sigma(grid(ve, n, "karras")[:-1]), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_chain_grids_are_whole_steps_and_trailing_begins_at_the_last():
    chain = Chain.linear(1000)
    steps = grid(chain, 10) * 1000
    assert steps.tolist() == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert len(grid(Chain.linear(10), 50)) == 11


@pytest.mark.parametrize(("steps", "spacing", "message"), [(0, "trailing", "at least 1 step"), (5, "even", "unknown spacing")])
def test_grid_refuses(steps, spacing, message):
    with pytest.raises(ValueError, match=message):
        grid(VP(), steps, spacing)


@given(st.floats(0.0, 0.999999))
def test_training_times_are_within_the_schedule(u):
    for schedule in ALL:
        t = schedule.noisy(torch.tensor([u], dtype=torch.float64))
        assert 0 < t.item() <= 1
        assert schedule.sigma(t).item() > 0


def test_chain_draws_each_step_equally_often():
    t = Chain.linear(10).noisy((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    assert torch.bincount((t * 10).round().long()).tolist() == [0, *[100] * 10]


def test_explicit_times_are_taken_and_checked():
    times = (1.0, 0.6, 0.2, 0.0)
    assert grid(Cosine(), 3, times).tolist() == list(times)
    assert (grid(Chain.linear(10), 3, (1.0, 0.63, 0.17, 0.0)) * 10).tolist() == [10, 6, 2, 0]
    for wrong in (
        (0.9, 0.5, 0.2, 0.0),
        (1.0, 0.5, 0.2, 0.1),
        (1.0, 0.5, 0.5, 0.0),
        (1.0, 0.2, 0.5, 0.0),
        (1.0, math.nan, 0.5, 0.0),
    ):
        with pytest.raises(UsageError, match="must fall from 1"):
            grid(Cosine(), 3, wrong)
    with pytest.raises(UsageError, match="2 steps visit 3 times, and 4 are given"):
        grid(Cosine(), 2, times)
