"""The data set of an autoencoder's latents. Data are encoded once, and the result is stored in the run if that takes long.

Data that are read on demand are encoded with each batch, because their latents may not fit into memory either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.data.dataset import Split, SplitName
from ancestral.app.processes import processes
from ancestral.app.training.stage import Progress, silent
from ancestral.batch import Batch
from ancestral.errors import DamageError
from ancestral.fidelity import fidelity, words
from ancestral.files import disk_errors
from ancestral.models import Diagnosis
from ancestral.models.latent import LatentModel
from ancestral.noise import Noise
from ancestral.weights import read_tensors, write_tensors

Raw = tuple[dict[str, Tensor], tuple[str, ...]]

PART = 256  # samples encoded at a time
KEPT = "latents.safetensors"  # in the run folder
SLOW = 20.0  # seconds of encoding after which latents are stored
LOOK = 256  # held-out samples that are reconstructed for the check


@dataclass(frozen=True, eq=False)
class Latents(DataSet):
    """A data set of latents.

    Args:
        images: The images of these latents, which hold the conditions.
        mirrored: The latents of the mirrored training images, since mirrored latents would be different. None if images are
            not mirrored.
    """

    images: DataSet = field(kw_only=True)
    mirrored: Tensor | None = None

    def batch(self, index: Tensor, split: SplitName = "train", flip: Tensor | None = None, noise: Noise | None = None) -> Batch:
        """Return a batch of latents with the conditions of their images. flip: the images to mirror, as in `DataSet`."""
        z = self.part(split)["x"].gather(index).values
        if flip is not None:
            assert self.mirrored is not None
            z = torch.where(flip.view(-1, *[1] * (z.ndim - 1)), self.mirrored.index_select(0, index), z)
        return Batch(z, self.images.batch(index, split, flip, noise).conditions)


@dataclass(frozen=True, eq=False)
class StreamedLatents(DataSet):
    """A data set of latents that are encoded with each batch.

    Args:
        images: The images of these latents.
        model: The latent model.
    """

    images: DataSet = field(kw_only=True)
    model: LatentModel = field(kw_only=True)

    def batch(self, index: Tensor, split: SplitName = "train", flip: Tensor | None = None, noise: Noise | None = None) -> Batch:
        """Return a batch of latents with the conditions of their images. flip: the images to mirror, as in `DataSet`."""
        images = self.images.batch(index, split, flip, noise)
        with self.model.inference():
            return Batch(self.model.encode(images.x.to(self.model.device)), images.conditions)


def encoded(model: LatentModel, data: DataSet, *, flip: bool, folder: Path | None = None, tell: Progress = silent) -> DataSet:
    """Encode all data to the means of their latents, and normalise them by the moments of the training set.

    The moments are stored in the model (`LatentModel.measure`).

    Args:
        model: The latent model.
        data: The data.
        flip: Whether the mirrored training images are also encoded.
        folder: The run folder, in which latents are stored if encoding takes long.
        tell: A function that is called with a sentence about the progress.
    """
    if data.train.streamed:
        sample = data.train.sample()
        model.measure(_encode(model, data, sample, False, lambda n: tell(f"encoding {n:,} of {len(sample):,}")))
        note = f"latents are encoded with each batch; {_moments(model)}, from {len(sample):,} samples"
        spec = data.spec.of_latents(model.latent_shape)
        return StreamedLatents(spec=spec, train=data.train, test=data.test, notes=(note,), images=data, model=model)
    raw, damaged = _raw(model, data, flip, folder, tell)
    model.measure(raw["train"])
    mirrored = raw.get("mirrored")
    mean, std = model.mean.cpu(), model.std.cpu()

    def normal(z: Tensor) -> Tensor:
        return (z - mean) / std

    return Latents(
        spec=data.spec.of_latents(model.latent_shape),
        train=data.train.with_columns({"x": normal(raw["train"])}),
        test=data.test.with_columns({"x": normal(raw["test"])}),
        notes=(*damaged, _moments(model)),
        images=data,
        mirrored=None if mirrored is None else normal(mirrored),
    )


def _moments(model: LatentModel) -> str:
    """Describe the latents by their shape and their moments."""
    numbers = "; ".join(
        f"{name} {', '.join(f'{v:.3g}' for v in values.cpu().flatten().tolist())}"
        for name, values in (("mean", model.mean), ("std", model.std))
    )
    return f"latents of {'x'.join(map(str, model.latent_shape))}, by channel: {numbers}"


def look(model: LatentModel, data: DataSet) -> Diagnosis:
    """Measure how well the autoencoder reconstructs held-out samples."""
    x = data.x("test", torch.arange(min(LOOK, len(data.test)))).to(model.device)
    with model.inference():
        found = fidelity(x, model.reconstruct(x), model.standardize.bounds)
    return Diagnosis(found, f"reconstruction of {len(x)} held-out samples: {words(found)}")


def _raw(model: LatentModel, data: DataSet, flip: bool, folder: Path | None, tell: Progress) -> Raw:
    """Return the latents before normalisation: {"train", "test"} and, if `flip`, those of the "mirrored" training images.

    The second result is a note if the stored latents are damaged.
    """
    of = _stamp(model, data)
    file = None if folder is None else folder / KEPT
    kept, damaged = None, tuple[str, ...]()
    try:
        kept = None if file is None else _kept(file, of)
    except DamageError as error:
        damaged = (str(error),)
    if all(processes().gathered(kept is not None and ("mirrored" in kept) >= flip)):
        assert kept is not None
        return kept, ()
    begun = time.monotonic()
    wanted = [("train", data.train, False), ("test", data.test, False), *([("mirrored", data.train, True)] if flip else [])]
    total = sum(len(split) for _, split, _ in wanted)
    raw: dict[str, Tensor] = {}

    def progress(n: int) -> None:
        tell(f"encoding {sum(map(len, raw.values())) + n:,} of {total:,}")

    for name, split, mirrored in wanted:
        raw[name] = _encode(model, data, split, mirrored, progress)
    if file is not None and processes().main and time.monotonic() - begun > SLOW:
        with disk_errors(file.parent):
            write_tensors(file, raw, {"of": of})
    return raw, damaged


def _encode(model: LatentModel, data: DataSet, split: Split, flip: bool, progress: Callable[[int], None]) -> Tensor:
    """Encode a split, and return the latents on the CPU. progress: called with the number of encoded samples.

    Several processes encode parts in turn, and each receives all.
    """
    group, values = processes(), split["x"].values
    z = torch.zeros(len(split), *model.latent_shape)
    with model.inference():
        for start in range(PART * group.rank, len(split), PART * group.count):
            x = data.values(values[start : start + PART])
            z[start : start + len(x)] = model.coder.encode((x.flip(-1) if flip else x).to(model.device)).float().cpu()
            progress(start + len(x))
    return group.add(z)


def _stamp(model: LatentModel, data: DataSet) -> str:
    """Return a hash of the data and the autoencoder, on which the latents depend."""
    digest = blake2b(data.spec.fingerprint.encode(), digest_size=16)
    for name, value in {**model.autoencoder.state_dict(), "test": data.column("x", "test")}.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _kept(file: Path, of: str) -> dict[str, Tensor] | None:
    """Return the tensors of the file, or None if it is missing or has another hash than `of`. Raises DamageError."""
    try:
        tensors, metadata = read_tensors(file, "the data are encoded again")
    except FileNotFoundError:
        return None
    return tensors if metadata.get("of") == of else None
