"""From the condition options of a command to the `condition` of a model, a value for each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.conditioning.render import Rendering
    from ancestral.models import GenerativeModel

IMAGES = ("image", "upscale", "sketch")  # kinds that --image can give, the first that the model has


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for, for runs that were trained with such a --condition.

    Parameters
    ----------
    class_
        The class asked for, by name or number, or several that samples take in turn, e.g. 0,1,2; for runs trained with
        --condition class.
    prompt
        The text asked for, for runs trained with --condition text. May be repeated: samples take them in turn.
    layout
        A JSON file of boxes [["class", left, top, width, height], ...] in pixels, for runs trained with --condition layout.
    map_
        A picture whose pixels are numbers of classes, 0 for background, for runs trained with --condition map.
    image
        A picture, for runs trained with --condition image, upscale (its small form) or sketch (its edges).
    """

    class_: Annotated[str | None, Parameter(name="--class")] = None
    prompt: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    layout: Path | None = None
    map_: Annotated[Path | None, Parameter(name="--map")] = None
    image: Path | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.classes or self.prompt or self.layout or self.map_ or self.image)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.class_.split(",")) if self.class_ else ()

    @property
    def columns(self) -> int:
        """How many different classes or prompts take turns: the columns of a grid of samples."""
        return max(len(self.classes), len(self.prompt), 1)

    def check(self) -> None:
        """Raises UsageError where classes and prompts cannot take turns together."""
        from ancestral.errors import UsageError

        a, b = len(self.classes), len(self.prompt)
        if a > 1 and b > 1 and a != b:
            raise UsageError(f"{a} classes and {b} prompts cannot take turns: give as many of each, or one")

    def condition(self, model: GenerativeModel, spec: DataSpec, n: int | None = None) -> dict[str, Any]:
        """As `model.sample` takes it for n samples; None: the same for any number of them.

        Raises UsageError for a file that cannot be read or used.
        """
        from ancestral.errors import UsageError

        self.check()
        if n is None and self.columns > 1:
            raise UsageError(f"one thing can be asked for here, and there are {self.columns} classes or prompts: choose one")

        def turns(values: tuple[str, ...]) -> str | list[str]:
            return values[0] if n is None else [values[i % len(values)] for i in range(n)]

        found: dict[str, Any] = {}
        if self.classes:
            found["class"] = turns(self.classes)
        if self.prompt:
            found["text"] = turns(self.prompt)
        if self.layout is not None:
            found["layout"] = _json(self.layout)
        if self.map_ is not None:
            found["map"] = _map(self.map_, model)
        if self.image is not None:
            name, value = _image(self.image, model, spec)
            found[name] = value
        return found

    def shown(self, model: GenerativeModel, condition: Mapping[str, Any], n: int) -> list[Rendering]:
        """That condition of n samples, as a person can see it."""
        raw = model.conditioner.parse(condition, n)
        texts = [self.prompt[i % len(self.prompt)] for i in range(n)] if self.prompt else None
        return model.conditioner.shown(raw, texts)

    def opposite(self, negative: str | None) -> dict[str, Any] | None:
        """The condition from which guidance goes away in the null's place. Raises UsageError where it has nothing to oppose."""
        from ancestral.errors import UsageError

        if negative is not None and not self.classes and not self.prompt:
            raise UsageError("--negative is what a prompt or a class is guided away from: give one with --prompt or --class")
        return None if negative is None else {"text" if self.prompt else "class": negative}


NOTHING = Asked()


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


def _map(path: Path, model: GenerativeModel) -> Tensor:
    """Scaled and cropped as the maps of the training were."""
    import torch

    from ancestral.app.data.images import ImageError, read_numbers
    from ancestral.conditioning import MapCondition
    from ancestral.errors import UsageError

    kind = dict(model.conditioner.kinds.items()).get("map")
    if not isinstance(kind, MapCondition):
        raise UsageError("this model was not trained with a map: --map is for runs with --condition map")
    try:
        return torch.from_numpy(read_numbers(path, (kind.canvas[0], kind.canvas[1])))
    except ImageError as broken:
        raise UsageError(f"cannot read the map {path}: {broken.reason}") from None


def _image(path: Path, model: GenerativeModel, spec: DataSpec) -> tuple[str, Tensor]:
    """The kind that the model has, and its raw value: what is derived from samples is derived from a picture of their size."""
    from ancestral.app.cli.picture import header, read_picture
    from ancestral.conditioning import ImageCondition
    from ancestral.errors import UsageError
    from ancestral.noise import StreamNoise

    name = next((kind for kind in IMAGES if kind in model.conditioner.kinds), None)
    if name is None:
        raise UsageError(f"this model was not trained with an image: --image is for runs with {', '.join(IMAGES)}")
    kind = model.conditioner.kinds[name]
    assert isinstance(kind, ImageCondition)
    channels = spec.paired if name == "image" else spec.canvas[0]
    given = header(path)
    small = name == "upscale" and (given.height, given.width) == kind.shape[1:]
    size = kind.shape[1:] if small else kind.canvas
    of = replace(spec, shape=(channels, *spec.shape[1:]))
    if name == "image":  # which has a range of its own
        of = replace(of, range=(0.0, 1.0), levels=None)
    x = read_picture(path, of, "--image", (size[0], size[1]))
    return name, x[0] if name == "image" or small else kind.derive(x, StreamNoise(1, 0, 0))[0]
