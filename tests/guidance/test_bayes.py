"""Guidance by a likelihood, of a classifier or of a linear measurement, against posteriors that are known."""

import math

import pytest
import torch

from ancestral.errors import UsageError
from ancestral.guidance import ClassifierGuidance, Posterior, RePaint
from ancestral.guidance.posterior import conjugate_gradients
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.randomness import SampleNoise, StreamNoise
from ancestral.schedules import VE, VP, Cosine, Level, Linear, grid
from ancestral.solvers import Unadjusted, solver

SCHEDULES = [VP(), Cosine(), Linear(), VE()]
name = lambda s: type(s).__name__  # noqa: E731

MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, 1.5]])
VARIANCES = torch.tensor([0.1, 0.2, 0.05])
WEIGHTS = torch.tensor([0.2, 0.5, 0.3])


def mixture():
    return MixtureOracle(WEIGHTS, MEANS, VARIANCES)


def component(k):
    return MixtureOracle(torch.ones(1), MEANS[k : k + 1], VARIANCES[k : k + 1])


def classifier(k):
    """The exact log p(k | x_t) of the mixture, by Bayes' rule."""
    return lambda x_t, t: WEIGHTS[k].log() + component(k).log_density(x_t, t) - mixture().log_density(x_t, t)


def begin(schedule, steps, n, d, spacing="logsnr"):
    levels = schedule.levels(grid(schedule, steps, spacing))
    scale = math.hypot(levels[0].alpha, levels[0].sigma)
    return scale * SampleNoise(range(n)).normal((d,)).double(), levels


