"""Real data for comparisons: the reference, other real samples, and their cached features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.assemble import LEAST
from ancestral.app.data.cache import cache_dir, keep
from ancestral.app.evaluation.extractors import Extractor
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import DamageError, UsageError
from ancestral.weights import read_tensors, serialise

FORMAT = 2
UNITS = 2000  # training samples that give the units of features
LARGEST = 10_000  # reference samples; more of them change no figure beyond its error
Against = Literal["test", "train", "all"]


@dataclass(frozen=True, eq=False)
class Reference:
    """Real samples in the units of the data.

    Attributes:
        against: The split of the reference.
        samples: The reference, with which generated samples are compared.
        real: n other real samples, which represent a perfect model.
        real_labels: Their classes `(n,)`, or None.
        strata: The classes of the reference `(m,)` if their numbers were fixed, as those of a held-out split are; else None.
        train: The training split, in which copies are searched.
        test: The held-out split.
        rows: The rows of each part in the training split followed by the held-out split: "reference", "real", and "units", the
            training samples whose features give the units of kernel distances.
        data: The key of the data in the cache.
        key: The key of the data and of the choice of rows.
    """

    against: Against
    samples: Tensor
    real: Tensor
    real_labels: Tensor | None
    strata: np.ndarray | None
    train: Tensor
    test: Tensor
    rows: Mapping[str, np.ndarray]
    data: str
    key: str

    @property
    def n(self) -> int:
        return len(self.real)

    def features(self, extractor: Extractor, whole: bool, progress: Progress = silent) -> dict[str, np.ndarray]:
        """Return the extractor's features of each part, from the cache if they are there. Each sample is seen once.

        Args:
            extractor: The extractor.
            whole: Whether both splits are parts too, as "train" and "test".
            progress: Called with one line of text on the way.
        """
        of_train, count = np.arange(len(self.train)), len(self.train) + len(self.test)
        parts = dict(self.rows) | ({"train": of_train, "test": np.arange(len(self.train), count)} if whole else {})
        rows = np.unique(np.concatenate(list(parts.values())))
        first = np.searchsorted(rows, len(self.train))
        splits = [(self.train, rows[:first]), (self.test, rows[first:] - len(self.train))]
        x = torch.cat([split[torch.from_numpy(some)] for split, some in splits])
        found = _cached(extractor, x, self.data if whole else self.key, progress)
        return {name: found[np.searchsorted(rows, part)] for name, part in parts.items()}


def reference_of(data: DataSet, against: Against, n: int) -> Reference:
    """Choose the rows for a comparison of n samples, or of as many as the data allow.

    - test: the reference is the held-out split, and the other real samples are from the training split.
    - train: the other real samples are at most half of the training split, and the reference is the rest.
    - all: the same with both splits together, for folders of real images.

    Raises:
        UsageError: If fewer than 20 samples remain for one of them.
    """
    if n < LEAST:
        raise UsageError(f"a comparison needs at least {LEAST} samples, and -n is {n}: raise -n (Python: n=)")
    train, test = data.x("train"), data.x("test")
    labels, test_labels = data.labels("train"), data.labels("test")
    if against == "test":
        pool, reference = train, test
        rows = _shuffled(len(pool))[: min(n, len(pool))]
        rest = torch.arange(len(train), len(train) + len(test))
    else:
        pool = train if against == "train" else torch.cat([train, test])
        if against == "all" and labels is not None and test_labels is not None:
            labels = torch.cat([labels, test_labels])
        order = _shuffled(len(pool))
        rows, rest = order[: min(n, len(pool) // 2)], order[min(n, len(pool) // 2) :]
        reference = pool[rest]
    chosen = _shuffled(len(reference))[:LARGEST].sort().values
    reference = reference[chosen]
    strata = None if against != "test" or test_labels is None else test_labels[chosen].numpy()
    if min(len(rows), len(reference)) < LEAST:
        split_helps = against == "test" and len(train) >= 2 * LEAST
        raise UsageError(
            f"{data.spec.name} is too small for a comparison: it has {len(rows)} real samples and {len(reference)} for "
            f"reference, and at least {LEAST} of each are needed: give more samples"
            + (", or compare with the training split: `--against train` of evaluate and report" if split_helps else "")
        )
    parts = {
        "reference": rest[chosen],
        "real": rows,
        "units": _shuffled(len(train))[-UNITS:],  # the last of the order whose first are `real`, so that few are both
    }
    name = f"{data.spec.fingerprint}-{_layout(data)}"
    return Reference(
        against=against,
        samples=reference,
        real=pool[rows],
        real_labels=None if labels is None else labels[rows],
        strata=strata,
        train=train,
        test=test,
        rows={part: indices.numpy() for part, indices in parts.items()},
        data=name,
        key=f"{name}-{against}-{n}",
    )


def _cached(extractor: Extractor, x: Tensor, key: str, progress: Progress) -> np.ndarray:
    """Return the extractor's features of real samples, from the cache if they are there. key: the name of the samples."""
    digest = hashlib.blake2b(f"{FORMAT} {extractor.name} {extractor.about} {key} {len(x)}".encode(), digest_size=12).hexdigest()
    file = cache_dir() / "features" / f"{extractor.name}-{digest}.safetensors"
    try:
        return read_tensors(file, "it is made again")[0]["features"].double().numpy()
    except DamageError as error:
        progress(str(error))
    except FileNotFoundError:
        pass
    found = torch.from_numpy(extractor(x, progress)).float()
    keep(file, b"".join(serialise({"features": found}, {})), progress)
    return found.double().numpy()


def _shuffled(n: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(1).permutation(n))


def _layout(data: DataSet) -> str:
    """Identify the held-out split, which the fingerprint does not cover."""
    return f"{len(data.test)}-{float(data.column('x', 'test').double().mean()):.9g}"
