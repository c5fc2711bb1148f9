"""Which samples come next: an endless sequence of permutations, one an epoch, that remembers nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.noise import StreamNoise


class EpochSampler:
    """n samples in an order that depends on (seed, epoch) alone, so that any position can be asked for at any time."""

    def __init__(self, n: int, seed: int):
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0)

    def at(self, position: int, count: int) -> Tensor:
        """The indices `(count,)` of the samples from `position` on, counted over all epochs."""
        parts: list[Tensor] = []
        while count:
            epoch, start = divmod(position, self.n)
            if epoch != self._epoch:
                generator = StreamNoise(self.n, self.seed, -1 - epoch).generator
                self._epoch, self._permutation = epoch, torch.randperm(self.n, generator=generator)
            part = self._permutation[start : start + count]
            parts.append(part)
            count -= len(part)
            position += len(part)
        return torch.cat(parts)