@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_exact_classifier_makes_a_mixture_its_component(k):
    """score + grad log p(k | x_t) is the component's score, so its denoiser is the component's, at every level."""
    for level in (Level(0.9, 0.1, 0.995), Level(0.5, 0.6, 0.8), Level(0.1, 0.99, 0.14)):
        x_t = torch.randn(50, 2, dtype=torch.float64)
        got = ClassifierGuidance(mixture(), classifier(k))(x_t, level).x
        torch.testing.assert_close(got, component(k)(x_t, level).x, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("which", ["dpmpp", "heun", "ddpm", "dpmpp-sde"])
def test_sampling_with_a_classifier_is_sampling_from_the_class(schedule, which):
    x, levels = begin(schedule, 20, 32, 2)
    *_, got = solver(which)(ClassifierGuidance(mixture(), classifier(1)), x, levels, SampleNoise(range(32)))
    *_, expected = solver(which)(component(1), x, levels, SampleNoise(range(32)))
    exact = levels[0].u <= 80  # with less signal than that, the first step takes the gradient from where there is some
    torch.testing.assert_close(got.x, expected.x, atol=1e-6 if exact else 2e-2, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("which", ["dpmpp-3", "heun", "ddpm"])
def test_a_linear_log_likelihood_tilts_a_gaussian_at_any_scale(scale, which):
    """p(x) exp(scale a x) of N(m, s^2) is N(m + scale a s^2, s^2). With log E[exp(a x) | x_t] the tilt is exact at every level,
    since that is linear in x_t with a slope proportional to a."""
    m, s, a = 0.3, 0.6, 1.5

    def log_likelihood(x_t, t):
        return (a * t.alpha * s**2 / (t.alpha**2 * s**2 + t.sigma**2) * x_t).sum(1)

    x, levels = begin(VE(), 20, 16, 1)
    guide = ClassifierGuidance(GaussianOracle(m, s), log_likelihood, scale)
    *_, got = solver(which)(guide, x, levels, SampleNoise(range(16)))
    *_, expected = solver(which)(GaussianOracle(m + scale * a * s**2, s), x, levels, SampleNoise(range(16)))
    torch.testing.assert_close(got.x, expected.x, atol=1e-6, rtol=0)


# linear measurements of a Gaussian with a dense covariance

D, M = 6, 3


def dense():
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(D, D, generator=generator, dtype=torch.float64) / D**0.5
    mean = torch.randn(D, generator=generator, dtype=torch.float64)
    A = torch.randn(M, D, generator=generator, dtype=torch.float64)
    y = torch.randn(M, generator=generator, dtype=torch.float64)
    return mean, root @ root.T + 0.05 * torch.eye(D, dtype=torch.float64), A, y


def conditioned(mean, S, A, y, sigma_y):
    """m + S A' (A S A' + R)^-1 (y - A m) and S - S A' (A S A' + R)^-1 A S."""
    K = S @ A.T @ torch.linalg.inv(A @ S @ A.T + sigma_y**2 * torch.eye(len(y), dtype=S.dtype))
    return mean + K @ (y - A @ mean), S - K @ A @ S


def oracle(mean, S):
    return MixtureOracle(torch.ones(1), mean[None], S[None])


@pytest.mark.parametrize("sigma_y", [0.05, 0.5])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("which", ["dpmpp", "heun", "ddpm", "unipc", "euler-maruyama", "adaptive"])
def test_the_posterior_of_a_gaussian_is_exact(schedule, which, sigma_y):
    """The walk is that of the true posterior's own oracle: the same samples, so the same mean and covariance."""
    mean, S, A, y = dense()
    exact = oracle(*conditioned(mean, S, A, y, sigma_y))
    posterior = Posterior(oracle(mean, S), lambda x: x @ A.T, y[None], sigma_y, iterations=M)
    for level in (Level(0.9, 0.05, 0.9987), Level(0.5, 0.6, 0.8), Level(0.1, 0.99, 0.1)):
        x_t = torch.randn(20, D, dtype=torch.float64)
        torch.testing.assert_close(posterior(x_t, level).x, exact(x_t, level).x, atol=1e-6, rtol=1e-6)
    x, levels = begin(schedule, 15, 8, D)
    *_, got = solver(which)(posterior, x, levels, SampleNoise(range(8)))
    *_, expected = solver(which)(exact, x, levels, SampleNoise(range(8)))
    torch.testing.assert_close(got.x, expected.x, atol=3e-2 if which == "adaptive" else 5e-3, rtol=0)


@pytest.mark.parametrize("which", ["heun", "dpmpp-sde"])
def test_posterior_samples_have_the_posteriors_moments(which):
    mean, S, A, y = dense()
    expected_mean, expected_cov = conditioned(mean, S, A, y, 0.2)
    n, levels = 4000, VP().levels(grid(VP(), 40, "logsnr"))
    posterior = Posterior(oracle(mean, S), lambda x: x @ A.T, y[None], 0.2, iterations=M)
    x = torch.randn(n, D, dtype=torch.float64)
    *_, last = solver(which)(posterior, x, levels, StreamNoise(n, 0, 0))
    torch.testing.assert_close(last.x.mean(0), expected_mean, atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(last.x.T), expected_cov, atol=0.06, rtol=0)


def test_conjugate_gradients_solve_each_row_alone():
    roots = torch.randn(5, 4, 4, dtype=torch.float64)
    S = roots @ roots.mT + 0.1 * torch.eye(4, dtype=torch.float64)
    S[3] = -S[3]  # not positive: that row stays at 0
    b = torch.randn(5, 4, dtype=torch.float64)
    b[4] = 0
    w = conjugate_gradients(lambda v: torch.einsum("nij,nj->ni", S, v), b, 12)
    expected = torch.linalg.solve(S, b)
    expected[3] = 0
    torch.testing.assert_close(w, expected, atol=1e-7, rtol=1e-6)


def test_a_posterior_does_not_depend_on_its_neighbours():
    mean, S, A, y = dense()
    posterior = Posterior(oracle(mean, S), lambda x: x @ A.T, y[None], 0.1, iterations=2)
    x_t, t = torch.randn(6, D, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    torch.testing.assert_close(posterior(x_t[2:3], t).x, posterior(x_t, t).x[2:3], atol=1e-12, rtol=0)


# filling in


def two_correlated(rho=0.8):
    return oracle(torch.zeros(2, dtype=torch.float64), torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))


KNOWN = torch.tensor([[True, False]])


def filled(which, schedule, repeats, n=2000, steps=20):
    levels = schedule.levels(grid(schedule, steps, "logsnr"))
    x = math.hypot(levels[0].alpha, levels[0].sigma) * torch.randn(n, 2, dtype=torch.float64)
    fill = RePaint(solver(which), torch.tensor([[1.5, 0.0]], dtype=torch.float64), KNOWN, repeats)
    *_, last = fill(two_correlated(), x, levels, StreamNoise(n, 0, repeats))
    assert bool((last.x[:, 0] == 1.5).all())
    return last.x[:, 1]


@pytest.mark.parametrize(
    ("which", "schedule"),
    [("ddpm", VP()), ("heun", Cosine()), ("dpmpp", VE()), ("unipc", Linear()), ("euler-maruyama", VP()), ("adaptive", VP())],
)
def test_repaint_comes_to_the_conditional_of_a_correlated_gaussian(which, schedule):
    """x_2 | x_1 = 1.5 is N(0.8 1.5, 1 - 0.8^2) = N(1.2, 0.36): the more repeats, the nearer."""
    repeats = (1, 10) if which == "adaptive" else (1, 10, 60)
    errors = [abs(filled(which, schedule, r).mean().item() - 1.2) for r in repeats]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3
    assert errors[1] < 0.2
    if which != "adaptive":
        assert errors[2] < 0.07


def test_repaint_has_the_conditionals_variance():
    assert filled("heun", Cosine(), 60).var().item() == pytest.approx(0.36, abs=0.05)


def test_all_known_is_returned_and_nothing_known_is_a_plain_walk():
    x, levels = begin(VP(), 8, 5, 2)
    given = torch.randn(5, 2, dtype=torch.float64)
    *_, last = RePaint(solver("ddim"), given, torch.ones(1, 2, dtype=torch.bool))(
        two_correlated(), x, levels, SampleNoise(range(5))
    )
    assert torch.equal(last.x, given)
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    *_, last = RePaint(solver("ddim"), given, nothing, repeats=1)(two_correlated(), x, levels, SampleNoise(range(5)))
    *_, plain = solver("ddim")(two_correlated(), x, levels, SampleNoise(range(5)))
    torch.testing.assert_close(last.x, plain.x)


def test_repaint_counts_its_evaluations():
    x, levels = begin(VP(), 5, 2, 2)
    states = list(RePaint(solver("ddim"), x, KNOWN, repeats=4)(two_correlated(), x, levels, SampleNoise(range(2))))
    assert [state.nfe for state in states] == [0, 4, 8, 12, 16, 17]
    assert [state.done for state in states] == [0, 1, 2, 3, 4, 5]


def test_a_solver_of_one_level_cannot_fill_in():
    with pytest.raises(UsageError, match="one noise level"):
        RePaint(Unadjusted(), torch.zeros(1, 2), KNOWN)
