"""The kinds of condition by name, and how their encoders are built."""

from __future__ import annotations

from typing import Literal

from ancestral.app.data.spec import DataSpec
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

ConditionName = Literal["class", "text", "layout", "map", "image", "upscale", "inpaint", "sketch", "number"]
WIDTH = 128  # of vectors and tokens

MISSING = {
    "class": "no classes to condition on: leave --condition class out, or sort the images into one sub-folder a class",
    "text": "no captions: leave --condition text out, or write them into metadata.jsonl as file_name and text",
    "layout": "no boxes: leave --condition layout out, or write them into metadata.jsonl as objects",
    "map": "no semantic maps: leave --condition map out, or name their files in metadata.jsonl as map_file_name",
    "image": "no images to go with its own: leave --condition image out, or name them in metadata.jsonl as "
    "conditioning_image_file_name",
    "number": "no numbers to condition on: leave --condition number out, or write them into metadata.jsonl as columns, or into "
    ".npz as an array `number`",
}


def encoder(
    name: ConditionName,
    spec: DataSpec,
    space: tuple[int, ...],
    *,
    text: Literal["own", "minilm"] = "own",
    layout: Literal["class", "text"] = "class",
    factor: int = 4,
) -> Condition:
    """The encoder of one kind of condition. Raises UsageError where the data have none such.

    space: height and width of the channels. text, layout, factor: as in `FamilyRecipe`.
    """
    here = {
        "class": spec.classes,
        "text": spec.captions,
        "layout": spec.boxes,
        "map": spec.map_classes,
        "image": spec.paired,
        "number": spec.numbers,
    }
    if not here.get(name, True):
        raise UsageError(f"{spec.name} has {MISSING[name]}")
    if name == "class":
        return ClassCondition(spec.classes, WIDTH)
    if name == "text":
        return TextCondition(WIDTH) if text == "own" else SentenceCondition(MiniLM(), WIDTH)
    if name == "number":
        return NumberCondition(spec.numbers, spec.number_mean, spec.number_std, WIDTH)
    if len(spec.canvas) != 3:
        raise UsageError(f"the condition {name} is for images, and the samples of {spec.name} have shape {spec.canvas}")
    channels, *canvas = spec.canvas
    levels = spec.levels is not None
    if name == "layout":
        kind = LayoutCondition if layout == "class" else TextLayoutCondition
        return kind(spec.box_classes, spec.boxes, canvas, space, WIDTH)
    if name == "map":
        return MapCondition(spec.map_classes, canvas, space, WIDTH)
    if name == "image":
        return ImageCondition((spec.paired, *canvas), canvas, space, levels=True)
    if name == "upscale":
        return UpscaleCondition(channels, canvas, space, levels, factor)
    if name == "inpaint":
        return InpaintCondition(channels, canvas, space, levels)
    return SketchCondition(canvas, space)
