"""Exact scores, and the forms of a prediction."""

import math

import pytest
import torch

from ancestral.gaussian import Gaussian
from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle, MixtureOracle, PointsOracle
from ancestral.prediction import PREDICTION_TYPES, Prediction
from ancestral.schedules import VE, VP, Level

LEVEL = Level(0.5, 0.6, 0.8)


def mixture():
    return MixtureOracle([0.3, 0.7], [[-1.0], [2.0]], [0.25, 0.04])


def correlated():
    covariance = torch.tensor([[[1.0, 0.6], [0.6, 0.5]], [[0.2, -0.1], [-0.1, 0.9]]])
    return MixtureOracle([0.4, 0.6], [[0.0, 1.0], [2.0, -1.0]], covariance)


def test_reference_values():
    x = torch.tensor([[0.5]], dtype=torch.float64)
    oracle, p = mixture(), mixture()(x, LEVEL)
    assert oracle.log_density(x, LEVEL).item() == pytest.approx(-1.2087771652, abs=1e-9)
    assert p.score.item() == pytest.approx(0.5419159121, abs=1e-9)
    assert p.x.item() == pytest.approx(1.4113769729, abs=1e-9)
    assert p.v.item() == pytest.approx(-1.3892212161, abs=1e-9)


@pytest.mark.parametrize("oracle", [mixture(), correlated(), GaussianOracle(0.7, 0.4)], ids=["1d", "2d", "gaussian"])
@pytest.mark.parametrize("level", [LEVEL, Level(0.1, 0.99, 0.05), Level(1.0, 1.0, 30.0)], ids=["middle", "low", "ve"])
def test_every_reading_agrees_with_autograd(oracle, level):
    x_t = torch.randn(20, oracle.means.shape[1], dtype=torch.float64, requires_grad=True)
    (score,) = torch.autograd.grad(oracle.log_density(x_t, level).sum(), x_t)
    x_t = x_t.detach()
    p = oracle(x_t, level)
    x = (x_t + level.sigma**2 * score) / level.alpha
    eps = -level.sigma * score
    expected = {"score": score, "eps": eps, "x": x, "v": level.alpha * eps - level.sigma * x, "velocity": eps - x}
    for reading in PREDICTION_TYPES:
        torch.testing.assert_close(p.read(reading), expected[reading], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(oracle.score(x_t, level), score, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("reading", PREDICTION_TYPES)
@pytest.mark.parametrize("level", [LEVEL, Level(0.2, 0.8, 0.2), Level(1.0, 1.0, 30.0)], ids=["vp", "flow", "ve"])
def test_readings_round_trip(reading, level):
    x, x_t = torch.randn(2, 5, 3, dtype=torch.float64)
    p = Prediction(x, x_t, level.alpha, level.sigma)
    back = Prediction.of(reading, p.read(reading), x_t, level.alpha, level.sigma)
    torch.testing.assert_close(back.x, x)


def test_unknown_reading():
    with pytest.raises(ValueError, match="unknown prediction type 'noise'"):
        Prediction.of("noise", torch.zeros(1), torch.zeros(1), 1.0, 1.0)


def test_denoiser_is_finite_without_signal():
    """The prediction at alpha = 0 is the mean of the data."""
    x = mixture()(torch.randn(4, 1, dtype=torch.float64), Level(1.0, 0.0, 1.0)).x
    torch.testing.assert_close(x, torch.full_like(x, 0.3 * -1 + 0.7 * 2))


def test_density_integrates_to_one():
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(mixture().log_density(grid, LEVEL).exp(), grid[:, 0]).item() == pytest.approx(1, abs=1e-9)


def test_samples_have_the_moments():
    x = correlated().sample(SampleNoise(range(20_000))).double()
    mean = torch.tensor([0.4 * 0 + 0.6 * 2, 0.4 * 1 - 0.6 * 1], dtype=torch.float64)
    torch.testing.assert_close(x.mean(0), mean, atol=0.04, rtol=0)
    second = 0.4 * (1.0 + 0) + 0.6 * (0.2 + 4)
    assert (x[:, 0] ** 2).mean().item() == pytest.approx(second, rel=0.03)


def test_points_oracle_is_the_mixture_of_points():
    points = torch.randn(7, 1, 2, 2, dtype=torch.float64)
    exact = MixtureOracle(torch.ones(7), points.flatten(1), torch.zeros(7))
    x_t = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(PointsOracle(points)(x_t, LEVEL).x, exact(x_t, LEVEL).x)
    nearly_clean = Level(0.0, 1.0, 1e-3)
    torch.testing.assert_close(PointsOracle(points)(points + 1e-4, nearly_clean).x, points)


@pytest.mark.parametrize("schedule", [VP(), VE()])
def test_gaussian_flow_solves_the_ode(schedule):
    """d(x/alpha)/d(sigma/alpha) = eps along the closed form."""
    oracle = GaussianOracle(0.7, 0.4)
    t, a, b = schedule.levels(torch.tensor([0.6, 0.5, 0.5 - 1e-5], dtype=torch.float64))
    x = torch.tensor([[1.3]], dtype=torch.float64)
    at_a, at_b = oracle.flow(x, t, a), oracle.flow(x, t, b)
    slope = (at_b / b.alpha - at_a / a.alpha) / (b.u - a.u)
    torch.testing.assert_close(slope, oracle(at_a, a).eps, rtol=1e-4, atol=1e-6)


def test_gaussian_against_torch_and_monte_carlo():
    a, b = Gaussian(torch.randn(3, 4), torch.rand(3, 4) + 0.1), Gaussian(torch.randn(3, 4), torch.rand(3, 4) + 0.1)
    normal = lambda g: torch.distributions.Normal(g.mean, g.var.sqrt())  # noqa: E731
    x = torch.randn(3, 4)
    torch.testing.assert_close(a.log_prob(x), normal(a).log_prob(x).sum(1))
    torch.testing.assert_close(a.entropy(), normal(a).entropy().sum(1))
    torch.testing.assert_close(a.kl(b), torch.distributions.kl_divergence(normal(a), normal(b)).sum(1))
    torch.testing.assert_close(
        a.kl(), torch.distributions.kl_divergence(normal(a), torch.distributions.Normal(0.0, 1.0)).sum(1)
    )
    draws = a.draw(torch.randn(20_000, 3, 4)).flatten(2)
    estimate = torch.stack([a.log_prob(d) - b.log_prob(d) for d in draws[:2000]]).mean(0)
    torch.testing.assert_close(estimate, a.kl(b), atol=0.25 * math.sqrt(a.kl(b).max()), rtol=0)
