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
from contextlib import suppress
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
from ancestral.errors import DamageError
from ancestral.files import disk_errors, read_json
from ancestral.models import GenerativeModel, seeds_from
from ancestral.runtime import Runtime
from ancestral.weights import read_tensors, write_tensors

PART = 500  # samples
WAIT = 0.2  # seconds between checks for the parts of other processes
RENDERED = 24  # samples whose conditions are rendered for pictures
FILMED = 25  # samples whose way from noise is shown
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
        notes: Sentences for the user.
    """

    x: Tensor
    labels: Tensor | None = None
    renderings: tuple[Rendering, ...] = ()
    seconds: float | None = None
    nfe: int | None = None
    memory: int | None = None
    notes: tuple[str, ...] = ()

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


def first_states(model: GenerativeModel, data: DataSet, how: Mapping[str, Any] | None = None) -> list[Tensor]:
    """Return the states from noise to data of the first samples that `draw` returns with the same options, on the CPU.

    A model that draws in one step has one state.
    """
    rows = rows_for(data, FILMED)
    condition = data.encoded(model.conditioner).asked(rows)
    seeds = seeds_from(SEED, FILMED)
    states = next(model.batches(FILMED, condition, seeds=seeds, batch=FILMED, **(how or {})))
    return [state.x.cpu() for state in states]


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
    runtime, notes = Runtime(model.device), list[str]()
    for start in list(starts)[rank::world]:
        part = slice(start, min(start + PART, n))
        file = _file(place, start)
        try:
            there = _recall(file, place.name, part.stop - part.start) is not None
        except DamageError as error:
            there = False
            notes.append(str(error))
        if not there:
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
            _save(file, place.name, x, data, seconds=took, nfe=nfe, memory=memory)
    if rank > 0:
        return Samples(torch.empty(0, *data.spec.shape))
    drawn_by_all = [_await(_file(place, start), place.name, min(PART, n - start)) for start in starts]
    x, numbers = torch.cat([x for x, _ in drawn_by_all]), [numbers for _, numbers in drawn_by_all]
    x = x.float() / (data.spec.levels - 1) if data.spec.levels is not None else x.to(data.column("x").dtype)
    return Samples(
        x,
        labels,
        renderings=tuple(held.render(rows[:RENDERED])),
        seconds=sum(each["seconds"] for each in numbers),
        nfe=int(numbers[-1]["nfe"]),
        memory=int(max(each["memory"] for each in numbers)),
        notes=tuple(notes),
    )


def _file(place: Path, start: int) -> Path:
    return place / f"part-{start:06d}.safetensors"


def _save(file: Path, of: str, x: Tensor, data: DataSet, **numbers: float) -> None:
    stored = at_levels(x, data)
    stored = stored.mul(data.spec.levels - 1).round().byte() if data.spec.levels is not None else stored
    with disk_errors(file.parent):
        write_tensors(file, {"x": stored}, {"of": of, "numbers": json.dumps(numbers)})


def _recall(file: Path, of: str, n: int) -> tuple[Tensor, dict[str, float]] | None:
    """Return the first n samples of a part and its numbers, or None if it is missing, of other weights or holds fewer samples.

    Raises:
        DamageError: If it is damaged.
    """
    try:
        tensors, metadata = read_tensors(file, "its samples are drawn again")
    except FileNotFoundError:
        return None
    x = tensors.get("x")
    return None if x is None or metadata.get("of") != of or len(x) < n else (x[:n], read_json(metadata["numbers"]))


def _await(file: Path, of: str, n: int) -> tuple[Tensor, dict[str, float]]:
    while True:
        with suppress(DamageError):  # the process whose part it is draws it again
            if (part := _recall(file, of, n)) is not None:
                return part
        time.sleep(WAIT)
