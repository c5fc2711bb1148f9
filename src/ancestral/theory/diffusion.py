"""Claims of denoising diffusion (Ho et al. 2020, arXiv:2006.11239; Kingma et al. 2021, arXiv:2107.00630).

Networks are replaced by the exact denoisers of Gaussians and Gaussian mixtures, of which every density is known, so that
what is left to test is the theory and the code that trains, samples and scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.denoiser import Denoiser
from ancestral.families.base import Scaling
from ancestral.families.diffusion import Diffusion
from ancestral.gaussian import Gaussian
from ancestral.likelihood import vlb
from ancestral.nets import denoising_network
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.prediction import Prediction, Reading
from ancestral.schedules import VP, Chain, Cosine, Level, Levels, Linear, Schedule, grid, posterior
from ancestral.solvers import Ancestral, DPMpp, Euler, Heun, Solver
from ancestral.theory.claims import SINGLE, Sides, at_most, claim, draws, equal, mean, seeded, variance

N = 100_000
X = torch.linspace(-9, 9, 4001, dtype=torch.float64)
MIXTURE = MixtureOracle(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0], [2.0]]),
    torch.tensor([0.25, 0.04], dtype=torch.float64),
)
M, S = 0.7, 0.4  # of Gaussian data


class Signs:
    """Noise of the two values +-1, as exact as an integral for every quadratic. n: a multiple of 4."""

    def __init__(self, n: int):
        self.n = n

    def normal(self, shape: object) -> Tensor:
        return torch.tensor([-1.0, 1.0]).repeat(self.n // 2)[:, None]


def signs_of_data() -> Tensor:
    """Data of mean M and deviation S, each with both values of `Signs`."""
    return torch.tensor([M - S, M - S, M + S, M + S], dtype=torch.float64)[:, None]


class Exact(nn.Module):
    """The network of an oracle's denoiser: what it has to output at unit scale, for the target score sigma score = -eps."""

    def __init__(self, oracle: MixtureOracle, target: Reading):
        super().__init__()
        self.oracle, self.target = oracle, target

    def forward(self, z: Tensor, logsnr: Tensor, context: Context) -> Tensor:
        alpha, sigma = logsnr.double().sigmoid().sqrt(), (-logsnr.double()).sigmoid().sqrt()
        p = self.oracle(z, Levels(alpha, alpha, sigma))
        return -p.eps if self.target == "score" else p.read(self.target)


def family(network: nn.Module, schedule: Schedule, target: Reading = "eps", d: int = 1, **options: object) -> Diffusion:
    scaling = Scaling((d,), (0.0,) * d, (1.0,) * d, None)
    return Diffusion((d,), scaling, Conditioner({}), Denoiser(network, target), schedule, **options)  # type: ignore[arg-type]


def random_network(d: int, width: int = 16) -> nn.Module:
    """The family's own network of vectors, made random in every layer."""

    def make() -> nn.Module:
        network = denoising_network((d,), width=width, blocks=1)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        return network

    return seeded(make)


def integral(f: Tensor) -> Tensor:
    return torch.trapezoid(f, X)


@claim("Ho et al. 2020, eq. 2; Kingma & Welling 2014, section 2.4", (Chain.step,))
def step() -> Iterator[Sides]:
    """One step by reparameterisation is a draw of q(x_t|x_{t−1})

        x_t = √α_t x_{t−1} + √(1 − α_t) ε,   ε ~ N(0, I)      has      q(x_t|x_{t−1}) = N(√α_t x_{t−1}, (1 − α_t) I)

    An affine map of a Gaussian is Gaussian: its mean is the image of the mean, its covariance (1 − α_t) I.
    """
    chain, x = Chain.linear(100, 1e-2, 0.3), torch.tensor([[1.5, -0.5]]).double()
    for i in (1, 60):
        alpha = chain.alphas[i - 1]
        y = chain.step(x, i, draws(N).normal((2,)).double())
        yield equal(f"mean, t = {i}", mean(y)[0], alpha.sqrt() * x, mean(y)[1])
        yield equal(f"variance, t = {i}", variance(y)[0], 1 - alpha, variance(y)[1])
        c, error = mean((y - y.mean(0)).prod(1))
        yield equal(f"covariance, t = {i}", c, 0.0, error)


