"""Claims about the best discriminators of other objectives."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal
from ancestral.app.theory.gan.games import COARSE, GRID, LOG_RATIO, Line, P, Point, Q, beside, descended, game, loss_of_d, slope
from ancestral.batch import Batch
from ancestral.models.gan import GAN
from ancestral.models.objectives import (
    Hinge,
    LeastSquares,
    Relativistic,
)


@claim("Mao et al. 2017 (arXiv:1611.04076), eq. 9", (LeastSquares.discriminator,))
def least_squares() -> Iterator[Sides]:
    """The best least-squares discriminator is p/(p + q), and costs ½ ∫ p q/(p + q)

        ½ p (l − 1)² + ½ q l²   is least at   l = p/(p + q)

    Each point is minimised independently: the derivative p (l − 1) + q l is zero there, and ½ p q/(p + q) remains.
    """
    objective, best = LeastSquares(), P / (P + Q)
    yield equal("dJ_D/dl at l*", slope(objective, best, P, Q), 0.0)
    yield at_most("J_D at l* against others", loss_of_d(objective, best, P, Q), beside(objective, best, P, Q), tolerance=-1e-6)
    yield equal("½ ∫ pq/(p + q)", loss_of_d(objective, best, P, Q), (P * Q / (P + Q)).sum() / 2)
    p, q = P[COARSE], Q[COARSE]
    along = Along("x", GRID[COARSE], "l(x)")
    yield equal("p/(p + q)", descended(objective, p, q, 0.5), p / (p + q), tolerance=1e-6, along=along)


@claim("Lim & Ye 2017 (arXiv:1705.02894), section 3", (Hinge.discriminator,))
def hinge() -> Iterator[Sides]:
    """The best hinge discriminator is sign(p − q), and costs 2 (1 − TV)

        p max(0, 1 − l) + q max(0, 1 + l)   is least at   l = sign(p − q),   where it is   2 min(p, q)

    and ∫ min(p, q) = 1 − TV(p, q), the total variation ½ ∫ |p − q|.
    """
    objective, best = Hinge(), torch.sign(P - Q)
    yield equal("2 (1 − TV)", loss_of_d(objective, best, P, Q), 2 * (1 - (P - Q).abs().sum() / 2))
    yield at_most("J_D at l* against others", loss_of_d(objective, best, P, Q), beside(objective, best, P, Q), tolerance=-1e-6)
    p, q = P[COARSE], Q[COARSE]
    clear = (p - q).abs() > 0.1 * (p + q)
    along = Along("x", GRID[COARSE][clear], "l(x)")
    yield equal("sign(p − q)", descended(objective, p, q, 0.05)[clear], torch.sign(p - q)[clear], tolerance=0.06, along=along)


@claim(
    "Jolicoeur-Martineau 2018 (arXiv:1807.00734), section 4", (Relativistic.discriminator, Relativistic.generator, GAN.losses)
)
def relativistic() -> Iterator[Sides]:
    """A constant added to the logits does not change the relativistic losses; the best logit is log p/q + c

        J_D = −log σ(l(x) − l(G(z)))

    depends only on differences of logits. For the question which one of a pair is data, the best answer has the odds
    p(x) q(y) : q(x) p(y). Their logarithm is l(x) − l(y) for l = log p/q + c.
    """
    objective = Relativistic()
    for c in (0.0, 3.7):
        yield equal(f"dJ_D/dl at log p/q + {c:g}", slope(objective, LOG_RATIO + c, P, Q), 0.0)
    x = draws(64, 1).normal((1,)).double()
    constants = torch.linspace(-4, 4, 9, dtype=torch.float64)
    for player in ("discriminator", "generator"):
        losses = []
        for c in (0.0, *constants.tolist()):
            model = game("relativistic", Point(1.0, 1.0), Line(-0.8, c)).double()
            with torch.no_grad():
                losses.append(model.losses(Batch(x), player, draws(64))["total"].mean())
        at_zero, *others = losses
        along = Along("c", constants, "loss, nats")
        yield equal(f"the {player}'s at c = 0", torch.stack(others), at_zero, tolerance=SINGLE, along=along)
    p, q = P[COARSE], Q[COARSE]
    l, central = descended(objective, p, q, 2.0), (GRID[COARSE] - 0.5).abs() < 3
    along = Along("x", GRID[COARSE][central], "l(x) − l(½)")
    yield equal(
        "log p/q",
        (l - l[GRID[COARSE].sub(0.5).abs().argmin()])[central],
        LOG_RATIO[COARSE][central],
        tolerance=0.02,
        along=along,
    )
