"""Claims that noise, score and denoiser are equivalent."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ancestral.app.theory.claims import Along, Sides, claim, draws, equal
from ancestral.app.theory.known import MIXTURE, X, binned, random_network
from ancestral.app.theory.score.models import LEVEL, Apart, family
from ancestral.batch import Batch
from ancestral.gaussian import Gaussian
from ancestral.models.diffusion import Diffusion
from ancestral.models.score import Lambda, ScoreModel
from ancestral.oracles import MixtureOracle
from ancestral.prediction import Prediction
from ancestral.schedules import CLEAN, VP


@claim("Vincent 2011, section 4; Song et al. 2021, section 3.3", (Prediction.of, MixtureOracle.score, MixtureOracle.__call__))
def noise() -> Iterator[Sides]:
    """The score is the negative noise: ∇ log q(x_t|x) = −ε/σ_t, and ∇ log p(x_t) = −E[ε|x_t]/σ_t

        log q(x_t|x) = −|x_t − α x|²/(2σ²) + c   ⇒   ∇ = −(x_t − α x)/σ² = −ε/σ
        ∇ log p(x_t) = ∫ ∇q(x_t|x) p(x) dx / p(x_t) = E[ −ε/σ | x_t ]

    Autograd computes the gradients on the left. The last comparison uses a sum over a grid of x.
    """
    x, eps = draws(64, 1).normal((1,)).double(), draws(64, 2).normal((1,)).double()
    x_t = (LEVEL.alpha * x + LEVEL.sigma * eps).requires_grad_()
    at = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None].requires_grad_()
    var = torch.full((1, 1), LEVEL.sigma**2, dtype=torch.float64)
    conditional = torch.autograd.grad(Gaussian(LEVEL.alpha * x, var).log_prob(x_t).sum(), x_t)[0]
    order = eps[:, 0].argsort()
    along = Along("ε", eps[order, 0], "∇ log q(x_t|x)")
    yield equal("−ε/σ", conditional[order], -eps[order] / LEVEL.sigma, along=along)
    yield equal("the same, computed from x", Prediction(x, x_t, LEVEL.alpha, LEVEL.sigma).score, conditional)
    marginal = torch.autograd.grad(MIXTURE.log_density(at, LEVEL).sum(), at)[0]
    along = Along("x_t", at.detach()[:, 0], "∇ log p(x_t) of a mixture")
    yield equal("−E[ε|x_t]/σ by the oracle", marginal, MIXTURE(at, LEVEL).score, along=along)
    eps_hat = (at[:, 0] - LEVEL.alpha * (_posterior(at) @ X)) / LEVEL.sigma
    yield equal("−E[ε|x_t]/σ by a sum over x", marginal, -eps_hat / LEVEL.sigma, tolerance=1e-5, along=along)


def _posterior(x_t: Tensor) -> Tensor:
    """Return p(x | x_t) on the grid, `(n, grid)`, as weights that sum to one."""
    log_p = MIXTURE.log_density(X[:, None], CLEAN)
    log_q = -((x_t - LEVEL.alpha * X) ** 2) / (2 * LEVEL.sigma**2)
    return (log_p + log_q).softmax(1)


@claim("Robbins 1956; Efron 2011, eq. 1.4", (MixtureOracle.__call__, Prediction.of))
def tweedie() -> Iterator[Sides]:
    """Tweedie's formula: the best estimate of x is a step along the score

        E[x|x_t] = (x_t + σ_t² ∇ log p(x_t)) / α_t

    It follows from x_t = α x + σ ε and E[ε|x_t] = −σ ∇ log p(x_t). So a denoiser gives a score, and every diffusion model is a
    score model. The left side is a sum over a grid of x.
    """
    x_t = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None]
    score = MIXTURE.score(x_t, LEVEL)
    along = Along("x_t", x_t[:, 0], "E[x|x_t]")
    step = (x_t + LEVEL.sigma**2 * score) / LEVEL.alpha
    yield equal("(x_t + σ² ∇ log p(x_t))/α", _posterior(x_t) @ X, step[:, 0], tolerance=1e-6, along=along)
    yield equal("from score to x", Prediction.of("score", score, x_t, LEVEL.alpha, LEVEL.sigma).x, MIXTURE(x_t, LEVEL).x)
    at = torch.tensor([[0.5]], dtype=torch.float64)
    yield equal("w = (.3, .7), x_t = ½: score", MIXTURE.score(at, LEVEL), 0.5419159121)
    yield equal("w = (.3, .7), x_t = ½: E[x|x_t]", MIXTURE(at, LEVEL).x, 1.4113769729)


@claim("Song et al. 2021, section 3.3; Song et al. 2021 (arXiv:2101.09258), theorem 1", (ScoreModel.losses, Diffusion.losses))
def is_diffusion() -> Iterator[Sides]:
    """A score model is a diffusion model: the losses are the same

        σ² ½|s + ε/σ|²  =  ½ |ε − ε̂|²,                         ε̂ = −σ s
        g² ½|s + ε/σ|²  =  −½ dSNR/dt |x − x̂|²,                 x̂ = (x_t + σ² s)/α

    Denoising score matching with the weight σ² is half of L_simple. With the weight g² it is the consistency term of the ELBO,
    so maximum likelihood and score matching are the same. This follows from −dSNR/dt = g² SNR/σ² and
    |s + ε/σ|² = SNR |x − x̂|²/σ².
    """
    network, x = random_network(2), draws(256, 1).normal((2,))
    weights: tuple[tuple[Lambda, str, float], ...] = (("sigma2", "simple", 0.5), ("likelihood", "vlb", 1.0))
    for ours, theirs, factor in weights:
        score = family(network, VP(), weight=ours)
        ddpm = Diffusion(score.denoiser, (2,), schedule=VP(), weight=theirs)  # type: ignore[arg-type]
        with torch.no_grad():
            a, b = (model.losses(Batch(x), "model", Apart(256))["total"] for model in (score, ddpm))  # type: ignore[arg-type]
        yield equal(f"of each sample: weights {ours} and {theirs}", a, factor * b, tolerance=1e-4)
        at, left, right = binned(VP().noisy(Apart(256).stratified()), a, factor * b)
        along = Along("t", at, f"score matching, weight {ours}")
        yield equal(f"{factor:g} × diffusion's loss, weight {theirs}", left, right, tolerance=1e-4, along=along)
