"""Samples of p(x | y) for a linear measurement y = A x + noise, from the denoiser of p(x) alone.

p(x | x_t) is approximated by a Gaussian with its first two moments, which follow from the denoiser (Tweedie):

    m = E[x | x_t],   V = Cov[x | x_t] = (sigma_t^2 / alpha_t) J,   J = dm/dx_t
    p(y | x_t) = N(A m, S),   S = sigma_y^2 I + A V A'
    E[x | x_t, y] = m + V A' S^-1 (y - A m)

The last line is the mean of a Gaussian posterior. If p(x) is Gaussian, it is exact at every level, and every solver samples the
exact posterior. V is never formed: J' A' v is a vector-Jacobian product, and S w = y - A m is solved by conjugate gradients.
Sources: Rozet et al. 2024 (arXiv:2405.13712); with V = sigma^2/(alpha^2 + sigma^2) I instead, Song et al. 2023 (PiGDM, ICLR).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.guidance.tweedie import gain, with_signal
from ancestral.prediction import Prediction
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Posterior:
    """The denoiser of p(x | y), y ~ N(A x, sigma_y^2 I).

    Args:
        denoise: the denoiser of p(x).
        A: a linear map `(n, *shape)` -> `(n, *measured)` in torch, in which rows do not depend on each other. Autodiff gives
            its transpose.
        y: `(n, *measured)`, or `(1, *measured)` for all samples.
        sigma_y: the standard deviation of the measurement's noise.
        iterations: the number of conjugate gradient steps, each with one vector-Jacobian product. The solution is exact if
            there are as many steps as measured numbers. A few are enough, since the next level corrects errors.
    """

    denoise: Denoise
    A: Operator
    y: Tensor
    sigma_y: float = 0.01
    iterations: int = 5

    def __call__(self, x_t: Tensor, t: Level) -> Prediction:
        level = with_signal(t)
        with torch.enable_grad(), torch.autocast(x_t.device.type, enabled=False):
            z = x_t.detach().requires_grad_()
            m = self.denoise(z, level).x
            measured = self.A(m)

        def transposed(v: Tensor) -> Tensor:
            """Return V A' v."""
            (product,) = torch.autograd.grad(measured, z, v, retain_graph=True)
            return gain(level) * product

        def covariance(v: Tensor) -> Tensor:
            """Return S v."""
            return self.sigma_y**2 * v + self.A(transposed(v))

        w = conjugate_gradients(covariance, self.y - measured.detach(), self.iterations)
        return Prediction(m.detach() + transposed(w), x_t, t.alpha, t.sigma)


def conjugate_gradients(matrix: Operator, b: Tensor, iterations: int) -> Tensor:
    """Solve S w = b for w, where each row of b `(n, *shape)` has its own symmetric positive S (Hestenes & Stiefel 1952).

    A row stops if S is not positive along its direction, which can happen with a learned Jacobian, or if its residual is 0 to
    the precision of the numbers. Rows do not depend on each other.
    """
    w, r = torch.zeros_like(b), b
    p, rho = r, _dot(r, r)
    least = rho * torch.finfo(b.dtype).eps ** 2
    for _ in range(iterations):
        q = matrix(p)
        curvature = _dot(p, q)
        going = (curvature > 0) & (rho > least)
        step = torch.where(going, rho / curvature, 0.0)
        w, r = w + step * p, r - step * q
        rho, before = torch.where(going, _dot(r, r), 0.0), rho
        p = r + torch.where(going, rho / before, 0.0) * p
    return w


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot product of each row, `(n, 1, ..., 1)`."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
