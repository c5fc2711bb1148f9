"""Claims of generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

Data are p = N(0, 1), samples are q = N(1, 1). Expectations over a pair (x, y) of both are sums over a grid of both, so that an
objective is asked as training asks it: for what each player loses on a pair of logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.families.base import Scaling
from ancestral.families.game import cost, jensen_shannon
from ancestral.families.gan import GAN
from ancestral.families.objectives import (
    Hinge,
    LeastSquares,
    Minimax,
    Name,
    NonSaturating,
    Objective,
    Penalties,
    Relativistic,
)
from ancestral.gaussian import Gaussian
from ancestral.nets.adversarial import adversarial_networks
from ancestral.theory.claims import SINGLE, Sides, at_most, claim, draws, equal, mean, seeded

GRID = torch.linspace(-8, 9, 681, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
CENTRE = (GRID > -4) & (GRID < 5)
N = 400_000


class Point(nn.Module):
    """G(z) = theta, or theta + z: samples that are one point, or N(theta, 1)."""

    latent = 1

    def __init__(self, theta: float, spread: float):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.spread = spread

    def forward(self, z: Tensor, context: Context) -> Tensor:
        return self.theta + self.spread * z


class Line(nn.Module):
    """l(x) = psi x + c."""

    def __init__(self, psi: float, c: float = 0.0):
        super().__init__()
        self.psi, self.c = nn.Parameter(torch.tensor(psi)), nn.Parameter(torch.tensor(c))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.psi * x[:, 0] + self.c


def game(objective: Name, generator: nn.Module, discriminator: nn.Module, r1: float = 0.0) -> GAN:
    scaling = Scaling((1,), (0.0,), (1.0,), None)
    return GAN((1,), scaling, Conditioner({}), generator, discriminator, objective, Penalties(r1=r1))


def networks(objective: Name) -> GAN:
    """The family's own networks of vectors, made random in every layer."""

    def make() -> tuple[nn.Module, nn.Module]:
        both = adversarial_networks((1,), width=16)
        for network in both:
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.3)
        return both

    return game(objective, *seeded(make))


def density(at: float) -> Tensor:
    """N(at, 1) on the grid, as weights that sum to one."""
    weights = Gaussian(torch.tensor(at), torch.ones(1)).log_prob(GRID[:, None]).exp() * STEP
    return weights / weights.sum()


