"""Claims about the bound of a chain: its three terms, and the case in which it is tight."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal, mean, table
from ancestral.app.theory.diffusion.models import Signs, family, signs_of_data
from ancestral.app.theory.known import MIXTURE, M, S, random_network
from ancestral.denoiser import Denoiser
from ancestral.gaussian import Gaussian
from ancestral.likelihood import vlb
from ancestral.models.diffusion import Diffusion
from ancestral.oracles import GaussianOracle, MixtureOracle
from ancestral.prediction import Prediction
from ancestral.schedules import CLEAN, Chain, Level, Levels


@claim("Ho et al. 2020, eq. 5 and section 3.3", (vlb, Diffusion.weights))
def reconstruction() -> Iterator[Sides]:
    """The reconstruction term is a Gaussian about the prediction of x₀

        log p(x₀|x₁) = −|x₀ − x̂₀(x₁)|² / (2 β₁)  −  D/2 log(2π β₁)

    At t = 1 the posterior's mean is x̂₀ itself, because q(x₀|x₁, x₀) is a point. The variance is β₁ = 1 − ᾱ₁. Training's weight
    `vlb`, divided by T, is therefore 1/(2 β₁) there.
    """
    chain, d = Chain.linear(10, 0.02, 0.4), 3
    oracle, x = GaussianOracle(M, torch.full((d,), S)), draws(64, 1).normal((d,)).double()
    left = vlb(oracle, chain, x, draws(64)).terms["reconstruction"]
    first = chain.level(1)
    x_hat = oracle(first.alpha * x + first.sigma * draws(64).normal((d,)).double(), first).x
    beta = chain.betas[0].item()
    distance, order = (x - x_hat).square().sum(1).sort()
    right = -distance / (2 * beta) - d / 2 * math.log(2 * math.pi * beta)
    along = Along("|x₀ − x̂₀(x₁)|²", distance, "the reconstruction term, nats")
    yield equal("log N(x₀; x̂₀(x₁), β₁ I)", left[order], right, along=along)
    weight = family(random_network(d), chain, d=d, weight="vlb").weights(
        chain.at(torch.tensor([1 / chain.T], dtype=torch.float64))
    )
    yield equal("training's weight / T", weight / chain.T, 1 / (2 * beta))


@claim("Ho et al. 2020, section 3.1", (vlb,))
def prior_matching() -> Iterator[Sides]:
    """The prior matching term tends to 0 with T, and has no parameters

        L_T = KL(q(x_T|x₀) ‖ N(0, I)) = ½ [ ᾱ_T |x₀|² + D (−ᾱ_T − log(1 − ᾱ_T)) ]  →  0

    as ᾱ_T → 0. The forward process is fixed, so nothing in it can be learned. With β from 1e-4 to 0.02 and T = 1000 the term
    is 2.018e-5 nats for data N(0, 1).
    """
    lengths, rows = (30, 50, 100, 200, 300, 500, 700, 1000), []
    network = random_network(1)
    for T in lengths:
        terms = vlb(Denoiser(network, "eps"), Chain.linear(T), torch.tensor([[2.0], [1.0]]), draws(2), draws=2).terms
        abar = Chain.linear(T).alphas_bar[-1].item()
        rows.append((-terms["prior"][0], 0.5 * (4 * abar - abar - math.log1p(-abar)), -terms["prior"][1]))
    left, right, at_one = table(rows)
    along = Along("T", torch.tensor(lengths, dtype=torch.float64), "L_T, nats", "xy")
    yield equal("closed form, x₀ = 2", left, right, tolerance=SINGLE, along=along)
    yield at_most("falls with T", left[1:], left[:-1], tolerance=0.0)
    yield equal("T = 1000, |x₀|² = 1, the mean for data N(0, 1)", at_one[-1], 2.018e-5, tolerance=1e-8)
    trained = sum(terms[name].requires_grad for name in ("reconstruction", "consistency"))
    yield equal("terms with parameters: two", trained, 2.0)
    yield equal("prior matching is not one of them", float(terms["prior"].requires_grad), 0.0)


@claim("Ho et al. 2020, eq. 8; Kingma et al. 2021, section 4", (Gaussian.kl, Chain.posterior, Diffusion.weights, vlb))
def consistency() -> Iterator[Sides]:
    """The consistency term is a KL of Gaussians of equal covariance, a scaled squared distance of means

        KL(N(μ, β̃ I) ‖ N(μ̂, β̃ I)) = |μ − μ̂|² / (2 β̃)
                                   = ½ (SNR_{t−1} − SNR_t) |x₀ − x̂₀|²,      SNR_t = ᾱ_t/(1 − ᾱ_t)

    Both means give x_t the same weight, so they differ by c (x₀ − x̂₀), c = √ᾱ_{t−1} β_t/(1 − ᾱ_t), and
    c²/β̃ = SNR_{t−1} − SNR_t. A network that is trained with the weight `vlb` minimises T times this, at a random t.
    """
    chain, T = Chain.linear(50, 1e-3, 0.3), 50
    x, x_t = (draws(64, k).normal((3,)).double() for k in (1, 2))
    x_hat = 0.8 * x + 0.1
    model = family(random_network(3), chain, d=3, weight="vlb")
    rows = []
    for i in range(2, T + 1):
        (mu, var), (mu_hat, _) = chain.posterior(x, x_t, i), chain.posterior(x_hat, x_t, i)
        v = torch.full_like(mu, var)
        kl, level, before = Gaussian(mu, v).kl(Gaussian(mu_hat, v)), chain.level(i), chain.level(i - 1)
        change = (before.alpha / before.sigma) ** 2 - (level.alpha / level.sigma) ** 2
        distance = (x - x_hat).square().sum(1)
        w = model.weights(chain.at(torch.tensor([i / T], dtype=torch.float64)))
        by_means = (mu - mu_hat).square().sum(1) / (2 * var)
        rows.append(v.mean() for v in (kl, by_means, change / 2 * distance, w / T * distance))
    kl, by_means, by_snr, by_weight = table(rows)
    along = Along("t", torch.arange(2, T + 1).double(), "KL of a step back, nats", "y")
    yield equal("|μ − μ̂|²/(2β̃)", kl, by_means, along=along)
    yield equal("½ ΔSNR |x₀ − x̂₀|²", kl, by_snr, along=along)
    yield equal("training's weight / T", by_weight, kl, along=along)

    def wrong(x_t: Tensor, level: Level | Levels) -> Prediction:
        p = MIXTURE(x_t, level)
        return Prediction(p.x + 0.3, x_t, p.alpha, p.sigma)

    short, y, noise = Chain.linear(2, 0.1, 0.3), draws(8, 3).normal((1,)).double(), draws(8)
    noise.normal((1,))  # the noise of the reconstruction term
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

    Invert each forward kernel by Bayes, q(x_t|x_{t−1}) = q(x_{t−1}|x_t, x₀) q(x_t|x₀)/q(x_{t−1}|x₀). The marginals cancel in
    pairs and leave q(x_T|x₀). The left side follows the chain forward and adds the log-densities of its steps. The right side
    is `vlb`, whose variance is smaller because each KL is exact. Along the chain each term is an average of log-densities too.
    """
    chain, T, n = Chain.linear(8, 0.02, 0.5), 8, 20_000
    at, rows = torch.linspace(-2.5, 3, 12, dtype=torch.float64), []
    parts: dict[str, list[tuple[Tensor, ...]]] = {}
    for value in at.tolist():
        x0 = torch.full((n, 1), value, dtype=torch.float64)
        left, x, first = torch.zeros(n, dtype=torch.float64), x0, x0
        for i in range(1, T + 1):
            y = chain.step(x, i, draws(n, i).normal((1,)).double())
            beta = chain.betas[i - 1]
            left = left - Gaussian((1 - beta).sqrt() * x, beta[None]).log_prob(y)
            mu, var = chain.posterior(MIXTURE(y, chain.level(i)).x, y, i)
            var = var if i > 1 else beta.item()
            back = Gaussian(mu, torch.full_like(mu, var)).log_prob(x)
            left, x, first = left + back, y, back if i == 1 else first
        last, end = Gaussian(torch.zeros_like(x), torch.ones_like(x)).log_prob(x), chain.level(T)
        left = left + last
        prior = last - Gaussian(end.alpha * x0, torch.full_like(x0, end.sigma**2)).log_prob(x)
        bound = vlb(MIXTURE, chain, x0, draws(n, 99))
        (a, a_error), (b, b_error) = mean(left), mean(bound.value)
        rows.append((a, b, (a_error**2 + b_error**2).sqrt(), b_error))
        along_chain = {"reconstruction": first, "prior": prior, "consistency": left - first - prior}
        for name, walk in along_chain.items():
            (c, c_error), (e, e_error) = mean(walk), mean(bound.terms[name])
            parts.setdefault(name, []).append((c, e, (c_error**2 + e_error**2).sqrt()))
    walked, b, error, b_error = table(rows)
    along = Along("x₀", at, "nats")
    yield equal("vlb; dots: log-densities along the chain", walked, b, error, along=along)
    log_p = MIXTURE.log_density(at[:, None], CLEAN)
    yield at_most("log p(x₀); dots: vlb", b, log_p, b_error, along=along)
    for name, part in parts.items():
        c, e, error = table(part)
        yield equal("vlb; dots: along the chain", c, e, error, along=Along("x₀", at, f"the term of {name}, nats"))


