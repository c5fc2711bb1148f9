"""Likelihoods against closed forms: three terms that add up to entropy, a flow that is known, units that change nothing."""

import math

import numpy as np
import pytest
import torch

from ancestral.gaussian import Gaussian
from ancestral.likelihood import Bound, Lattice, ode_log_prob, vlb
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.prediction import Prediction
from ancestral.schedules import CLEAN, VE, VP, Chain, Cosine, Linear, SubVP
from ancestral.solvers.flow import ProbabilityFlow

MIXTURE = MixtureOracle([0.3, 0.7], [[-1.0], [1.2]], [0.25, 0.04])
PLANE = MixtureOracle(
    [0.4, 0.6], [[0.0, 1.0], [1.0, -1.0]], torch.tensor([[[1.0, 0.6], [0.6, 0.5]], [[0.2, -0.1], [-0.1, 0.9]]])
)


def exact_terms(chain, mean, std, variance):
    """The bound's expectation over x and noise: `vlb` on a denoiser that errs by exactly its expected error."""
    oracle = GaussianOracle(mean, std)
    level = chain.at(torch.arange(1, chain.T + 1, dtype=torch.float64) / chain.T)
    snr = level.alpha**2 / level.sigma**2
    mse = std**2 / (1 + std**2 * snr)
    d_snr = snr[:-1] - snr[1:]
    b = 1 / (1 + d_snr * mse[1:]) if variance == "optimal" else torch.ones_like(d_snr)
    middle = (0.5 * (b - 1 - b.log()) + b / 2 * d_snr * mse[1:]).sum().item()
    first = 0.5 * math.log(2 * math.pi * math.e * mse[0].item())
    abar = level.alpha[-1].item() ** 2
    last = 0.5 * (abar * (std**2 + mean**2) - abar - math.log1p(-abar))
    return oracle, first, middle, last


def test_the_three_terms_of_the_published_chain():
    """N(0, 1), T = 1000: L_T 2.018e-5, middle 5.07004233, L_0 -3.18623165 in expectation, and the estimate agrees."""
    oracle, first, middle, last = exact_terms(Chain.linear(), 0.0, 1.0, "posterior")
    assert (first, middle, last) == pytest.approx((-3.18623165, 5.07004233, 2.018e-5), rel=1e-4)
    noise = StreamNoise(500, 0, 0)
    bound = vlb(oracle, Chain.linear(), noise.normal((8,)).double(), noise)
    per_dim = {name: -term.mean().item() / 8 for name, term in bound.terms.items()}
    assert per_dim["reconstruction"] == pytest.approx(first, abs=0.05)
    assert per_dim["consistency"] == pytest.approx(middle, rel=0.01)
    assert per_dim["prior"] == pytest.approx(last, abs=2e-5)
    torch.testing.assert_close(sum(bound.terms.values()), bound.value)
    assert bound.table["t"][-1] == 1
    assert (bound.table["logsnr"].diff() < 0).all()
    for t, nats in zip(bound.table["t"], bound.table["nats"].cumsum(0), strict=True):  # down to t: those of exact_terms
        until = Chain.linear().at(torch.arange(1, round(1000 * t.item()) + 1, dtype=torch.float64) / 1000)
        snr = until.alpha**2 / until.sigma**2
        expected = 8 * 0.5 * ((snr[:-1] - snr[1:]) / (1 + snr[1:])).sum().item()
        assert nats.item() == pytest.approx(expected, rel=4 * math.sqrt(2 / 4000))  # of 4,000 squares of normal numbers
    assert bound.table["nats"].sum().item() == pytest.approx(-bound.terms["consistency"].mean().item())
    assert bound.nfe == 1000


