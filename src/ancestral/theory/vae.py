"""Claims of the variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

Two models: one with a decoder that is a network, so that nothing about it is special, and one that is linear and Gaussian, of
which everything is known. Both have one latent, over which integrals are sums on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.families.base import Scaling
from ancestral.families.codes import Amortised, Diagonal, Full, log_standard
from ancestral.families.vae import VAE
from ancestral.gaussian import Gaussian
from ancestral.likelihood import elbo as elbo_of
from ancestral.likelihood import iwae as iwae_of
from ancestral.nets.autoencoder import DenseDecoder, DenseEncoder
from ancestral.observation import BernoulliLikelihood, GaussianLikelihood
from ancestral.theory.claims import ROUNDING, SINGLE, Sides, at_most, claim, draws, equal, mean, seeded

N = 200_000
Z = torch.linspace(-12, 12, 6001)
LAM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25])  # eigenvalues of the data's covariance
X = torch.tensor([[-1.5], [0.2], [2.0]])


class Posterior(nn.Module):
    """h = (A x, log-variance): a Gaussian posterior that is linear in x."""

    def __init__(self, slope: Tensor, var: Tensor, shift: float = 0.0):
        super().__init__()
        self.slope = nn.Parameter(slope)
        self.shift = nn.Parameter(torch.full((len(slope),), shift))
        self.log_var = nn.Parameter(12 * torch.atanh(var.log() / 12))  # the inverse of `codes.bounded`

    def forward(self, y: Tensor, context: Context) -> Tensor:
        return torch.cat([y @ self.slope.T + self.shift, self.log_var.expand(len(y), -1)], 1)


class Loadings(nn.Module):
    """W z."""

    def __init__(self, W: Tensor):
        super().__init__()
        self.W = nn.Parameter(W)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        return z @ self.W.T


class Cross:
    """Noise of two values a latent, +-sqrt(d), as exact as an integral for every quadratic."""

    def __init__(self, n: int, latent: int):
        self.n = n
        self.points = math.sqrt(latent) * torch.cat([torch.eye(latent), -torch.eye(latent)])

    def normal(self, shape: object) -> Tensor:
        return self.points.repeat(self.n // len(self.points), 1)


def network() -> VAE:
    """Two dimensions, one latent; encoder and decoder are networks with random weights, the variance is fixed to 0.3."""
    encoder, decoder = seeded(lambda: (DenseEncoder((2,), 2, 16, 1), DenseDecoder((2,), 1, 1, 16, 1)))
    return _vae(2, encoder, decoder, Diagonal(1), 0.3)


def linear(w: float = 1.5, s2: float = 0.5, shift: float = 0.0, inflate: float = 1.0) -> VAE:
    """p(x | z) = N(w z, s2), of which p(x) = N(0, w^2 + s2) and p(z | x) = N(w x, s2) / (w^2 + s2); q(z | x) is p(z | x) of
    `inflate` times its variance, moved by `shift` of its standard deviations.
    """
    var = s2 / (w * w + s2)
    encoder = Posterior(torch.tensor([[w / (w * w + s2)]]), torch.tensor([inflate * var]), shift * math.sqrt(var))
    return _vae(1, encoder, Loadings(torch.tensor([[w]])), Diagonal(1), s2)


def pca(s2: float, latent: int = 2, *, beta: float = 1.0) -> VAE:
    """Probabilistic PCA at its optimum for data N(0, diag(LAM)) and the noise s2 (Tipping & Bishop 1999, eq. 7)."""
    gain = (LAM[:latent] - s2).clamp(min=0)
    W = torch.diag(LAM)[:, :latent] / LAM[:latent] * gain.sqrt()
    slope = W.T / (gain + s2)[:, None]
    return _vae(len(LAM), Posterior(slope, s2 / (gain + s2)), Loadings(W), Diagonal(latent), s2, beta)


def _vae(d: int, encoder: nn.Module, decoder: nn.Module, posterior: Diagonal, s2: float, beta: float = 1.0) -> VAE:
    scaling = Scaling((d,), (0.0,) * d, (1.0,) * d, None)
    head = GaussianLikelihood(torch.zeros(d), torch.ones(d), "fixed", s2)
    return VAE((d,), scaling, Conditioner({}), Amortised(encoder, posterior, decoder), head, beta=beta)


def ones(model: VAE, x: Tensor, n: int = N) -> dict[str, Tensor]:
    """The terms of the loss `(n,)` for n draws of q(z | x) of one x `(1, d)`."""
    with torch.no_grad():
        return model.loss(Batch(x.expand(n, -1)), "model", draws(n))


def posterior_of(model: VAE, x: Tensor) -> Gaussian:
    """q(z | x)."""
    q = model.coder(model.coder.features(x, Context()), Context(), None)[0].q
    assert q is not None
    return Gaussian(q.mean.detach().double(), q.var.detach().double())


def crossed(latent: int) -> Tensor:
    """Data of covariance diag(LAM), each point for every one of `Cross`'s latents."""
    d = len(LAM)
    x = math.sqrt(d) * torch.cat([torch.diag(LAM.sqrt()), -torch.diag(LAM.sqrt())])
    return x.repeat_interleave(2 * latent, 0)


