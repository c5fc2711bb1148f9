"""Likelihoods: each is a distribution, and agrees with torch's where torch has it."""

import math

import pytest
import torch
from torch import distributions as td

from ancestral.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    GaussianLikelihood,
    LogisticLikelihood,
    Normal,
    likelihood,
)
from ancestral.errors import UsageError
from ancestral.noise import StreamNoise

LOGITS = torch.tensor([-60.0, -9.0, -1.0, -0.02, -1e-4, 0.0, 1e-4, 0.02, 1.0, 9.0, 60.0])


def logistic(levels, shape=(4, 2)):
    head = LogisticLikelihood(torch.full((shape[1],), 0.3), torch.full((shape[1],), 0.2), levels)
    return head(torch.randn(shape[0], shape[1] * head.outputs))


def test_normal_is_torchs_and_integrates_to_one():
    mean, var = torch.randn(6, 3), torch.rand(6, 3) + 0.1
    x = torch.randn(6, 3)
    torch.testing.assert_close(Normal(mean, var).log_prob(x), td.Normal(mean, var.sqrt()).log_prob(x).sum(1))
    line = torch.linspace(-12, 12, 20_001)
    total = torch.trapezoid(Normal(mean[:1, :1], var[:1, :1]).log_prob(line[:, None]).exp(), line)
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_bernoulli_sums_to_one():
    p = Bernoulli(LOGITS[:, None])
    total = sum(p.log_prob(torch.full((11, 1), x)).exp() for x in (0.0, 1.0))
    torch.testing.assert_close(total, torch.ones(11))
    torch.testing.assert_close(p.mean[:, 0], p.log_prob(torch.ones(11, 1)).exp())


def test_continuous_bernoulli_integrates_to_one_and_is_torchs():
    line = torch.linspace(0, 1, 200_001, dtype=torch.float64)[:, None]
    for logit in LOGITS.double():
        p = ContinuousBernoulli(logit.expand(1, 1))
        density = p.log_prob(line).exp()
        assert torch.trapezoid(density, line[:, 0]).item() == pytest.approx(1, abs=1e-5)
        assert torch.trapezoid(density * line[:, 0], line[:, 0]).item() == pytest.approx(p.mean.item(), abs=1e-5)
    x, logits = torch.rand(50, 1), torch.linspace(-6, 6, 50)[:, None]
    expected = td.ContinuousBernoulli(logits=logits).log_prob(x)[:, 0]
    torch.testing.assert_close(ContinuousBernoulli(logits).log_prob(x), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_of_the_logistic_mixture_sum_to_one(levels):
    p = logistic(levels, (4, 1))
    total = sum(p.log_prob(torch.full((4, 1), i / (levels - 1))).double().exp() for i in range(levels))
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_level_has_the_mass_of_its_bin():
    """One logistic: P(level) is a difference of its distribution function."""
    head = LogisticLikelihood(torch.tensor([0.4]), torch.tensor([0.5]), 5, parts=1)
    p = head(torch.zeros(1, 3))
    mean, scale = p.means.item(), p.log_scales.exp().item()
    cdf = lambda v: 1 / (1 + math.exp(-(v - mean) / scale))  # noqa: E731
    assert p.log_prob(torch.tensor([[0.5]])).exp().item() == pytest.approx(cdf(0.625) - cdf(0.375), rel=1e-4)
    assert p.log_prob(torch.tensor([[0.0]])).exp().item() == pytest.approx(cdf(0.125), rel=1e-4)


def test_draws_have_the_frequencies_that_the_densities_say():
    n = 40_000
    noise = StreamNoise(n, 0, 0)
    p = logistic(6, (1, 1))
    many = type(p)(p.weights.expand(n, -1, -1), p.means.expand(n, -1, -1), p.log_scales.expand(n, -1, -1), 6)
    drawn = many.draw(noise)
    for i in range(6):
        frequency = (drawn[:, 0] * 5).round().eq(i).float().mean().item()
        assert frequency == pytest.approx(p.log_prob(torch.full((1, 1), i / 5)).exp().item(), abs=0.01)
    for logit in (-4.0, 0.0, 1e-4, 3.0):
        q = ContinuousBernoulli(torch.full((n, 1), logit))
        x = q.draw(noise)
        assert x.min() >= 0
        assert x.max() <= 1
        assert x.mean().item() == pytest.approx(q.mean[0].item(), abs=0.006)
    b = Bernoulli(torch.full((n, 1), 0.7))
    assert b.draw(noise).mean().item() == pytest.approx(b.mean[0].item(), abs=0.01)
    g = Normal(torch.full((n, 1), 2.0), torch.full((1,), 0.25))
    assert g.draw(noise).std().item() == pytest.approx(0.5, abs=0.01)


def test_the_optimal_variance_is_the_mean_squared_error():
    """F4, in units of each channel, and the likelihood there is -D/2 [log 2 pi v* + 1] on average."""
    head = GaussianLikelihood(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [0.5]]))
    x, h = torch.randn(64, 2, 7), torch.randn(64, 2, 7)
    p = head(h, head.error(h, x).mean())
    v = ((x - torch.tensor([[1.0], [2.0]])) / torch.tensor([[2.0], [0.5]]) - h).square().mean()
    torch.testing.assert_close(p.var, v * torch.tensor([[4.0], [0.25]]))
    jacobian = 7 * (math.log(2) + math.log(0.5))
    expected = -14 / 2 * (math.log(2 * math.pi * v.item()) + 1) - jacobian
    assert p.log_prob(x).mean().item() == pytest.approx(expected, rel=1e-5)
    other = [Normal(p.mean, p.var * factor).log_prob(x).mean() for factor in (0.9, 1.1)]
    assert max(other) < p.log_prob(x).mean()


@pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "bernoulli", "continuous-bernoulli", "logistic"])
@pytest.mark.parametrize("shape", [(2,), (2, 9), (2, 5, 3)], ids=str)
def test_every_likelihood_of_every_shape(name, shape):
    head = likelihood(name, (0.4, 0.6), (0.2, 0.3), len(shape) - 1, 9)
    h = torch.randn(3, 2 * head.outputs, *shape[1:], requires_grad=True)
    x = (torch.rand(3, *shape) * 8).round() / 8
    p = head(h)
    assert p.mean.shape == (3, *shape)
    assert p.draw(StreamNoise(3, 0, 0)).shape == (3, *shape)
    value = p.log_prob(x)
    assert value.shape == (3,)
    value.sum().backward()
    assert h.grad.isfinite().all()


def test_one_level_is_refused():
    with pytest.raises(UsageError, match="at least 2 levels; got levels=1"):
        LogisticLikelihood(torch.zeros(1), torch.ones(1), 1)