@pytest.mark.parametrize("T", [1, 2, 5, 50, 1000])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.4)])
def test_with_the_optimal_variance_the_bound_is_entropy_and_prior_for_every_length(T, mean, std):
    """h(x) + KL(q(x_T) || N(0, 1)), exactly, with the very weights that `vlb` uses."""
    from ancestral.likelihood.vlb import _ratio

    chain = Chain.linear(T, 1e-4 * 1000 / T if T > 10 else 0.02, 0.02 * 1000 / T if T > 20 else 0.5)
    oracle, first, _, last = exact_terms(chain, mean, std, "optimal")
    total = first + last
    for i in range(2, T + 1):
        level, before = (chain.at(torch.tensor([j / T], dtype=torch.float64)) for j in (i, i - 1))
        change = before.alpha**2 / before.sigma**2 - level.alpha**2 / level.sigma**2
        b = _ratio(oracle.error, before, level, change).item()
        total += 0.5 * (b - 1 - math.log(b)) + b / 2 * change.item() * oracle.error(chain.level(i))
    entropy = 0.5 * math.log(2 * math.pi * math.e * std**2)
    end = chain.level(T)
    var = end.alpha**2 * std**2 + end.sigma**2
    kl = 0.5 * (var + (end.alpha * mean) ** 2 - 1 - math.log(var))
    assert total == pytest.approx(entropy + kl, abs=1e-9)


@pytest.mark.parametrize("variance", ["posterior", "forward", "mse"])
def test_the_one_step_of_a_chain_of_two_is_the_divergence_of_two_gaussians(variance):
    """KL(q(x_1 | x_2, x) || p(x_1 | x_2)) by its definition, and log p(x | x_1), from the very draws of the bound."""
    chain, seen = Chain(torch.tensor([0.3, 0.5])), []

    def denoise(x_t, level):
        seen.append(x_t)
        return Prediction((0.3 * x_t).tanh(), x_t, level.alpha, level.sigma)

    x, mse = torch.randn(20, 3, dtype=torch.float64), 0.37
    bound = vlb(denoise, chain, x, StreamNoise(20, 0, 0), variance=(lambda level: mse) if variance == "mse" else variance)
    x_1, x_2 = seen
    beta_2, (abar_1, abar_2) = 0.5, chain.alphas_bar.tolist()
    posterior = (1 - abar_1) / (1 - abar_2) * beta_2
    weight = math.sqrt(abar_1) * beta_2 / (1 - abar_2)  # of x in the posterior's mean (Ho et al. 2020, eq. 7)
    s2 = {"posterior": posterior, "forward": beta_2, "mse": posterior + weight**2 * mse}[variance]
    means = [chain.posterior(of, x_2, 2)[0] for of in (x, (0.3 * x_2).tanh())]
    q, p = (Gaussian(m, torch.full_like(m, v)) for m, v in zip(means, (posterior, s2), strict=True))
    torch.testing.assert_close(bound.terms["consistency"], -q.kl(p))
    first = Gaussian((0.3 * x_1).tanh(), torch.full_like(x, mse if variance == "mse" else 0.3)).log_prob(x)
    torch.testing.assert_close(bound.terms["reconstruction"], first)
    assert bound.nfe == 2


def test_a_chain_of_one_step_has_no_middle():
    """log N(x; x_hat(x_1), beta_1) - KL(q(x_1 | x) || N(0, I)): on N(0, 1) each sample's own, averaged over x_1."""
    x = torch.randn(5, 2, dtype=torch.float64)
    drawn = vlb(GaussianOracle(), Chain(torch.tensor([0.4])), x.repeat(20_000, 1), StreamNoise(100_000, 0, 0), draws=4)
    mean = drawn.value.view(-1, 5).mean(0)
    # x_hat = a x_1, a^2 = 1 - beta, so E (x - x_hat)^2 = beta^2 x^2 + a^2 beta
    beta, a2 = 0.4, 0.6
    first = -0.5 * ((beta**2 * x**2 + a2 * beta) / beta + math.log(2 * math.pi * beta)).sum(1)
    last = 0.5 * (beta + a2 * x**2 - 1 - math.log(beta)).sum(1)
    error = drawn.value.view(-1, 5).std(0) / math.sqrt(20_000)
    assert ((mean - (first - last)).abs() < 4 * error).all()
    assert drawn.nfe == 2
    said = drawn.std_err.square().mean().sqrt().item()
    assert said == pytest.approx(drawn.value.view(-1, 5).var(0).mean().sqrt().item(), rel=0.02)
    every = vlb(GaussianOracle(), Chain(torch.tensor([0.4])), x, StreamNoise(5, 0, 0))
    assert (every.terms["consistency"] == 0).all()
    assert every.table == {}


