"""Claims about Langevin dynamics."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import Along, Clouds, Made, Sides, at_most, claim, draws, equal, mean, table, variance
from ancestral.app.theory.known import MIXTURE, M, S, histogram
from ancestral.app.theory.score.models import MODES, WEIGHT, N, plain_and_annealed
from ancestral.models.score import ScoreModel
from ancestral.oracles import GaussianOracle
from ancestral.schedules import Level
from ancestral.solvers import Langevin, UnadjustedLangevin
from ancestral.solvers.langevin import langevin_step


@claim("Song & Ermon 2019, eq. 4; Roberts & Tweedie 1996", (langevin_step,))
def langevin() -> Iterator[Sides]:
    """Langevin dynamics reaches the density, with a known bias

        x ← x + η ∇ log p(x) + √(2η) z          N(m, s²):   v ← (1 − η/s²)² v + 2η   →   s² / (1 − η/(2s²))

    Solve v = (1 − η/s²)² v + 2η. The bias is O(η). For η → 0 the result is p, the stationary density of
    dx = ∇ log p dt + √2 dw. On a mixture with modes that are not far apart, small steps reach p itself.
    """
    u, n = 0.3, 50_000
    oracle, s2 = GaussianOracle(M, S), S * S + u * u
    shares, rows = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4], dtype=torch.float64), []
    for share in shares.tolist():
        eta, x, again = share * s2, draws(n, 1).normal((1,)).double(), draws(n)
        for _ in range(int(6 / min(share, 1.8 - share))):
            x = langevin_step(oracle, x, Level(0.0, 1.0, u), eta, again)
        rows.append((*mean(x), *variance(x)))
    m, m_error, v, v_error = table(rows)
    yield equal("mean", m, M, m_error, 0.01)
    along = Along("η/s²", shares, "stationary variance / s²")
    yield equal("1/(1 − η/(2s²))", v / s2, 1 / (1 - shares / 2), v_error / s2, 0.01, along)
    level, x, again = Level(0.0, 1.0, 1.5), draws(20_000, 1).normal((1,)).double(), draws(20_000)
    for _ in range(300):
        x = langevin_step(MIXTURE, x, level, 0.1, again)
    yield histogram("density of a mixture", x, MIXTURE, level, bias=0.002)


@claim("Song & Ermon 2020 (arXiv:2006.09011), proposition 3", (Langevin.step, langevin_step))
def annealed_variance() -> Iterator[Sides]:
    """Annealed Langevin dynamics follows a recursion on Gaussian data

        v ← (1 − η_i/v_i)² v + 2η_i,      v_i = s² + u_i²,   η_i = e u_i²

    with several steps at each level u_i. The recursion gives the final error of the variance and the necessary number of steps.
    """
    e, repeats, levels = 0.3, 4, [Level(0.0, 1.0, 4 * 2 ** (-i / 2)) for i in range(9)]
    v, x, rows = 16.0, 4 * draws(N, 1).normal((1,)).double(), []
    for state in Langevin(repeats, e)(GaussianOracle(0.0, S), x, levels, draws(N)):
        if state.done == 0:
            continue
        u = levels[state.done - 1].sigma
        for _ in range(repeats):
            v = (1 - e * u * u / (S * S + u * u)) ** 2 * v + 2 * e * u * u
        rows.append((u, *variance(state.x), v))
    at, left, error, right = table(rows)
    yield equal("the recursion", left, right, error, along=Along("level u", at, "variance after it", "xy"))


@claim("Song & Ermon 2019, section 3.2.2 and algorithm 1", (UnadjustedLangevin.step, Langevin.step, ScoreModel.sample_path))
def mode_weights() -> Iterator[Made]:
    """Annealed Langevin dynamics finds the right weights of modes, and plain Langevin dynamics does not

        p = π p₁ + (1 − π) p₂,  far apart:   ∇ log p = ∇ log p₁  where p₂ ≈ 0,   whatever π is

    The score of well separated modes does not depend on their weights, and a chain does not pass from one to the other in any
    reasonable time. At high noise the modes merge, the score depends on the weights, and annealing preserves them. The right
    mode has 0.8 of the data. The score is exact, so the network cannot be the cause.
    """
    found = plain_and_annealed(4000)
    share, error = mean((found["plain"].sum(1) > 0).double())
    yield at_most("0.2 and the error of plain Langevin", 0.2, (share - WEIGHT).abs(), error)
    share, error = mean((found["annealed"].sum(1) > 0).double())
    yield equal("share by annealed Langevin", share, WEIGHT, error, 0.02)
    truth = MODES.sample(draws(4000, 5))
    for name, x in found.items():
        right = (x.sum(1) > 0).double().mean()
        points = {f"data, {WEIGHT:.0%} there": truth[:2000], f"{name} dynamics": x[:2000]}
        yield Clouds(f"{name} Langevin dynamics: {right:.0%} on the right", points)
