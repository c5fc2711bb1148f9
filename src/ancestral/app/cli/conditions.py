"""The condition options that `sample` and `draw` share."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ancestral.app.data.spec import DataSpec
    from ancestral.app.sampling import Conditions
    from ancestral.models import GenerativeModel

CONDITIONS = Group("Conditions", help="What the samples show, for runs that were trained with this --condition.", sort_key=1)
_Words = Annotated[tuple[str, ...], Parameter(negative="", show_default=False, group=CONDITIONS)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """The conditions as command options. `ancestral.app.sampling.Conditions` defines their meaning.

    Parameters
    ----------
    class_
        Class of the samples, by name, or by number if no name is a number. With several, e.g. 0,1,2, the samples take them in
        turn.
    prompt
        Text that describes the samples. May be repeated: the samples take the texts in turn.
    number
        Number that controls the samples, e.g. 0.3; or several by name, e.g. angle=30,size=2. May be repeated.
    layout
        JSON file of boxes `[["class", left, top, width, height], ...]` in pixels.
    map_
        Picture whose pixels are numbers of classes, with 0 for the background.
    image
        Picture for a run with the condition image, upscale (the picture is small) or sketch (its edges are used).
    condition
        Value of a condition that has no option here, as NAME=VALUE, e.g. brightness=0.7. May be repeated.
    """

    class_: Annotated[str | None, Parameter(name="--class", group=CONDITIONS)] = None
    prompt: _Words = ()
    number: _Words = ()
    layout: Annotated[Path | None, Parameter(group=CONDITIONS)] = None
    map_: Annotated[Path | None, Parameter(name="--map", group=CONDITIONS)] = None
    image: Annotated[Path | None, Parameter(group=CONDITIONS)] = None
    condition: _Words = ()

    def __bool__(self) -> bool:
        """Return whether any condition is given."""
        return self != NOTHING

    def conditions(self, sweep: str | None = None) -> Conditions:
        """Read the options as the conditions of a request.

        Args:
            sweep: the text of `--sweep`, NAME=START:STOP:COUNT.

        Raises:
            UsageError: if options cannot be read or do not fit together.
        """
        from ancestral.app.recipes.yaml_text import read_yaml
        from ancestral.app.sampling import Conditions, Sweep
        from ancestral.errors import UsageError

        others: dict[str, Any] = {}
        for text in self.condition:
            name, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"cannot read --condition {text}: write NAME=VALUE, e.g. brightness=0.7")
            try:
                others[name] = read_yaml(value)
            except ValueError as error:
                raise UsageError(f"cannot read the value of --condition {name}: {error}") from None
        with as_options():
            return Conditions(
                classes=tuple(self.class_.split(",")) if self.class_ else (),
                prompts=self.prompt,
                numbers=self.number,
                layout=self.layout,
                map=self.map_,
                image=self.image,
                sweep=None if sweep is None else Sweep.read(sweep),
                others=others,
            )

    def for_model(self, model: GenerativeModel, spec: DataSpec, n: int | None = None) -> dict[str, Any]:
        """Return the condition of n samples as `model.sample` takes it. If n is None, one condition serves all samples."""
        with as_options():
            return self.conditions().condition(model, spec, n)


NOTHING = Asked()
OPTIONS = {"n": "-n"} | {
    name: f"--{name}"
    for name in (
        *("class", "prompt", "number", "layout", "map", "image", "condition", "seed", "seeds", "out"),
        *("guidance", "interval", "rescale", "negative", "autoguide"),
        *("inpaint", "mask", "upscale", "vary", "strength", "invert"),
        *("steps", "solver", "spacing", "quick", "best", "what", "runtime"),
    )
}


@contextmanager
def as_options() -> Iterator[None]:
    """Rewrite argument names in the errors raised inside as command options: `guidance=2` becomes --guidance 2."""
    import re

    from ancestral.errors import UsageError

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        return match[0] if name not in OPTIONS else OPTIONS[name] + (f" {value}" if value else "")

    try:
        yield
    except UsageError as error:
        message = re.sub(r"`(\w+)(?:=([^`]+))?`", option, str(error))
        raise type(error)(message) from error
