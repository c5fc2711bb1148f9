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
    """A value with its standard error over the choice of n samples for the given reference; None if the error is not known."""

    value: float
    std_err: float | None
    n: int

    @classmethod
    def mean(cls, values: Tensor) -> Estimate:
        """Return the mean of independent values `(n,)` with its standard error, which is not known for one value."""
        n = len(values)
        return cls(values.mean().item(), values.std().item() / math.sqrt(n) if n > 1 else None, n)

    def __str__(self) -> str:
        """Return the figure with as many digits as its error allows, such as 12.3 ± 0.4, or 1.2e+09 ± 3e+07 if it is large."""
        if self.std_err is None or not math.isfinite(self.std_err):
            return f"{self.value:.4g}"
        if max(abs(self.value), self.std_err) >= WIDE:
            return f"{self.value:.3g} ± {self.std_err:.1g}"
        digits = int(np.clip(1 - math.floor(math.log10(self.std_err)), 0, 6)) if self.std_err > 0 else 3
        return f"{self.value:z,.{digits}f} ± {self.std_err:,.{digits}f}"


def half_samples(statistic: Callable[[np.ndarray], float], n: int, draws: int = HALVES, seed: int = 0) -> float:
    """Return the standard error of a statistic of n samples: its spread over random halves.

    The mean of m of n samples, drawn without replacement, varies about the mean of all n with the variance s^2 (1/m - 1/n). The
    mean of all n varies about the truth with s^2 / n. At m = n/2 the two are equal (Politis & Romano 1994 on subsampling). A
    bootstrap with replacement would bias a Fréchet distance upwards, because repeated samples shrink the covariance.

    Args:
        statistic: A function of the indices of a subset, int64 `(m,)`.
        n: The number of samples.
        draws: The number of random halves.
        seed: Random seed of the halves.
    """
    random = np.random.default_rng(seed)
    values = [statistic(random.permutation(n)[: n // 2]) for _ in range(draws)]
    return float(np.std(values, ddof=1))
