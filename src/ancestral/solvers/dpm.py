"""Exponential integrators in the half log-SNR lambda = log(alpha/sigma): DPM-Solver++ and UniPC.

With h = lambda_s - lambda_t the exact solution of the probability-flow ODE is

    x_s = sigma_s/sigma_t x_t + alpha_s int_0^h e^{-(h - tau)} x_hat(lambda_t + tau) d tau      (Lu et al. 2022, eq. 8)

and the solvers replace x_hat under the integral by a polynomial through its past values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ancestral.noise import Noise
from ancestral.schedules import Level
from ancestral.solvers.base import Denoise, Solver

History = tuple[tuple[float, Tensor], ...]  # (lambda, x_hat), the newest first


def _remember(history: History | None, t: Level, x: Tensor, length: int) -> History:
    """The history with the newest prediction in front; one made at alpha = 0 (lambda = -inf) spans no finite step."""
    past = tuple((lam, old) for lam, old in history or () if lam > -math.inf)
    return ((t.logsnr / 2, x), *past)[:length]


@dataclass(frozen=True)
class DPMpp(Solver):
    """DPM-Solver++ multistep of order 1, 2 or 3; as ODE, or as SDE with fresh noise at each step.

    One evaluation a step. A step into sigma = 0 is of order 1, where it is exact for a constant prediction. With the divided
    differences d1 and d2 of x_hat, order 3 integrates the quadratic through three predictions exactly: phi1 x_hat + phi2 d1 +
    (1 - 2 phi2/h) d2, phi1 = 1 - e^-h, phi2 = 1 - phi1/h. (Half of the last weight, as is often seen, makes it a method of
    order 2.)

    The first step has one prediction and the local error O(h^2). That is enough for order 2. Order 3 needs O(h^3), so the
    prediction at the end of this step also corrects it, by alpha_s phi1/2 (x_hat_s - x_hat_t), as UniPC does after each step.
    This costs no evaluation. The global error is O(h^order) from any finite log SNR on, also from the middle of the process.
    Of the SDE it is the error of the moments, and order 3 has the weak order 2.
    Source: Lu et al. 2022 (arXiv:2211.01095), order 2 is Algorithm 2.
    Raises ValueError for another order.
    """

    order: Literal[1, 2, 3] = 2
    sde: bool = False

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"DPM-Solver++ has order 1, 2 or 3; got {self.order}")

    def step(
        self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: History | None, noise: Noise
    ) -> tuple[Tensor, History]:
        history = _remember(memory, t, denoise(x, t).x, self.order)
        lam, d0 = history[0]
        if s.sigma == 0:
            return s.alpha * d0, history
        h = s.logsnr / 2 - lam
        big_h = 2 * h if self.sde else h  # the SDE's kernel decays twice as fast
        phi1 = -math.expm1(-big_h)
        slope = phi1 * d0
        if len(history) > 1:
            if self.order == 3 and len(history) == 2:  # t is the end of the first step: its correction
                first = big_h / h * (lam - history[1][0])
                x = x - t.alpha * math.expm1(-first) / 2 * (d0 - history[1][1])
            r0 = (lam - history[1][0]) / h
            d1 = (d0 - history[1][1]) / r0
            if len(history) > 2:
                r1 = (history[1][0] - history[2][0]) / h
                older = (history[1][1] - history[2][1]) / r1
                phi2 = 1 - phi1 / big_h
                slope = slope + phi2 * (d1 + r0 / (r0 + r1) * (d1 - older))
                slope = slope + (1 - 2 * phi2 / big_h) * (d1 - older) / (r0 + r1)
            else:
                slope = slope + phi1 / 2 * d1
        shrink = s.sigma / t.sigma * (math.exp(-h) if self.sde else 1.0)
        x = shrink * x + s.alpha * slope
        if self.sde:
            x = x + s.sigma * math.sqrt(-math.expm1(-2 * h)) * noise.normal(x.shape[1:]).to(x)
        return x, history


@dataclass(frozen=True)
class UniPC(Solver):
    """The unified predictor-corrector with B(h) = e^h - 1; `order` is that of its predictor.

    The prediction made at a point also corrects the step that led there, so the corrector costs no evaluation and steps of
    order p become steps of order p + 1, but for the last one. The first step is of order 1 and becomes one of order 2, with
    the local error O(h^3). So the global error is O(h^3) for both orders. With order 3 only the first step contributes h^3.
    This is small if x_hat hardly changes there, as near pure noise, and then errors fall as h^4 until it shows.
    Source: Zhao et al. 2023 (arXiv:2302.04867), Algorithms 1-2, in data prediction.
    """

    order: Literal[2, 3] = 2

    def step(
        self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: _UniMemory | None, noise: Noise
    ) -> tuple[Tensor, _UniMemory]:
        predicted = denoise(x, t).x
        if memory is not None:
            x = _uni_step(memory.x, memory.t, t, memory.history, predicted)
        history = _remember(memory.history if memory else None, t, predicted, self.order)
        if s.sigma == 0:
            return s.alpha * predicted, _UniMemory(x, t, history)
        return _uni_step(x, t, s, history, None), _UniMemory(x, t, history)


@dataclass(frozen=True)
class _UniMemory:
    x: Tensor
    t: Level
    history: History


def _uni_step(x: Tensor, t: Level, s: Level, history: History, arrived: Tensor | None) -> Tensor:
    """From x at t to s. `arrived` is the prediction at s where it is known (the corrector's step)."""
    lam, m0 = history[0]
    h = s.logsnr / 2 - lam
    phi1 = -math.expm1(-h)
    base = s.sigma / t.sigma * x + s.alpha * phi1 * m0
    nodes = [((past - lam) / h, (m - m0)) for past, m in history[1:]]
    ratios = [r for r, _ in nodes] + ([1.0] if arrived is not None else [])
    if not ratios:
        return base
    rho = _uni_weights(h, ratios)
    differences = [d / r for r, d in nodes] + ([arrived - m0] if arrived is not None else [])
    return base + s.alpha * phi1 * sum((w * d for w, d in zip(rho, differences, strict=True)), torch.zeros_like(x))


def _uni_weights(h: float, ratios: list[float]) -> list[float]:
    """Weights rho of the difference quotients, from the order conditions sum_k rho_k r_k^(j-1) = j! phi_(j+1)(-h) / phi_1
    (Zhao et al. 2023, arXiv:2302.04867); one unknown is 1/2, which is what keeps B(h) = e^h - 1 of order 2.
    """
    if len(ratios) == 1:
        return [0.5]
    rows, targets = [], []
    phi, factorial = math.expm1(-h) / -h - 1, 1.0
    for j in range(1, len(ratios) + 1):
        rows.append([r ** (j - 1) for r in ratios])
        targets.append(phi * factorial / math.expm1(-h))
        factorial *= j + 1
        phi = phi / -h - 1 / factorial
    a, b = torch.tensor(rows, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)
    weights: list[float] = torch.linalg.solve(a, b).tolist()
    return weights
