"""The training set as an autoencoder sees it, encoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data import DataSet, DataSpec
from ancestral.data.dataset import Split
from ancestral.families.latent import LatentModel

PART = 256  # samples encoded at a time


@dataclass(frozen=True, eq=False)
class Latents(DataSet):
    """A data set of latents. mirrored: those of the mirrored training images, which no mirroring of latents gives; None where
    nothing is mirrored.
    """

    mirrored: Tensor | None = None

    def batch(self, index: Tensor, split: Literal["train", "test"] = "train", flip: Tensor | None = None) -> Batch:
        """As in `DataSet`; flip: which samples to take from those of mirrored images."""
        plain = super().batch(index, split)
        if flip is None or self.mirrored is None:
            return plain
        x = torch.where(flip.view(-1, *[1] * (plain.x.ndim - 1)), self.mirrored.index_select(0, index), plain.x)
        return Batch(x, plain.conditions)


def latent_spec(spec: DataSpec, shape: tuple[int, ...]) -> DataSpec:
    """The description of such a set: real numbers of mean 0 and deviation 1 a channel; all else as in the data's."""
    c = shape[0]
    standard = {"mean": (0.0,) * c, "std": (1.0,) * c}
    return replace(spec, name=f"{spec.name} latents", shape=shape, kind="real", range=None, levels=None, **standard)


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
        mirrored=None if mirrored is None else normal(mirrored),
    )


def _encode(model: LatentModel, data: DataSet, split: Split, *, flip: bool = False) -> Tensor:
    """What the autoencoder makes of a split, before it is normalised, on the CPU."""
    parts = []
    with model.inference():
        for rows in split.array.split(PART):
            x = data.values(rows)
            parts.append(model.coder.encode((x.flip(-1) if flip else x).to(model.device)).float().cpu())
    return torch.cat(parts)
