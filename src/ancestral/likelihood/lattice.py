"""Data with whole levels, as cells of the real line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import log_ndtr


@dataclass(frozen=True)
class Lattice:
    """The levels low, low + spacing, ..., high, each in a cell that extends half a spacing to both sides.

    Args:
        spacing, low, high: in model units; they broadcast against x.
    """

    spacing: Tensor
    low: Tensor
    high: Tensor

    @property
    def stretch(self) -> float:
        """The log of the width of all cells relative to [low, high], log(levels / (levels - 1)), per dimension."""
        levels = 1 + ((self.high - self.low) / self.spacing).flatten()[0].item()
        return math.log(levels / (levels - 1))

    def fill(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Replace levels x by draws from their cells (uniform dequantisation, Theis et al. 2016, section 3.1).

        Args:
            x: the levels.
            uniform: random numbers in [0, 1).
        """
        return x + self.spacing * (uniform - 0.5)

    def log_prob(self, x: Tensor, mean: Tensor, std: float) -> Tensor:
        """Return the log of the mass of N(mean, std^2) in each level's cell, summed `(n,)` (Ho et al. 2020, eq. 13).

        The outermost cells are open. The mass is computed from the smaller of the two tails, so that no digits cancel.
        """
        half, low, high = (v.to(x.device).to(x.dtype) for v in (self.spacing / 2, self.low, self.high))
        below = torch.where(x < low + half, -math.inf, (x - half - mean) / std)
        above = torch.where(x > high - half, math.inf, (x + half - mean) / std)
        right = mean < x
        near, far = torch.where(right, -below, above), torch.where(right, -above, below)
        top, rest = log_ndtr(near), log_ndtr(far)
        mass: Tensor = top + torch.log(-torch.expm1((rest - top).clamp(max=-1e-30)))
        return mass.clamp(min=-1e4).flatten(1).sum(1)
