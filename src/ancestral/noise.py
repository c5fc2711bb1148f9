"""Sources of random numbers, which are passed as arguments.

The numbers that `SampleNoise` gives for sample i depend only on its seed and on the number of draws before. They do not depend
on the batch, the device, the number of processes, or a resume. `StreamNoise` is cheaper and is used in training. It has one
stream for a whole batch, keyed by (seed, step). Both are counter-based, so there is no state to save.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ancestral.errors import UsageError
from ancestral.transfer import onto

_MASK = (1 << 64) - 1


class Noise(Protocol):
    """The interface of a source of random numbers for n samples."""

    n: int

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers `(n, *shape)`, float32."""

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw uniform numbers on [0, 1), `(n, *shape)`, float32."""

    def stratified(self) -> Tensor:
        """Draw numbers `(n,)`, float64, each uniform on [0, 1). If samples share a stream, they are spread over the batch."""


class SampleNoise:
    """Noise keyed by (seed of the sample, number of the draw), by Philox (Salmon et al. 2011).

    Args:
        seeds: one integer per sample, 0 <= seed < 2^64.
        device: the device of the results. The numbers are always drawn on the CPU.

    Raises:
        UsageError: if a seed is out of range.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.seeds = [int(seed) for seed in seeds]
        if wrong := [seed for seed in self.seeds if not 0 <= seed <= _MASK]:
            raise UsageError(f"a sample's seed must be a whole number from 0 to 2^64 - 1; got {wrong[0]}")
        self.n = len(self.seeds)
        self.device = torch.device(device)
        self.draws = 0

    def _generators(self) -> list[np.random.Generator]:
        self.draws += 1
        return [np.random.Generator(np.random.Philox(key=_key(seed, self.draws))) for seed in self.seeds]

    def _draw(self, method: str, shape: Sequence[int]) -> Tensor:
        out = np.empty((self.n, *shape), dtype=np.float32)
        for i, generator in enumerate(self._generators()):
            out[i] = getattr(generator, method)(tuple(shape), dtype=np.float32)
        return torch.from_numpy(out)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return onto(self._draw("standard_normal", shape), self.device)

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return onto(self._draw("random", shape), self.device)

    def stratified(self) -> Tensor:
        return self._draw("random", ()).double()


class StreamNoise:
    """Noise for a training batch of n samples, keyed by (seed, step).

    It has one stream on the device, and one on the CPU for `stratified`, whose numbers are used on the CPU and so do not wait
    for the device.
    """

    def __init__(self, n: int, seed: int, step: int, device: torch.device | str = "cpu"):
        self.n = n
        self.device = torch.device(device)
        philox = np.random.Philox(key=_key(seed, step))
        self.generator = torch.Generator(self.device).manual_seed(int(philox.random_raw()) >> 1)
        self.host = np.random.Generator(philox)
        self._key = seed, step

    def on_cpu(self) -> StreamNoise:
        """Return the noise for the preparation of the batch on the CPU: this one, or one of the same key there."""
        return self if self.device.type == "cpu" else StreamNoise(self.n, *self._key)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(self.n, *shape, generator=self.generator, device=self.device)

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return torch.rand(self.n, *shape, generator=self.generator, device=self.device)

    def stratified(self) -> Tensor:
        """Draw one uniform number and shift it by i/n for sample i (Kingma et al. 2021, appendix I.1)."""
        return (self.host.random() + torch.arange(self.n, dtype=torch.float64) / self.n) % 1


class PartNoise:
    """The noise of some rows of a batch. `whole` draws for all rows, and the others are discarded.

    A sample's noise therefore does not depend on the number of parts in which its batch is computed.
    """

    def __init__(self, whole: StreamNoise, rows: slice):
        self.whole, self.rows = whole, rows
        self.n = len(range(*rows.indices(whole.n)))

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self.whole.normal(shape)[self.rows]

    def uniform(self, shape: Sequence[int] = ()) -> Tensor:
        return self.whole.uniform(shape)[self.rows]

    def stratified(self) -> Tensor:
        return self.whole.stratified()[self.rows]


def _key(seed: int, counter: int) -> np.ndarray:
    """Return Philox's key of two 64-bit words."""
    return np.array([seed & _MASK, counter & _MASK], dtype=np.uint64)