@claim("Bao et al. 2022 (arXiv:2201.06503), theorem 1", (vlb, MixtureOracle.error))
def tight() -> Iterator[Sides]:
    """For Gaussian data and the best reverse variance the bound is tight, except for the prior term

        E_x[−ELBO] = h(x) + KL(q(x_T) ‖ N(0, I)),   for every T

    The true reverse kernel of Gaussian data is Gaussian, with the variance β̃ + c² E|x₀ − x̂₀|². A model with this variance
    makes every step exactly, so its only error is in x_T. With β̃ instead, the middle term is ½ Σ ΔSNR s²/(1 + s² SNR_t), which
    is more. Expectations over x and noise are exact, because all terms are quadratic. N(0, 1), T = 1000: 1.41893853 nats.
    """
    oracle, x = GaussianOracle(M, S), signs_of_data()
    data = Gaussian(torch.zeros(1, 1), torch.full((1, 1), S * S, dtype=torch.float64))
    lengths, rows = (2, 3, 5, 10, 20, 50, 100), []
    for T in lengths:
        chain = Chain.linear(T, 0.01, max(0.1, 0.8 / T**0.5))
        level = chain.level(T)
        q = Gaussian(
            torch.full((1, 1), level.alpha * M).double(), torch.full((1, 1), level.alpha**2 * S * S + level.sigma**2).double()
        )
        best = -vlb(oracle, chain, x, Signs(4), variance=oracle.error).value.mean()  # type: ignore[arg-type]
        bound = vlb(oracle, chain, x, Signs(4))  # type: ignore[arg-type]
        snr = (chain.alphas_bar / (1 - chain.alphas_bar)).double()
        middle = 0.5 * ((snr[:-1] - snr[1:]) * S * S / (1 + S * S * snr[1:])).sum()
        rows.append((best, data.entropy() + q.kl(), -bound.value.mean(), -bound.terms["consistency"].mean(), middle))
    best_found, exact, with_beta, middle_found, middle_exact = table(rows)
    t = torch.tensor(lengths, dtype=torch.float64)
    along = Along("T", t, "−ELBO, nats", "x")
    yield equal("h(x) + KL(q(x_T) ‖ N(0, 1))", best_found, exact, tolerance=SINGLE, along=along)
    yield at_most("with the variance β̃", best_found, with_beta, along=along)
    along = Along("T", t, "consistency term with β̃, nats", "x")
    yield equal("½ Σ ΔSNR s²/(1 + s² SNR_t)", middle_found, middle_exact, tolerance=SINGLE, along=along)
    standard, y = GaussianOracle(), torch.tensor([-1.0, -1.0, 1.0, 1.0]).double()[:, None]
    total = -vlb(standard, Chain.linear(), y, Signs(4), variance=standard.error).value.mean()  # type: ignore[arg-type]
    yield equal("N(0, 1), T = 1000", total, 1.41893853, tolerance=1e-6)
