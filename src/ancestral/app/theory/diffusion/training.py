"""Claims about the training loss, and about one network for all times."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import Along, Sides, at_most, claim, draws, equal, mean, table
from ancestral.app.theory.diffusion.models import N, OneLevel, family
from ancestral.app.theory.known import Exact, M, S, binned, random_network, times
from ancestral.batch import Batch
from ancestral.denoiser import Denoiser
from ancestral.models.diffusion import Diffusion
from ancestral.oracles import GaussianOracle
from ancestral.schedules import Chain, Cosine


@claim("Ho et al. 2020, eq. 14", (Diffusion.losses, Diffusion.weights, Denoiser.forward))
def simple_loss() -> Iterator[Sides]:
    """L_simple is the squared error of x̂₀ weighted by the SNR, and is above 0 even for a perfect network

        |ε − ε̂|² = SNR |x₀ − x̂₀|²,      min L_simple(t) = α² s²/(α² s² + σ²) per dimension for data N(m, s²)

    At fixed x_t both errors are proportional, because σ ε = x_t − α x₀. For the best ε̂ = E[ε|x_t] the posterior variance of ε
    remains, because x_t does not determine ε. A loss below this minimum is a defect.
    """
    network, chain = random_network(2), Chain.linear(100, 1e-3, 0.1)
    x = draws(256, 1).normal((2,))
    model = family(network, chain, d=2)
    noise = draws(256)
    with torch.no_grad():
        left = model.losses(Batch(x), "model", draws(256))["total"]
        level = chain.at(model.draw_times(noise))
        eps = noise.normal((2,))
        alpha, sigma = level.alpha.float()[:, None], level.sigma.float()[:, None]
        p = model.denoiser(alpha * x + sigma * eps, level)
    right = (eps - p.eps).square().sum(1)
    yield equal("|ε − ε̂|² of each sample", left, right, tolerance=1e-4)
    at, left, right = binned(level.t, left, right)
    yield equal(
        "|ε − ε̂|²", left, right, tolerance=1e-4, along=Along("t, a chain of 100 steps", at, "L_simple of a random network")
    )
    oracle = GaussianOracle(M, S)
    at, rows = times(13, 0.05, 0.98), []
    for t in at.tolist():
        one = OneLevel(Cosine(), t)
        exact = family(Exact(oracle, "v"), one, "v", weight="edm")
        at_t = one.levels(torch.tensor([t], dtype=torch.float64))[0]
        with torch.no_grad():
            total = exact.losses(Batch(M + S * draws(N, 1).normal((1,))), "model", draws(N))["total"]
        signal = at_t.alpha**2 * S * S
        rows.append((*mean(total * at_t.alpha**2), signal / (signal + at_t.sigma**2)))  # edm's weight is SNR + 1 = SNR/alpha^2
    left, error, right = table(rows)
    along = Along("t, cosine schedule", at, "L_simple of the best network")
    yield equal("α² s²/(α² s² + σ²)", left, right, error, 1e-5, along)


@claim("Ho et al. 2020, section 4", (Diffusion.players, Denoiser.forward))
def one_network() -> Iterator[Sides]:
    """One network for all t, against T networks

        parameters(one network with input t) = P + P_t,      parameters(T networks) = T P

    where P_t is the number of parameters of the embedding of the noise level. For T = 1000 the sum is near P, not 1000 P,
    because every t uses every parameter: the loss at each noise level has a gradient in all parameters. The left side counts
    what the family trains. The right side adds up the layers, each of (inputs + 1) × outputs parameters.
    """
    d, width, waves = 2, 64, 64
    network = random_network(d, width)
    model = family(network, Chain.linear(), d=d)
    count = sum(p.numel() for player in model.players() for p in player.parameters)
    layers = ((d, width), (width, width), (width, width), (width, d))
    of_t = ((waves, width), (width, width), (width, width))
    P, P_t = (sum((inputs + 1) * outputs for inputs, outputs in part) for part in (layers, of_t))
    yield equal("parameters, one = P + P_t", count, P + P_t, tolerance=0.0)
    lengths = torch.tensor([3, 5, 10, 20, 50, 100, 200, 500, 1000], dtype=torch.float64)
    along = Along("T", lengths, "parameters", "xy")
    yield at_most("T networks without t; dots: one for all", count, lengths * P, tolerance=0.0, along=along)
    x = draws(512, 1).normal((2,))
    for t in (0.05, 0.5, 0.95):
        one = family(network, OneLevel(Chain.linear(), t), d=2)
        gradients = torch.autograd.grad(one.losses(Batch(x), "model", draws(512))["total"].sum(), list(network.parameters()))
        moved = sum(int((g != 0).sum()) for g in gradients)
        yield equal(f"parameters that learn at t = {t:g}", moved, P + P_t, tolerance=0.0)
