"""What clients send: the fields and types of requests. Their meaning is checked by `SampleRequest`, into which each is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ancestral.errors import UsageError

LONG = 2000  # characters of a text

Text = Annotated[str, Field(max_length=LONG)]
Name = Annotated[str, Field(max_length=100)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Body(BaseModel):
    """Fields with types; others are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class File(Body):
    """A picture: the content of its file in base64."""

    file: str


class Edit(Body):
    """A picture with which samples begin."""

    inpaint: File | None = Field(None, description="A picture whose part marked by `mask` is drawn again.")
    mask: File | None = Field(None, description="A picture of the same size, white where new pixels are wanted.")
    upscale: File | None = Field(None, description="A small picture to enlarge.")
    vary: File | None = Field(None, description="A picture of which the samples are variations.")
    strength: Number | None = Field(None, description="How much `vary` changes, from 0 to 1.")


class Samples(Body):
    """A request for samples. Whatever is left out has the default of the model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"seeds": [3, 7], "steps": 8, "condition": {"class": "2"}, "format": "png"}]}
    )

    model: Name | None = Field(None, description="Name of the model. It may be left out if there is only one.")
    n: Whole | None = Field(None, description="Number of samples; of each text if several are given.")
    seed: Whole | None = Field(None, description="The same seed gives the same samples. Default: 0.")
    seeds: list[Whole] | None = Field(None, description="One seed for each sample instead.")
    condition: dict[Name, Any] = Field(
        default_factory=dict,
        description="Conditions by their kind. class, text and number take one value, or several for the samples in turn; "
        'a number may be {"angle": 30}; layout is a list of boxes [class, left, top, width, height]; map and image are '
        '{"file": content in base64}; others take a value.',
        examples=[{"class": "cat"}],
    )
    guidance: Number | None = Field(None, description="Strength of the condition: 0 ignores it, 1 is as trained.")
    interval: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Noise levels sigma/alpha between which guidance acts."
    )
    rescale: Number | None = Field(None, description="Share of the added contrast that is taken back.")
    negative: Text | None = Field(None, description="Text or class from which guidance leads away.")
    solver: Name | None = Field(None, description="Name of the solver.")
    steps: Whole | None = Field(None, description="Number of steps of the solver.")
    spacing: Name | list[Number] | None = Field(None, description="How steps are spread over the noise levels, or all times.")
    effort: Literal["quick", "best"] | None = Field(None, description="The sampler that `ancestral tune` fitted.")
    truncation: Number | None = Field(None, description="Truncation of a GAN's latent.")
    prior: Name | None = Field(None, description="Distribution of a VAE's latents: aggregate or standard.")
    observe: Name | None = Field(None, description="What a VAE returns of p(x | z): mean or draw.")
    edit: Edit | None = Field(None, description="A picture with which samples begin.")
    format: Literal["png", "npz", "json"] = Field(
        "png", description="One picture of all samples, an array file with `x` and `seeds`, or numbers."
    )
    stream: bool = Field(False, description="Whether to send events with pictures on the way.")

    def values(self) -> dict[str, Any]:
        """Return the request as `provenance.to_json` writes it. Raises UsageError for a condition of another form."""
        plain = ("n", "seed", "seeds", "solver", "steps", "spacing", "effort")
        guidance = {"scale": self.guidance, "interval": self.interval, "rescale": self.rescale}
        options = {"truncation": self.truncation, "prior": self.prior, "observe": self.observe}
        edit = {} if self.edit is None else self.edit.model_dump()
        return _given({name: getattr(self, name) for name in plain}) | {
            "guidance": _given(guidance),
            "options": _given(options),
            "edit": _given(edit),
            "conditions": conditions(self.condition),
        }


def conditions(given: dict[str, Any]) -> dict[str, Any]:
    """Return conditions by kind as the fields of `Conditions`. Raises UsageError for a value of another form."""
    _short([value for name, value in given.items() if name not in ("map", "image")])
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in given.items():
        if name == "class":
            found["classes"] = [str(each) for each in _several(name, value, str, int)]
        elif name == "text":
            found["prompts"] = _several(name, value, str)
        elif name == "number":
            found["numbers"] = [_number(each) for each in _several(name, value, str, int, float, dict)]
        elif name == "layout":
            if not isinstance(value, list):
                raise UsageError('`layout` is a list of boxes [["class", left, top, width, height], ...]')
            found["layout"] = value
        elif name in ("map", "image"):
            if not isinstance(value, dict) or value.keys() != {"file"} or not isinstance(value["file"], str):
                raise UsageError(f'`{name}` is a picture: send {{"file": its content in base64}}')
            found[name] = value
        elif _holds_mapping(value):  # which `provenance.from_json` would read as a file
            raise UsageError(f"the condition `{name}` is a value, or a list of values")
        else:
            others[name] = value
    return found | ({"others": others} if others else {})


def _several(name: str, value: Any, *kinds: type) -> list[Any]:
    """Return one value or several as a list, if they are of the kinds."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, kinds) and not isinstance(each, bool) for each in values):
        words = {str: "a text", int: "a whole number", float: "a number", dict: "numbers by name"}
        raise UsageError(f"the condition `{name}` is {' or '.join(words[kind] for kind in kinds)}, or a list of these")
    return values


def _number(value: Any) -> str:
    """Return a number, or numbers by name, as the text that `Conditions` reads."""
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def _holds_mapping(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_mapping, value)))


def _short(value: Any, depth: int = 0) -> None:
    """Raise UsageError for texts or nested lists of unusual length, which nothing that is trained can mean."""
    if depth > 6:
        raise UsageError("a condition is nested too deeply")
    if isinstance(value, str) and len(value) > LONG:
        raise UsageError(f"a text of a condition has {len(value):,} characters: send at most {LONG:,}")
    inner: Sequence[Any] = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for each in inner:
        _short(each, depth + 1)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
