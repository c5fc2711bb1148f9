"""Claims about the linear VAE, whose optimum is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.app.theory.claims import SINGLE, Along, Sides, claim, draws, equal, table
from ancestral.app.theory.known import times
from ancestral.app.theory.vae.models import LAM, Cross, crossed, pca
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.models.codec import Diagonal
from ancestral.models.vae import VAE


@claim("Lucas et al. 2019 (arXiv:1911.02469), section 4; Tipping & Bishop 1999, eq. 8", (VAE.losses, Diagonal.forward))
def linear_optimum() -> Iterator[Sides]:
    """The best linear VAE is probabilistic PCA, and its ELBO is equal to the likelihood

        max L = −½ [ D log 2π + Σ_{j≤q} log λⱼ + (D − q) log s*² + D ],     s*² = mean of the other λ

    Data have the covariance diag(λ). A linear encoder can be the exact posterior of a linear decoder, so no gap remains, and
    the maximum is that of p(x) = N(0, W Wᵀ + s²), W = √(λⱼ − s²) on the first q axes. There each latent costs

        KLⱼ = ½ log(λⱼ / s²),  and 0 if λⱼ ≤ s²:  posterior collapse, if the data vary less than the noise

    λ = (4, 2, 1, ½, ¼), q = 2: −7.325919 nats. The expectations over x and z are exact, by sigma points.
    """
    s2 = LAM[2:].mean().item()
    model, x = pca(s2), crossed(2)
    terms = model.losses(Batch(x), "model", Cross(len(x), 2))  # type: ignore[arg-type]  # only this part of `Noise` is used
    best = -0.5 * (5 * math.log(2 * math.pi) + LAM[:2].log().sum().item() + 3 * math.log(s2) + 5)
    yield equal("ELBO", -terms["total"].mean(), best, tolerance=SINGLE)
    gradients = torch.autograd.grad(terms["total"].mean(), list(model.parameters()))
    yield equal("its gradient", torch.cat([g.flatten() for g in gradients]), 0.0, tolerance=2 * SINGLE)
    noises, x, rows = torch.logspace(-1, 0.8, 19), crossed(3), []
    for s2 in noises.tolist():
        model = pca(s2, 3)
        rows.append(model.coder(model.coder.features(x, Context()), Context(), None)[0].kl.mean(0))
    along = Along("s²", noises.double(), "KL of a latent, nats", "x")
    for j, left in enumerate(table(rows)):
        right = (LAM[j] / noises).log().clamp(min=0) / 2
        yield equal(f"½ log λ/s², λ = {LAM[j]:g}", left, right, tolerance=2 * SINGLE, along=along)


@claim("Higgins et al. 2017; Lucas et al. 2019, section 5", (VAE.losses,))
def beta() -> Iterator[Sides]:
    """A β-VAE with the variance s² is a VAE with the variance β s²

        |x − m|²/(2s²) + β KL  =  β [ |x − m|²/(2 β s²) + KL ]

    up to constants. So for all parameters the gradient of the first is β times the gradient of the second.
    """
    betas, rows = times(9, 0.5, 6), []
    for weight in betas.tolist():
        a, b = _gradient(0.3, weight), weight * _gradient(0.3 * weight, 1.0)
        rows.append((a.norm(), b.norm(), (a - b).abs().max()))
    left, right, apart = table(rows)
    yield equal(
        "β |∇ loss|, variance βs²", left, right, tolerance=SINGLE, along=Along("β", betas, "|∇ loss of the β-VAE|, variance s²")
    )
    yield equal("each component of both", apart, 0.0, tolerance=20 * SINGLE)


def _gradient(s2: float, beta: float) -> Tensor:
    """Return the gradient of the loss in all parameters."""
    model, x = pca(0.5, 3, beta=beta), crossed(3)
    model.likelihood.value.fill_(s2)  # type: ignore[operator]
    total = model.losses(Batch(x), "model", draws(len(x)))["total"].mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))]).double()
