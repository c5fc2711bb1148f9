"""Samples for evaluation: drawn in parts that are kept, by one process or several, so that nothing is drawn twice.

A part holds the samples of consecutive seeds. Any number of processes may share the folder: each takes every so many-th, as
`RANK` and `WORLD_SIZE` (of torchrun) say, and the first waits until all are there. What was drawn before an interruption stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.training.stage import Progress, silent
from ancestral.conditioning import Rendering
from ancestral.files import disk_errors, write_atomically
from ancestral.models import GenerativeModel, seeds_from
from ancestral.runtime import Runtime

PART = 500  # samples
WAIT = 0.2  # seconds between looks for the parts of other processes
RENDERED = 24  # samples whose conditions are kept for pictures
SEED = 20  # apart from the seeds that people look at


@dataclass(frozen=True, eq=False)
class Samples:
    """Generated samples, in the units and at the levels of the data.

    x: `(n, *shape)` float32. labels: the classes asked for `(n,)`, None without. renderings: the conditions of the first.
    seconds: spent on drawing. nfe: evaluations of the network for each. memory: the largest seen while drawing, in bytes.
    """

    x: Tensor
    labels: Tensor | None = None
    renderings: tuple[Rendering, ...] = ()
    seconds: float | None = None
    nfe: int | None = None
    memory: int | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, n: int) -> Samples:
        """The first n."""
        labels = None if self.labels is None else self.labels[:n]
        return replace(self, x=self.x[:n], labels=labels, renderings=self.renderings[:n])


def at_levels(x: Tensor, data: DataSet) -> Tensor:
    """Rounded to the levels in which the data are stored, so that neither side of a comparison is finer than the other."""
    if data.spec.levels is None:
        return x
    top = data.spec.levels - 1
    return x.clamp(0, 1).mul(top).round().div(top)


def rank_and_world() -> tuple[int, int]:
    """Which of how many processes this is, as torchrun says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def rows_for(data: DataSet, n: int) -> Tensor:
    """Held-out samples whose conditions are asked for `(n,)`: each as often as any other, mixed so that any first m are so."""
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(data.test)))
    return order.repeat(-(-n // len(order)))[:n]


def draw(
    model: GenerativeModel,
    data: DataSet,
    n: int,
    folder: Path | None = None,
    how: Mapping[str, Any] | None = None,
    *,
    identity: str = "",
    progress: Progress = silent,
) -> Samples:
    """Draw n samples, those of seeds `seeds_from(20, n)`; a conditional model is asked for what held-out samples show.

    With a folder several processes share the work; one that is not the first draws its parts and returns no samples.

    Args:
        model: The model.
        data: The data that the model was trained on, or others of the same shape.
        n: The number of samples.
        folder: Where parts are kept, in a sub-folder for each (`identity` of the weights, `how`); None: nothing is kept.
        how: Options of the model's sampler.
        identity: A digest of the weights.
        progress: Called with one line of text on the way.

    Raises:
        AncestralError: If the folder cannot be written.
    """
    if folder is None:
        with TemporaryDirectory() as place:
            return _draw(model, data, n, Path(place), how, progress, 0, 1)
    key = hashlib.blake2b(
        json.dumps([identity, dict(how or {}), PART], sort_keys=True, default=str).encode(), digest_size=8
    ).hexdigest()
    return _draw(model, data, n, folder / key, how, progress, *rank_and_world())


def _draw(
    model: GenerativeModel,
    data: DataSet,
    n: int,
    place: Path,
    how: Mapping[str, Any] | None,
    progress: Progress,
    rank: int,
    world: int,
) -> Samples:
    held, rows = data.encoded(model.conditioner), rows_for(data, n)
    known = data.labels("test") if "class" in model.conditioner.kinds else None
    labels = None if known is None else known[rows]
    seeds = seeds_from(SEED, n)
    starts = range(0, n, PART)
    runtime = Runtime(model.device, bf16=False)
    for start in list(starts)[rank::world]:
        part = slice(start, min(start + PART, n))
        file = _file(place, start)
        if _recall(file, part.stop - part.start) is None:
            begun, nfe, memory, drawn = time.perf_counter(), 0, 0, []
            condition = held.asked(rows[part])
            for states in model.batches(part.stop - part.start, condition, seeds=seeds[part], **(how or {})):
                for state in states:
                    nfe = state.nfe
                drawn.append(state.x.cpu())
                memory = max(memory, runtime.memory())
                progress(f"samples: {start + sum(map(len, drawn)):,} of {n:,}")
            x = torch.cat(drawn)
            took = time.perf_counter() - begun
            with disk_errors(place):
                write_atomically(file, lambda f, x=x, t=took, m=(nfe, memory): _save(f, x, data, t, *m))  # type: ignore[misc]
    if rank > 0:
        return Samples(torch.empty(0, *data.spec.shape))
    parts = [_await(_file(place, start), min(PART, n - start)) for start in starts]
    x = torch.cat([torch.from_numpy(p["x"]) for p in parts])
    x = x.float() / (data.spec.levels - 1) if data.spec.levels is not None else x.float()
    return Samples(
        x,
        labels,
        renderings=tuple(held.shown(rows[:RENDERED])),
        seconds=sum(float(p["seconds"]) for p in parts),
        nfe=int(parts[-1]["nfe"]),
        memory=max(int(p["memory"]) for p in parts),
    )


def _file(place: Path, start: int) -> Path:
    return place / f"part-{start:06d}.npz"


def _save(file: Any, x: Tensor, data: DataSet, seconds: float, nfe: int, memory: int) -> None:
    stored = at_levels(x, data)
    array = stored.mul(data.spec.levels - 1).round().byte() if data.spec.levels is not None else stored
    np.savez(file, x=array.numpy(), seconds=np.array(seconds), nfe=np.array(nfe), memory=np.array(memory))


def _recall(file: Path, n: int) -> dict[str, np.ndarray] | None:
    """The first n samples of a part and what was noted; None if it is not there, or too short, having once been the last."""
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as stored:
        part = {name: stored[name] for name in stored.files}
    return part | {"x": part["x"][:n]} if len(part["x"]) >= n else None


def _await(file: Path, n: int) -> dict[str, np.ndarray]:
    while (part := _recall(file, n)) is None:
        time.sleep(WAIT)
    return part