def test_the_error_of_a_bound_is_that_of_all_that_was_drawn():
    """With many steps visited most of it is the reconstruction's, which is drawn as well."""
    x = 0.5 * torch.randn(4000, 4, dtype=torch.float64)
    chain, oracle = Chain.linear(100, 1e-3, 0.2), GaussianOracle(0.0, 0.5)
    one, two = (vlb(oracle, chain, x, StreamNoise(4000, 0, key), draws=64) for key in (1, 2))
    spread = ((one.value - two.value).square().mean() / 2).sqrt().item()
    said = one.std_err.square().mean().sqrt().item()
    assert spread < 1.05 * said
    assert said < 1.5 * spread


def test_the_optimal_variance_is_tighter_and_drawn():
    chain, noise = Chain.linear(20, 0.005, 0.5), StreamNoise(2000, 0, 0)
    oracle = GaussianOracle(0.7, 0.4)
    x = oracle.sample(noise).double()
    bounds = {v: vlb(oracle, chain, x, StreamNoise(2000, 0, 1), variance=v) for v in ("posterior", "forward", oracle.error)}
    nats = {name: -bound.mean()[0] for name, bound in bounds.items()}
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.16)
    assert nats[oracle.error] < min(nats["posterior"], nats["forward"])
    assert nats[oracle.error] == pytest.approx(entropy, abs=0.05)


def test_drawn_steps_are_unbiased_and_their_error_is_honest():
    noise = StreamNoise(4000, 0, 0)
    oracle, x = GaussianOracle(0.0, 0.5), 0.5 * noise.normal((4,)).double()
    every = vlb(oracle, Chain.linear(100, 1e-3, 0.2), x, StreamNoise(4000, 0, 1))
    drawn = vlb(oracle, Chain.linear(100, 1e-3, 0.2), x, StreamNoise(4000, 0, 2), draws=8)
    spread = (drawn.terms["consistency"] - every.terms["consistency"]).std().item()
    assert drawn.nfe == 10
    assert drawn.mean()[0] == pytest.approx(every.mean()[0], abs=4 * spread / math.sqrt(4000))
    assert drawn.std_err.mean().item() > 0.7 * spread / math.sqrt(2)


@pytest.mark.parametrize("schedule", [VP(), SubVP(), VE(), Linear(), Cosine()], ids=lambda s: type(s).__name__)
def test_a_schedule_in_continuous_time_is_a_chain(schedule):
    chain = Chain.of(schedule, 200)
    assert chain.T == 200
    assert Chain.of(chain) is chain
    inside = torch.tensor([2, 100, 199], dtype=torch.float64) / 200
    assert (chain.logsnr(inside).diff() < 0).all()
    x = 0.4 * torch.randn(500, 6, dtype=torch.float64)
    nats = (
        -vlb(GaussianOracle(0.0, 0.4), chain, x, StreamNoise(500, 0, 0), variance=GaussianOracle(0.0, 0.4).error).mean()[0] / 6
    )
    assert nats == pytest.approx(-Gaussian(torch.zeros(6), torch.tensor(0.16)).log_prob(x).mean().item() / 6, abs=0.05)


