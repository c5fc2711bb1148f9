"""Samples for evaluation. One or several processes draw them in parts and store each part, so that none is drawn twice.

A part holds the samples of consecutive seeds. Any number of processes may share the folder: `RANK` and `WORLD_SIZE` (of
torchrun) divide the parts among them, and the first process waits until all parts exist. Parts remain after an interruption.
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
from ancestral.app.data.discrete import as_allowed
from ancestral.app.training.stage import Progress, silent
from ancestral.conditioning import Rendering
from ancestral.files import disk_errors, write_atomically
from ancestral.models import GenerativeModel, seeds_from
from ancestral.runtime import Runtime

PART = 500  # samples
WAIT = 0.2  # seconds between checks for the parts of other processes
RENDERED = 24  # samples whose conditions are rendered for pictures
SEED = 20  # not the default seed of `sample`, so that evaluation uses other samples


@dataclass(frozen=True, eq=False)
class Samples:
    """Generated samples, in the units and at the levels of the data.

    Args:
        x: The samples, float32 `(n, *shape)`.
        labels: The requested classes `(n,)`, or None.
        renderings: The conditions of the first samples, rendered for pictures.
        seconds: The time for drawing all samples.
        nfe: The number of evaluations of the network per sample.
        memory: The peak memory while drawing, in bytes.
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
        """Return the first n samples."""
        labels = None if self.labels is None else self.labels[:n]
        return replace(self, x=self.x[:n], labels=labels, renderings=self.renderings[:n])


def at_levels(x: Tensor, data: DataSet) -> Tensor:
    """Give samples the levels and values that the data can have, so that both sides of a comparison have the same precision."""
    return as_allowed(x, data.spec)


def rank_and_world() -> tuple[int, int]:
    """Return the rank of this process and the number of processes, as torchrun sets them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def rows_for(data: DataSet, n: int) -> Tensor:
    """Return the indices `(n,)` of the held-out samples that give the conditions. All occur equally often, in random order."""
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
    """Draw n samples with the seeds `seeds_from(20, n)`. A conditional model gets the conditions of held-out samples.

    With a folder several processes share the work: all but the first draw their parts and return no samples.

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
    runtime = Runtime(model.device)
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
    x = x.float() / (data.spec.levels - 1) if data.spec.levels is not None else x.to(data.column("x").dtype)
    return Samples(
        x,
        labels,
        renderings=tuple(held.render(rows[:RENDERED])),
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
    """Return the first n samples of a part and its notes, or None if it does not exist or holds fewer samples."""
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as stored:
        part = {name: stored[name] for name in stored.files}
    return part | {"x": part["x"][:n]} if len(part["x"]) >= n else None


def _await(file: Path, n: int) -> dict[str, np.ndarray]:
    while (part := _recall(file, n)) is None:
        time.sleep(WAIT)
    return part
