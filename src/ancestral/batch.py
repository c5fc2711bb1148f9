"""Batches of data and raw conditions for losses, as parts of a global batch.

A global batch may be computed in parts, one after the other to save memory, or by several processes. A loss whose value for one
sample depends on the others (an optimal variance, a codebook's counts) takes such means over the whole batch, so that the
number of parts changes neither losses nor gradients:

    v = batch.mean(error)                 # over all samples of the global batch, without gradient
    batch.record("counts", counts)        # summed over the parts; the model's `after_step` receives the sums
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ancestral.transfer import onto


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Part:
    """The position of samples in a global batch.

    Args:
        start: the row of the first sample in the global batch.
        size: the number of samples in the global batch.
        reduce: a function from a tensor of this part to its sum over all parts.
        records: the tensors that the losses of this part recorded, by name.
    """

    start: int
    size: int
    reduce: Callable[[Tensor], Tensor] = _alone
    records: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """A batch of n samples.

    x: `(n, *shape)`, float32, in the units of the data (images: [0, 1]).
    conditions: named raw conditions, each with leading dimension n, e.g. `{"class": int64 (n,)}`.
    part: of which global batch they are a part; None: they are all of it.
    """

    x: Tensor
    conditions: dict[str, Tensor] = field(default_factory=dict)
    part: Part | None = None

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def size(self) -> int:
        """Number of samples in the global batch."""
        return len(self) if self.part is None else self.part.size

    @property
    def share(self) -> float:
        """Share of the global batch's samples that are in this part."""
        return len(self) / self.size

    def to(self, device: torch.device | str) -> Batch:
        """Move the batch to a device."""
        return replace(self, x=onto(self.x, device), conditions={name: onto(c, device) for name, c in self.conditions.items()})

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean `(...)` of `values` `(n, ...)` over the samples of the global batch, without gradient."""
        if self.part is None:
            return values.detach().mean(0)
        return self.part.reduce(values.detach().sum(0)) / self.size

    def average(self, value: Tensor) -> Tensor:
        """Return the mean over the parts of the global batch, weighted by their numbers of samples, without gradient."""
        return value.detach() if self.part is None else self.part.reduce(value.detach() * self.share)

    def every(self, k: int) -> tuple[Tensor, float]:
        """Return the rows `(m,)` of every k-th sample of the global batch in this part, and the ratio of all samples to them.

        A term may be this ratio times a value at these rows, and 0 at other rows. Its mean over the global batch is then the
        mean of the value over every k-th sample.
        """
        start = 0 if self.part is None else self.part.start
        rows = torch.arange(-start % k, len(self), k, device=self.x.device)
        return rows, self.size / -(-self.size // k)

    def record(self, name: str, value: Tensor) -> None:
        """Add to the sum over the parts that the model's `after_step` receives. Without a trainer it is dropped."""
        if self.part is not None:
            known = self.part.records.get(name)
            self.part.records[name] = value.detach() if known is None else known + value.detach()
