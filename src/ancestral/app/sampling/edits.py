"""Requests for samples that begin with a given picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.app.data.spec import DataSpec
from ancestral.app.sampling.guidance import denoising
from ancestral.app.sampling.pictures import Picture, picture_size, read_picture
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.models.edits import Edit, Inpaint, Upscale, Vary


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """One of three edits, or none.

    Args:
        inpaint: a picture whose part marked by `mask` is generated again. The rest does not change.
        mask: a picture of the same size, white (in a tensor: 1) where new pixels are wanted.
        upscale: a small picture. The means over blocks of the samples are its pixels.
        vary: a picture. The samples are variations of it.
        strength: the amount of change by `vary`, from 0 (nothing) to 1 (all). None: 0.5.

    Raises:
        UsageError: if arguments do not fit together.
    """

    inpaint: Picture | None = None
    mask: Picture | None = None
    upscale: Picture | None = None
    vary: Picture | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.inpaint is not None and self.mask is None:
            raise UsageError("`inpaint` needs `mask`, a picture of the same size that is white where new pixels are wanted")
        if self.mask is not None and self.inpaint is None:
            raise UsageError("`mask` says which part of a picture is new: give the picture with `inpaint`")
        if self.strength is not None and self.vary is None:
            raise UsageError("`strength` says how much of a picture changes: give the picture with `vary`")
        if len(given := self.given) > 1:
            raise UsageError(f"{' and '.join(f'`{name}`' for name in given)} cannot be combined: give one at a time")

    @property
    def given(self) -> dict[str, Picture]:
        """The picture with which samples begin, by the name of the edit; empty if there is none."""
        asked = {"inpaint": self.inpaint, "upscale": self.upscale, "vary": self.vary}
        return {name: picture for name, picture in asked.items() if picture is not None}

    def edit(self, model: GenerativeModel, spec: DataSpec | None) -> Edit | None:
        """Return the edit for a model. Raises UsageError if the pictures do not fit the model, or if it cannot edit."""
        for name, picture in self.given.items():
            denoiser = denoising(model)
            trained = name in model.conditioner.kinds
            if denoiser is not model and not trained and (name != "vary" or denoiser is None):
                taught = "" if name == "vary" else f", or any with the condition {name}"
                raise UsageError(f"`{name}` needs a model that denoises: train one of the family diffusion or score{taught}")
            if name == "vary":
                return Vary(read_picture(picture, spec, name), 0.5 if self.strength is None else self.strength)
            if name == "upscale":
                return Upscale(read_picture(picture, spec, name, picture_size(picture)))
            assert self.mask is not None
            return Inpaint(read_picture(picture, spec, name), self._known(picture, self.mask, spec))
        return None

    def picture(self, spec: DataSpec) -> Tensor | None:
        """Return what is given as pictures `(1, *shape)` for people, or None: a hole is grey, a small picture is enlarged."""
        for name, picture in self.given.items():
            x = read_picture(picture, spec, name, picture_size(picture) if name == "upscale" else None).float()
            if self.mask is not None:
                low, high = spec.range or (0.0, 1.0)
                return torch.where(self._known(picture, self.mask, spec), x, (low + high) / 2)[:1]
            return F.interpolate(x, spec.shape[1:], mode="nearest")[:1]
        return None

    def _known(self, picture: Picture, mask: Picture, spec: DataSpec | None) -> Tensor:
        """Return the dark part of the mask, `(1 or n, 1, h, w)`. Raises UsageError if mask and picture differ in size."""
        (h, w), (mask_h, mask_w) = picture_size(picture), picture_size(mask)
        if (h, w) != (mask_h, mask_w):
            sizes = f"{mask_w}x{mask_h} pixels and{_named(picture, ' the picture')} {w}x{h}"
            raise UsageError(f"the mask{_named(mask)} has {sizes}: both need the same size")
        if isinstance(mask, Tensor):
            known = mask.reshape(-1, 1, *mask.shape[-2:]).float() < 0.5
        else:
            grey = None if spec is None else replace(spec, shape=(1, *spec.shape[1:]), range=(0.0, 1.0), levels=None)
            known = read_picture(mask, grey, "mask") < 0.5
        if bool(known.all()):
            raise UsageError(
                f"the mask{_named(mask)} has no white pixels: paint white the part of the picture that is to be generated"
            )
        return known


def _named(picture: Picture, otherwise: str = "") -> str:
    return f" {picture}" if isinstance(picture, Path | str) else otherwise
