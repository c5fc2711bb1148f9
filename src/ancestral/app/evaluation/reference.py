"""Real data to compare with: the reference, as many other real samples as generated ones, and their features in the cache."""

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
class Reference:
    """Real samples in the units of the data.

    Attributes:
        against: The split that it is.
        samples: What generated samples are compared with.
        real: n other real samples, which stand in for a perfect model.
        real_labels: Their classes `(n,)`, or None.
        train: The training split, for copies.
        test: The held-out split.
        key: It names the data and the choice of rows in the cache.
    """

    against: Against
    samples: Tensor
    real: Tensor
    real_labels: Tensor | None
    train: Tensor
    test: Tensor
    key: str

    @property
    def n(self) -> int:
        return len(self.real)


def reference_of(data: DataSet, against: Against, n: int) -> Reference:
    """Choose the rows for a comparison of n samples, or of as many as the data allow.

    test:  the held-out split is the reference; the other real samples are of the training split.
    train: one part of the training split is the reference, another, of at most half of it, the real samples.
    all:   the same of both splits together, for folders of real images to compare with.
    Raises UsageError where fewer than 20 samples are left for either.
    """
    if n < 20:
        raise UsageError(f"a comparison needs at least 20 samples, and {n} were asked for: raise -n")
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
            f"{data.spec.name} is too small to be compared with: {len(rows)} real samples and {len(reference)} for "
            "reference, where each needs at least 20; give more samples, or --against train"
        )
    real_labels = None if labels is None else labels[rows]
    key = f"{data.spec.fingerprint}-{_layout(data)}-{against}-{n}"
    return Reference(against, reference, pool[rows], real_labels, train, test, key)


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
    """Identify the held-out split, which the fingerprint does not cover."""
    return f"{len(data.test)}-{float(data.column('x', 'test').double().mean()):.9g}"
