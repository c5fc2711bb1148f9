"""Claims about the reverse SDE, the probability-flow ODE, and its likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import Along, Sides, at_most, claim, draws, equal, mean
from ancestral.app.theory.known import MIXTURE, M, S, distribution
from ancestral.app.theory.score.models import MODES
from ancestral.likelihood import ode_log_prob
from ancestral.oracles import GaussianOracle
from ancestral.schedules import VP, Cosine, Level, grid
from ancestral.solvers import EulerMaruyama, RungeKutta4, Solver


@claim("Song et al. 2021, eq. 6 and 13; appendix D.1", (EulerMaruyama.step, RungeKutta4.step))
def same_marginals() -> Iterator[Sides]:
    """The reverse SDE and the probability-flow ODE have the same marginals

        dx = [f x − g² ∇ log p_t] dt + g dw̄            dx = [f x − ½ g² ∇ log p_t] dt

    Both obey the same continuity equation, ∂p/∂t = −∇·[(f x − ½ g² ∇ log p) p]: the Laplacian of the noise, ½ g² Δp, is
    the divergence of ½ g² p ∇ log p. The claim compares distribution functions at three intermediate levels, by 400 steps of
    each, with the exact ones.
    """
    n, schedule = 20_000, VP()
    levels = schedule.levels(grid(schedule, 400, "logsnr"))[:-1]
    methods: dict[str, Solver] = {"SDE": EulerMaruyama(), "ODE": RungeKutta4()}
    start = draws(n).normal((1,)).double()
    for name, method in methods.items():
        every = levels if name == "SDE" else [*levels[::10], levels[-1]]
        wanted = [min(every, key=lambda level: abs(level.u - u)) for u in (2.0, 0.5, 0.1)]
        for state in method(MIXTURE, start, every, draws(n, 1)):
            if state.t in wanted:
                points = torch.linspace(-2.5, 2.8, 30, dtype=torch.float64)
                share, error = mean((state.x < points).double())
                along = Along("x_t", points, f"P(x_t < x), {name}")
                yield equal(f"σ/α = {state.t.u:.2g}", share, distribution(MIXTURE, points, state.t), error, 0.01, along)


@claim("Song et al. 2021, eq. 39; Chen et al. 2018 (arXiv:1806.07366), theorem 1", (ode_log_prob,))
def ode_likelihood() -> Iterator[Sides]:
    """The likelihood of the probability-flow ODE is exact

        log p(x₀) = log N(x₁; 0, I) + ∫₀¹ tr(∂v/∂x) dt

    by the instantaneous change of variables. On a mixture the result is the mixture's density. On data N(m, s²) the flow is
    affine, and the volume term is D/2 log(v_T/v_0) with v = α² s² + σ².
    """
    least, x = 0.05, torch.linspace(-2.2, 2.7, 29, dtype=torch.float64)[:, None]
    level = Level(0.0, 1.0, least)
    bound = ode_log_prob(MIXTURE, Cosine(), x, steps=100, least=least)
    along = Along("x", x[:, 0], "log p(x) by the ODE, a mixture")
    yield equal("log p(x)", bound.value, MIXTURE.log_density(x, level), tolerance=1e-4, along=along)
    y = draws(16).normal((3,)).double()
    oracle = GaussianOracle(M, torch.full((3,), S))
    bound = ode_log_prob(oracle, Cosine(), y, steps=100, least=least)
    yield equal("log p on a Gaussian", bound.value, oracle.log_density(y, level), tolerance=1e-5)
    yield equal("volume: D/2 log(v_T/v_0)", bound.terms["volume"], -1.5 * math.log(S * S + least**2), tolerance=1e-5)


@claim("Hutchinson 1989; Grathwohl et al. 2019 (arXiv:1810.01367), section 3.1", (ode_log_prob,))
def hutchinson() -> Iterator[Sides]:
    """Hutchinson's estimate of the trace, with random signs, has no variance on independent Gaussians

        E[eᵀ A e] = tr A,    Var[eᵀ A e] = 2 Σ_{i≠j} a_ij²   for signs e and symmetric A

    since e_i² = 1, so only terms off the diagonal are random. The flow of Gaussian data with independent dimensions has a
    diagonal Jacobian, so one draw is exact. The Jacobian of the flow of a mixture in the plane is not diagonal, so draws
    scatter about the trace.
    """
    y, oracle = draws(16).normal((3,)).double(), GaussianOracle(M, torch.tensor([0.3, 0.6, 1.2]))
    exact = ode_log_prob(oracle, Cosine(), y, divergence="exact", least=0.1).value
    bound = ode_log_prob(oracle, Cosine(), y, draws(16), divergence="hutchinson", draws=8, least=0.1)
    assert bound.std_err is not None
    yield equal("standard error of 8 draws, Gaussian", bound.std_err, 0.0)
    yield equal("log p by signs, Gaussian", bound.value, exact)
    x = torch.stack([torch.linspace(-1.6, 1.6, 25), torch.linspace(-1.2, 1.2, 25)], 1).double()
    exact = ode_log_prob(MODES, Cosine(), x, divergence="exact", least=0.3).value
    bound = ode_log_prob(MODES, Cosine(), x, draws(25), divergence="hutchinson", draws=16, least=0.3)
    assert bound.std_err is not None
    yield at_most("standard error of 16 draws, mixture in the plane; 1e-4", 1e-4, bound.std_err.mean(), tolerance=0.0)
    along = Along("x₁, on a line through both modes", x[:, 0], "log p(x) by 16 draws of signs")
    yield equal("with the exact trace", bound.value, exact, bound.std_err, along=along)
