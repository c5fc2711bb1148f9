"""Claims of latent diffusion (Rombach et al. 2022, arXiv:2112.10752): what a smaller space costs, and control by conditions.

Compute and memory are counted, not timed: floating point operations of one denoising step, and the bytes that autograd keeps of
it. Both are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ancestral.batch import Batch
from ancestral.conditioning import ClassCondition, Conditioner, Context, ContextShape
from ancestral.denoiser import Denoiser
from ancestral.families.base import Scaling
from ancestral.families.diffusion import Diffusion
from ancestral.guidance import ClassifierFree, Conditional, guided
from ancestral.nets import UNet
from ancestral.oracles import GaussianOracle
from ancestral.prediction import Prediction
from ancestral.schedules import VP, Cosine, Level, Levels, grid
from ancestral.solvers import Ancestral, RungeKutta4
from ancestral.theory.claims import SINGLE, Sides, at_most, claim, draws, equal, mean, seeded, variance

CHANNELS = (32, 64)
FACTOR = 4  # of a side, from pixels to latents
PIXELS, LATENTS = (3, 32, 32), (3, 32 // FACTOR, 32 // FACTOR)


def unet(shape: Sequence[int]) -> UNet:
    """The family's U-Net, equally wide for every shape; no attention, whose work grows faster than the number of positions."""
    return seeded(lambda: UNet(shape[0], CHANNELS, patch=1, attention=0))


def attending(shape: Sequence[int]) -> UNet:
    return seeded(lambda: UNet(shape[0], CHANNELS, patch=1, attention=2))


