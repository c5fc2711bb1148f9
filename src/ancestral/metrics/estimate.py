"""A figure with its error bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

HALVES = 20
WIDE = 1e7  # from here on figures are written with an exponent


@dataclass(frozen=True)
class Estimate:
    """value +- std_err from n samples; std_err is over the choice of samples for the given reference, None if not known."""

    value: float
    std_err: float | None
    n: int

    @classmethod
    def mean(cls, values: Tensor) -> Estimate:
        """Return the mean of independent values `(n,)` with its standard error, which one value leaves unknown."""
        n = len(values)
        return cls(values.mean().item(), values.std().item() / math.sqrt(n) if n > 1 else None, n)

    def __str__(self) -> str:
        """Return the figure with the digits that its error leaves it, such as 12.3 ± 0.4, or 1.2e+09 ± 3e+07 if it is wide."""
        if self.std_err is None or not math.isfinite(self.std_err):
            return f"{self.value:.4g}"
        if max(abs(self.value), self.std_err) >= WIDE:
            return f"{self.value:.3g} ± {self.std_err:.1g}"
        digits = int(np.clip(1 - math.floor(math.log10(self.std_err)), 0, 6)) if self.std_err > 0 else 3
        return f"{self.value:,.{digits}f} ± {self.std_err:.{digits}f}"


def half_samples(statistic: Callable[[np.ndarray], float], n: int, draws: int = HALVES, seed: int = 0) -> float:
    """The standard error of a statistic of n samples, from its spread over random halves.

    A mean over m of n samples drawn without replacement varies about that over all n with variance s^2 (1/m - 1/n), and the
    latter about the truth with s^2/n: at m = n/2 the two are equal. A bootstrap with replacement would bias a Fréchet distance
    upwards, as repeated samples shrink the covariance (Politis & Romano 1994 on subsampling).

    statistic: of the indices of a subset, int64 `(m,)`.
    """
    random = np.random.default_rng(seed)
    values = [statistic(random.permutation(n)[: n // 2]) for _ in range(draws)]
    return float(np.std(values, ddof=1))