@claim("Kingma & Welling 2014, eq. 2-3", (VAE.loss, VAE.observation, Gaussian.log_prob))
def elbo() -> Iterator[Sides]:
    """The ELBO as an expectation minus a KL is its integral form

        L(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))
             = ∫ q(z|x) log [ p(x|z) p(z) / q(z|x) ] dz

    Write the logarithm of the second form as log p(x|z) + log p(z)/q(z|x). The integral of the first part is the expectation,
    that of the second part is −KL. The left side is what training minimises, negated and averaged over draws of z; the
    right side is a sum over a grid of z. The decoder is a network.
    """
    model = network()
    for x in (torch.tensor([[0.5, -1.0]]), torch.tensor([[2.0, 1.0]])):
        left, error = mean(-ones(model, x)["total"])
        z = Z[:, None]
        with torch.no_grad():
            log_px = model.observation(z, Context()).log_prob(x).double()
        log_q, log_pz = posterior_of(model, x).log_prob(z.double()), log_standard(z.double())
        integral = torch.trapezoid(log_q.exp() * (log_px + log_pz - log_q), Z.double())
        yield equal(f"x = ({x[0, 0]:g}, {x[0, 1]:g})", left, integral, error, SINGLE)


@claim("Kingma & Welling 2014, eq. 1", (VAE.loss, Gaussian.log_prob, Gaussian.kl))
def gap() -> Iterator[Sides]:
    """The ELBO is log p(x) minus the divergence of q from the true posterior, and so a bound

        L(x) = log p(x) − KL(q(z|x) ‖ p(z|x))  ≤  log p(x)

    By Bayes p(x|z) p(z) = p(z|x) p(x); put it into ∫ q log [p(x|z) p(z)/q] dz. Here x = w z + s ε, whose evidence
    and posterior are Gaussians in closed form,

        p(x) = N(0, w² + s²),     p(z|x) = N(w x / (w² + s²), s² / (w² + s²))

    and q is off by 0.7 standard deviations and twice as wide. Where q is the posterior, every draw gives log p(x) itself.
    """
    w, s2 = 1.5, 0.5
    total = w * w + s2
    evidence = Gaussian(torch.zeros(1), torch.tensor([total])).log_prob(X.double())
    wrong, right = linear(w, s2, 0.7, 2.0), linear(w, s2)
    for x, log_p in zip(X, evidence, strict=True):
        left, error = mean(-ones(wrong, x[None])["total"])
        true = Gaussian(w / total * x[None].double(), torch.tensor([[s2 / total]], dtype=torch.float64))
        kl = posterior_of(wrong, x[None]).kl(true)
        yield equal(f"x = {x.item():g}", left, log_p - kl, error, SINGLE)
        yield at_most(f"x = {x.item():g}, bound", left, log_p, error)
        exact = right.log_prob(x[None], noise=draws(1), method="iwae", k=1).value
        yield equal(f"x = {x.item():g}, q the posterior, one draw", exact, log_p, tolerance=SINGLE)


