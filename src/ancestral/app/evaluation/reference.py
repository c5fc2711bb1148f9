"""The real side of every comparison: the reference, as many real samples as generated ones, and their features in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.cache import cache_dir, keep
from ancestral.app.evaluation.extractors import Extractor
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import UsageError

FORMAT = 1
LARGEST = 10_000  # reference samples; more change no figure within its error
Against = Literal["test", "train", "all"]


@dataclass(frozen=True, eq=False)
class Real:
    """Real samples in the units of the data.

    reference: what generated samples are compared with. floor: n others, which stand in for a perfect model.
    floor_labels: their classes, or None. train, test: the splits, for memorisation.
    """

    against: Against
    reference: Tensor
    floor: Tensor
    floor_labels: Tensor | None
    train: Tensor
    test: Tensor
    key: str

    @property
    def n(self) -> int:
        return len(self.floor)


def real_side(data: DataSet, against: Against, n: int) -> Real:
    """The rows for a comparison of n samples, or of as many as the data allow.

    test:  the held-out split is the reference; the floor is drawn from the training split.
    train: one part of the training split is the reference, another, of at most half of it, the floor.
    all:   the same of both splits together, for folders of real images to compare with.
    Raises UsageError where fewer than 20 samples are left on a side.
    """
    if n < 20:
        raise UsageError(f"samples are compared 20 at the least, and {n} were asked for: raise -n")
    train, test = data.x("train"), data.x("test")
    labels, test_labels = data.labels("train"), data.labels("test")
    if against == "test":
        pool, reference = train, test
        rows = _shuffled(len(pool))[: min(n, len(pool))]
    else:
        pool = train if against == "train" else torch.cat([train, test])
        if against == "all" and labels is not None and test_labels is not None:
            labels = torch.cat([labels, test_labels])
        order = _shuffled(len(pool))
        rows, rest = order[: min(n, len(pool) // 2)], order[min(n, len(pool) // 2) :]
        reference = pool[rest]
    reference = reference[_shuffled(len(reference))[:LARGEST].sort().values]
    if min(len(rows), len(reference)) < 20:
        raise UsageError(
            f"{data.spec.name} is too small to be compared with: {len(rows)} real samples on one side and {len(reference)} on "
            "the other, where 20 are the least; more images, or --against train, are needed"
        )
    floor_labels = None if labels is None else labels[rows]
    key = f"{data.spec.fingerprint}-{_layout(data)}-{against}-{n}"
    return Real(against, reference, pool[rows], floor_labels, train, test, key)


def features(extractor: Extractor, x: Tensor, key: str, progress: Progress = silent) -> np.ndarray:
    """The extractor's features of real samples, from the cache where they are there. key: names the samples."""
    digest = hashlib.blake2b(f"{FORMAT} {extractor.name} {extractor.about} {key} {len(x)}".encode(), digest_size=12).hexdigest()
    file = cache_dir() / "features" / f"{extractor.name}-{digest}.npy"
    if file.exists():
        try:
            kept: np.ndarray = np.load(file, allow_pickle=False).astype(np.float64)
            return kept
        except (ValueError, EOFError):
            file.unlink()
    found = extractor(x, progress)
    buffer = BytesIO()
    np.save(buffer, found.astype(np.float32))
    keep(file, buffer.getvalue(), progress)
    return found.astype(np.float32).astype(np.float64)


def _shuffled(n: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(1).permutation(n))


def _layout(data: DataSet) -> str:
    """What a fingerprint of the training split does not tell: the held-out one."""
    return f"{len(data.test)}-{float(data.column('x', 'test').double().mean()):.9g}"