def lattice(levels, std=1.0, mean=0.0):
    scale = lambda v: torch.tensor((v - mean) / std, dtype=torch.float64)  # noqa: E731
    return Lattice(torch.tensor(1 / ((levels - 1) * std), dtype=torch.float64), scale(0.0), scale(1.0))


@pytest.mark.parametrize("std", [1e-3, 0.1, 30.0])
def test_masses_of_levels_add_up_to_one(std):
    cells = torch.linspace(0, 1, 17, dtype=torch.float64)[:, None]
    mass = lattice(17).log_prob(cells, torch.full((17, 1), 0.3141, dtype=torch.float64), std).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    far = lattice(17).log_prob(torch.ones(1, 1, dtype=torch.float64) / 2, torch.zeros(1, 1, dtype=torch.float64), 0.02)
    assert far.item() == pytest.approx(-((0.5 - 1 / 32) ** 2) / (2 * 0.02**2), rel=0.03)


def test_levels_of_a_chain_cost_no_less_than_their_entropy():
    """Uniform levels under a perfect denoiser: at least 4 bits, and not much more."""
    levels = torch.arange(16, dtype=torch.float64) / 15
    std, mean = levels.std(correction=0).item(), 0.5
    oracle = MixtureOracle(torch.ones(16), ((levels - mean) / std)[:, None], torch.full((16,), 1e-12))
    noise = StreamNoise(4000, 0, 0)
    x = ((levels[(noise.uniform() * 16).long()] - mean) / std)[:, None]
    bound = vlb(oracle, Chain.of(VP(), 400), x, noise, lattice=lattice(16, std, mean))
    bits = bound.bits_per_dim(16)
    assert bound.discrete
    assert bits.mean().item() == pytest.approx(4, abs=0.15)
    assert bits.mean().item() > 4 - 3 * bits.std().item() / math.sqrt(4000)


# the probability-flow ODE


def reference(oracle, schedule, x):
    """The exact density of x_t / alpha at the schedule's least noise, at unit scale."""
    level = ProbabilityFlow(oracle, schedule).level(0.0)
    return oracle.log_density(level.alpha * x, level) + x.shape[1] * math.log(level.alpha)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()], ids=["cosine", "flow"])
@pytest.mark.parametrize("oracle", [GaussianOracle(0.7, 0.4), MIXTURE, PLANE], ids=["gaussian", "mixture", "plane"])
def test_the_ode_gives_the_exact_density_with_fourth_order(oracle, schedule):
    """On schedules that end in pure noise, so that the prior is exact."""
    x = oracle.sample(SampleNoise(range(40))).double()
    expected = reference(oracle, schedule, x)
    counts, errors = (16, 32, 64), []
    for n in counts:
        errors.append((ode_log_prob(oracle, schedule, x, steps=n).value - expected).abs().mean().item())
    assert errors[-1] < 2e-4
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(4, abs=0.6)
    torch.testing.assert_close(expected, oracle.log_density(x, CLEAN), atol=1e-2, rtol=0)


@pytest.mark.parametrize("schedule", [VP(), SubVP(), VE(), Chain.linear()], ids=lambda s: type(s).__name__)
def test_other_schedules_agree_up_to_their_prior(schedule):
    oracle, x = MIXTURE, MIXTURE.sample(SampleNoise(range(40))).double()
    bound = ode_log_prob(oracle, schedule, x, steps=64)
    torch.testing.assert_close(bound.value, reference(oracle, schedule, x), atol=0.03, rtol=0)
    assert bound.nfe == 256
    assert bound.std_err is None
    torch.testing.assert_close(sum(bound.terms.values()), bound.value)