@claim("Kingma & Welling 2014, appendix B", (Gaussian.kl, Gaussian.kl_terms, Diagonal.forward, Full.forward))
def gaussian_kl() -> Iterator[Sides]:
    """The Kullback–Leibler divergence of Gaussians, in closed form and by Monte Carlo

        KL(N(μ, σ²) ‖ N(μ′, σ′²)) = ½ [ σ²/σ′² + (μ − μ′)²/σ′² − 1 − log σ²/σ′² ]

    E_q[log q(z) − log p(z)] needs only E(z − μ)² = σ² and E(z − μ′)² = σ² + (μ − μ′)². For p = N(0, I) and q = N(μ, L Lᵀ)

        KL = ½ Σⱼ [ Σᵢ Lⱼᵢ² + μⱼ² − 1 − 2 log Lⱼⱼ ]
    """
    q = Gaussian(torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[0.3, 2.0]]).double())
    p = Gaussian(torch.tensor([[-0.2, 0.4]]).double(), torch.tensor([[0.8, 1.1]]).double())
    z = q.draw(draws(N).normal((2,)).double())
    sampled, error = mean(q.log_prob(z) - p.log_prob(z))
    yield equal("KL(q ‖ p)", q.kl(p), sampled, error)
    sampled, error = mean(q.log_prob(z) - log_standard(z))
    yield equal("KL(q ‖ N(0, I))", q.kl(), sampled, error)
    for posterior in (Diagonal(3), Full(3)):
        h = draws(1).normal((posterior.outputs,)).expand(N, -1)
        code = posterior(h, draws(N, 1))
        sampled, error = mean(code.log_ratio)
        yield equal(f"{type(posterior).__name__.lower()} posterior", code.kl[0].sum(), sampled, error)


@claim("Kingma & Welling 2014, appendix C.2", (GaussianLikelihood.forward, VAE.loss))
def gaussian_reconstruction() -> Iterator[Sides]:
    """The Gaussian reconstruction loss is squared error, up to a stated constant

        −log N(x; m, s² I) = |x − m|² / (2 s²)  +  D/2 log(2π s²)

    The constant depends on s² and on D. Drop it, and losses of different s² cannot be compared, nor the ELBO be a bound.
    """
    model = network()
    x = draws(64, 1).normal((2,))
    with torch.no_grad():
        terms = model.loss(Batch(x), "model", draws(64))
        code, h = model.coder(model.coder.features(x, Context()), Context(), draws(64))
    constant = x.shape[1] / 2 * math.log(2 * math.pi * 0.3)
    yield equal("|x − m|²/(2s²) + constant", terms["reconstruction"], (x - h).square().sum(1) / 0.6 + constant, 0.0, SINGLE)
    yield equal("ELBO = −reconstruction − KL", -terms["total"], -terms["reconstruction"] - code.kl.sum(1), 0.0, SINGLE)


@claim("Kingma & Welling 2014, appendix C.1", (BernoulliLikelihood.forward,))
def bernoulli_reconstruction() -> Iterator[Sides]:
    """The Bernoulli reconstruction loss is cross-entropy, and its constant is 0

        −log p(x|z) = −Σ x log σ(h) + (1 − x) log(1 − σ(h))

    Both sides follow from P(x = 1) = σ(h); ours is computed from the logit h, so that it is finite where σ(h) rounds to 0 or 1.
    The probabilities of all 2ᴰ pictures sum to one, which is what "no constant" says.
    """
    h, x = 3 * draws(64).normal((8,)), (draws(64, 1).uniform((8,)) < 0.5).float()
    bce = F.binary_cross_entropy(h.double().sigmoid(), x.double(), reduction="none").sum(1)
    yield equal("cross-entropy", -BernoulliLikelihood()(h).log_prob(x), bce, tolerance=SINGLE)
    pictures = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
    total = BernoulliLikelihood()(h[:1].expand(256, -1)).log_prob(pictures).double().exp().sum()
    yield equal("sum over all pictures", total, 1.0, tolerance=SINGLE)


@claim("Rybkin et al. 2021 (arXiv:2006.13202), eq. 5", (GaussianLikelihood.forward, GaussianLikelihood.error))
def optimal_variance() -> Iterator[Sides]:
    """The best variance of a Gaussian decoder is the mean squared error per dimension

        v* = E|x − m|² / D,     E[−log p(x|z)] at v* = D/2 [ log(2π v*) + 1 ]

    The derivative in v of D/2 log(2πv) + D v*/(2v) is zero only at v = v*. Any other variance costs likelihood.
    """
    x, m = draws(512).normal((6,)), 0.7 * draws(512, 1).normal((6,))
    head = GaussianLikelihood(torch.zeros(6), torch.ones(6), "optimal").train()
    mse = (x - m).square().mean()
    best = -head(m, x).log_prob(x).double().mean()
    yield equal("v* = mean squared error", head(m, x).var.mean(), mse, tolerance=SINGLE)
    yield equal("D/2 [log(2πv*) + 1]", best, 3 * (mse.double().mul(2 * math.pi).log() + 1), tolerance=SINGLE)
    for share in (0.9, 1.1):
        other = GaussianLikelihood(torch.zeros(6), torch.ones(6), "fixed", share * mse.item())
        yield at_most(f"v* against {share} v*", best, -other(m).log_prob(x).double().mean(), tolerance=0.0)


