"""The training set as an autoencoder sees it, encoded once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data import DataSet, DataSpec
from ancestral.data.dataset import Split, SplitName
from ancestral.families import Diagnosis
from ancestral.families.latent import LatentModel
from ancestral.fidelity import fidelity, words
from ancestral.randomness import Noise

PART = 256  # samples encoded at a time
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
        part = self.train if split == "train" else self.test
        z = part.array.index_select(0, index)
        if flip is not None:
            assert self.mirrored is not None
            z = torch.where(flip.view(-1, *[1] * (z.ndim - 1)), self.mirrored.index_select(0, index), z)
        return Batch(z, self.images.batch(index, split, flip, noise).conditions)


def latent_spec(spec: DataSpec, shape: tuple[int, ...]) -> DataSpec:
    """The description of such a set: real numbers of mean 0 and deviation 1 a channel; all else as in the data's."""
    c = shape[0]
    real: dict[str, Any] = {"kind": "real", "range": None, "levels": None, "mean": (0.0,) * c, "std": (1.0,) * c}
    return replace(spec, name=f"{spec.name} latents", shape=shape, canvas=spec.canvas, **real)


def encoded(model: LatentModel, data: DataSet, *, flip: bool) -> Latents:
    """The centres of the latents of all data; measures the training set's, by which all are normalised."""
    raw = _encode(model, data, data.train)
    model.measure(raw)
    mirrored = _encode(model, data, data.train, flip=True) if flip else None
    mean, std = model.mean.cpu(), model.std.cpu()

    def normal(z: Tensor) -> Tensor:
        return (z - mean) / std

    numbers = "; ".join(
        f"{name} {', '.join(f'{v:.3g}' for v in values.flatten().tolist())}" for name, values in (("mean", mean), ("std", std))
    )
    shape = "x".join(map(str, model.latent_shape))
    return Latents(
        spec=latent_spec(data.spec, model.latent_shape),
        train=replace(data.train, array=normal(raw)),
        test=replace(data.test, array=normal(_encode(model, data, data.test))),
        notes=(f"latents of {shape}, by channel: {numbers}",),
        images=data,
        mirrored=None if mirrored is None else normal(mirrored),
    )


def look(model: LatentModel, data: DataSet) -> Diagnosis:
    """How much of held-out samples the autoencoder brings back."""
    x = data.values(data.test.array[:LOOK]).to(model.device)
    found = fidelity(x, model.reconstruct(x), model.scaling.bounds)
    return Diagnosis(found, f"what comes back of {len(x)} held-out samples: {words(found)}")


def _encode(model: LatentModel, data: DataSet, split: Split, *, flip: bool = False) -> Tensor:
    """What the autoencoder makes of a split, before it is normalised, on the CPU."""
    parts = []
    with model.inference():
        for rows in split.array.split(PART):
            x = data.values(rows)
            parts.append(model.coder.encode((x.flip(-1) if flip else x).to(model.device)).float().cpu())
    return torch.cat(parts)
