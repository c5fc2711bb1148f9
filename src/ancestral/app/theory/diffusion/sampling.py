"""Claims about samplers, which lead from noise to data."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import SINGLE, Along, Sides, claim, draws, equal, mean, table, variance
from ancestral.app.theory.diffusion.models import Fixed, family
from ancestral.app.theory.known import MIXTURE, Exact, M, S, histogram, times
from ancestral.conditioning import Context
from ancestral.models.diffusion import Diffusion
from ancestral.oracles import GaussianOracle
from ancestral.schedules import VP, Chain, Cosine, Linear, grid, posterior
from ancestral.solvers import Ancestral, DPMpp, Euler, Heun, Solver


@claim("Song et al. 2021 (arXiv:2010.02502), eq. 12 and 16", (Ancestral.step, posterior))
def ddim() -> Iterator[Sides]:
    """DDIM at η = 1 is DDPM, and at η = 0 it is deterministic

        σ²(η) = η² (1 − ᾱ_s)/(1 − ᾱ_t) (1 − ᾱ_t/ᾱ_s),     η = 1:  β̃, the posterior variance of DDPM

    and with this variance the means agree: α_s x̂ + √(σ_s² − σ²) ε̂ = μ̃(x_t, x̂). On N(0, 1) with the cosine schedule each of
    N steps at η = 0 multiplies by cos(π/2N), so that x₀ = cos^N(π/2N) x₁.
    """
    chain, x = Chain.linear(100, 1e-3, 0.1), torch.tensor([[0.6]]).double()
    for i, j in ((60, 59), (90, 40)):
        t, s = chain.level(i), chain.level(j)
        still, moved = (Ancestral(eta=1).step(MIXTURE, x, t, s, None, Fixed(z))[0] for z in (0.0, 1.0))  # type: ignore[arg-type]
        mu, var = posterior(MIXTURE(x, t).x, x, t, s)
        abar_t, abar_s = t.alpha**2, s.alpha**2
        paper = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
        etas, rows = times(11, 0, 1), []
        for eta in etas.tolist():
            a, b = (Ancestral(eta=eta).step(MIXTURE, x, t, s, None, Fixed(z))[0] for z in (0.0, 1.0))  # type: ignore[arg-type]
            rows.append([(b - a).square()])
        (found,) = table(rows)
        along = Along("η", etas, "variance of a step")
        yield equal(f"σ²(η), t = {i} to {j}", found, etas**2 * paper, tolerance=SINGLE, along=along)
        yield equal(f"β̃, {i} to {j}", var, paper)
        yield equal(f"mean at η = 1, {i} to {j}", still, mu)
        still, moved = (Ancestral(eta=0).step(MIXTURE, x, t, s, None, Fixed(z))[0] for z in (0.0, 1.0))  # type: ignore[arg-type]
        yield equal(f"noise at η = 0, {i} to {j}", moved - still, 0.0, tolerance=0.0)
    counts, ends = (2, 3, 5, 10, 20, 50, 100), []
    for n in counts:
        *_, state = Ancestral(eta=0)(GaussianOracle(), x, Cosine().levels(grid(Cosine(), n)), draws(1))
        ends.append((state.x, math.cos(math.pi / 2 / n) ** n * x))
    left, right = table(ends)
    along = Along("steps n", torch.tensor(counts, dtype=torch.float64), "x₀ from x₁ = 0.6, η = 0", "x")
    yield equal("cosⁿ(π/2n) x₁", left, right, along=along)


@claim("Ho et al. 2020, algorithm 2", (Ancestral.step, Diffusion.sample_path))
def algorithm_2() -> Iterator[Sides]:
    """Algorithm 2 with the exact denoiser returns the data distribution

        x_{t−1} = μ̃(x_t, x̂₀(x_t)) + √β̃ z,    from x_T ~ N(0, I),   t = T, …, 1

    The reversed chain has the marginals of the forward chain up to O(1/T), because p(x_{t−1}|x_t) is Gaussian only for small
    steps. The data are a mixture of two Gaussians with unequal weights and widths, and the family draws 20,000 samples.
    """
    n, chain = 20_000, Chain.linear()
    model = family(Exact(MIXTURE, "eps"), chain)
    for state in model.sample_path(draws(n), Context(), steps=chain.T, solver=Ancestral(eta=1), spacing="trailing"):
        x = state.x.double()
    yield equal("mean", mean(x)[0], 0.3 * -1 + 0.7 * 2, mean(x)[1], 0.01)
    second = 0.3 * (1 + 0.25) + 0.7 * (4 + 0.04)
    yield equal("variance", variance(x)[0], second - 1.1**2, variance(x)[1], 0.01)
    yield histogram("density of the data", x, MIXTURE)


@claim(
    "Karras et al. 2022 (arXiv:2206.00364), section 3; Lu et al. 2022 (arXiv:2211.01095)",
    (Euler.step, Heun.step, DPMpp.step),
)
def solver_order() -> Iterator[Sides]:
    """Halving the steps divides a solver's error by 2, 4 or 8: its order is 1, 2 or 3

        error(h) ≈ C h^p   ⇒   p = log₂ error(h)/error(h/2)

    It is measured on data N(m, s²), whose probability flow is known: (x_t − α_t m)/√(α_t² s² + σ_t²) is constant along it. The
    steps begin near pure noise, at log SNR −8.5, or in the middle of the process, at 0.
    """
    oracle, x = GaussianOracle(M, S), torch.tensor([[1.3], [-0.4]]).double()
    methods: tuple[tuple[str, Solver, int], ...] = (
        ("Euler", Euler(), 1),
        ("Heun", Heun(), 2),
        ("DPM-Solver++", DPMpp(order=3), 3),
    )
    counts = (40, 80, 160)
    for schedule, begin in ((VP(), -8.5), (Linear(), 0.0)):
        for name, method, order in methods:
            errors = []
            for n in counts:
                levels = schedule.levels(schedule.time(torch.linspace(begin, 3, n + 1, dtype=torch.float64)))
                start = x * levels[0].sigma
                *_, state = method(oracle, start, levels, draws(2))
                errors.append((state.x - oracle.flow(start, levels[0], levels[-1])).abs().max().item())
            slope, process = math.log2(errors[-2] / errors[-1]), f"{type(schedule).__name__} from {begin:g}"
            yield equal(f"{name}, {process}: order", slope, order, tolerance=0.15 / order)
            steps, error = (torch.tensor(v, dtype=torch.float64) for v in (counts, errors))
            along = Along("steps n", steps, f"log₂ of the error, {process}", "x")
            line = error[-1].log2() + order * (steps[-1] / steps).log2()
            yield equal(f"slope −{order}, {name}", error.log2(), line, tolerance=0.06, along=along)
