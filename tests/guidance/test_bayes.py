"""Guidance by a likelihood, of a classifier or of a linear measurement, against posteriors that are known."""

import math
from itertools import pairwise

import pytest
import torch

from ancestral.errors import UsageError
from ancestral.guidance import ClassifierGuidance, Posterior, RePaint
from ancestral.guidance.posterior import conjugate_gradients
from ancestral.guidance.tweedie import gain, with_signal
from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.schedules import VE, VP, Cosine, Level, Linear, grid
from ancestral.solvers import Ancestral, UnadjustedLangevin, solver

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


@pytest.mark.parametrize(("alpha", "sigma"), [(0.0, 1.0), (1.0, 200.0), (1e-4, 0.5)])
def test_a_level_without_signal_is_read_at_u_80(alpha, sigma):
    """A level with less signal than u = 80 is read at u = 80 and the same scale; others are not changed."""
    t = with_signal(Level(0.9, alpha, sigma))
    assert (t.u, t.t) == (pytest.approx(80), 0.9)
    assert math.hypot(t.alpha, t.sigma) == pytest.approx(math.hypot(alpha, sigma))
    assert gain(t) == pytest.approx(t.sigma**2 / t.alpha)
    near = Level(0.9, 1.0, 79.9)
    assert with_signal(near) is near


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
def test_posterior_samples_have_the_posteriors_moments(which, moments):
    """Mean and covariance of all samples, without chance: what is left is the solver's error, of order 2."""
    mean, S, A, y = dense()
    expected_mean, expected_cov = conditioned(mean, S, A, y, 0.2)
    posterior = Posterior(oracle(mean, S), lambda x: x @ A.T, y[None], 0.2, iterations=M)
    errors = []
    for steps in (20, 40):
        levels = VE().levels(grid(VE(), steps, "logsnr"))
        t = levels[0]
        root = torch.linalg.cholesky(t.alpha**2 * expected_cov + t.sigma**2 * torch.eye(D))  # the true start
        found, cov = moments(solver(which), posterior, levels, t.alpha * expected_mean, root, draws=steps)
        errors.append(max((found - expected_mean).abs().max().item(), (cov - expected_cov).abs().max().item()))
    assert errors[1] < errors[0] / 2.5
    assert errors[1] < 0.05


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
GIVEN = torch.tensor([[1.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("schedule", [VP(), Linear()], ids=name)
def test_repaint_is_the_markov_chain_of_its_paper(schedule, repeats, eta, moments):
    """Algorithm 1 in matrices. With x_hat = P x_t, P = alpha S (alpha^2 S + sigma^2 I)^-1, a step down is

        x_s = B x_t + v^(1/2) z,   B = alpha_s P + (sigma_s^2 - v)^(1/2) (I - alpha_t P)/sigma_t,   v = eta^2 beta~,

    then x_s,1 = alpha_s 1.5 + sigma_s z; up again x_t = a x_s + (sigma_t^2 - a^2 sigma_s^2)^(1/2) z, a = alpha_t/alpha_s.
    """
    steps, one = 8, torch.eye(2, dtype=torch.float64)
    levels = schedule.levels(grid(schedule, steps, "logsnr"))
    S = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    known, free = torch.diag(torch.tensor([1.0, 0.0])).double(), torch.diag(torch.tensor([0.0, 1.0])).double()

    def keep(mean, cov, s):
        return free @ mean + s.alpha * GIVEN[0], free @ cov @ free + s.sigma**2 * known

    first = levels[0]
    r = math.hypot(first.alpha, first.sigma)
    mean, cov = keep(torch.zeros(2).double(), r**2 * one, first)
    for t, s in pairwise(levels):
        P = t.alpha * S @ torch.linalg.inv(t.alpha**2 * S + t.sigma**2 * one)
        a = t.alpha / s.alpha
        v = eta**2 * (s.sigma / t.sigma) ** 2 * (t.sigma**2 - (a * s.sigma) ** 2)
        B = s.alpha * P + math.sqrt(max(s.sigma**2 - v, 0.0)) / t.sigma * (one - t.alpha * P)
        for _ in range(repeats - 1 if t.alpha > 0 and s.sigma > 0 else 0):
            mean, cov = keep(B @ mean, B @ cov @ B.T + v * one, s)
            mean, cov = a * mean, a**2 * cov + (t.sigma**2 - (a * s.sigma) ** 2) * one
        mean, cov = keep(B @ mean, B @ cov @ B.T + v * one, s)
    fill = RePaint(Ancestral(eta), GIVEN, KNOWN, repeats)
    found, spread = moments(fill, two_correlated(), levels, torch.zeros(2), r * one, draws=4 * steps * repeats)
    torch.testing.assert_close(found, mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(spread, cov, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("which", "schedule"), [("ddpm", VP()), ("heun", Cosine()), ("dpmpp", VE()), ("unipc", Linear()), ("euler-maruyama", VP())]
)
def test_repaint_comes_to_the_conditional_of_a_correlated_gaussian(which, schedule, moments):
    """x_2 | x_1 = 1.5 is N(0.8 1.5, 1 - 0.8^2) = N(1.2, 0.36): the more repeats, the nearer. Without chance."""
    levels, found = schedule.levels(grid(schedule, 20, "logsnr")), []
    r = math.hypot(levels[0].alpha, levels[0].sigma)
    for repeats in (1, 5, 20):
        fill = RePaint(solver(which), GIVEN, KNOWN, repeats)
        mean, cov = moments(fill, two_correlated(), levels, torch.zeros(2), r * torch.eye(2), draws=4 * 20 * repeats)
        assert (mean[0], cov[0].abs().max()) == (1.5, 0)
        found.append((mean[1].item(), cov[1, 1].item()))
    errors = [abs(mean - 1.2) for mean, _ in found]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.3
    assert errors[2] < 0.15
    if which != "ddpm":  # whose variance beta~ falls short by O(step): by .10 here, .06 at 40 steps, .03 at 80
        assert found[2][1] == pytest.approx(0.36, rel=0.25)


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
        RePaint(UnadjustedLangevin(), torch.zeros(1, 2), KNOWN)
