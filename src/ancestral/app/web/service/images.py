"""The route of OpenAI's clients: `POST /v1/images/generations`."""

from __future__ import annotations

import base64
import secrets
import time
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field
from torch import Tensor

from ancestral.app.pictures import one, png
from ancestral.app.web.service.bodies import Body, Name, Text, Whole
from ancestral.app.web.service.routes import ALWAYS, errors
from ancestral.app.web.service.state import Order, Served, Service
from ancestral.conditioning import ClassCondition
from ancestral.errors import UsageError
from ancestral.suggest import unknown

HONOURED: dict[str, tuple[Any, ...]] = {  # the values of OpenAI's fields that ask for what is done anyway
    "response_format": (None, "b64_json"),
    "output_format": (None, "png"),
    "output_compression": (None, 100),
    "background": (None, "auto", "opaque"),
    "quality": (None, "auto", "standard"),
    "style": (None,),
    "moderation": (None, "low"),
    "stream": (None, False),
    "partial_images": (None, 0),
}


class Images(Body):
    """A request of OpenAI's clients."""

    prompt: Text = Field(description="A text, or the name of a class. Empty for a model without conditions.")
    model: Name | None = Field(None, description="Name of the model. It may be left out if there is only one.")
    n: Whole | None = Field(None, description="Number of pictures. Default: 1.")
    size: Name | None = Field(None, description='Width and height, such as "64x64": that of the model, or "auto".')
    seed: Whole | None = Field(None, description="The same seed gives the same pictures. Default: another one each time.")
    user: Text | None = Field(None, description="Not used.")
    response_format: Name | None = Field(None, description='"b64_json" only.')
    output_format: Name | None = Field(None, description='"png" only.')
    output_compression: Whole | None = Field(None, description="100 only.")
    background: Name | None = Field(None, description='"auto" or "opaque".')
    quality: Name | None = Field(None, description='"auto" or "standard".')
    style: Name | None = Field(None, description="Cannot be honoured.")
    moderation: Name | None = Field(None, description='"low" only: nothing is moderated.')
    stream: bool | None = Field(None, description="Cannot be honoured: /v1/samples streams.")
    partial_images: Whole | None = Field(None, description="0 only.")

    def check(self) -> None:
        """Raise UsageError for the fields that cannot be honoured, all in one sentence."""
        if wrong := [name for name, values in HONOURED.items() if getattr(self, name) not in values]:
            ways = []
            for name in wrong:
                values = [repr(value) for value in HONOURED[name] if value is not None]
                ways.append(f"{name}={getattr(self, name)!r}" + (f" (only {' or '.join(values)})" if values else ""))
            raise UsageError(f"this service cannot honour {', '.join(ways)}: leave {'it' if len(ways) == 1 else 'them'} out")


def router(service: Service) -> APIRouter:
    """Return the route."""
    api = APIRouter()

    @api.post(
        "/v1/images/generations",
        summary="Draw pictures, as OpenAI's clients ask",
        responses=errors(400, 404, 409, 429, 500, 503, 504, *ALWAYS),
    )
    async def images(asked: Images, http: Request) -> dict[str, Any]:
        """Draw pictures of a prompt. Each is a PNG in base64, with its seed."""
        served = service.find(asked.model)
        asked.check()
        if served.size is None:
            raise UsageError(f"samples of {served.name} are not pictures: ask /v1/samples")
        if asked.size not in (None, "auto", served.size):
            raise UsageError(f"{served.name} draws pictures of {served.size}: leave `size` out; got {asked.size!r}")
        seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
        values = {"n": 1 if asked.n is None else asked.n, "seed": seed, "conditions": conditions(served, asked.prompt)}
        order = await to_thread.run_sync(partial(service.order, served, values))
        try:
            x = await service.result(order, http)
            data = await to_thread.run_sync(_pictures, order, x)
        finally:
            order.close()
        return {"created": int(time.time()), "data": data, "output_format": "png", "size": served.size}

    return api


def conditions(served: Served, prompt: str) -> dict[str, Any]:
    """Return what a prompt asks of a model: a text, or a class by its name. Raises UsageError if it asks what is not there."""
    kinds = dict(served.model.conditioner.kinds.items())
    if "text" in kinds:
        return {"prompts": [prompt]}
    kind = kinds.get("class")
    if isinstance(kind, ClassCondition):
        if not prompt.strip():
            return {}
        names = {name.casefold(): name for name in kind.names}
        name = names.get(prompt.strip().casefold())
        if name is None:
            raise UsageError(f"{served.name} draws classes, not texts: {unknown('class', prompt[:100], kind.names)}")
        return {"classes": [name]}
    if prompt.strip():
        raise UsageError(f"{served.name} has no condition that a prompt could name: send an empty prompt")
    return {}


def _pictures(order: Order, x: Tensor) -> list[dict[str, Any]]:
    """Return each sample as a PNG of its own size, with the record of the request and its seed."""
    record, spec = order.record, order.served.spec
    pictures = [png(one(sample, spec), record.of_sample(i).chunks()) for i, sample in enumerate(x)]
    return [
        {"b64_json": base64.b64encode(picture).decode(), "seed": seed}
        for picture, seed in zip(pictures, order.seeds, strict=True)
    ]