@claim("Lucas et al. 2019 (arXiv:1911.02469), section 4; Tipping & Bishop 1999, eq. 8", (VAE.loss, Diagonal.forward))
def linear_optimum() -> Iterator[Sides]:
    """The best linear VAE is probabilistic PCA, and its ELBO is the likelihood itself

        max L = −½ [ D log 2π + Σ_{j≤q} log λⱼ + (D − q) log s*² + D ],     s*² = mean of the other λ

    Data have the covariance diag(λ). A linear encoder can be the exact posterior of a linear decoder, so no gap remains, and
    the maximum is that of p(x) = N(0, W Wᵀ + s²), W = √(λⱼ − s²) on the first q axes. There each latent costs

        KLⱼ = ½ log(λⱼ / s²),  0 where λⱼ ≤ s²:  posterior collapse, exactly where data say less than noise

    λ = (4, 2, 1, ½, ¼), q = 2: −7.325919 nats. The expectations over x and z are exact, by sigma points.
    """
    s2 = LAM[2:].mean().item()
    model, x = pca(s2), crossed(2)
    terms = model.loss(Batch(x), "model", Cross(len(x), 2))  # type: ignore[arg-type]  # all of `Noise` that is used
    best = -0.5 * (5 * math.log(2 * math.pi) + LAM[:2].log().sum().item() + 3 * math.log(s2) + 5)
    yield equal("ELBO", -terms["total"].mean(), best, tolerance=SINGLE)
    gradients = torch.autograd.grad(terms["total"].mean(), list(model.parameters()))
    yield equal("its gradient", torch.cat([g.flatten() for g in gradients]), 0.0, tolerance=2 * SINGLE)
    for s2 in (0.75, 3.0):
        model, x = pca(s2, 3), crossed(3)
        code, _ = model.coder(model.coder.features(x, Context()), Context(), None)
        yield equal(f"KL of each latent, s² = {s2:g}", code.kl.mean(0), (LAM[:3] / s2).log().clamp(min=0) / 2, tolerance=SINGLE)


@claim("Higgins et al. 2017; Lucas et al. 2019, section 5", (VAE.loss,))
def beta() -> Iterator[Sides]:
    """A β-VAE with the variance s² is a VAE with the variance β s²

        |x − m|²/(2s²) + β KL  =  β [ |x − m|²/(2 β s²) + KL ]

    up to constants. So every gradient of the one is β times that of the other, whatever the parameters.
    """
    x, weight = crossed(3), 4.0
    both = []
    for s2, b in ((0.3, weight), (0.3 * weight, 1.0)):
        model = pca(0.5, 3, beta=b)
        model.likelihood.value.fill_(s2)  # type: ignore[operator]
        noise = draws(len(x))
        total = model.loss(Batch(x), "model", noise)["total"].mean()
        both.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))]))
    yield equal("gradient", both[0], weight * both[1], tolerance=10 * SINGLE)


@claim("Burda et al. 2016 (arXiv:1509.00519), theorem 1; Nowozin 2018, proposition 1", (VAE.log_prob, iwae_of, elbo_of))
def importance_weights() -> Iterator[Sides]:
    """The importance-weighted bound rises with the number of draws, and its gap falls as 1/K

        L_K = E log 1/K Σᵢ wᵢ,   wᵢ = p(x, zᵢ)/q(zᵢ|x),     log p(x) − L_K = Var[w/p(x)]/(2K) + O(1/K²)

    by Jensen's inequality and its second-order term. With q off by d standard deviations of the posterior, w/p(x) is
    log-normal, its variance is exp(d²) − 1, and the ELBO's own gap, K = 1, is d²/2. The variance of what is averaged is
    reduced by E[Σw/K] = p(x).
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
    found = [gap("iwae", k) for k in (1, 4, 16, 64)]
    gaps, errors = torch.stack([g for g, _ in found]), torch.stack([e for _, e in found])
    yield at_most("gap falls: K = 4, 16, 64", gaps[1:], gaps[:-1], 0.0, 0.0)
    v = math.expm1(d * d)
    third, fourth = (math.exp(d * d) + 2) * v * v, 3 * v * v
    leading = v / 128 - third / (3 * 64**2) + fourth / (4 * 64**2)
    yield equal("gap at K = 64", gaps[-1], leading, errors[-1], tolerance=ROUNDING + 1e-5)
