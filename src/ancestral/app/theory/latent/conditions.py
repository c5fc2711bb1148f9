"""Claims about control by conditions, with models that the library builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal, mean, table, variance
from ancestral.app.theory.latent.models import conditional
from ancestral.batch import Batch
from ancestral.conditioning import ClassCondition, Conditioner, Context
from ancestral.denoiser import Denoiser
from ancestral.guidance import ClassifierFree, Conditional, guided
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.networks.contract import WithoutContext
from ancestral.oracles import GaussianOracle
from ancestral.prediction import Prediction
from ancestral.schedules import VP, Level, Levels, grid
from ancestral.solvers import RungeKutta4


class ByClass(Denoiser):
    """The exact denoiser of N(mean, std^2), whose mean is the context vector."""

    def __init__(self, std: float):
        super().__init__(WithoutContext(nn.Identity()), "x")  # a network that is never called
        self.std = std

    def forward(self, x_t: Tensor, level: Level | Levels, context: Context | None = None) -> Prediction:
        assert context is not None
        assert context.vector is not None
        oracle, mean = GaussianOracle(0.0, self.std), context.vector.to(x_t)
        p = oracle(x_t - level.alpha * mean, level)
        return Prediction(p.x + mean, x_t, p.alpha, p.sigma)


CENTRE, SPREAD = 2.0, 0.5  # the decoder is affine


class Affine(nn.Module):
    """An autoencoder without loss, x = centre + spread z."""

    latent_shape = (1,)

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        return (x - CENTRE) / SPREAD

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        return CENTRE + SPREAD * z


def shifted(mu_c: float, mu_u: float, std: float) -> LatentModel:
    """Make a latent model with an exact prior: N(mu_c, std^2) for class c, N(mu_u, std^2) without a condition."""
    condition = ClassCondition(("c",), 1)
    condition.table.weight.data.copy_(torch.tensor([[mu_c], [mu_u]]))
    prior = Diffusion(ByClass(std), (1,), schedule=VP(), conditioner=Conditioner({"class": condition}))
    model = LatentModel(Affine(), prior, shape=(1,))
    model.measure(torch.tensor([[-1.0], [1.0]]))
    return model


@claim(
    "Ho & Salimans 2022 (arXiv:2207.12598), eq. 6",
    (ClassifierFree.__call__, guided, LatentModel.sample_path, LatentModel.to_data, Diffusion.sample_path),
)
def guidance() -> Iterator[Sides]:
    """Guidance shifts Gaussians of equal variance exactly

        p_g ∝ p_u (p_c/p_u)^g,     N(μ_c, s²), N(μ_u, s²)   ⇒   p_g = N(μ_u + g (μ_c − μ_u), s²)

    Both predictions are affine in x_t with the same slope, so the guided prediction x̂_u + g (x̂_c − x̂_u) is the exact denoiser
    of p_g at every noise level. So the ODE ends in p_g. (For other densities there is no single density whose diffusion has the
    guided scores at all noise levels.) The samples are those of a `LatentModel` whose prior has the exact denoiser. Its decoder
    D is affine, so that samples are also Gaussian.
    """
    mu_c, mu_u, s, n = 1.5, -0.5, 0.6, 10_000
    denoiser, x_t, schedule = ByClass(s), draws(64).normal((1,)).double(), VP()
    context, null = (Context(vector=torch.full((64, 1), mu)) for mu in (mu_c, mu_u))
    levels = schedule.levels(grid(schedule, 24, "logsnr"))
    fine = schedule.levels(torch.linspace(1, 0.01, 200, dtype=torch.float64))
    model, scales, rows = shifted(mu_c, mu_u, s), torch.linspace(0, 4, 5, dtype=torch.float64), []
    with torch.no_grad():
        asked = model.conditioner.context({"class": "c"}, n)
    for g in scales.tolist():
        oracle, wrapped = GaussianOracle(mu_u + g * (mu_c - mu_u), s), guided(denoiser, context, null, g)
        off = torch.stack([wrapped(x_t, level).x - oracle(x_t, level).x for level in levels[:-1]]).abs().max()
        *_, state = RungeKutta4()(wrapped, x_t, fine, draws(64))
        end = (state.x - oracle.flow(x_t, fine[0], fine[-1])).abs().max()
        *_, last = model.sample_path(draws(n), asked, guidance=g, solver="rk4", steps=30)
        x = model.to_data(last.x)
        rows.append((off, end, *mean(x), *variance(x)))
    off, end, m, m_error, v, v_error = table(rows)
    yield equal("the guided denoiser less that of p_g", off, 0.0, tolerance=SINGLE)
    yield equal("end of the ODE less end of the ODE of p_g", end, 0.0, tolerance=1e-6)
    along = Along("scale g", scales, "mean of samples")
    yield equal("D(μ_u + g (μ_c − μ_u))", m, CENTRE + SPREAD * (mu_u + scales * (mu_c - mu_u)), m_error, 1e-3, along)
    along = Along("scale g", scales, "variance of samples")
    yield equal("(D′ s)²", v, (SPREAD * s) ** 2, v_error, 1e-3, along)


@claim("Ho & Salimans 2022, algorithm 1", (Diffusion.losses, LatentModel.sample, Conditioner.forward, ClassCondition.forward))
def dropped_condition() -> Iterator[Sides]:
    """A conditional model without its condition is the unconditional model

        p(x|y)  with  y = ∅   is   p(x)

    Training replaces the condition by its null in a share p of the samples. On these the loss is that of a model without a
    condition, so one network learns both. Sampling with the null, or with guidance 0, draws from p(x).
    """
    n = 16
    x, labels = draws(n, 1).normal((1, 8, 8)).sigmoid(), torch.arange(n) % 3
    model = conditional(drop=1.0)
    with torch.no_grad():
        z, inner = model.encode(x), model.prior
        given = inner.losses(Batch(z, {"class": labels}), "model", draws(n))["total"]
        nothing = inner.losses(Batch(z), "model", draws(n))["total"]
        yield equal("loss, all dropped = without condition", given, nothing, tolerance=0.0)
    asked, unasked = (model.sample(n, y, seeds=8, steps=4) for y in ({"class": "b"}, None))
    without = model.sample(n, {"class": "b"}, seeds=8, steps=4, guidance=0.0)
    yield equal("samples with guidance 0 = samples without condition", without, unasked, tolerance=0.0)
    yield at_most("but a condition changes samples", 1e-3, (asked - unasked).square().mean().sqrt(), tolerance=0.0)
    with torch.no_grad():
        context, null = model.conditioner.context({"class": "b"}, n), model.conditioner.null(n)
        x_t, level = draws(n).normal(model.latent_shape), Level(0.5, 0.6, 0.8)
        p = Conditional(inner.denoiser, null)(x_t, level).x  # type: ignore[arg-type]
        both = ClassifierFree(inner.denoiser, context, null, scale=0.0)(x_t, level).x  # type: ignore[arg-type]
        yield equal("both answers in one pass, scale 0 = the null's", both, p, tolerance=10 * SINGLE)
        many, rates, rows = 50_000, torch.linspace(0, 1, 6, dtype=torch.float64), []
        for rate in rates.tolist():
            conditioner = conditional(rate).conditioner
            contexts = conditioner({"class": torch.ones(many, dtype=torch.long)}, many, draws(many)).vector
            empty = conditioner.null(1).vector
            assert contexts is not None
            assert empty is not None
            rows.append(mean((contexts == empty).all(1).double()))
    share, error = table(rows)
    yield equal("p", share, rates, error, along=Along("dropout rate p", rates, "share of conditions dropped"))
