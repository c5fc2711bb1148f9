"""The built-in kinds of condition. Each name registers a function (spec, space, **options) that builds the encoder."""

from __future__ import annotations

from typing import Any

from ancestral.app.data.spec import DataSpec
from ancestral.builtin import built_in
from ancestral.conditioning import (
    ClassCondition,
    Condition,
    ImageCondition,
    InpaintCondition,
    LayoutCondition,
    MapCondition,
    MiniLM,
    NumberCondition,
    SentenceCondition,
    SketchCondition,
    TextCondition,
    TextLayoutCondition,
    UpscaleCondition,
)
from ancestral.errors import UsageError
from ancestral.registry import lookup

WIDTH = 128  # width of vectors and tokens

MISSING = {
    "class": "no classes to condition on: leave --condition class out, or give them: images in a sub-folder for each class, a "
    "table with a column `label`, an .npz with an array `labels`",
    "text": "no captions: leave --condition text out, or write them into metadata.jsonl as file_name and text",
    "layout": "no boxes: leave --condition layout out, or write them into metadata.jsonl as objects",
    "map": "no semantic maps: leave --condition map out, or name their files in metadata.jsonl as map_file_name",
    "image": "no conditioning images: leave --condition image out, or name them in metadata.jsonl as "
    "conditioning_image_file_name",
    "number": "no numbers to condition on: leave --condition number out, or write them into metadata.jsonl as columns, or into "
    ".npz as an array `number`",
}


Space = tuple[int, ...]


def encoder(name: str, spec: DataSpec, space: Space, **options: Any) -> Condition:
    """Build the encoder of one kind of condition.

    Args:
        name: the kind.
        spec: the description of the data.
        space: height and width of the channels.
        **options: `text`, `layout` and `factor`, as in `FamilyRecipe`.

    Raises:
        UsageError: if the kind is unknown, or the data lack it.
    """
    found: Condition = lookup("condition", name)(spec, space, **options)
    return found


@built_in("condition", "class")
def class_(spec: DataSpec, space: Space, **_: Any) -> Condition:
    _present("class", spec, spec.classes)
    return ClassCondition(spec.classes, WIDTH)


@built_in("condition", "text")
def text_(spec: DataSpec, space: Space, *, text: str = "own", **_: Any) -> Condition:
    _present("text", spec, spec.captions)
    return TextCondition(WIDTH) if text == "own" else SentenceCondition(MiniLM(), WIDTH)


@built_in("condition", "layout")
def layout_(spec: DataSpec, space: Space, *, layout: str = "class", **_: Any) -> Condition:
    _present("layout", spec, spec.boxes)
    canvas = _of_images("layout", spec)[1:]
    kind = LayoutCondition if layout == "class" else TextLayoutCondition
    return kind(spec.box_classes, spec.boxes, canvas, space, WIDTH)


@built_in("condition", "map")
def map_(spec: DataSpec, space: Space, **_: Any) -> Condition:
    _present("map", spec, spec.map_classes)
    canvas = _of_images("map", spec)[1:]
    return MapCondition(spec.map_classes, canvas, space, WIDTH)


@built_in("condition", "image")
def image(spec: DataSpec, space: Space, **_: Any) -> Condition:
    _present("image", spec, spec.paired)
    canvas = _of_images("image", spec)[1:]
    return ImageCondition((spec.paired, *canvas), canvas, space, levels=True)


@built_in("condition", "upscale")
def upscale(spec: DataSpec, space: Space, *, factor: int = 4, **_: Any) -> Condition:
    channels, *canvas = _of_images("upscale", spec)
    return UpscaleCondition(channels, canvas, space, spec.levels is not None, factor)


@built_in("condition", "inpaint")
def inpaint(spec: DataSpec, space: Space, **_: Any) -> Condition:
    channels, *canvas = _of_images("inpaint", spec)
    return InpaintCondition(channels, canvas, space, spec.levels is not None)


@built_in("condition", "sketch")
def sketch(spec: DataSpec, space: Space, **_: Any) -> Condition:
    canvas = _of_images("sketch", spec)[1:]
    return SketchCondition(canvas, space)


@built_in("condition", "number")
def number(spec: DataSpec, space: Space, **_: Any) -> Condition:
    _present("number", spec, spec.numbers)
    return NumberCondition(spec.numbers, spec.number_mean, spec.number_std, WIDTH)


def _present(name: str, spec: DataSpec, found: Any) -> None:
    if not found:
        raise UsageError(f"{spec.name} has {MISSING[name]}")


def _of_images(name: str, spec: DataSpec) -> tuple[int, ...]:
    """Return the shape of the images. Raises UsageError if samples are not images."""
    if len(spec.canvas) != 3:
        raise UsageError(f"the condition {name} is for images, and the samples of {spec.name} have shape {spec.canvas}")
    return spec.canvas
