"""The objectives of GANs, and the penalties that make their training converge. All are functions of logits.

D(x) = sigmoid(l(x)), so log D = -softplus(-l) and log(1 - D) = -softplus(l), and nothing overflows if D is certain. `real` and
`fake` are the discriminator's outputs `(n,)` for data x ~ p and for samples G(z) ~ q. The loss of a player is `(n,)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ancestral.configuration import configurable

Name = Literal["relativistic", "non-saturating", "minimax", "least-squares", "hinge", "wasserstein"]


class Objective:
    """The losses of both players. logits: whether D's outputs are log p/q, equal to it up to a constant, or something else."""

    name: Name
    logits: Literal["exact", "shifted", "no"] = "no"
    paired = False  # whether the generator's loss also depends on data

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class Minimax(Objective):
    """J_D = -1/2 log D(x) - 1/2 log(1 - D(G(z))),  J_G = -J_D       (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1).

    At the optimum D* = p/(p + q), V = -J_D = JSD(p, q) - log 2. The generator's gradient in the logit is -D/2, which vanishes
    if the discriminator wins. The half of J_G for data does not depend on G and is left out.
    """

    name: Name = "minimax"
    logits = "exact"

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (softplus(-real) + softplus(fake)) / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake) / 2


class NonSaturating(Minimax):
    """J_G = -1/2 log D(G(z)): the generator maximises the chance that D errs (Goodfellow 2016, arXiv:1701.00160, eq. 13).

    Its gradient in the logit is -(1 - D)/2, which is largest if that of minimax vanishes: their ratio is D/(1 - D) = e^l.
    """

    name: Name = "non-saturating"

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake) / 2


class LeastSquares(Objective):
    """J_D = 1/2 (l(x) - 1)^2 + 1/2 l(G(z))^2,  J_G = 1/2 (l(G(z)) - 1)^2   (Mao et al. 2017, arXiv:1611.04076, eq. 9).

    At the optimum l* = p/(p + q) and J_D = 1/2 int pq/(p + q).
    """

    name: Name = "least-squares"

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return ((real - 1).square() + fake.square()) / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square() / 2


class Hinge(Objective):
    """J_D = max(0, 1 - l(x)) + max(0, 1 + l(G(z))),  J_G = -l(G(z))        (Lim & Ye 2017, arXiv:1705.02894).

    At the optimum l* = sign(p - q) and J_D = 2 (1 - TV(p, q)).
    """

    name: Name = "hinge"

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (1 - real).relu() + (1 + fake).relu()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake


class Wasserstein(Objective):
    """J_D = l(G(z)) - l(x),  J_G = -l(G(z)), for l of Lipschitz constant 1 (Arjovsky et al. 2017, arXiv:1701.07875, eq. 2)."""

    name: Name = "wasserstein"

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake - real

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake


class Relativistic(Objective):
    """J_D = -log sigmoid(l(x) - l(G(z))),  J_G = -log sigmoid(l(G(z)) - l(x))  (Jolicoeur-Martineau 2018, arXiv:1807.00734).

    D decides which one of a pair is real, so every sample is compared with data, and no local minimum of the loss leaves modes
    out (Sun et al. 2020, arXiv:2011.04926). A constant added to l changes nothing. At the optimum l = log p/q + c.
    """

    name: Name = "relativistic"
    logits = "shifted"
    paired = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(fake - real)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        return softplus(real - fake)


OBJECTIVES: dict[Name, Objective] = {
    o.name: o for o in (Relativistic(), NonSaturating(), Minimax(), LeastSquares(), Hinge(), Wasserstein())
}


