"""Claims about learning: the generator's gradient, and the dynamics of the gradients of both players."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ancestral.app.theory.claims import Along, Sides, claim, draws, equal, table
from ancestral.app.theory.gan.games import GRID, Line, Point, density, game
from ancestral.batch import Batch
from ancestral.gaussian import Gaussian
from ancestral.models.gan import GAN
from ancestral.models.objectives import (
    Minimax,
    Name,
    NonSaturating,
    Penalties,
)


@claim(
    "Goodfellow et al. 2014, section 3; Goodfellow 2016, section 3.2.3",
    (GAN.losses, Minimax.generator, NonSaturating.generator),
)
def vanishing_gradient() -> Iterator[Sides]:
    """If D is certain, the minimax gradient vanishes and the non-saturating one does not; their ratio is e^l

        d/dl ½ log(1 − σ(l)) = −D/2          →  0    as D(G(z)) → 0
        d/dl −½ log σ(l)     = −(1 − D)/2    → −½
        ratio = D/(1 − D) = e^l

    l is the logit of the sample. The gradients are those of the family's own loss in the generator's parameter θ, with
    G(z) = θ and dl/dθ = 1.
    """
    logits = [float(l) for l in range(4, -17, -1)]
    found = {}
    names: tuple[Name, ...] = ("minimax", "non-saturating")
    for name in names:
        gradients = []
        for logit in logits:
            point = Point(0.0, 0.0)
            model = game(name, point, Line(1.0, logit)).double()
            loss = model.losses(Batch(torch.zeros(1, 1).double()), "generator", draws(1))["total"].sum()
            gradients.append(torch.autograd.grad(loss, point.theta)[0].item())
        found[name] = torch.tensor(gradients, dtype=torch.float64)
    l = torch.tensor(logits, dtype=torch.float64)
    along = Along("logit l of G(z)", l, "|∂J_G/∂θ|", "y")
    yield equal("minimax: D/2", -found["minimax"], l.sigmoid() / 2, tolerance=1e-7, along=along)
    yield equal("non-saturating: (1 − D)/2", -found["non-saturating"], (1 - l.sigmoid()) / 2, tolerance=1e-7, along=along)
    yield equal("minimax: at D(G(z)) = 1e-7", found["minimax"][-1], 0.0, tolerance=1e-7)
    along = Along("logit l of G(z)", l, "log of the ratio of gradients")
    yield equal("l", (found["minimax"] / found["non-saturating"]).log(), l, tolerance=1e-6, along=along)


@claim("Arjovsky & Bottou 2017 (arXiv:1701.04862), theorem 2.5", (Minimax.generator, NonSaturating.generator))
def sum_of_gradients() -> Iterator[Sides]:
    """The two losses of the generator at D* add up to the divergence of q from p

        ∇ E_q[ ½ log(1 − D*) − ½ log D* ] = ½ ∇ E_q[ log q/p ] = ½ ∇ KL(q ‖ p)

    because log(1 − D*)/D* = log q/p, and D* is constant here. For q = N(m, 1) and p = N(0, 1), KL(q ‖ p) = m²/2 by
    `Gaussian.kl`.
    """
    z, w, shifts, rows = GRID - 0.5, density(0.5), torch.linspace(-2, 2, 9, dtype=torch.float64), []
    for m in shifts.tolist():
        at = torch.tensor([[m]], dtype=torch.float64, requires_grad=True)
        one = torch.ones(1, 1, dtype=torch.float64)
        l = m * m / 2 - m * (at[0] + z)  # log p/q at this m
        both = w @ (Minimax().generator(l) + NonSaturating().generator(l))
        left = torch.autograd.grad(both, at, retain_graph=True)[0]
        right = torch.autograd.grad(Gaussian(at, one).kl().sum() / 2, at)[0]
        rows.append((left, right))
    left, right = table(rows)
    yield equal("½ ∂KL(q ‖ p)/∂m", left, right, along=Along("m", shifts, "sum of both gradients"))


@claim("Mescheder et al. 2018 (arXiv:1801.04406), section 3.3; theorem 4.1 in general", (GAN.losses, Penalties.__call__))
def dirac() -> Iterator[Sides]:
    """In the game of a point against a point gradient steps go in circles, and R1 makes them converge

        v(θ, ψ) = (−∂J_G/∂θ, −∂J_D/∂ψ),   eigenvalues of v′ at (0, 0):   −γ/2 ± √(γ²/4 − ¼)

    Data are 0, samples are θ, and l(x) = ψ x. Without the penalty γ/2 |∇l(x)|² the eigenvalues are ±i/2, so steps lead
    neither towards the equilibrium nor away from it. The real part is the rate of convergence. (The weights ½ of the losses
    become 1, as in the paper. v′ is computed by central differences.)
    """
    gammas, rows = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.05, 1.2, 1.5, 2.0], dtype=torch.float64), []
    for gamma in gammas.tolist():
        field = partial(_field, game("minimax", Point(0.0, 0.0), Line(0.0), gamma).double())
        found = torch.linalg.eigvals(_jacobian(field))
        root = torch.sqrt(torch.tensor(complex(gamma**2 / 4 - 0.25)))
        expected = torch.stack([-gamma / 2 - root, -gamma / 2 + root])
        rows.append([part.sort().values[i] for v in (found, expected) for part in (v.real, v.imag) for i in (0, 1)])
    columns = list(table(rows))
    for k, part in enumerate(("real part", "imaginary part")):
        for i, which in enumerate(("smaller", "greater")):
            along = Along("γ", gammas, f"{part} of the eigenvalues")
            yield equal(f"the {which}", columns[2 * k + i], columns[4 + 2 * k + i], tolerance=2e-3, along=along)


def _field(model: GAN, theta: float, psi: float) -> Tensor:
    """Return v(theta, psi)."""
    model.generator.theta.data.fill_(theta)  # type: ignore[operator]
    model.discriminator.psi.data.fill_(psi)  # type: ignore[operator]
    batch = Batch(torch.zeros(1, 1, dtype=torch.float64))
    j_g = model.losses(batch, "generator", draws(1))["total"].sum()
    terms = model.losses(batch, "discriminator", draws(1))
    penalty = terms.get("r1", torch.zeros(1)).sum()
    j_d = 2 * (terms["total"].sum() - penalty) + penalty
    by_theta = torch.autograd.grad(2 * j_g, model.generator.theta)[0]  # type: ignore[arg-type]
    by_psi = torch.autograd.grad(j_d, model.discriminator.psi)[0]  # type: ignore[arg-type]
    return -torch.stack([by_theta, by_psi])


def _jacobian(field: Callable[[float, float], Tensor], e: float = 1e-3) -> Tensor:
    return torch.stack([(field(e, 0) - field(-e, 0)) / (2 * e), (field(0, e) - field(0, -e)) / (2 * e)], 1)
