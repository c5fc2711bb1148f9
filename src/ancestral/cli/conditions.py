"""From the condition options of a command to the `condition` of a model, a value for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ancestral.data.spec import DataSpec
    from ancestral.families import GenerativeModel

IMAGES = ("image", "upscale", "sketch")  # kinds that --image can give, the first that the model has


@dataclass(frozen=True)
class Asked:
    """What is asked for with a command's options.

    classes, prompts: samples take them in turn. negative: what stands in the null's place under guidance. layout, map, image:
    files.
    """

    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    negative: str | None = None
    layout: Path | None = None
    map: Path | None = None
    image: Path | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.classes or self.prompts or self.layout or self.map or self.image)

    @property
    def columns(self) -> int:
        """How many different classes or prompts take turns: the columns of a grid of samples."""
        return max(len(self.classes), len(self.prompts), 1)

    def check(self) -> None:
        """Raises UsageError where classes and prompts cannot take turns together, or a negative has nothing to oppose."""
        from ancestral.errors import UsageError

        a, b = len(self.classes), len(self.prompts)
        if a > 1 and b > 1 and a != b:
            raise UsageError(f"{a} classes and {b} prompts cannot take turns: give as many of each, or one")
        if self.negative is not None and not a and not b:
            raise UsageError("--negative is what a prompt or a class is guided away from: give one with --prompt or --class")

    def condition(self, model: GenerativeModel, spec: DataSpec, n: int) -> dict[str, Any]:
        """As `model.sample` takes it, for n samples. Raises UsageError for a file that cannot be read or used."""
        found: dict[str, Any] = {}
        if self.classes:
            found["class"] = [self.classes[i % len(self.classes)] for i in range(n)]
        if self.prompts:
            found["text"] = [self.prompts[i % len(self.prompts)] for i in range(n)]
        if self.layout is not None:
            found["layout"] = _json(self.layout)
        if self.map is not None:
            found["map"] = _map(self.map)
        if self.image is not None:
            name, value = _image(self.image, model, spec)
            found[name] = value
        return found

    def opposite(self) -> dict[str, Any] | None:
        """What stands in the null's place."""
        return None if self.negative is None else {"text" if self.prompts else "class": self.negative}


def _json(path: Path) -> Any:
    import json

    from ancestral.errors import UsageError

    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise UsageError(
            f'cannot read the layout {path} ({reason}): write [["class", left, top, width, height], ...] in pixels'
        ) from None


def _map(path: Path) -> Tensor:
    import numpy as np
    import torch

    picture = _open(path)
    array = np.asarray(picture if picture.mode == "P" else picture.convert("L"))
    return torch.from_numpy(array.copy())


def _image(path: Path, model: GenerativeModel, spec: DataSpec) -> tuple[str, Tensor]:
    """The kind that the model has, and its raw value: what is derived from samples is derived from a picture of their size."""
    import numpy as np
    import torch

    from ancestral.conditioning import ImageCondition
    from ancestral.errors import UsageError
    from ancestral.randomness import StreamNoise

    name = next((kind for kind in IMAGES if kind in model.conditioner.kinds), None)
    if name is None:
        raise UsageError(f"this model was not trained with an image: --image is for runs with {', '.join(IMAGES)}")
    kind = model.conditioner.kinds[name]
    assert isinstance(kind, ImageCondition)
    channels = spec.paired if name == "image" else spec.canvas[0]
    picture = _open(path).convert("L" if channels == 1 else "RGB")
    small = name == "upscale" and (picture.height, picture.width) == kind.shape[1:]
    if not small and (picture.height, picture.width) != kind.canvas:
        from ancestral.data.images import fit

        picture = fit(picture, (kind.canvas[0], kind.canvas[1]))
    x = torch.from_numpy(np.array(picture)).float().div(255)
    x = x[None] if x.ndim == 2 else x.permute(2, 0, 1)
    return name, x if name == "image" or small else kind.derive(x[None], StreamNoise(1, 0, 0))[0]


def _open(path: Path) -> Image:
    from PIL import Image, UnidentifiedImageError

    from ancestral.errors import UsageError

    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f"cannot read the picture {path} ({getattr(error, 'strerror', None) or 'not an image'})") from None
    return picture