def test_the_log_determinant_on_a_gaussian():
    """D/2 log(v_T / v_0) with v = alpha^2 s^2 + sigma^2, in units of z, plus D log alpha for x."""
    oracle, x = GaussianOracle(0.0, 0.4), torch.randn(5, 3, dtype=torch.float64)
    flow = ProbabilityFlow(oracle, Cosine())
    v = [level.alpha**2 * 0.16 + level.sigma**2 for level in (flow.level(0.0), flow.level(1.0))]
    volume = ode_log_prob(oracle, Cosine(), x, steps=100).terms["volume"]
    expected = 1.5 * math.log(v[1] / v[0]) + 3 * math.log(flow.level(0.0).alpha)
    torch.testing.assert_close(volume, torch.full((5,), expected, dtype=torch.float64), atol=1e-5, rtol=0)


def test_random_signs_are_exact_on_isotropic_gaussians_and_unbiased_elsewhere():
    x = torch.randn(50, 3, dtype=torch.float64)
    one = ode_log_prob(GaussianOracle(0.0, 0.4), Cosine(), x, SampleNoise(range(50)), divergence="hutchinson", draws=3)
    known = one.std_err[one.std_err.isfinite()]  # all but the few whose draws have the same signs
    assert len(known) > 40
    torch.testing.assert_close(known, torch.zeros_like(known), atol=1e-9, rtol=0)
    torch.testing.assert_close(one.value, ode_log_prob(GaussianOracle(0.0, 0.4), Cosine(), x).value)
    x = PLANE.sample(SampleNoise(range(300))).double()
    drawn = ode_log_prob(PLANE, Cosine(), x, SampleNoise(range(300)), divergence="hutchinson", draws=8)
    exact = ode_log_prob(PLANE, Cosine(), x)
    assert drawn.nfe == 8 * exact.nfe
    known = drawn.std_err.isfinite()
    gap = (drawn.value - exact.value)[known].square().mean() / drawn.std_err[known].square().mean()
    assert gap.sqrt().item() == pytest.approx(1, abs=0.3)
    alone = ode_log_prob(PLANE, Cosine(), x, SampleNoise(range(300)), divergence="hutchinson")
    assert alone.std_err.isinf().all()


def test_draws_with_the_same_signs_know_no_error():
    """In two dimensions e and -e, half of all pairs, have the same e' A e: their difference of 0 tells nothing."""
    n = 400
    x = PLANE.sample(SampleNoise(range(n))).double()
    bound = ode_log_prob(PLANE, Cosine(), x, SampleNoise(range(n)), divergence="hutchinson", draws=2, steps=8)
    assert bound.std_err.isinf().double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / n**0.5)
    assert (bound.std_err[bound.std_err.isfinite()] > 1e-3).all()
    line = ode_log_prob(MIXTURE, Cosine(), x[:5, :1], SampleNoise(range(5)), divergence="hutchinson", draws=2, steps=8)
    assert (line.std_err == 0).all()  # in one dimension the estimate is the trace


def test_coverage_of_a_standard_error_of_few_draws():
    """Two errors of 2 draws seldom cover, as `Bound` says; the error of the mean over samples is right."""
    oracle, chain, x = MIXTURE, Chain.linear(100, 1e-3, 0.2), torch.full((20_000, 1), 0.5, dtype=torch.float64)
    true, error = vlb(oracle, chain, x, StreamNoise(20_000, 0, 1)).mean()
    for draws, share in ((2, 0.57), (8, 0.84), (32, 0.93)):
        bound = vlb(oracle, chain, x, StreamNoise(20_000, 0, 2), draws=draws)
        off = (bound.value - true).abs()
        assert (off < 2 * bound.std_err).double().mean().item() == pytest.approx(share, abs=0.05)
        pooled = bound.std_err.square().sum().sqrt().item() / len(x)
        assert abs(bound.mean()[0] - true) < 3 * math.hypot(pooled, error)
        assert bound.mean()[1] == pytest.approx(pooled, rel=0.25)  # which is an upper estimate, because steps are stratified


def test_adaptive_steps_agree_with_the_grid():
    x = MIXTURE.sample(SampleNoise(range(40))).double()
    fine = ode_log_prob(MIXTURE, Cosine(), x, steps=128)
    adaptive = ode_log_prob(MIXTURE, Cosine(), x, tolerance=1e-7)
    torch.testing.assert_close(adaptive.value, fine.value, atol=1e-4, rtol=0)
    assert 0 < adaptive.nfe < 1000


