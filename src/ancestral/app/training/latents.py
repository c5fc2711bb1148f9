"""The training set as an autoencoder sees it, encoded once, and kept in the run where that takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.dataset import Split, SplitName
from ancestral.app.training.stage import Progress, silent
from ancestral.batch import Batch
from ancestral.fidelity import fidelity, words
from ancestral.files import disk_errors, write_atomically
from ancestral.models import Diagnosis
from ancestral.models.latent import LatentModel
from ancestral.noise import Noise

PART = 256  # samples encoded at a time
KEPT = "latents.safetensors"  # in the run folder
SLOW = 20.0  # seconds of encoding from which on they are kept
LOOK = 256  # held-out samples that are encoded and decoded to see what comes back


@dataclass(frozen=True, eq=False)
class Latents(DataSet):
    """A data set of latents. images: whose latents they are, and which know the conditions. mirrored: latents of the mirrored
    training images, which no mirroring of latents gives; None where nothing is mirrored.
    """

    images: DataSet = field(kw_only=True)
    mirrored: Tensor | None = None

    def batch(self, index: Tensor, split: SplitName = "train", flip: Tensor | None = None, noise: Noise | None = None) -> Batch:
        """As in `DataSet`, of latents with the conditions of their images; flip: which images are to be mirrored ones."""
        z = self.part(split)["x"].gather(index).values
        if flip is not None:
            assert self.mirrored is not None
            z = torch.where(flip.view(-1, *[1] * (z.ndim - 1)), self.mirrored.index_select(0, index), z)
        return Batch(z, self.images.batch(index, split, flip, noise).conditions)


def encoded(model: LatentModel, data: DataSet, *, flip: bool, folder: Path | None = None, tell: Progress = silent) -> Latents:
    """The centres of the latents of all data; measures the training set's, by which all are normalised.

    folder: of the run, where latents that took long are kept, for when it is continued. tell: how far it is.
    """
    raw = _raw(model, data, flip, folder, tell)
    model.measure(raw["train"])
    mirrored = raw.get("mirrored")
    mean, std = model.mean.cpu(), model.std.cpu()

    def normal(z: Tensor) -> Tensor:
        return (z - mean) / std

    numbers = "; ".join(
        f"{name} {', '.join(f'{v:.3g}' for v in values.flatten().tolist())}" for name, values in (("mean", mean), ("std", std))
    )
    shape = "x".join(map(str, model.latent_shape))
    return Latents(
        spec=data.spec.of_latents(model.latent_shape),
        train=data.train.with_columns({"x": normal(raw["train"])}),
        test=data.test.with_columns({"x": normal(raw["test"])}),
        notes=(f"latents of {shape}, by channel: {numbers}",),
        images=data,
        mirrored=None if mirrored is None else normal(mirrored),
    )


def look(model: LatentModel, data: DataSet) -> Diagnosis:
    """How much of held-out samples the autoencoder brings back."""
    x = data.x("test", torch.arange(min(LOOK, len(data.test)))).to(model.device)
    with model.inference():
        found = fidelity(x, model.reconstruct(x), model.standardize.bounds)
    return Diagnosis(found, f"what comes back of {len(x)} held-out samples: {words(found)}")


def _raw(model: LatentModel, data: DataSet, flip: bool, folder: Path | None, tell: Progress) -> dict[str, Tensor]:
    """What the autoencoder makes of the splits, before it is normalised: {"train", "test"} and, where they are asked for, those
    of the "mirrored" training images.
    """
    of = _stamp(model, data)
    file = None if folder is None else folder / KEPT
    if file is not None and (kept := _kept(file, of)) is not None and ("mirrored" in kept) >= flip:
        return kept
    begun = time.monotonic()
    wanted = [("train", data.train, False), ("test", data.test, False), *([("mirrored", data.train, True)] if flip else [])]
    total = sum(len(split) for _, split, _ in wanted)
    raw: dict[str, Tensor] = {}

    def progress(n: int) -> None:
        tell(f"encoding {sum(map(len, raw.values())) + n:,} of {total:,}")

    for name, split, mirrored in wanted:
        raw[name] = _encode(model, data, split, mirrored, progress)
    if file is not None and time.monotonic() - begun > SLOW:
        with disk_errors(file.parent):
            write_atomically(file, save(raw, {"of": of}))
    return raw


def _encode(model: LatentModel, data: DataSet, split: Split, flip: bool, progress: Callable[[int], None]) -> Tensor:
    """On the CPU. progress: called with how many are done."""
    parts: list[Tensor] = []
    with model.inference():
        for rows in split["x"].values.split(PART):
            x = data.values(rows)
            parts.append(model.coder.encode((x.flip(-1) if flip else x).to(model.device)).float().cpu())
            progress(PART * (len(parts) - 1) + len(rows))
    return torch.cat(parts).contiguous()  # as it comes back from a file


def _stamp(model: LatentModel, data: DataSet) -> str:
    """What latents depend on: the data and the autoencoder."""
    digest = blake2b(data.spec.fingerprint.encode(), digest_size=16)
    for name, value in {**model.autoencoder.state_dict(), "test": data.column("x", "test")}.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _kept(file: Path, of: str) -> dict[str, Tensor] | None:
    """The tensors of the file, if it is whole and they depend on the same."""
    try:
        with safe_open(file, "pt") as stored:
            same = (stored.metadata() or {}).get("of") == of
            return {name: stored.get_tensor(name) for name in stored.keys()} if same else None  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None
