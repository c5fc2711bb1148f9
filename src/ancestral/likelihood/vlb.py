"""The variational bound of a discrete diffusion, as three named terms.

    -log p(x) <=  -E log p(x | x_1)                                       reconstruction
                +  KL(q(x_T | x) || p(x_T))                               prior matching
                +  sum_{i=2..T} E KL(q(x_{i-1} | x_i, x) || p(x_{i-1} | x_i))     consistency

(Ho et al. 2020, eq. 5; Kingma et al. 2021, section 3). If p(x_{i-1} | x_i) is the posterior q(. | x_i, x_hat) with its variance
replaced by s^2, and b = beta~_i / s^2, then

    KL_i = D/2 (b - 1 - log b) + b/2 (SNR_{i-1} - SNR_i) |x - x_hat|^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ancestral.denoiser import column
from ancestral.gaussian import Gaussian
from ancestral.likelihood.bound import Bound
from ancestral.likelihood.lattice import Lattice
from ancestral.noise import Noise
from ancestral.prediction import Prediction
from ancestral.schedules import Chain, Level, Levels

Variance = Literal["posterior", "forward"] | Callable[[Level], float]
DenoiseEach = Callable[[Tensor, Level | Levels], Prediction]
ROWS = 20  # rows of the table by noise level


def vlb(
    denoise: DenoiseEach,
    chain: Chain,
    x: Tensor,
    noise: Noise,
    *,
    variance: Variance = "posterior",
    lattice: Lattice | None = None,
    draws: int | None = None,
) -> Bound:
    """Estimate the bound for samples x, with one draw of x_i for each step i.

    The reconstruction's variance is beta_1, or the mean squared error if `variance` is a function. The bound's table has the
    mean KL of steps in nats, and t and logsnr at their end, in `ROWS` groups.

    Args:
        denoise: the denoiser, at one level for all samples or at one for each.
        chain: the chain.
        x: samples `(n, *shape)` in model units.
        noise: the randomness.
        variance: s^2 of the reverse steps: "posterior", beta~_i; "forward", beta_i (Ho et al. 2020, section 3.2); or a function
            from a level to the denoiser's mean squared error per dimension, E|x - x_hat|^2 / D. With it s^2 = beta~_i + c_i^2
            mse is optimal (Bao et al. 2022, arXiv:2201.06503, theorem 1), where c_i is the weight of x_hat in the posterior
            mean.
        lattice: the levels of x. The bound is then one of their probability, not of a density.
        draws: the number of steps to visit instead of all T. They are drawn for each sample by stratified sampling, with
            probability proportional to the change of log SNR, and x_1 is drawn twice. The estimate is unbiased. Its standard
            error is an upper estimate, because strata are counted as independent draws. None: visit every step and draw x_1
            once; the standard error is then unknown and returned as infinite.
    """
    d, looks = x[0].numel(), 1 if draws is None else 2
    reconstruction = torch.stack([_reconstruction(denoise, chain, x, noise, variance, lattice) for _ in range(looks)])
    terms = {"reconstruction": reconstruction.mean(0), "prior": -_prior(chain, x)}
    visited = _every_step(chain, len(x)) if draws is None else _drawn_steps(chain, noise, draws)
    nothing = torch.zeros(0, len(x), dtype=torch.float64)  # for a chain of one step
    kls, steps, weights = [nothing], [nothing], [nothing]
    for i, weight in visited:
        level, before = chain.at(i / chain.T), chain.at((i - 1) / chain.T)
        x_t = column(level.alpha, x) * x + column(level.sigma, x) * noise.normal(x.shape[1:]).to(x)
        error2 = (x - denoise(x_t, level).x).flatten(1).square().sum(1).cpu().double()
        change = before.alpha**2 / before.sigma**2 - level.alpha**2 / level.sigma**2
        b = _ratio(variance, before, level, change)
        kls.append((d / 2 * (b - 1 - b.log()) + b * change / 2 * error2)[None])
        steps.append(i[None])
        weights.append(weight[None])
    kl, weight = torch.cat(kls), torch.cat(weights)  # (k, n)
    consistency = (weight * kl).sum(0)
    terms["consistency"] = -consistency
    error = torch.full_like(consistency, math.inf)
    if draws is not None and (draws > 1 or chain.T == 1):
        drawn: Tensor | float = (draws * weight * kl).var(0) / draws if len(kl) else 0.0
        error = (reconstruction.var(0) / looks + drawn).sqrt()
    return Bound(
        value=sum(terms.values(), torch.zeros_like(consistency)),
        kind="vlb",
        direction="lower",
        dimensions=d,
        discrete=lattice is not None,
        std_err=error,
        terms=terms,
        nfe=len(kl) + looks,
        table=_table(chain, torch.cat(steps), weight * kl),
    )


def _reconstruction(
    denoise: DenoiseEach, chain: Chain, x: Tensor, noise: Noise, variance: Variance, lattice: Lattice | None
) -> Tensor:
    """Return log p(x | x_1) at a draw of x_1: the density of a Gaussian about x_hat, or its mass in the levels' cells."""
    level = chain.level(1)
    x_hat = denoise(level.alpha * x + level.sigma * noise.normal(x.shape[1:]).to(x), level).x
    var = variance(level) if callable(variance) else level.sigma**2
    x, x_hat = x.cpu().double(), x_hat.cpu().double()
    if lattice is not None:
        return lattice.log_prob(x, x_hat, math.sqrt(var))
    return Gaussian(x_hat, torch.tensor(var, dtype=torch.float64)).log_prob(x)


