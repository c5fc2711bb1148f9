"""The API of the lab: the experiments of `ancestral.app.lab`, and the claims of the theory that they show."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from ancestral.app import lab
from ancestral.app.lab.forward import SCHEDULES
from ancestral.app.pictures import png
from ancestral.app.theory import CLAIMS, HEADER, Claim
from ancestral.app.theory.pictures import draw
from ancestral.app.web.events import event, stream, told
from ancestral.app.web.render import data_url
from ancestral.app.web.studio import Studio
from ancestral.errors import UsageError

Source = str | list[tuple[float, float]]


class Experiment(BaseModel):
    """The settings of an experiment. source: a built-in set, or points that were drawn."""

    model_config = ConfigDict(extra="forbid")

    source: Source = "moons"
    schedule: Literal["cosine", "vp", "linear", "sub-vp"] = "cosine"
    level: float = Field(0.5, gt=0, le=20)
    start: tuple[float, float] = (0.0, 0.0)
    seed: int = Field(0, ge=0)
    target: str = "v"
    t: float = 0.5
    objective: str = "non-saturating"
    penalty: float = Field(0.0, ge=0, le=10)
    turns: int = 2
    beta: float = Field(1.0, ge=0, le=100)
    scale: float = Field(1.0, ge=0, le=50)
    label: int = Field(0, ge=0, le=100)


class Latent(BaseModel):
    """A point of the latent plane of a model that was trained in the lab."""

    z: tuple[float, float]


def router(studio: Studio) -> APIRouter:
    """Return the routes of the lab."""
    api = APIRouter(prefix="/api/lab")

    @api.get("/sets")
    def sets() -> dict[str, Any]:
        return {"sets": list(lab.SETS), "schedules": list(SCHEDULES)}

    @api.post("/forward")
    def forward(asked: Experiment) -> dict[str, Any]:
        return lab.forward(asked.source, asked.schedule)

    @api.post("/field")
    def field(asked: Experiment) -> dict[str, Any]:
        return lab.field(asked.source, asked.level)

    @api.post("/paths")
    def paths(asked: Experiment) -> dict[str, Any]:
        return lab.paths(asked.source, asked.level, asked.start, asked.seed)

    @api.post("/guided")
    def guided(asked: Experiment) -> dict[str, Any]:
        if not isinstance(asked.source, str):
            raise UsageError("points that were drawn have no classes: choose a built-in set")
        return lab.guided(asked.source, asked.scale, asked.label)

    @api.post("/readings")
    def readings(asked: Experiment) -> StreamingResponse:
        return stream(told(_states(studio, lab.readings(asked.source, asked.target, asked.t))))

    @api.post("/gan")
    def gan(asked: Experiment) -> StreamingResponse:
        return stream(told(_states(studio, lab.gan(asked.source, asked.objective, asked.penalty, asked.turns))))

    @api.post("/latent")
    def latent() -> StreamingResponse:
        return stream(told(_states(studio, lab.latent())))

    @api.post("/vae")
    def vae(asked: Experiment) -> StreamingResponse:
        def states() -> Iterator[dict[str, Any]]:
            for state, model in lab.vae(beta=asked.beta):
                studio.keep(("lab", "vae"), model)
                yield state

        return stream(told(_states(studio, states())))

    @api.post("/vae/decode")
    def decode(asked: Latent) -> dict[str, Any]:
        model = studio.kept(("lab", "vae"))
        if model is None:
            raise UsageError("train the VAE first")
        return {"picture": lab.decode(model, asked.z), "z": asked.z}

    @api.get("/claims")
    def claims(family: str) -> list[dict[str, Any]]:
        found = [_described(claim) for claim in CLAIMS.values() if claim.family == family]
        if not found:
            raise UsageError(f"there are no claims of the family {family!r}")
        return found

    @api.get("/claims/{name}")
    def claim(name: str) -> dict[str, Any]:
        return _described(_claim(name))

    @api.post("/claims/{name}")
    def verify(name: str) -> dict[str, Any]:
        with studio.compute:
            verdict = _claim(name).verify()
        picture = draw(verdict)
        return {
            "name": name,
            "holds": verdict.holds,
            "seconds": verdict.seconds,
            "header": HEADER,
            "rows": [side.cells for side in verdict.sides],
            "picture": None if picture is None else data_url(png(picture)),
        }

    return api


def _states(studio: Studio, states: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield the states of an experiment, which has the processor for itself."""
    with studio.compute:
        for state in states:
            yield event("state", state)
    yield event("done", {})


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise UsageError(f"there is no claim {name!r}")
    return CLAIMS[name]


def _described(claim: Claim) -> dict[str, Any]:
    """Return a claim as a page shows it, with its derivation in paragraphs and equations."""
    blocks = [
        {"equation": inspect.cleandoc(block)} if block.startswith("    ") else {"text": " ".join(block.split())}
        for block in claim.derivation.split("\n\n")
    ]
    return {"name": claim.name, "title": claim.title, "blocks": blocks, "source": claim.source, "lines": claim.lines}
