"""What a family's loss receives: data and the raw conditions that go with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of n samples.

    x: `(n, *shape)`, float32, in the units of the data (images: [0, 1]).
    conditions: named raw conditions, each with leading dimension n, e.g. `{"class": int64 (n,)}`.
    """

    x: Tensor
    conditions: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on that device."""
        return Batch(self.x.to(device), {name: c.to(device) for name, c in self.conditions.items()})
