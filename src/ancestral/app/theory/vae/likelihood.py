"""Claims about the reconstruction loss, which is a likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal, table
from ancestral.app.theory.vae.models import network, posterior_of
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.distributions import BernoulliLikelihood, GaussianLikelihood
from ancestral.models.vae import VAE


@claim("Kingma & Welling 2014, appendix C.2", (GaussianLikelihood.forward, VAE.losses))
def gaussian_reconstruction() -> Iterator[Sides]:
    """The Gaussian reconstruction loss is squared error, up to a stated constant

        −log N(x; m, s² I) = |x − m|² / (2 s²)  +  D/2 log(2π s²)

    The constant depends on s² and on D. Without it, losses of different s² cannot be compared, and the ELBO is not a bound.
    The ELBO is the negative of this loss and of KL(N(μ, σ²) ‖ N(0, 1)) = ½ (σ² + μ² − 1 − log σ²).
    """
    x = draws(64, 1).normal((2,))
    for s2 in (0.1, 0.3, 1.0):
        model = network(s2)
        with torch.no_grad():
            terms = model.losses(Batch(x), "model", draws(64))
            _, h = model.coder(model.coder.features(x, Context()), Context(), draws(64))
        error, order = (x - h).square().sum(1).double().sort()
        right = error / (2 * s2) + x.shape[1] / 2 * math.log(2 * math.pi * s2)
        along = Along("|x − m|²", error, "−log p(x|z), nats")
        yield equal(f"|x − m|²/(2s²) + constant, s² = {s2:g}", terms["reconstruction"][order], right, 0.0, SINGLE, along)
        q = posterior_of(model, x)
        kl = (q.var + q.mean.square() - 1 - q.var.log()).sum(1) / 2
        yield equal(f"ELBO = −reconstruction − KL, s² = {s2:g}", -terms["total"][order], -right - kl[order], 0.0, 2 * SINGLE)


@claim("Kingma & Welling 2014, appendix C.1", (BernoulliLikelihood.forward,))
def bernoulli_reconstruction() -> Iterator[Sides]:
    """The Bernoulli reconstruction loss is cross-entropy, and its constant is 0

        −log p(x|z) = −Σ x log σ(h) + (1 − x) log(1 − σ(h))

    Both sides follow from P(x = 1) = σ(h). The library computes it from the logit h, so it is finite even if σ(h) rounds to 0
    or 1. The probabilities of all 2ᴰ pictures sum to one, so there is no constant.
    """
    h = torch.linspace(-9, 9, 37)
    for value in (0.0, 1.0):
        x = torch.full_like(h, value)
        bce = F.binary_cross_entropy(h.double().sigmoid(), x.double(), reduction="none")
        along = Along("logit h", h.double(), "−log p(x|z), nats")
        left = -BernoulliLikelihood()(h[:, None]).log_prob(x[:, None])
        yield equal(f"cross-entropy of σ(h), x = {value:g}", left, bce, tolerance=SINGLE, along=along)
    pictures = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
    total = BernoulliLikelihood()(3 * draws(1).normal((8,)).expand(256, -1)).log_prob(pictures).double().exp().sum()
    yield equal("sum over all pictures", total, 1.0, tolerance=SINGLE)


@claim("Rybkin et al. 2021 (arXiv:2006.13202), eq. 5", (GaussianLikelihood.forward, GaussianLikelihood.error))
def optimal_variance() -> Iterator[Sides]:
    """The best variance of a Gaussian decoder is the mean squared error per dimension

        v* = E|x − m|² / D,     E[−log p(x|z)] at v* = D/2 [ log(2π v*) + 1 ]

    The derivative of D/2 log(2πv) + D v*/(2v) in v is zero only at v = v*. Any other variance has a lower likelihood.
    """
    x, m = draws(512).normal((6,)), 0.7 * draws(512, 1).normal((6,))
    head = GaussianLikelihood(torch.zeros(6), torch.ones(6), "optimal").train()
    mse = (x - m).square().mean()
    error = head.error(m, x)
    assert error is not None
    px = head(m, error.mean())
    best = -px.log_prob(x).double().mean()
    yield equal("v* = mean squared error", px.var.mean(), mse, tolerance=SINGLE)
    yield equal("D/2 [log(2πv*) + 1]", best, 3 * (mse.double().mul(2 * math.pi).log() + 1), tolerance=SINGLE)
    shares = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3, 1.5, 1.8, 2.2], dtype=torch.float64)
    others = [GaussianLikelihood(torch.zeros(6), torch.ones(6), "fixed", float(share * mse)) for share in shares]
    (costs,) = table([-other(m).log_prob(x).double().mean()] for other in others)
    along = Along("v/v*", shares, "E[−log p(x|z)], nats")
    yield at_most("at another v; dots: at v*", best, costs, tolerance=0.0, along=along)
