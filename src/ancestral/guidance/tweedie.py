"""Conversion of a likelihood of x_t to x = E[x | x_t] by Tweedie's formula.

    E[x | x_t, y] = (x_t + sigma^2 grad log p(x_t | y)) / alpha = E[x | x_t] + gain grad log p(y | x_t)
    Cov[x | x_t]  = gain dE[x | x_t]/dx_t,            gain = sigma^2 / alpha

If no signal is left, alpha = 0, both have the form infinity times 0. Their limits exist, and the values at the level
u = sigma / alpha = 80 are close to them: the covariance to O(1/u^2).
"""

from __future__ import annotations

import math

from ancestral.schedules import U_RANGE, Level


def with_signal(t: Level) -> Level:
    """Return the level itself, or a level of the same scale with u = 80 if t has more noise."""
    u, r = U_RANGE[1], math.hypot(t.alpha, t.sigma)
    return t if t.u <= u else Level(t.t, r / math.hypot(1.0, u), r * u / math.hypot(1.0, u))


def gain(t: Level) -> float:
    """Return sigma^2 / alpha."""
    return t.sigma**2 / t.alpha