def _prior(chain: Chain, x: Tensor) -> Tensor:
    """Return KL(q(x_T | x) || N(0, I)), which is exact."""
    level = chain.level(chain.T)
    return Gaussian(level.alpha * x.cpu().double(), torch.tensor(level.sigma**2, dtype=torch.float64)).kl()


def _ratio(variance: Variance, before: Levels, level: Levels, change: Tensor) -> Tensor:
    """Return b = beta~ / s^2 for each sample's step."""
    if variance == "posterior":
        return torch.ones_like(change)
    if variance == "forward":
        return before.sigma**2 / level.sigma**2
    assert callable(variance)
    found: dict[float, float] = {}
    for values in zip(level.t.tolist(), level.alpha.tolist(), level.sigma.tolist(), strict=True):
        if values[0] not in found:
            found[values[0]] = variance(Level(*values))
    mse = torch.tensor([found[t] for t in level.t.tolist()], dtype=torch.float64)
    return 1 / (1 + change * mse)  # c^2 / beta~ = SNR_{i-1} - SNR_i


def _every_step(chain: Chain, n: int) -> list[tuple[Tensor, Tensor]]:
    one = torch.ones(n, dtype=torch.float64)
    return [(i * one, one) for i in range(2, chain.T + 1)]


def _drawn_steps(chain: Chain, noise: Noise, draws: int) -> list[tuple[Tensor, Tensor]]:
    """Return (step, 1 / (draws p(step))) for each sample, with p proportional to log SNR_{i-1} - log SNR_i."""
    if chain.T == 1:
        return []
    logsnr = chain.logsnr(torch.arange(1, chain.T + 1, dtype=torch.float64) / chain.T)
    p = (logsnr[:-1] - logsnr[1:]) / (logsnr[0] - logsnr[-1])
    edges = p.cumsum(0)
    visited = []
    for k in range(draws):
        u = (noise.stratified() + k) / draws
        index = torch.searchsorted(edges, u).clamp(max=len(p) - 1)
        visited.append(((index + 2).double(), 1 / (draws * p[index])))
    return visited


def _table(chain: Chain, steps: Tensor, nats: Tensor) -> dict[str, Tensor]:
    """Sum the nats of neighbouring steps, and average over samples."""
    logsnr = chain.logsnr(torch.arange(1, chain.T + 1, dtype=torch.float64) / chain.T)
    share = (logsnr[0] - logsnr) / (logsnr[0] - logsnr[-1]).clamp(min=1e-12)
    group = (share * ROWS).ceil().long().clamp(1, ROWS)  # the group of the step that ends at each level
    of_step = group[(steps - 1).long()]
    if not len(steps):
        return {}
    rows = [r for r in range(1, ROWS + 1) if bool((group[1:] == r).any())]
    last = torch.tensor([int((group == r).nonzero().max()) for r in rows])
    total = torch.stack([torch.where(of_step == r, nats, 0.0).sum(0).mean() for r in rows])
    return {"t": (last + 1).double() / chain.T, "logsnr": logsnr[last], "nats": total}