def test_scaling_the_data_changes_nothing_but_the_units():
    """Data of standard deviation 5 in a model whose unit is 5: the log-density differs by log 5."""
    x = MIXTURE.sample(SampleNoise(range(20))).double()
    bound = ode_log_prob(MIXTURE, Cosine(), x)
    scaled = bound.plus("units", -math.log(5.0))
    wide = MixtureOracle([0.3, 0.7], [[-5.0], [6.0]], [25 * 0.25, 25 * 0.04])
    torch.testing.assert_close(scaled.value, wide.log_density(5 * x, CLEAN), atol=0.02, rtol=0)
    torch.testing.assert_close(sum(scaled.terms.values()), scaled.value)


def test_uniform_data_cost_eight_bits_whatever_the_number_of_dimensions():
    """256 levels, filled: density 1 on [0, 1], so 8 bits a dimension; the lattice is wider than [0, 1] by 256/255."""
    cells = lattice(256)
    assert cells.stretch == pytest.approx(math.log(256 / 255))
    density = torch.full((3,), -784 * math.log(256 / 255), dtype=torch.float64)  # of the filled levels in units of x
    bound = Bound(density, "ode", "exact", 784).plus("levels", 784 * cells.stretch)
    torch.testing.assert_close(bound.bits_per_dim(256), torch.full((3,), 8.0, dtype=torch.float64))
    filled = cells.fill(torch.zeros(2000, 1, dtype=torch.float64), StreamNoise(2000, 0, 0).uniform((1,)).double())
    assert -0.5 / 255 <= filled.min().item() < filled.max().item() <= 0.5 / 255


def test_uniform_levels_through_the_flow():
    """The exact flow of a fine mixture that is uniform on the filled levels gives log2(levels), up to its blurred ends."""
    n, levels = 200, 16
    centres = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 16 / 15 - 1 / 30
    oracle = MixtureOracle(torch.ones(n), centres[:, None], torch.full((n,), (1 / n) ** 2))
    noise = StreamNoise(200, 0, 0)
    x = (1 + (noise.uniform((1,)) * 14).floor().double()) / 15  # inner levels
    bound = ode_log_prob(oracle, Cosine(), x, noise, lattice=lattice(levels), draws=2).plus("levels", lattice(levels).stretch)
    assert bound.bits_per_dim(levels).mean().item() == pytest.approx(4, abs=0.01)
    assert bound.std_err.isfinite().all()


def test_there_and_back():
    """The flow to noise and back is the identity up to its error, and on Gaussian data it is the known affine map."""
    oracle = GaussianOracle(0.7, 0.4)
    x = torch.randn(5, 1, dtype=torch.float64)
    flow = ProbabilityFlow(oracle, Cosine())
    z = flow.to_noise(x, 64)
    torch.testing.assert_close(z, (x - 0.7) / 0.4, atol=1e-3, rtol=0)
    torch.testing.assert_close(flow.to_data(z, 64), x, atol=1e-5, rtol=0)


def test_a_random_output_needs_noise():
    with pytest.raises(ValueError, match="need noise: give noise="):
        ode_log_prob(MIXTURE, Cosine(), torch.zeros(1, 1), divergence="hutchinson")


def test_a_denoiser_of_one_level_a_sample():
    """`vlb` asks the oracle at one level a sample; it must answer as at each alone."""
    levels = VP().at(torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64))
    x_t = torch.randn(3, 2, dtype=torch.float64)
    together = PLANE(x_t, levels)
    assert isinstance(together, Prediction)
    for i, level in enumerate(VP().levels(levels.t)):
        torch.testing.assert_close(together.score[i], PLANE(x_t[i : i + 1], level).score[0])
