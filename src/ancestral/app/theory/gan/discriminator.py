"""Claims about the discriminator of Goodfellow et al. 2014: its optimum, and its loss there."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from ancestral.app.theory.claims import SINGLE, Along, Sides, at_most, claim, draws, equal, mean, table
from ancestral.app.theory.gan.games import (
    COARSE,
    GRID,
    LOG_RATIO,
    SHIFTS,
    Line,
    N,
    P,
    Point,
    Q,
    beside,
    density,
    descended,
    game,
    jsd,
    loss_of_d,
    networks,
    slope,
)
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.models.gan import GAN
from ancestral.models.health.gan import cost, jensen_shannon
from ancestral.models.objectives import (
    Minimax,
    Name,
)


@claim("Goodfellow et al. 2014, eq. 1; Goodfellow 2016 (arXiv:1701.00160), eq. 8", (GAN.losses, Minimax.discriminator))
def cross_entropy() -> Iterator[Sides]:
    """The discriminator's loss is binary cross-entropy on an equal mixture of data and samples

        J_D = −½ E_x log D(x) − ½ E_z log(1 − D(G(z)))  =  E_{(u, c)} [ −c log D(u) − (1 − c) log(1 − D(u)) ]

    where c is 1 if u is data and 0 if u is a sample, each with probability ½. So D is a classifier of two equally frequent
    classes, and it learns the probability that u is data.
    """
    names: tuple[Name, ...] = ("minimax", "non-saturating")
    for objective in names:
        model, x = networks(objective), draws(256, 1).normal((1,))
        with torch.no_grad():
            left = model.losses(Batch(x), "discriminator", draws(256))["total"].mean()
            y = model.generator(draws(256).normal(model.latent_shape), Context())
            l, c = torch.cat([model.critic(x), model.critic(y)]).double(), torch.ones(512).double()
        c[256:] = 0
        yield equal(objective, left, F.binary_cross_entropy(l.sigmoid(), c), tolerance=SINGLE)


@claim("Goodfellow et al. 2014, eq. 1", (GAN.losses, Minimax.generator))
def zero_sum() -> Iterator[Sides]:
    """The gain of one player is the loss of the other: V(D, G) = −J_D = J_G

        V = ½ E_x log D(x) + ½ E_z log(1 − D(G(z)))

    min_G max_D V is a zero-sum game. The half of J_G that depends only on data does not depend on G, so the loss leaves it out.
    With this half added, both sides agree, and the gradients for G are opposite.
    """
    x, thetas, rows = draws(256, 1).normal((1,)), torch.linspace(-3, 3, 13, dtype=torch.float64), []
    for theta in thetas.tolist():
        model = game("minimax", Point(theta, 1.0), Line(-1.0, 0.5))
        with torch.no_grad():
            j_d = model.losses(Batch(x), "discriminator", draws(256))["total"].mean()
            j_g = model.losses(Batch(x), "generator", draws(256))["total"].mean()
            y = model.generator(draws(256).normal(model.latent_shape), Context())
            on_data = F.logsigmoid(model.critic(x)).double().mean() / 2
            value = on_data + torch.log1p(-model.critic(y).double().sigmoid()).mean() / 2
        rows.append((value, -j_d, j_g + on_data))
    value, minus_d, plus_g = table(rows)
    along = Along("θ, where G(z) = θ + z", thetas, "V(D, G), nats")
    yield equal("−J_D", value, minus_d, tolerance=SINGLE, along=along)
    yield equal("J_G + ½ E log D(x)", value, plus_g, tolerance=SINGLE, along=along)


@claim("Goodfellow et al. 2014, proposition 1 and theorem 1", (Minimax.discriminator, GAN.losses, jensen_shannon))
def optimal_discriminator() -> Iterator[Sides]:
    """The best discriminator is D* = p/(p + q), and V(D*) is the Jensen–Shannon divergence minus log 2

        a log D + b log(1 − D)  is greatest at  D = a/(a + b),   so   l* = log p/q
        V(D*, G) = ½ E_p log p/(p+q) + ½ E_q log q/(p+q) = JSD(p, q) − log 2

    Each point is maximised independently. For N(0, 1) against N(1, 1), l* = ½ − x and V(D*) = −0.581726. The picture of D
    shows the result of gradient descent on J_D from D = ½. The last comparisons use the loss of the family itself with D*,
    over draws of data and of its generator.
    """
    objective = Minimax()
    best = loss_of_d(objective, LOG_RATIO, P, Q)
    yield equal("dJ_D/dl at l* = log p/q", slope(objective, LOG_RATIO, P, Q), 0.0)
    yield at_most("J_D at D* against others", best, beside(objective, LOG_RATIO, P, Q), tolerance=-1e-6)
    yield equal("V(D*), N(0, 1) and N(1, 1)", -best, -0.581726, tolerance=1e-6)
    p, q = P[COARSE], Q[COARSE]
    along = Along("x", GRID[COARSE], "D(x)")
    yield equal("p/(p + q)", descended(objective, p, q, 8.0).sigmoid(), p / (p + q), tolerance=2e-3, along=along)
    rows = []
    for q in map(density, SHIFTS.tolist()):
        rows.append((-loss_of_d(objective, P.log() - q.log(), P, q), jsd(P, q) - math.log(2)))
    left, right = table(rows)
    yield equal("JSD(p, q) − log 2", left, right, along=Along("m, where q = N(m, 1)", SHIFTS, "V(D*, G), nats"))
    model = game("minimax", Point(1.0, 1.0), Line(-1.0, 0.5))
    with torch.no_grad():
        left, error = mean(-model.losses(Batch(draws(N, 1).normal((1,))), "discriminator", draws(N))["total"])
    yield equal("the family's loss at D*", left, jsd(P, Q) - math.log(2), error, SINGLE)
    x, y = draws(N, 1).normal(()).double(), 1 + draws(N, 2).normal(()).double()
    _, error = mean(F.softplus(x - 0.5) / 2 + F.softplus(0.5 - y) / 2)
    yield equal("the monitor's JSD at D*", jensen_shannon(0.5 - x, 0.5 - y), jsd(P, Q), error, SINGLE)


@claim("Goodfellow et al. 2014, theorem 1", (Minimax.discriminator, cost))
def equilibrium() -> Iterator[Sides]:
    """If p = q, every D(x) is ½ and −2V = log 4

        D* = p/(p + p) = ½,     V = ½ log ½ + ½ log ½ = −log 2

    which is the smallest value of V at the best D, because JSD ≥ 0 with equality only at p = q.
    """
    objective, half = Minimax(), torch.zeros_like(GRID)
    yield equal("dJ_D/dl at D = ½", slope(objective, half, P, P), 0.0)
    yield at_most("J_D at D = ½ against others", math.log(2), beside(objective, half, P, P), tolerance=-1e-6)
    yield equal("−2V", 2 * loss_of_d(objective, half, P, P), math.log(4))
    yield equal("the monitor's −2V", cost(torch.zeros(8), torch.zeros(8)), math.log(4), tolerance=SINGLE)
    values = [-loss_of_d(objective, P.log() - q.log(), P, q) for q in map(density, SHIFTS[1:].tolist())]
    along = Along("m, where q = N(m, 1)", SHIFTS[1:], "V, nats")
    yield at_most("V(D*) at p ≠ q; dots: −log 2", -math.log(2), torch.stack(values), tolerance=0.0, along=along)