@claim("Ho et al. 2020, eq. 4", (Chain.step, Chain.level, Chain.constant))
def closed_form() -> Iterator[Sides]:
    """T steps are one: q(x_t|x₀) = N(√ᾱ_t x₀, (1 − ᾱ_t) I), ᾱ_t = α₁ ⋯ α_t

        x_t = √α (√α x_{t−2} + √(1−α) ε′) + √(1−α) ε = …  = √α^t x₀ + Σ_i √(α^i (1 − α)) ε_i

    Independent noises add their variances, for constant α a geometric series:

        (1 − α) (1 + α + … + α^{t−1}) = 1 − α^t

    For varying α the same holds by induction: α_t (1 − ᾱ_{t−1}) + 1 − α_t = 1 − ᾱ_t.
    """
    alpha, t = 0.95, 30
    constant = Chain.constant(t, alpha)
    series = (1 - alpha) * sum(alpha**i for i in range(t))
    yield equal("geometric series", constant.level(t).sigma ** 2, series)
    for name, chain in (("constant α", constant), ("varying α", Chain.linear(t, 1e-3, 0.3))):
        x = torch.full((N, 1), 1.5, dtype=torch.float64)
        total = 0.0
        for i in range(1, t + 1):
            x = chain.step(x, i, draws(N, i).normal((1,)).double())
            total = chain.alphas[i - 1].item() * total + chain.betas[i - 1].item()
        level = chain.level(t)
        yield equal(f"{name}: mean of {t} steps", mean(x)[0], 1.5 * level.alpha, mean(x)[1])
        yield equal(f"{name}: variance of {t} steps", variance(x)[0], level.sigma**2, variance(x)[1])
        yield equal(f"{name}: variance by induction", total, level.sigma**2)


