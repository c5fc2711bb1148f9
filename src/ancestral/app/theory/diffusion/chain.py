"""Claims about the forward chain and its inverse."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.app.theory.claims import Along, Sides, at_most, claim, draws, equal, mean, table, variance
from ancestral.app.theory.diffusion.models import N
from ancestral.app.theory.known import MIXTURE, M, S, X
from ancestral.gaussian import Gaussian
from ancestral.oracles import MixtureOracle
from ancestral.schedules import Chain, posterior


def integral(f: Tensor) -> Tensor:
    return torch.trapezoid(f, X)


@claim("Ho et al. 2020, eq. 2; Kingma & Welling 2014, section 2.4", (Chain.step,))
def step() -> Iterator[Sides]:
    """One step by reparameterisation is a draw of q(x_t|x_{t−1})

        x_t = √α_t x_{t−1} + √(1 − α_t) ε,   ε ~ N(0, I)      has      q(x_t|x_{t−1}) = N(√α_t x_{t−1}, (1 − α_t) I)

    An affine map of a Gaussian is Gaussian: its mean is the image of the mean, its covariance (1 − α_t) I.
    """
    chain, x = Chain.linear(100, 1e-2, 0.3), torch.tensor([[1.5, -0.5]]).double()
    steps, rows = torch.arange(1, 101, 11), []
    for i in steps.tolist():
        y = chain.step(x, i, draws(N, i).normal((2,)).double())
        (m, m_error), (v, v_error), (c, c_error) = mean(y), variance(y), mean((y - y.mean(0)).prod(1))
        rows.append((m[0], m_error[0], m[1], m_error[1], v[0], v_error[0], v[1], v_error[1], c, c_error))
    columns = list(table(rows))
    alpha, t = chain.alphas[steps - 1], steps.double()
    for j in (0, 1):
        along = Along("t", t, "mean of x_t")
        yield equal(
            f"√α_t x_{{t−1}}, x_{{t−1}} = {x[0, j]:g}", columns[2 * j], alpha.sqrt() * x[0, j], columns[2 * j + 1], along=along
        )
    for j, which in enumerate(("first", "second")):
        along = Along("t", t, "covariance of x_t")
        yield equal(f"1 − α_t, {which} dimension", columns[4 + 2 * j], 1 - alpha, columns[5 + 2 * j], along=along)
    yield equal("0, between dimensions", columns[8], 0.0, columns[9], along=Along("t", t, "covariance of x_t"))


@claim("Ho et al. 2020, eq. 4", (Chain.step, Chain.level, Chain.constant))
def closed_form() -> Iterator[Sides]:
    """T steps are equal to one step: q(x_t|x₀) = N(√ᾱ_t x₀, (1 − ᾱ_t) I), ᾱ_t = α₁ ⋯ α_t

        x_t = √α (√α x_{t−2} + √(1−α) ε′) + √(1−α) ε = …  = √α^t x₀ + Σ_i √(α^i (1 − α)) ε_i

    Variances of independent noises add. For constant α the sum is a geometric series:

        (1 − α) (1 + α + … + α^{t−1}) = 1 − α^t

    For varying α the same holds by induction: α_t (1 − ᾱ_{t−1}) + 1 − α_t = 1 − ᾱ_t.
    """
    alpha, t = 0.95, 30
    constant = Chain.constant(t, alpha)
    series = (1 - alpha) * sum(alpha**i for i in range(t))
    yield equal("geometric series", constant.level(t).sigma ** 2, series)
    for name, chain in (("constant α", constant), ("varying α", Chain.linear(t, 1e-3, 0.3))):
        x = torch.full((N, 1), 1.5, dtype=torch.float64)
        total, rows = 0.0, []
        for i in range(1, t + 1):
            x = chain.step(x, i, draws(N, i).normal((1,)).double())
            total = chain.alphas[i - 1].item() * total + chain.betas[i - 1].item()
            level = chain.level(i)
            rows.append((*mean(x), 1.5 * level.alpha, *variance(x), level.sigma**2, total))
        m, m_error, m_exact, v, v_error, v_exact, by_induction = table(rows)
        steps = torch.arange(1, t + 1).double()
        yield equal(f"√ᾱ_t x₀, {name}", m, m_exact, m_error, along=Along("t", steps, "mean after t steps"))
        yield equal(f"1 − ᾱ_t, {name}", v, v_exact, v_error, along=Along("t", steps, "variance after t steps"))
        yield equal(f"1 − ᾱ_t by induction, {name}", by_induction, v_exact)


@claim(
    "Ho et al. 2020, section 2; Sohl-Dickstein et al. 2015, section 2.1", (Chain.levels, MixtureOracle.log_density, Gaussian.kl)
)
def forgetting() -> Iterator[Sides]:
    """KL(q(x_t) ‖ N(0, I)) falls to 0 for all data, with constant and with varying α

        q(x_t) = ∫ q(x₀) N(x_t; √ᾱ_t x₀, (1 − ᾱ_t) I) dx₀  →  N(0, I)     as   ᾱ_t → 0

    The normal distribution is stationary for the chain, and the divergence from a stationary distribution falls at each step of
    a Markov chain (data processing). For data N(m, s²) it is ½[ᾱ(s² + m² − 1) − log(1 + ᾱ(s² − 1))] ≈ ½ ᾱ m².
    """
    for name, chain in (("constant α", Chain.constant(400, 0.97)), ("linear β", Chain.linear()), ("cosine", Chain.cosine())):
        steps = torch.linspace(0.02, 1, 50, dtype=torch.float64)
        levels = chain.levels((steps * chain.T).round() / chain.T)
        standard = Gaussian(torch.zeros(1), torch.ones(1)).log_prob(X[:, None])
        log_q = torch.stack([MIXTURE.log_density(X[:, None], level) for level in levels])
        kl = integral(log_q.exp() * (log_q - standard))
        along = Along("t/T", steps[1:], "KL(q(x_t) ‖ N(0, 1)), a mixture, nats")
        yield at_most(f"that of the point before, {name}", kl[1:], kl[:-1], along=along)
        yield at_most(f"starts far, {name}", 0.3, kl[0])
        yield equal(f"at t = T, {name}", kl[-1], 0.0, tolerance=1e-4)
        alpha, sigma = table((level.alpha, level.sigma) for level in levels)
        q = Gaussian(alpha[:, None] * M, (alpha**2 * S * S + sigma**2)[:, None])
        right = 0.5 * (alpha**2 * (S * S + M * M - 1) - torch.log1p(alpha**2 * (S * S - 1)))
        yield equal(name, q.kl(), right, along=Along("t/T", steps, "the same for data N(m, s²), nats"))


@claim("Ho et al. 2020, eq. 6-7", (Chain.posterior, posterior))
def reverse_step() -> Iterator[Sides]:
    """Given x₀ the step back is Gaussian: q(x_{t−1}|x_t, x₀) = N(μ̃, β̃ I)

        q(x_{t−1}|x_t, x₀) = q(x_t|x_{t−1}) q(x_{t−1}|x₀) / q(x_t|x₀)                              (Bayes)
        μ̃ = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x₀ + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t,    β̃ = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t)

    This is a product of two Gaussians in x_{t−1}: the precisions α_t/β_t and 1/(1 − ᾱ_{t−1}) add, and they are the weights of
    the means. The left sides are computed by the library. The right sides are sums over a grid of x_{t−1} and the paper's
    formulas.
    """
    chain, x, x_t = Chain.linear(100, 1e-3, 0.2), torch.tensor([[1.2]]).double(), torch.tensor([[-0.4]]).double()
    for i in (10, 60):
        mu, var = chain.posterior(x, x_t, i)
        beta, before, level = chain.betas[i - 1], chain.level(i - 1), chain.level(i)
        prior = Gaussian(before.alpha * x, torch.tensor([[before.sigma**2]]).double())
        x_s = X[:, None]
        log_w = Gaussian((1 - beta).sqrt() * x_s, beta[None]).log_prob(x_t) + prior.log_prob(x_s)
        w = log_w.softmax(0)
        near, step = (X - mu.item()).abs() < 4 * var**0.5, float(X[1] - X[0])
        density = Gaussian(mu, torch.full_like(mu, var)).log_prob(x_s).exp()
        thin = torch.arange(len(X))[near][::12]
        along = Along("x_{t−1}", X[thin], "q(x_{t−1}|x_t, x₀)")
        yield equal(f"by Bayes, t = {i}", density[thin], w[thin] / step, tolerance=1e-6, along=along)
        yield equal(f"mean by Bayes, t = {i}", mu, w @ X, tolerance=1e-7)
        yield equal(f"variance by Bayes, t = {i}", var, w @ (X - w @ X).square(), tolerance=1e-7)
        paper = (before.alpha * beta * x + (1 - beta).sqrt() * before.sigma**2 * x_t) / level.sigma**2
        yield equal(f"μ̃ of eq. 7, t = {i}", mu, paper)
        yield equal(f"β̃ of eq. 7, t = {i}", var, beta * before.sigma**2 / level.sigma**2)
