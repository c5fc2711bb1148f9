"""The memorisation watch: how many samples of a model in training are copies of its training samples.

At a few moments of a training, fresh samples of the averaged model are drawn. A sample is a copy if it is nearer to one
training sample, in comparison with the second nearest, than 99 % of new data are (`ancestral.metrics.Nearness`, `copy_test`).
New data are the held-out samples and, because these may be few, each training sample in comparison with the others.

The moments are a geometric sequence, since copying begins after a number of steps that is proportional to the number of
training samples (Bonnaire et al. 2025, arXiv:2505.17638), and grows fast from then on. They depend on the number of images seen
and on the budget, and not on the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.discrete import as_allowed
from ancestral.metrics import CopyTest, Nearness, copy_test

FIRST = 60.0  # passes through the data before the first check
CLOSEST = 1.25  # least ratio of the moments of successive checks
SHARE = 0.05  # of the computation of a training, which checks may take
LEAST, MOST = 40, 250  # samples of a check
AGAIN = 4  # times as many are drawn where the first ones have more than half of the expected copies
HELD, VERIFIED = 3, 300  # weights from before that are held, and samples that are drawn to choose one of them
KEPT = "kept"  # before the names of their tensors in a checkpoint
CHANCE = 0.002  # p-value below which copies are not chance
NEW = 2000  # new data that say how near they come
SEARCHED = 2**27  # numbers of training samples that are searched
PASSES = 3  # evaluations of a network that take as long as one training sample: forward, and backward at twice its cost


@dataclass(frozen=True)
class Kept:
    """Averaged weights of a step, with the share of its samples that were copies. clean: whether it was as expected or less."""

    weights: Mapping[str, Tensor]
    step: int
    rate: float
    clean: bool


@dataclass
class MemorisationWatch:
    """The watch of one training, with its state.

    Attributes:
        data: The data.
        flip: Whether half of the training images are mirrored.
        images: Images seen at the last check, 0 before the first.
        drawn: Samples drawn so far.
        kept: Weights of checks, the newest last: of those that found no more copies than expected, else of the one with the
            fewest.
    """

    data: DataSet
    flip: bool
    images: int = 0
    drawn: int = 0
    kept: list[Kept] = field(default_factory=list)
    _near: Nearness | None = field(default=None, init=False, repr=False)
    _new: np.ndarray | None = field(default=None, init=False, repr=False)

    def begins(self, images: int) -> bool:
        """Return whether the model has seen the data often enough to copy them."""
        return images >= FIRST * len(self.data.train)

    def due(self, images: int, progress: float, evaluations: int) -> int:
        """Return the number of samples of the check that is due, or 0.

        All checks together cost a share of the training. If few samples are affordable, there are fewer checks.

        Args:
            images: Images seen so far.
            progress: Progress of the training in (0, 1]. At its end a check is always due.
            evaluations: Evaluations of the network for one sample.
        """
        total, first = images / progress, FIRST * len(self.data.train)
        affordable = SHARE * total * PASSES / evaluations
        if images < first or affordable < LEAST:
            return 0
        span = math.log(total / first)  # from the first check to the last
        between = min(max(1.0, affordable / LEAST - 1), span / math.log(CLOSEST))
        if progress < 1 and between and images < math.exp(span / between) * self.images:
            return 0
        return min(MOST, max(LEAST, int(affordable / (1 + between))))

    def prepare(self) -> str | None:
        """Search the training data for how near new data come to them. Returns why no watch is possible, or None."""
        train, test = self.data.train, self.data.test
        index = _evenly(len(train), max(1000, SEARCHED // self.data.spec.dims))
        x = self.data.x("train", index)
        vectors = self.data.vectors
        try:
            self._near = Nearness(vectors(x), vectors(x.flip(-1)) if self.flip else None)
        except ValueError:
            return "it has fewer than three different training samples"
        held_out = self._near(vectors(self.data.x("test", _evenly(len(test), NEW))))
        own = self._near.own(NEW - len(held_out)) if len(held_out) < NEW else held_out[:0]
        self._new = np.concatenate([held_out, own])
        expected = copy_test(self._new, self._new).expected
        return None if expected < 0.25 else f"{expected:.0%} of new data are as near to the training samples as copies"

    def check(self, x: Tensor) -> CopyTest:
        """Measure the copy rate of samples `(n, *shape)`, in the units of the data."""
        assert self._near is not None
        assert self._new is not None
        return copy_test(self._near(self.data.vectors(as_allowed(x.cpu(), self.data.spec))), self._new)

    def offer(self, found: CopyTest, step: int, weights: Callable[[], Mapping[str, Tensor]]) -> None:
        """Hold the weights of a step if no more samples than expected are copies, or as long as there are no such weights."""
        clean = found.rate <= found.expected
        before = [kept for kept in self.kept if kept.clean]
        if clean or not self.kept or (not before and found.rate <= self.kept[0].rate):
            self.kept = [*before, Kept(weights(), step, found.rate, clean)][-HELD:]

    @property
    def clean(self) -> bool:
        """True if weights are held whose samples had no more copies than expected."""
        return any(kept.clean for kept in self.kept)

    def row(self, found: CopyTest) -> dict[str, Any]:
        """Return the result of a check for metrics.jsonl."""
        return {
            "copies/rate": found.rate,
            "copies/expected": found.expected,
            "copies/n": found.n,
            "copies/p": found.p_value,
        }

    def numbers(self) -> dict[str, Any]:
        """Return the state without the weights, for a checkpoint."""
        kept = [{"step": kept.step, "rate": kept.rate, "clean": kept.clean} for kept in self.kept]
        return {"images": self.images, "drawn": self.drawn, "kept": kept}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights that are held, for a checkpoint."""
        return {f"{KEPT}/{i}/{name}": t for i, kept in enumerate(self.kept) for name, t in kept.weights.items()}

    def restore(self, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Restore the state from the results of `numbers` and `tensors`. Other tensors are ignored."""
        self.images, self.drawn, self.kept = numbers["images"], numbers["drawn"], []
        for i, facts in enumerate(numbers["kept"]):
            prefix = f"{KEPT}/{i}/"
            weights = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            self.kept.append(Kept(weights, **facts))


def copying(found: CopyTest) -> bool:
    """Return whether a model copies: its copy rate is over twice its expectation, and not by chance."""
    return found.doubled and found.p_value < CHANCE


def words(found: CopyTest) -> str:
    """Describe a copy rate beside its expectation."""
    return f"{found.rate:.1%} of {found.n:,} samples count as copies, and {found.expected:.1%} of new data would"


def _evenly(n: int, most: int) -> Tensor:
    """Return the indices of at most `most` of n samples, evenly spread."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()