def operations(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiplications and additions of one denoising step."""
    denoiser = Denoiser(network, "v")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(torch.zeros(1, *shape), Level(0.5, 0.6, 0.8))
    return int(counter.get_total_flops())


def kept(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes of activations that a training step keeps for its way back, parameters aside."""
    denoiser, sizes = Denoiser(network, "v"), {}
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        x = torch.zeros(1, *shape, requires_grad=True)
        held = denoiser(x, Level(0.5, 0.6, 0.8)).x.square().sum()
    del held
    return sum(sizes.values())


@claim("Rombach et al. 2022, section 3.1 and 4.1", (UNet.forward, Denoiser.forward))
def compute() -> Iterator[Sides]:
    """In a latent space f times smaller a side, a denoising step of equal width costs f² times less

        cost of a convolution = positions × channels in × channels out × 9 × 2,     positions: H W  →  H W / f²

    Every layer of the network does the same at each position, so operations and kept activations are proportional to positions,
    up to what is done once for a sample, the embedding of t. Attention compares all pairs of positions: there the ratio
    is above f². Here f = 4 and both networks are 32 and 64 wide.
    """
    big, small = operations(unet(PIXELS), PIXELS), operations(unet(LATENTS), LATENTS)
    yield equal("operations in pixels, f² × in latents", big, FACTOR**2 * small, tolerance=0.01)
    big, small = (operations(attending(shape), shape) for shape in (PIXELS, LATENTS))
    yield at_most("with attention: f² × in latents, in pixels", FACTOR**2 * small, big, tolerance=0.0)
    big, small = (sum(p.numel() for p in unet(shape).parameters()) for shape in (PIXELS, LATENTS))
    yield equal("parameters, both", big, small, tolerance=0.0)


@claim("Rombach et al. 2022, section 3.1", (UNet.forward, Denoiser.forward))
def memory() -> Iterator[Sides]:
    """In a latent space f times smaller a side, a denoising step of equal width keeps f² times less

        bytes = Σ over layers of  4 × channels × positions

    Counted by autograd's own hooks in one training step of one sample, each block of memory once.
    """
    big, small = kept(unet(PIXELS), PIXELS), kept(unet(LATENTS), LATENTS)
    yield equal("bytes kept in pixels, f² × in latents", big, FACTOR**2 * small, tolerance=0.02)
    big, small = (kept(attending(shape), shape) for shape in (PIXELS, LATENTS))
    yield at_most("with attention: f² × in latents, in pixels", FACTOR**2 * small, big, tolerance=0.0)


class ByClass(Denoiser):
    """The exact denoiser of N(mean, std^2), whose mean is what the context says."""

    def __init__(self, std: float):
        super().__init__(nn.Identity(), "x")
        self.std = std

    def forward(self, x_t: Tensor, level: Level | Levels, context: Context | None = None) -> Prediction:
        assert context is not None
        assert context.vector is not None
        oracle, mean = GaussianOracle(0.0, self.std), context.vector.to(x_t)
        p = oracle(x_t - level.alpha * mean, level)
        return Prediction(p.x + mean, x_t, p.alpha, p.sigma)


@claim("Ho & Salimans 2022 (arXiv:2207.12598), eq. 6", (ClassifierFree.__call__, guided, RungeKutta4.step, Ancestral.step))
def guidance() -> Iterator[Sides]:
    """Guidance shifts Gaussians of equal variance exactly

        p_g ∝ p_u (p_c/p_u)^g,     N(μ_c, s²), N(μ_u, s²)   ⇒   p_g = N(μ_u + g (μ_c − μ_u), s²)

    The guided prediction x̂_u + g (x̂_c − x̂_u) is, as both are affine in x_t with one slope, the exact denoiser of p_g at every
    noise level. So the ODE and the chain end in p_g. (Of other densities the guided scores of all noise levels are not those
    of one density that is diffused.)
    """
    mu_c, mu_u, s, n = 1.5, -0.5, 0.6, 20_000
    denoiser = ByClass(s)
    context, null = (Context(vector=torch.full((1, 1), mu)) for mu in (mu_c, mu_u))
    x_t = draws(64).normal((1,)).double()
    many = [Context(vector=c.vector.expand(len(x_t), 1)) for c in (context, null) if c.vector is not None]
    levels = VP().levels(grid(VP(), 24, "logsnr"))
    for g in (0.0, 1.0, 3.0):
        oracle = GaussianOracle(mu_u + g * (mu_c - mu_u), s)
        wrapped = guided(denoiser, many[0], many[1], g)
        left = torch.stack([wrapped(x_t, level).x for level in levels[:-1]])
        right = torch.stack([oracle(x_t, level).x for level in levels[:-1]])
        yield equal(f"denoiser at all levels, scale {g:g}", left, right)
    oracle, wrapped = GaussianOracle(mu_u + 3 * (mu_c - mu_u), s), guided(denoiser, many[0], many[1], 3.0)
    fine = VP().levels(torch.linspace(1, 0.01, 200, dtype=torch.float64))
    *_, state = RungeKutta4()(wrapped, x_t, fine, draws(64))
    yield equal("where the ODE ends, scale 3", state.x, oracle.flow(x_t, fine[0], fine[-1]), tolerance=1e-6)
    start, chain = draws(n).normal((1,)).double(), VP().levels(grid(VP(), 200, "logsnr"))
    both = [Context(vector=c.vector.expand(n, 1)) for c in (context, null) if c.vector is not None]
    *_, state = Ancestral(eta=1)(guided(denoiser, both[0], both[1], 3.0), start, chain, draws(n, 1))
    yield equal("mean of samples, scale 3", mean(state.x)[0], 5.5, mean(state.x)[1], 0.01)
    yield equal("variance of samples, scale 3", variance(state.x)[0], s * s, variance(state.x)[1], 0.02)


@dataclass(frozen=True)
class Told:
    """A conditional model, what is asked of it, and what nothing is."""

    model: Diffusion
    context: Context
    null: Context


def conditional(n: int, drop: float) -> Told:
    """The family with classes; the U-Net's weights are random in every layer."""

    def make() -> Diffusion:
        width = 8
        network = UNet(1, (8, 16), patch=1, context=ContextShape(vector=width))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
        conditioner = Conditioner({"class": ClassCondition(("a", "b", "c"), width)}, drop)
        scaling = Scaling((1, 8, 8), (0.0,), (1.0,), None)
        return Diffusion((1, 8, 8), scaling, conditioner, Denoiser(network, "v"), Cosine())

    model = seeded(make)
    raw = model.conditioner.parse({"class": "b"}, n)
    return Told(model, model.conditioner(raw, n), model.conditioner.null(n))


@claim("Ho & Salimans 2022, algorithm 1", (Diffusion.loss, Conditioner.forward, ClassCondition.forward, guided))
def dropped_condition() -> Iterator[Sides]:
    """With the condition dropped the conditional model is the unconditional one

        p(x|y)  with  y = ∅   is   p(x)

    Training replaces the condition by its null in a share p of the samples, and on those the loss is that of a model which was
    told nothing; so one network learns both. Sampling with the null, or with guidance 0, asks for p(x).
    """
    n = 16
    x_t, level = draws(n).normal((1, 8, 8)), Level(0.5, 0.6, 0.8)
    with torch.no_grad():
        told = conditional(n, 1.0)
        x, labels = draws(n, 1).normal((1, 8, 8)), torch.arange(n) % 3
        given = told.model.loss(Batch(x, {"class": labels}), "model", draws(n))["total"]
        nothing = told.model.loss(Batch(x), "model", draws(n))["total"]
        yield equal("loss, all dropped = told nothing", given, nothing, tolerance=0.0)
        p = told.model.denoiser(x_t, level, told.null).x
        yield equal(
            "guidance 0 = the null", guided(told.model.denoiser, told.context, told.null, 0.0)(x_t, level).x, p, tolerance=0.0
        )
        unasked = Conditional(told.model.denoiser, told.model.conditioner({}, n))
        yield equal("nothing asked = the null", unasked(x_t, level).x, p, tolerance=0.0)
        both = ClassifierFree(told.model.denoiser, told.context, told.null, scale=0.0)(x_t, level).x
        yield equal("both in one pass, scale 0", both, p, tolerance=10 * SINGLE)
        asked = told.model.denoiser(x_t, level, told.context).x
        yield at_most("but a condition that is given counts", 0.01, (asked - p).square().mean().sqrt(), tolerance=0.0)
        many = 50_000
        told = conditional(1, 0.1)
        contexts = told.model.conditioner({"class": torch.ones(many, dtype=torch.long)}, many, draws(many)).vector
        assert contexts is not None
        assert told.null.vector is not None
        share, error = mean((contexts == told.null.vector).all(1).double())
        yield equal("share dropped in training", share, 0.1, error)