def loss_of_d(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """E_{x ~ p, y ~ q} J_D(l(x), l(y)), l given on the grid."""
    real, fake = torch.broadcast_tensors(l[:, None], l[None, :])
    return p @ objective.discriminator(real, fake) @ q


def slope(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """The derivative of J_D in l(x) at each point, in units of how often the point is seen."""
    l = l.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss_of_d(objective, l, p, q), l)
    return g / (p + q)


def beside(objective: Objective, l: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """J_D of discriminators that are a little off."""
    waves = [0.1 * torch.cos(k * GRID) for k in (0, 1, 3)]
    return torch.stack([loss_of_d(objective, l + sign * wave, p, q) for wave in waves for sign in (-1, 1)])


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m), m the mixture."""
    m = (p + q) / 2
    return (p @ (p / m).log() + q @ (q / m).log()) / 2


P, Q = density(0.0), density(1.0)
LOG_RATIO = P.log() - Q.log()


@claim("Goodfellow et al. 2014, eq. 1; Goodfellow 2016 (arXiv:1701.00160), eq. 8", (GAN.loss, Minimax.discriminator))
def cross_entropy() -> Iterator[Sides]:
    """The discriminator's loss is binary cross-entropy on an equal mixture of data and samples

        J_D = −½ E_x log D(x) − ½ E_z log(1 − D(G(z)))  =  E_{(u, c)} [ −c log D(u) − (1 − c) log(1 − D(u)) ]

    where a fair coin c says whether u is data or a sample: each ½ is the coin's. So D is a classifier, and what it learns of
    two equally frequent classes is the probability that u is data.
    """
    names: tuple[Name, ...] = ("minimax", "non-saturating")
    for objective in names:
        model, x = networks(objective), draws(256, 1).normal((1,))
        with torch.no_grad():
            left = model.loss(Batch(x), "discriminator", draws(256))["total"].mean()
            y = model.generator(draws(256).normal(model.latent_shape), Context())
            l, c = torch.cat([model.critic(x), model.critic(y)]).double(), torch.ones(512).double()
        c[256:] = 0
        yield equal(objective, left, F.binary_cross_entropy(l.sigmoid(), c), tolerance=SINGLE)


@claim("Goodfellow et al. 2014, eq. 1", (GAN.loss, Minimax.generator))
def zero_sum() -> Iterator[Sides]:
    """What one player gains the other loses: V(D, G) = −J_D = J_G

        V = ½ E_x log D(x) + ½ E_z log(1 − D(G(z)))

    min_G max_D V is a zero-sum game. The half of J_G that sees only data does not depend on G and is left out of the loss; put
    back, both agree, and G's gradients are opposite.
    """
    model, x = networks("minimax"), draws(256, 1).normal((1,))
    j_d = model.loss(Batch(x), "discriminator", draws(256))["total"].mean()
    j_g = model.loss(Batch(x), "generator", draws(256))["total"].mean()
    with torch.no_grad():
        y = model.generator(draws(256).normal(model.latent_shape), Context())
        on_data = F.logsigmoid(model.critic(x)).double().mean() / 2
        value = on_data + torch.log1p(-model.critic(y).double().sigmoid()).mean() / 2
    yield equal("V = −J_D", value, -j_d, tolerance=SINGLE)
    yield equal("V = J_G + ½ E log D(x)", value, j_g + on_data, tolerance=SINGLE)


@claim("Goodfellow et al. 2014, proposition 1 and theorem 1", (Minimax.discriminator, GAN.loss, jensen_shannon))
def optimal_discriminator() -> Iterator[Sides]:
    """The best discriminator is D* = p/(p + q), where V is the Jensen–Shannon divergence less log 2

        a log D + b log(1 − D)  is greatest at  D = a/(a + b),   so   l* = log p/q
        V(D*, G) = ½ E_p log p/(p+q) + ½ E_q log q/(p+q) = JSD(p, q) − log 2

    Each point is maximised on its own. For N(0, 1) against N(1, 1) l* = ½ − x and V(D*) = −0.581726. The last line asks the
    family itself: its loss with D* over draws of data and of its generator.
    """
    objective = Minimax()
    best = loss_of_d(objective, LOG_RATIO, P, Q)
    yield equal("dJ_D/dl at l* = log p/q", slope(objective, LOG_RATIO, P, Q), 0.0)
    yield at_most("J_D at D* against others", best, beside(objective, LOG_RATIO, P, Q), tolerance=-1e-6)
    yield equal("V(D*) = JSD − log 2", -best, jsd(P, Q) - math.log(2))
    yield equal("N(0,1), N(1,1)", -best, -0.581726, tolerance=1e-6)
    model = game("minimax", Point(1.0, 1.0), Line(-1.0, 0.5))
    with torch.no_grad():
        left, error = mean(-model.loss(Batch(draws(N, 1).normal((1,))), "discriminator", draws(N))["total"])
    yield equal("the family's loss at D*", left, jsd(P, Q) - math.log(2), error, SINGLE)
    x, y = draws(N, 1).normal(()).double(), 1 + draws(N, 2).normal(()).double()
    _, error = mean(F.softplus(x - 0.5) / 2 + F.softplus(0.5 - y) / 2)
    yield equal("the monitor's JSD at D*", jensen_shannon(0.5 - x, 0.5 - y), jsd(P, Q), error, SINGLE)


@claim("Goodfellow et al. 2014, theorem 1", (Minimax.discriminator, cost))
def equilibrium() -> Iterator[Sides]:
    """At p = q every D(x) is ½, and −2V = log 4

        D* = p/(p + p) = ½,     V = ½ log ½ + ½ log ½ = −log 2

    which is the least that V can be at the best D, as JSD ≥ 0 with equality only there.
    """
    objective, half = Minimax(), torch.zeros_like(GRID)
    yield equal("dJ_D/dl at D = ½", slope(objective, half, P, P), 0.0)
    yield at_most("J_D at D = ½ against others", math.log(2), beside(objective, half, P, P), tolerance=-1e-6)
    yield equal("−2V", 2 * loss_of_d(objective, half, P, P), math.log(4))
    yield equal("the monitor's −2V", cost(torch.zeros(8), torch.zeros(8)), math.log(4), tolerance=SINGLE)
    off = torch.stack([jsd(P, density(shift)) for shift in (0.1, 0.5, 1.0, 2.0)])
    yield at_most("−log 2 against V(D*) at p ≠ q", -math.log(2), off - math.log(2), tolerance=0.0)


@claim(
    "Goodfellow et al. 2014, section 3; Goodfellow 2016, section 3.2.3", (GAN.loss, Minimax.generator, NonSaturating.generator)
)
def vanishing_gradient() -> Iterator[Sides]:
    """Where D wins the minimax gradient vanishes and the non-saturating one does not; their ratio is e^l

        d/dl ½ log(1 − σ(l)) = −D/2          →  0    as D(G(z)) → 0
        d/dl −½ log σ(l)     = −(1 − D)/2    → −½
        ratio = D/(1 − D) = e^l

    l is the logit that D gives the sample. The gradients are those in the generator's parameter θ, G(z) = θ, by the
    family's own loss; dl/dθ = 1.
    """
    logits = [0.0, -2.0, -4.0, -8.0, -12.0, -16.0]
    found = {}
    names: tuple[Name, ...] = ("minimax", "non-saturating")
    for name in names:
        gradients = []
        for logit in logits:
            point = Point(0.0, 0.0)
            model = game(name, point, Line(1.0, logit)).double()
            loss = model.loss(Batch(torch.zeros(1, 1).double()), "generator", draws(1))["total"].sum()
            gradients.append(torch.autograd.grad(loss, point.theta)[0].item())
        found[name] = torch.tensor(gradients, dtype=torch.float64)
    l = torch.tensor(logits, dtype=torch.float64)
    yield equal("minimax: −D/2", found["minimax"], -l.sigmoid() / 2, tolerance=1e-7)
    yield at_most("minimax: falls", found["minimax"][1:].abs(), found["minimax"][:-1].abs(), tolerance=0.0)
    yield equal("minimax: at D(G(z)) = 1e-7", found["minimax"][-1], 0.0, tolerance=1e-7)
    yield equal("non-saturating: −(1 − D)/2", found["non-saturating"], -(1 - l.sigmoid()) / 2, tolerance=1e-7)
    yield equal("log of the ratio = l", (found["minimax"] / found["non-saturating"]).log(), l, tolerance=1e-6)


@claim("Arjovsky & Bottou 2017 (arXiv:1701.04862), theorem 2.5", (Minimax.generator, NonSaturating.generator))
def sum_of_gradients() -> Iterator[Sides]:
    """At D* the two losses of the generator add up to the divergence of q from p

        ∇ E_q[ ½ log(1 − D*) − ½ log D* ] = ½ ∇ E_q[ log q/p ] = ½ ∇ KL(q ‖ p)

    as log(1 − D*)/D* = log q/p, and D* is held fixed. For q = N(m, 1) and p = N(0, 1) KL(q ‖ p) = m²/2, by `Gaussian.kl`.
    """
    z, w = GRID - 0.5, density(0.5)
    for m in (0.5, 1.0, 2.0):
        at = torch.tensor([[m]], dtype=torch.float64, requires_grad=True)
        one = torch.ones(1, 1, dtype=torch.float64)
        l = m * m / 2 - m * (at[0] + z)  # log p/q at the present m
        both = w @ (Minimax().generator(l) + NonSaturating().generator(l))
        left = torch.autograd.grad(both, at, retain_graph=True)[0]
        right = torch.autograd.grad(Gaussian(at, one).kl().sum() / 2, at)[0]
        yield equal(f"m = {m:g}", left, right)


@claim("Mao et al. 2017 (arXiv:1611.04076), eq. 9", (LeastSquares.discriminator,))
def least_squares() -> Iterator[Sides]:
    """The best least-squares discriminator is p/(p + q), and costs ½ ∫ p q/(p + q)

        ½ p (l − 1)² + ½ q l²   is least at   l = p/(p + q)

    Each point is minimised on its own: the derivative p (l − 1) + q l is zero there, and ½ p q/(p + q) remains.
    """
    objective, best = LeastSquares(), P / (P + Q)
    yield equal("dJ_D/dl at l*", slope(objective, best, P, Q), 0.0)
    yield at_most("J_D at l* against others", loss_of_d(objective, best, P, Q), beside(objective, best, P, Q), tolerance=-1e-6)
    yield equal("½ ∫ pq/(p + q)", loss_of_d(objective, best, P, Q), (P * Q / (P + Q)).sum() / 2)


@claim("Lim & Ye 2017 (arXiv:1705.02894), section 3", (Hinge.discriminator,))
def hinge() -> Iterator[Sides]:
    """The best hinge discriminator is sign(p − q), and costs 2 (1 − TV)

        p max(0, 1 − l) + q max(0, 1 + l)   is least at   l = sign(p − q),   where it is   2 min(p, q)

    and ∫ min(p, q) = 1 − TV(p, q), the total variation ½ ∫ |p − q|.
    """
    objective, best = Hinge(), torch.sign(P - Q)
    yield equal("2 (1 − TV)", loss_of_d(objective, best, P, Q), 2 * (1 - (P - Q).abs().sum() / 2))
    yield at_most("J_D at l* against others", loss_of_d(objective, best, P, Q), beside(objective, best, P, Q), tolerance=-1e-6)


@claim("Jolicoeur-Martineau 2018 (arXiv:1807.00734), section 4", (Relativistic.discriminator, Relativistic.generator, GAN.loss))
def relativistic() -> Iterator[Sides]:
    """A constant added to the logits leaves the relativistic losses as they are; the best one is log p/q + c

        J_D = −log σ(l(x) − l(G(z)))

    sees only differences of logits. Asked which of a pair is data, the best answer has the odds p(x) q(y) : q(x) p(y), whose
    logarithm is l(x) − l(y) for l = log p/q + c.
    """
    objective = Relativistic()
    for c in (0.0, 3.7):
        yield equal(f"dJ_D/dl at log p/q + {c:g}", slope(objective, LOG_RATIO + c, P, Q), 0.0)
    x = draws(64, 1).normal((1,)).double()
    for player in ("discriminator", "generator"):
        losses = []
        for c in (0.0, 3.7):
            model = game("relativistic", Point(1.0, 1.0), Line(-0.8, c)).double()
            with torch.no_grad():
                losses.append(model.loss(Batch(x), player, draws(64))["total"])
        yield equal(f"the {player}'s loss", losses[0], losses[1], tolerance=SINGLE)


@claim("Mescheder et al. 2018 (arXiv:1801.04406), theorem 4.1 and lemma 2.3", (GAN.loss, Penalties.__call__))
def dirac() -> Iterator[Sides]:
    """In the smallest game, a point against a point, gradients alone circle; R1 makes them converge

        v(θ, ψ) = (−∂J_G/∂θ, −∂J_D/∂ψ),   eigenvalues of v′ at (0, 0):   −γ/2 ± √(γ²/4 − ¼)

    Data are 0, samples θ, l(x) = ψ x. Without the penalty γ/2 |∇l(x)|² the eigenvalues are ±i/2: neither towards the
    equilibrium nor away from it. The real part says how fast the game settles. (The weights ½ of the losses are made 1, as in
    the paper; v′ by central differences.)
    """
    for gamma in (0.0, 0.4, 2.0):
        field = partial(_field, game("minimax", Point(0.0, 0.0), Line(0.0), gamma).double())
        found = torch.linalg.eigvals(_jacobian(field))
        root = torch.sqrt(torch.tensor(complex(gamma**2 / 4 - 0.25)))
        expected = torch.stack([-gamma / 2 - root, -gamma / 2 + root])
        for part in ("real", "imag"):
            left, right = (getattr(v, part).sort().values for v in (found, expected))
            yield equal(f"γ = {gamma:g}, {part} parts", left, right, tolerance=1e-3)


def _field(model: GAN, theta: float, psi: float) -> Tensor:
    """v(theta, psi)."""
    model.generator.theta.data.fill_(theta)  # type: ignore[operator]
    model.discriminator.psi.data.fill_(psi)  # type: ignore[operator]
    batch = Batch(torch.zeros(1, 1, dtype=torch.float64))
    j_g = model.loss(batch, "generator", draws(1))["total"].sum()
    terms = model.loss(batch, "discriminator", draws(1))
    penalty = terms.get("r1", torch.zeros(1)).sum()
    j_d = 2 * (terms["total"].sum() - penalty) + penalty
    by_theta = torch.autograd.grad(2 * j_g, model.generator.theta)[0]  # type: ignore[arg-type]
    by_psi = torch.autograd.grad(j_d, model.discriminator.psi)[0]  # type: ignore[arg-type]
    return -torch.stack([by_theta, by_psi])


def _jacobian(field: Callable[[float, float], Tensor], e: float = 1e-3) -> Tensor:
    return torch.stack([(field(e, 0) - field(-e, 0)) / (2 * e), (field(0, e) - field(0, -e)) / (2 * e)], 1)