@configurable
@dataclass(frozen=True)
class Penalties:
    """Weights of the penalties of D's gradient in its input, which make training converge.

        R1 = r1/2 |grad l(x)|^2,  R2 = r2/2 |grad l(G(z))|^2    (Mescheder et al. 2018, arXiv:1801.04406, eq. 9-10)
        GP = gp (|grad l(u x + (1 - u) G(z))| - 1)^2, u ~ U(0, 1)  (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3)

    At every step they are computed for every `lazy`-th sample, with `lazy` times the weight. This costs as much as all samples
    at every `lazy`-th step (Karras et al. 2020, arXiv:1912.04958, appendix B) and has the same expectation, but all steps are
    equal.
    """

    r1: float = 0.0
    r2: float = 0.0
    gp: float = 0.0
    lazy: int = 1

    def __bool__(self) -> bool:
        return bool(self.r1 or self.r2 or self.gp)

    def __call__(
        self,
        critic: Callable[[Tensor, Tensor], Tensor],
        real: Tensor,
        fake: Tensor,
        u: Tensor,
        every: tuple[Tensor, float] | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return (D of data, D of samples, penalties by name), each `(n,)`. The mean of a penalty is its estimate.

        `critic` is a function from (x, the indices of its rows among n) to logits. `u` are `(n,)` uniform numbers for the
        gradient penalty. `every` are the rows of the penalties and the ratio of all samples to them, as in `Batch.every`. None:
        every `lazy`-th of these samples.
        """
        n, terms = len(real), {}
        rows = torch.arange(n, device=real.device)
        some, ratio = every or (rows[:: self.lazy], n / len(rows[:: self.lazy]))
        # the other rows, by a sort: their number is known, so that the program does not wait for the device
        rest = rows.new_ones(n).index_fill(0, some, 0).argsort(descending=True, stable=True)[: n - len(some)]
        looked_at = [some if weight else rows[:0] for weight in (self.r1, self.r2)]
        others_at = [rest if weight else rows for weight in (self.r1, self.r2)]
        a = len(looked_at[0])
        # data and samples in one pass: of those looked at, through a graph that D's gradient is taken of, and of the others
        seen = torch.cat([real[looked_at[0]], fake[looked_at[1]]]).detach().requires_grad_()
        looked = critic(seen, torch.cat(looked_at)) if len(seen) else real.new_empty(0)
        left = torch.cat(others_at)
        others = critic(torch.cat([real[others_at[0]], fake[others_at[1]]]), left) if len(left) else real.new_empty(0)
        if len(seen):
            square = gradient(looked, seen).square().flatten(1).sum(1)
            terms = {"r1": spread(self.r1 / 2 * square[:a], some, n, ratio)} if self.r1 else {}
            terms |= {"r2": spread(self.r2 / 2 * square[a:], some, n, ratio)} if self.r2 else {}
        if self.gp and len(some):
            share = u[some].view(-1, *[1] * (real.ndim - 1))
            between = (share * real[some] + (1 - share) * fake[some]).detach().requires_grad_()
            norm = gradient(critic(between, some), between).square().flatten(1).sum(1).add(1e-12).sqrt()
            terms["gp"] = spread(self.gp * (norm - 1).square(), some, n, ratio)
        real_l = _joined(looked[:a], looked_at[0], others[: len(others_at[0])], others_at[0])
        fake_l = _joined(looked[a:], looked_at[1], others[len(others_at[0]) :], others_at[1])
        return real_l, fake_l, terms


def _joined(a: Tensor, rows_a: Tensor, b: Tensor, rows_b: Tensor) -> Tensor:
    """Join values at some rows and at the others to one tensor `(n,)`."""
    return torch.cat([a, b])[torch.cat([rows_a, rows_b]).argsort()]


def gradient(l: Tensor, x: Tensor) -> Tensor:
    """Return the differentiable gradient of each logit in its own input."""
    with torch.enable_grad():
        (g,) = torch.autograd.grad(l.sum(), x, create_graph=True)
    return g.to(torch.promote_types(g.dtype, torch.float32))


def spread(values: Tensor, rows: Tensor, n: int, ratio: float) -> Tensor:
    """Return `(n,)` with values `(m,)` times `ratio` at the rows `(m,)`, and 0 elsewhere."""
    return values.new_zeros(n).index_copy(0, rows, values * ratio)
