"""The order in which training takes the samples.

It is a pure function of (seed, epoch, position), so a run continues at any position without reading what came before.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ancestral.noise import StreamNoise

BLOCK = 4096  # samples that lie together in their shard and are at most taken as one
WINDOW = 16  # blocks whose samples are mixed
WINDOW_KEY = 2**40  # distance of the keys of two windows' random numbers, larger than any number of epochs


class Order(Protocol):
    """A random order of the training samples."""

    def at(self, position: int, count: int) -> Tensor:
        """Return the indices `(count,)` of the samples from `position` on, counted over all epochs."""
        ...


class EpochSampler:
    """Random order of n samples that depends only on (seed, epoch), so that any position can be read at any time."""

    def __init__(self, n: int, seed: int):
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation = torch.empty(0)

    def at(self, position: int, count: int) -> Tensor:
        """Return the indices `(count,)` of the samples from `position` on, counted over all epochs."""
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


class ShardOrder:
    """Random order of samples in shards, which keeps reads local and never lists all samples.

    Shards are cut into blocks of at most `BLOCK` samples. An epoch takes the blocks in a random order, `WINDOW` of them at a
    time, and mixes the samples of these in full. So each sample occurs once in an epoch.

    Args:
        starts: int64 `(g + 1,)`, the first sample of each shard, and their number in all.
        seed: the seed.
    """

    def __init__(self, starts: np.ndarray, seed: int):
        pieces = [np.arange(a, b, BLOCK) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
        self._first = np.concatenate(pieces)
        self._size = np.diff(np.append(self._first, starts[-1]))
        self.n, self.seed = int(starts[-1]), seed
        self._epoch = self._window = -1
        self._blocks = self._ends = np.empty(0, dtype=np.int64)
        self._samples = torch.empty(0)

    def at(self, position: int, count: int) -> Tensor:
        """Return the indices `(count,)` of the samples from `position` on, counted over all epochs."""
        parts: list[Tensor] = []
        while count:
            epoch, start = divmod(position, self.n)
            begin = self._enter(epoch, start)
            part = self._samples[start - begin : start - begin + count]
            parts.append(part)
            count -= len(part)
            position += len(part)
        return torch.cat(parts)

    def _enter(self, epoch: int, start: int) -> int:
        """Mix the samples of the window with position `start` of the epoch, and return its first position."""
        if epoch != self._epoch:
            generator = StreamNoise(self.n, self.seed, -1 - epoch).generator
            self._blocks = torch.randperm(len(self._first), generator=generator).numpy()
            ends = np.cumsum(self._size[self._blocks])
            self._ends = np.append(ends[WINDOW - 1 :: WINDOW], ends[-1:] if len(ends) % WINDOW else [])
            self._epoch, self._window = epoch, -1
        window = int(np.searchsorted(self._ends, start, side="right"))
        if window != self._window:
            blocks = self._blocks[window * WINDOW : (window + 1) * WINDOW]
            samples = np.concatenate([np.arange(self._first[b], self._first[b] + self._size[b]) for b in blocks])
            generator = StreamNoise(len(samples), self.seed, -1 - epoch - (window + 1) * WINDOW_KEY).generator
            self._samples = torch.from_numpy(samples)[torch.randperm(len(samples), generator=generator)]
            self._window = window
        return int(self._ends[window - 1]) if window else 0
