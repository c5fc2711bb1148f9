"""Samples in the forms that the page draws: pixels, points, or a finished picture."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import grid, is_picture, opaque, png, to_uint8

Form = Literal["pixels", "points", "picture"]


def form_of(spec: DataSpec) -> Form:
    """Return the form in which samples are sent: pixels, which the page scales; points in the plane; or a finished picture."""
    if is_picture(spec):
        return "pixels"
    return "points" if spec.shape == (2,) and not spec.channels else "picture"


def tiles(x: Tensor, spec: DataSpec) -> bytes:
    """Return images as one PNG, below each other, without gaps and in their own size."""
    images = opaque(to_uint8(x, spec))
    n, h, w, c = images.shape
    sheet = images.reshape(n * h, w, c)
    return png(Image.fromarray(sheet[..., 0] if c == 1 else sheet))


def points(x: Tensor) -> list[list[float]]:
    """Return vectors of two numbers, rounded for the screen."""
    rounded: list[list[float]] = np.round(x.cpu().numpy().astype(float), 4).tolist()
    return rounded


def data_url(content: bytes) -> str:
    """Return a PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def shown(x: Tensor, spec: DataSpec) -> dict[str, Any]:
    """Return samples in the form of their kind: `{"form", "n", "tiles" | "points" | "picture", "height", "width"}`.

    A picture that is a `figure` is drawn on white, and a theme may give it another background.
    """
    form = form_of(spec)
    found: dict[str, Any] = {"form": form, "n": len(x)}
    if form == "pixels":
        return found | {"tiles": data_url(tiles(x, spec)), "height": spec.shape[1], "width": spec.shape[2]}
    if form == "points":
        return found | {"points": points(x)}
    return found | {"picture": data_url(png(grid(x, spec))), "figure": True}


def pixels_of(content: Image.Image) -> str:
    """Return a hash of the pixels of a picture."""
    return hashlib.sha256(repr((content.mode, content.size)).encode() + content.tobytes()).hexdigest()
