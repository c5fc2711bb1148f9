"""Data that are whole levels, seen as cells of the real line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import log_ndtr


@dataclass(frozen=True)
class Lattice:
    """The levels low, low + spacing, ..., high, each with the cell of half a spacing around it.

    spacing, low, high: in the models' units; broadcast against x.
    """

    spacing: Tensor
    low: Tensor
    high: Tensor

    @property
    def stretch(self) -> float:
        """log(levels / (levels - 1)): how much wider than [low, high] the cells together are, per dimension."""
        levels = 1 + ((self.high - self.low) / self.spacing).flatten()[0].item()
        return math.log(levels / (levels - 1))

    def fill(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Uniform dequantisation: levels x become draws of their cells; uniform: in [0, 1) (Theis et al. 2016, section 3.1)."""
        return x + self.spacing * (uniform - 0.5)

    def log_prob(self, x: Tensor, mean: Tensor, std: float) -> Tensor:
        """Log of the mass that N(mean, std^2) has in each level's cell, summed `(n,)`; the outermost cells are open
        (Ho et al. 2020, eq. 13). Of the two tails that give the mass, the smaller one, where nothing cancels.
        """
        half, low, high = (v.to(x.device).to(x.dtype) for v in (self.spacing / 2, self.low, self.high))
        below = torch.where(x < low + half, -math.inf, (x - half - mean) / std)
        above = torch.where(x > high - half, math.inf, (x + half - mean) / std)
        right = mean < x
        near, far = torch.where(right, -below, above), torch.where(right, -above, below)
        top, rest = log_ndtr(near), log_ndtr(far)
        mass: Tensor = top + torch.log(-torch.expm1((rest - top).clamp(max=-1e-30)))
        return mass.clamp(min=-1e4).flatten(1).sum(1)