@claim(
    "Ho et al. 2020, section 2; Sohl-Dickstein et al. 2015, section 2.1", (Chain.levels, MixtureOracle.log_density, Gaussian.kl)
)
def forgetting() -> Iterator[Sides]:
    """Whatever the data are, KL(q(x_t) ‖ N(0, I)) falls to 0, for constant and for varying α

        q(x_t) = ∫ q(x₀) N(x_t; √ᾱ_t x₀, (1 − ᾱ_t) I) dx₀  →  N(0, I)     as   ᾱ_t → 0

    The normal distribution is the chain's stationary one, and a Markov chain never moves away from it: the divergence falls at
    each step (data processing). For data N(m, s²) it is ½[ᾱ(s² + m² − 1) − log(1 + ᾱ(s² − 1))] ≈ ½ ᾱ m².
    """
    for name, chain in (("constant α", Chain.constant(400, 0.97)), ("linear β", Chain.linear()), ("cosine", Chain.cosine())):
        steps = torch.linspace(0.02, 1, 50, dtype=torch.float64)
        levels = chain.levels((steps * chain.T).round() / chain.T)
        standard = Gaussian(torch.zeros(1), torch.ones(1)).log_prob(X[:, None])
        log_q = torch.stack([MIXTURE.log_density(X[:, None], level) for level in levels])
        kl = integral(log_q.exp() * (log_q - standard))
        yield at_most(f"{name}: never rises", kl[1:], kl[:-1])
        yield at_most(f"{name}: starts far", 0.3, kl[0])
        yield equal(f"{name}: at t = T", kl[-1], 0.0, tolerance=1e-4)
        level = levels[len(levels) // 2]
        abar = level.alpha**2
        q = Gaussian(torch.tensor([[level.alpha * M]]).double(), torch.tensor([[abar * S * S + level.sigma**2]]).double())
        right = 0.5 * (abar * (S * S + M * M - 1) - math.log1p(abar * (S * S - 1)))
        yield equal(f"{name}: Gaussian data at T/2", q.kl(), right)


@claim("Ho et al. 2020, eq. 6-7", (Chain.posterior, posterior))
def reverse_step() -> Iterator[Sides]:
    """Given x₀ the step back is Gaussian: q(x_{t−1}|x_t, x₀) = N(μ̃, β̃ I)

        q(x_{t−1}|x_t, x₀) = q(x_t|x_{t−1}) q(x_{t−1}|x₀) / q(x_t|x₀)                              (Bayes)
        μ̃ = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x₀ + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t,    β̃ = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t)

    A product of two Gaussians in x_{t−1}: add the precisions α_t/β_t and 1/(1 − ᾱ_{t−1}), and weigh the means by them. The left
    sides are the library's, the right ones sums over a grid of x_{t−1}, and the paper's formulas.
    """
    chain, x, x_t = Chain.linear(100, 1e-3, 0.2), torch.tensor([[1.2]]).double(), torch.tensor([[-0.4]]).double()
    for i in (10, 60):
        mu, var = chain.posterior(x, x_t, i)
        beta, before, level = chain.betas[i - 1], chain.level(i - 1), chain.level(i)
        prior = Gaussian(before.alpha * x, torch.tensor([[before.sigma**2]]).double())
        x_s = X[:, None]
        log_w = Gaussian((1 - beta).sqrt() * x_s, beta[None]).log_prob(x_t) + prior.log_prob(x_s)
        w = log_w.softmax(0)
        yield equal(f"mean by Bayes, t = {i}", mu, w @ X, tolerance=1e-7)
        yield equal(f"variance by Bayes, t = {i}", var, w @ (X - w @ X).square(), tolerance=1e-7)
        paper = (before.alpha * beta * x + (1 - beta).sqrt() * before.sigma**2 * x_t) / level.sigma**2
        yield equal(f"μ̃ of eq. 7, t = {i}", mu, paper)
        yield equal(f"β̃ of eq. 7, t = {i}", var, beta * before.sigma**2 / level.sigma**2)


@claim("Ho et al. 2020, eq. 5 and section 3.3", (vlb,))
def reconstruction() -> Iterator[Sides]:
    """The reconstruction term is a Gaussian about the prediction of x₀

        log p(x₀|x₁) = −|x₀ − x̂₀(x₁)|² / (2 β₁)  −  D/2 log(2π β₁)

    At t = 1 the posterior's mean is x̂₀ itself, as q(x₀|x₁, x₀) is a point; the variance is β₁ = 1 − ᾱ₁.
    """
    chain, d = Chain.linear(10, 0.02, 0.4), 3
    oracle, x = GaussianOracle(M, torch.full((d,), S)), draws(64, 1).normal((d,)).double()
    left = vlb(oracle, chain, x, draws(64)).terms["reconstruction"]
    first = chain.level(1)
    x_hat = oracle(first.alpha * x + first.sigma * draws(64).normal((d,)).double(), first).x
    beta = chain.betas[0].item()
    right = -(x - x_hat).square().sum(1) / (2 * beta) - d / 2 * math.log(2 * math.pi * beta)
    yield equal("log p(x₀|x₁)", left, right)


@claim("Ho et al. 2020, section 3.1", (vlb,))
def prior_matching() -> Iterator[Sides]:
    """The prior matching term tends to 0 with T, and has no parameters

        L_T = KL(q(x_T|x₀) ‖ N(0, I)) = ½ [ ᾱ_T |x₀|² + D (−ᾱ_T − log(1 − ᾱ_T)) ]  →  0

    as ᾱ_T → 0. The forward process is fixed, so nothing in it can be learned; with β from 1e-4 to 0.02, T = 1000 leaves
    2.018e-5 nats for data N(0, 1).
    """
    lengths, found = (50, 100, 200, 500, 1000), []
    network = random_network(1)
    for T in lengths:
        terms = vlb(Denoiser(network, "eps"), Chain.linear(T), torch.ones(1, 1), draws(1), draws=2).terms
        found.append(-terms["prior"].squeeze())
        abar = Chain.linear(T).alphas_bar[-1].item()
        if T in (50, 1000):
            yield equal(f"closed form, T = {T}", found[-1], 0.5 * (abar - abar - math.log1p(-abar)), tolerance=SINGLE)
    left = torch.stack(found)
    yield at_most("falls with T", left[1:], left[:-1], tolerance=0.0)
    yield equal("T = 1000, data N(0, 1)", left[-1], 2.018e-5, tolerance=1e-8)
    trained = sum(terms[name].requires_grad for name in ("reconstruction", "consistency"))
    yield equal("terms with parameters: two", trained, 2.0)
    yield equal("of them prior matching", float(terms["prior"].requires_grad), 0.0)


@claim("Ho et al. 2020, eq. 8; Kingma et al. 2021, eq. 13-15", (Gaussian.kl, Chain.posterior, Diffusion.weights, vlb))
def consistency() -> Iterator[Sides]:
    """The consistency term is a KL of Gaussians of equal covariance, a scaled squared distance of means

        KL(N(μ, β̃ I) ‖ N(μ̂, β̃ I)) = |μ − μ̂|² / (2 β̃)
                                   = ½ (SNR_{t−1} − SNR_t) |x₀ − x̂₀|²,      SNR_t = ᾱ_t/(1 − ᾱ_t)

    Both means weigh x_t alike, so they differ by c (x₀ − x̂₀), c = √ᾱ_{t−1} β_t/(1 − ᾱ_t), and c²/β̃ = SNR_{t−1} − SNR_t. A
    network that is trained with the weight `vlb` minimises T times this, at a random t.
    """
    chain, T = Chain.linear(50, 1e-3, 0.3), 50
    x, x_t = (draws(64, k).normal((3,)).double() for k in (1, 2))
    x_hat = 0.8 * x + 0.1
    model = family(random_network(3), chain, d=3, weight="vlb")
    for i in (2, 25, 50):
        (mu, var), (mu_hat, _) = chain.posterior(x, x_t, i), chain.posterior(x_hat, x_t, i)
        v = torch.full_like(mu, var)
        kl, level, before = Gaussian(mu, v).kl(Gaussian(mu_hat, v)), chain.level(i), chain.level(i - 1)
        change = (before.alpha / before.sigma) ** 2 - (level.alpha / level.sigma) ** 2
        distance = (x - x_hat).square().sum(1)
        yield equal(f"|μ − μ̂|²/(2β̃), t = {i}", kl, (mu - mu_hat).square().sum(1) / (2 * var))
        yield equal(f"½ ΔSNR |x₀ − x̂₀|², t = {i}", kl, change / 2 * distance)
        w = model.weights(chain.at(torch.tensor([i / T], dtype=torch.float64)))
        yield equal(f"training's weight / T, t = {i}", w / T * distance, kl)

    def wrong(x_t: Tensor, level: Level | Levels) -> Prediction:
        p = MIXTURE(x_t, level)
        return Prediction(p.x + 0.3, x_t, p.alpha, p.sigma)

    short, y, noise = Chain.linear(2, 0.1, 0.3), draws(8, 3).normal((1,)).double(), draws(8)
    noise.normal((1,))  # of the reconstruction
    last = short.level(2)
    y_t = last.alpha * y + last.sigma * noise.normal((1,)).double()
    (mu, var), (mu_hat, _) = short.posterior(y, y_t, 2), short.posterior(wrong(y_t, last).x, y_t, 2)
    v = torch.full_like(mu, var)
    yield equal(
        "the bound's term, T = 2", -vlb(wrong, short, y, draws(8)).terms["consistency"], Gaussian(mu, v).kl(Gaussian(mu_hat, v))
    )


@claim("Ho et al. 2020, eq. 3 and 5; appendix A", (vlb, Chain.step, Chain.posterior))
def elbo() -> Iterator[Sides]:
    """The whole ELBO equals its three terms, and bounds log p(x)

        E_q [ log p(x_{0:T}) / q(x_{1:T}|x₀) ]  =  E log p(x₀|x₁)  −  KL(q(x_T|x₀) ‖ p(x_T))
                                                   −  Σ_{t≥2} E KL(q(x_{t−1}|x_t, x₀) ‖ p(x_{t−1}|x_t))

    Turn each forward kernel around by Bayes, q(x_t|x_{t−1}) = q(x_{t−1}|x_t, x₀) q(x_t|x₀)/q(x_{t−1}|x₀); the marginals cancel
    in pairs and leave q(x_T|x₀). The left side walks the chain forward and adds up log-densities along the way; the right
    side is `vlb`. Its variance is smaller because each KL is exact.
    """
    chain, T = Chain.linear(8, 0.02, 0.5), 8
    for value in (-1.3, 1.0):
        x0 = torch.full((N, 1), value, dtype=torch.float64)
        left, x = torch.zeros(N, dtype=torch.float64), x0
        for i in range(1, T + 1):
            y = chain.step(x, i, draws(N, i).normal((1,)).double())
            beta = chain.betas[i - 1]
            left = left - Gaussian((1 - beta).sqrt() * x, beta[None]).log_prob(y)
            mu, var = chain.posterior(MIXTURE(y, chain.level(i)).x, y, i)
            var = var if i > 1 else beta.item()
            left = left + Gaussian(mu, torch.full_like(mu, var)).log_prob(x)
            x = y
        left = left + Gaussian(torch.zeros_like(x), torch.ones_like(x)).log_prob(x)
        bound = vlb(MIXTURE, chain, x0, draws(N, 99))
        (a, a_error), (b, b_error) = mean(left), mean(bound.value)
        yield equal(f"x = {value:g}", a, b, (a_error**2 + b_error**2).sqrt())
        yield equal(f"x = {value:g}, sum of terms", b, sum(v.mean() for v in bound.terms.values()))
        log_p = MIXTURE.log_density(x0[:1], Level(0.0, 1.0, 0.0))
        yield at_most(f"x = {value:g}, bounds log p(x)", b, log_p, b_error)


@claim("Bao et al. 2022 (arXiv:2201.06503), theorem 1; Kingma et al. 2021, section 3", (vlb, MixtureOracle.error))
def tight() -> Iterator[Sides]:
    """Where the data are Gaussian and the reverse variance is the best one, the bound is tight but for the prior

        E_x[−ELBO] = h(x) + KL(q(x_T) ‖ N(0, I)),   for every T

    The true reverse kernel of Gaussian data is Gaussian, with the variance β̃ + c² E|x₀ − x̂₀|²; a model that has it makes every
    step exactly, and can only be wrong about x_T. With β̃ instead the middle term is ½ Σ ΔSNR s²/(1 + s² SNR_t), which is more.
    Expectations over x and noise are exact, as all is quadratic. N(0, 1), T = 1000: 1.41893853 nats.
    """
    oracle, x = GaussianOracle(M, S), signs_of_data()
    data = Gaussian(torch.zeros(1, 1), torch.full((1, 1), S * S, dtype=torch.float64))
    for T, last in ((2, 0.5), (10, 0.5), (100, 0.1)):
        chain = Chain.linear(T, 0.01, last)
        level = chain.level(T)
        q = Gaussian(
            torch.full((1, 1), level.alpha * M).double(), torch.full((1, 1), level.alpha**2 * S * S + level.sigma**2).double()
        )
        best = -vlb(oracle, chain, x, Signs(4), variance=oracle.error).value.mean()  # type: ignore[arg-type]
        yield equal(f"best variance, T = {T}", best, data.entropy() + q.kl(), tolerance=SINGLE)
        bound = vlb(oracle, chain, x, Signs(4))  # type: ignore[arg-type]
        yield at_most(f"against β̃, T = {T}", best, -bound.value.mean())
        snr = (chain.alphas_bar / (1 - chain.alphas_bar)).double()
        middle = 0.5 * ((snr[:-1] - snr[1:]) * S * S / (1 + S * S * snr[1:])).sum()
        yield equal(f"middle term with β̃, T = {T}", -bound.terms["consistency"].mean(), middle, tolerance=SINGLE)
    standard, y = GaussianOracle(), torch.tensor([-1.0, -1.0, 1.0, 1.0]).double()[:, None]
    total = -vlb(standard, Chain.linear(), y, Signs(4), variance=standard.error).value.mean()  # type: ignore[arg-type]
    yield equal("N(0, 1), T = 1000", total, 1.41893853, tolerance=1e-6)


@claim("Ho et al. 2020, eq. 14; Kingma et al. 2021, eq. 17", (Diffusion.loss, Diffusion.weights, Denoiser.forward))
def simple_loss() -> Iterator[Sides]:
    """L_simple is the squared error of x̂₀ weighed by the SNR, and a perfect network does not bring it to 0

        |ε − ε̂|² = SNR |x₀ − x̂₀|²,      min L_simple(t) = α² s²/(α² s² + σ²) per dimension for data N(m, s²)

    At fixed x_t both errors are one, as σ ε = x_t − α x₀. What remains for the best ε̂ = E[ε|x_t] is the posterior
    variance of ε: x_t does not say all of it. A curve below this floor is a defect.
    """
    network, chain = random_network(2), Chain.linear(100, 1e-3, 0.1)
    x = draws(256, 1).normal((2,))
    model = family(network, chain, d=2)
    noise = draws(256)
    with torch.no_grad():
        left = model.loss(Batch(x), "model", draws(256))["total"]
        level = chain.at(model.draw_times(noise))
        eps = noise.normal((2,))
        alpha, sigma = level.alpha.float()[:, None], level.sigma.float()[:, None]
        p = model.denoiser(alpha * x + sigma * eps, level)
    yield equal("|ε − ε̂|²", left, (eps - p.eps).square().sum(1), tolerance=1e-4)
    oracle = GaussianOracle(M, S)
    for t in (0.1, 0.5, 0.9):
        one = _OneLevel(Cosine(), t)
        exact = family(Exact(oracle, "v"), one, "v", weight="edm")
        at = one.levels(torch.tensor([t], dtype=torch.float64))[0]
        with torch.no_grad():
            total = exact.loss(Batch(M + S * draws(N, 1).normal((1,))), "model", draws(N))["total"]
        left_mean, error = mean(total * at.alpha**2)  # edm's weight is SNR + 1 = SNR/alpha^2
        yield equal(f"floor, t = {t:g}", left_mean, at.alpha**2 * S * S / (at.alpha**2 * S * S + at.sigma**2), error, 1e-5)


class _OneLevel(Schedule):
    """A schedule of which training sees one time only."""

    def __init__(self, schedule: Schedule, t: float):
        self.alpha, self.sigma, self.only = schedule.alpha, schedule.sigma, t  # type: ignore[method-assign]

    def noisy(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.only)


class _Fixed:
    """Noise that is the same number everywhere."""

    n = 1

    def __init__(self, value: float):
        self.value = value

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full((1, *shape), self.value)


@claim("Song et al. 2021 (arXiv:2010.02502), eq. 12 and 16", (Ancestral.step, posterior))
def ddim() -> Iterator[Sides]:
    """DDIM at η = 1 is DDPM, and at η = 0 it is deterministic

        σ²(η) = η² (1 − ᾱ_s)/(1 − ᾱ_t) (1 − ᾱ_t/ᾱ_s),     η = 1:  β̃, the posterior variance of DDPM

    and with it the means agree: α_s x̂ + √(σ_s² − σ²) ε̂ = μ̃(x_t, x̂). On N(0, 1) with the cosine schedule each of N steps at
    η = 0 multiplies by cos(π/2N), so that x₀ = cos^N(π/2N) x₁.
    """
    chain, x = Chain.linear(100, 1e-3, 0.1), torch.tensor([[0.6]]).double()
    for i, j in ((60, 59), (90, 40)):
        t, s = chain.level(i), chain.level(j)
        still, moved = (Ancestral(eta=1).step(MIXTURE, x, t, s, None, _Fixed(z))[0] for z in (0.0, 1.0))  # type: ignore[arg-type]
        mu, var = posterior(MIXTURE(x, t).x, x, t, s)
        abar_t, abar_s = t.alpha**2, s.alpha**2
        paper = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
        yield equal(f"variance at η = 1, {i} to {j}", (moved - still).square(), paper, tolerance=SINGLE)
        yield equal(f"β̃, {i} to {j}", var, paper)
        yield equal(f"mean at η = 1, {i} to {j}", still, mu)
        still, moved = (Ancestral(eta=0).step(MIXTURE, x, t, s, None, _Fixed(z))[0] for z in (0.0, 1.0))  # type: ignore[arg-type]
        yield equal(f"noise at η = 0, {i} to {j}", moved - still, 0.0, tolerance=0.0)
    for n in (5, 20):
        *_, state = Ancestral(eta=0)(GaussianOracle(), x, Cosine().levels(grid(Cosine(), n)), draws(1))
        yield equal(f"cosⁿ(π/2n) x₁, n = {n}", state.x, math.cos(math.pi / 2 / n) ** n * x)


@claim("Ho et al. 2020, algorithm 2", (Ancestral.step, Diffusion.walk))
def algorithm_2() -> Iterator[Sides]:
    """Algorithm 2 with the exact denoiser returns the data distribution

        x_{t−1} = μ̃(x_t, x̂₀(x_t)) + √β̃ z,    from x_T ~ N(0, I),   t = T, …, 1

    Reversed step by step, the chain has the forward one's marginals, up to O(1/T): p(x_{t−1}|x_t) is Gaussian only for small
    steps. Data are a mixture of two Gaussians of unequal weights and widths; 20,000 samples by the family's own walk.
    """
    n, chain = 20_000, Chain.linear()
    model = family(Exact(MIXTURE, "eps"), chain)
    for state in model.walk(draws(n), Context(), steps=chain.T, solver=Ancestral(eta=1), spacing="trailing"):
        x = state.x.double()
    yield equal("mean", mean(x)[0], 0.3 * -1 + 0.7 * 2, mean(x)[1], 0.01)
    second = 0.3 * (1 + 0.25) + 0.7 * (4 + 0.04)
    yield equal("variance", variance(x)[0], second - 1.1**2, variance(x)[1], 0.01)
    points = torch.tensor([-1.5, -1.0, -0.5, 0.5, 1.8, 2.0, 2.2], dtype=torch.float64)
    share, error = mean((x < points).double())
    yield equal("distribution function", share, distribution(MIXTURE, points), error, 0.005)


def distribution(oracle: MixtureOracle, points: Tensor, level: Level | None = None) -> Tensor:
    """P(x_t < point) of data on the line."""
    alpha, sigma = (level.alpha, level.sigma) if level else (1.0, 0.0)
    std = (alpha**2 * oracle.variances + sigma**2).sqrt()
    below: Tensor = torch.special.ndtr((points - alpha * oracle.means) / std)
    return oracle.weights @ below


@claim("Ho et al. 2020, section 3.2", (Diffusion.players, Denoiser.forward))
def one_network() -> Iterator[Sides]:
    """One network for all t, against T networks

        parameters(one network told t) = P + P_t,      parameters(T networks) = T P

    where P_t are those of the embedding of the noise level. For T = 1000 the sum is near P, not 1000 P, because every parameter
    serves every t: the loss at any one noise level has a gradient in all.
    """
    network = random_network(2, 64)
    model, T = family(network, Chain.linear(), d=2), 1000
    count = sum(p.numel() for player in model.players() for p in player.parameters)
    embedding = sum(p.numel() for name, p in network.named_parameters() if "noise" in name or "modulation" in name)
    yield equal("parameters, one = P + P_t", count, sum(p.numel() for p in network.parameters()), tolerance=0.0)
    yield at_most(f"one network against T = {T} without t", count, T * (count - embedding), tolerance=0.0)
    x = draws(512, 1).normal((2,))
    for t in (0.05, 0.5, 0.95):
        one = family(network, _OneLevel(Chain.linear(), t), d=2)
        gradients = torch.autograd.grad(one.loss(Batch(x), "model", draws(512))["total"].sum(), list(network.parameters()))
        moved = sum(int((g != 0).sum()) for g in gradients)
        yield equal(f"parameters that learn at t = {t:g}", moved, count, tolerance=0.0)


@claim(
    "Karras et al. 2022 (arXiv:2206.00364), section 3; Lu et al. 2022 (arXiv:2211.01095), theorem 3.2",
    (Euler.step, Heun.step, DPMpp.step),
)
def solver_order() -> Iterator[Sides]:
    """Halving the steps divides a solver's error by 2, 4 or 8: its order is 1, 2 or 3

        error(h) ≈ C h^p   ⇒   p = log₂ error(h)/error(h/2)

    measured on data N(m, s²), whose probability flow is known: (x_t − α_t m)/√(α_t² s² + σ_t²) is constant along it.
    """
    oracle, x = GaussianOracle(M, S), torch.tensor([[1.3], [-0.4]]).double()
    methods: tuple[tuple[str, Solver, int], ...] = (
        ("Euler", Euler(), 1),
        ("Heun", Heun(), 2),
        ("DPM-Solver++", DPMpp(order=3), 3),
    )
    for schedule in (VP(), Linear()):
        for name, method, order in methods:
            errors = []
            for n in (80, 160):
                levels = schedule.levels(schedule.time(torch.linspace(-8.5, 3, n + 1, dtype=torch.float64)))
                start = x * levels[0].sigma
                *_, state = method(oracle, start, levels, draws(2))
                errors.append((state.x - oracle.flow(start, levels[0], levels[-1])).abs().max().item())
            slope = math.log2(errors[0] / errors[1])
            yield equal(f"{name}, {type(schedule).__name__}", slope, order, tolerance=0.15 / order)
