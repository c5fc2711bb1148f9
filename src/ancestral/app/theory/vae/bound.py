"""Claims about the evidence lower bound (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal, mean, table
from ancestral.app.theory.known import times
from ancestral.app.theory.vae.models import N, Z, linear, network, ones, posterior_of
from ancestral.conditioning import Context
from ancestral.gaussian import Gaussian
from ancestral.likelihood import elbo as elbo_of
from ancestral.likelihood import iwae as iwae_of
from ancestral.models.codec import Diagonal, Full, log_standard
from ancestral.models.vae import VAE


@claim("Kingma & Welling 2014, eq. 2-3", (VAE.losses, VAE.observation, Gaussian.log_prob))
def elbo() -> Iterator[Sides]:
    """The ELBO as an expectation minus a KL is equal to its integral form

        L(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))
             = ∫ q(z|x) log [ p(x|z) p(z) / q(z|x) ] dz

    Write the logarithm of the second form as log p(x|z) + log p(z)/q(z|x). The integral of the first part is the expectation,
    and that of the second part is −KL. The left side is the negative training loss, averaged over draws of z. The right side is
    a sum over a grid of z. The decoder is a network.
    """
    model, z, at, rows = network(), Z[:, None], times(13, -3, 3), []
    for value in at:
        x = torch.tensor([[float(value), -1.0]])
        with torch.no_grad():
            log_px = model.observation(z, Context()).log_prob(x).double()
        log_q, log_pz = posterior_of(model, x).log_prob(z.double()), log_standard(z.double())
        integral = torch.trapezoid(log_q.exp() * (log_px + log_pz - log_q), Z.double())
        rows.append((*mean(-ones(model, x)["total"]), integral))
    left, error, right = table(rows)
    yield equal("∫ q log p(x|z)p(z)/q dz", left, right, error, SINGLE, Along("x₁, with x₂ = −1", at, "L(x), nats"))


@claim("Kingma & Welling 2014, eq. 1", (VAE.losses, Gaussian.log_prob, Gaussian.kl))
def gap() -> Iterator[Sides]:
    """The ELBO is log p(x) minus the divergence of q from the true posterior, so it is a bound

        L(x) = log p(x) − KL(q(z|x) ‖ p(z|x))  ≤  log p(x)

    By Bayes, p(x|z) p(z) = p(z|x) p(x). Insert it into ∫ q log [p(x|z) p(z)/q] dz. Here x = w z + s ε, whose evidence
    and posterior are Gaussians in closed form,

        p(x) = N(0, w² + s²),     p(z|x) = N(w x / (w² + s²), s² / (w² + s²))

    and q is shifted by 0.7 standard deviations and has twice the variance. If q is the posterior, every draw gives log p(x).
    """
    w, s2 = 1.5, 0.5
    total, x = w * w + s2, torch.linspace(-3, 3, 13)[:, None]
    evidence = Gaussian(torch.zeros(1), torch.tensor([total])).log_prob(x.double())
    wrong, right = linear(w, s2, 0.7, 2.0), linear(w, s2)
    true = Gaussian(w / total * x.double(), torch.full((len(x), 1), s2 / total, dtype=torch.float64))
    left, error = table(mean(-ones(wrong, each[None])["total"]) for each in x)
    along = Along("x", x[:, 0].double(), "nats")
    yield equal("log p(x) − KL(q ‖ p(z|x))", left, evidence - posterior_of(wrong, x).kl(true), error, SINGLE, along)
    yield at_most("log p(x)", left, evidence, error, along=along)
    exact = right.log_prob(x, noise=draws(len(x)), method="iwae", k=1).value
    yield equal("log p(x), q the posterior, one draw", exact, evidence, tolerance=SINGLE, along=along)


@claim("Kingma & Welling 2014, appendix B", (Gaussian.kl, Gaussian.kl_terms, Diagonal.forward, Full.forward))
def gaussian_kl() -> Iterator[Sides]:
    """The Kullback–Leibler divergence of Gaussians, in closed form and by Monte Carlo

        KL(N(μ, σ²) ‖ N(μ′, σ′²)) = ½ [ σ²/σ′² + (μ − μ′)²/σ′² − 1 − log σ²/σ′² ]

    E_q[log q(z) − log p(z)] needs only E(z − μ)² = σ² and E(z − μ′)² = σ² + (μ − μ′)². For p = N(0, I) and q = N(μ, L Lᵀ)

        KL = ½ Σⱼ [ Σᵢ Lⱼᵢ² + μⱼ² − 1 − 2 log Lⱼⱼ ]
    """
    p, at = Gaussian(torch.tensor([[-0.2, 0.4]]).double(), torch.tensor([[0.8, 1.1]]).double()), times(13, -2, 2)
    rows = []
    for shift in at:
        q = Gaussian(torch.tensor([[shift, -1.0]]).double(), torch.tensor([[0.3, 2.0]]).double())
        z = q.draw(draws(N).normal((2,)).double())
        against, standard = q.log_prob(z) - p.log_prob(z), q.log_prob(z) - log_standard(z)
        rows.append((q.kl(p), *mean(against), q.kl(), *mean(standard)))
    kl, sampled, error, kl_standard, sampled_standard, error_standard = table(rows)
    along = Along("μ₁", at, "nats")
    yield equal("KL(q ‖ p)", sampled, kl, error, along=along)
    yield equal("KL(q ‖ N(0, I))", sampled_standard, kl_standard, error_standard, along=along)
    for posterior in (Diagonal(3), Full(3)):
        h = draws(1).normal((posterior.outputs,)).expand(N, -1)
        code = posterior(h, draws(N, 1))
        sampled, error = mean(code.log_ratio)
        yield equal(f"{type(posterior).__name__.lower()} posterior", sampled, code.kl[0].sum(), error)


@claim("Burda et al. 2016 (arXiv:1509.00519), theorem 1; Nowozin 2018, proposition 1", (VAE.log_prob, iwae_of, elbo_of))
def importance_weights() -> Iterator[Sides]:
    """The importance-weighted bound rises with the number of draws, and its gap falls as 1/K

        L_K = E log 1/K Σᵢ wᵢ,   wᵢ = p(x, zᵢ)/q(zᵢ|x),     log p(x) − L_K = Var[w/p(x)]/(2K) + O(1/K²)

    by Jensen's inequality and its second-order term. If q is shifted by d standard deviations of the posterior, w/p(x) is
    log-normal with variance exp(d²) − 1, and the gap of the ELBO (K = 1) is d²/2. The control variate E[Σw/K] = p(x) reduces
    the variance of the averages.
    """
    d, n = 0.6, 4000
    model = linear(shift=d)
    x = torch.full((n, 1), 0.8)
    log_p = Gaussian(torch.zeros(1), torch.tensor([1.5**2 + 0.5])).log_prob(x[:1].double())

    def gap(method: str, k: int) -> tuple[Tensor, Tensor]:
        log_ratio = model.log_prob(x, noise=draws(n, k), method=method, k=k).value - log_p  # type: ignore[arg-type]
        return mean(-(log_ratio - log_ratio.expm1()) if method == "iwae" else -log_ratio)

    elbo_gap, error = gap("elbo", 16)
    yield equal("gap of the ELBO = d²/2", elbo_gap, d * d / 2, error, SINGLE)
    many = torch.tensor([1, 2, 4, 8, 16, 32, 64])
    gaps, errors = table(gap("iwae", int(k)) for k in many)
    along = Along("K", many[1:].double(), "gap of L_K, nats", "xy")
    yield at_most("that of half as many draws", gaps[1:], gaps[:-1], tolerance=0.0, along=along)
    v = math.expm1(d * d)
    third, fourth = (math.exp(d * d) + 2) * v * v, 3 * v * v
    leading = v / (2 * many) - third / (3 * many**2) + fourth / (4 * many**2)
    late = many >= 16
    along = Along("K", many[late].double(), "gap of L_K, nats", "xy")
    yield equal("Var[w/p]/(2K) + O(1/K²)", gaps[late], leading[late], errors[late], 2e-5, along)
