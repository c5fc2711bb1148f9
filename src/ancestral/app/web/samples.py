"""The API of samples: what a model can be asked for, samples as they come out of noise, and the gallery."""

from __future__ import annotations

import io
import json
import math
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict
from starlette.responses import StreamingResponse
from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.pictures import save, save_animation
from ancestral.app.sampling import SampleRequest, Sampling
from ancestral.app.sampling.grid import SETTINGS, SampleGrid
from ancestral.app.sampling.guidance import denoising
from ancestral.app.sampling.provenance import from_client, read, record, to_json
from ancestral.app.sampling.tuning import Tuning
from ancestral.app.sampling.walk import Walk
from ancestral.app.sampling.writing import check_memory, picture_of
from ancestral.app.training.saved import Opened, weights_of
from ancestral.app.web.events import event, stream, told
from ancestral.app.web.render import form_of, pixels_of, shown
from ancestral.app.web.studio import Studio
from ancestral.conditioning import (
    ClassCondition,
    ImageCondition,
    InpaintCondition,
    LayoutCondition,
    MapCondition,
    NumberCondition,
    SentenceCondition,
    SketchCondition,
    TextCondition,
    TextLayoutCondition,
    UpscaleCondition,
)
from ancestral.conditioning.render import colour
from ancestral.errors import AncestralError, UsageError
from ancestral.files import read_json, write_atomically
from ancestral.models import GenerativeModel, HasDecoder
from ancestral.models.denoising import STEPS as USUAL_STEPS
from ancestral.registry import meaning, names

MOST = 256  # samples of a request
FRAMES = 24  # states that are shown
FRAME = 0.06  # seconds between shown states at least
FEW = 16  # samples that are shown on their way
KEPT = 200  # pictures that are kept and are not favourites
SEEDS, PICTURES = 8, 24  # of a walk: seeds at most, and pictures between two of them
ID = re.compile(r"[0-9]{10,20}-[0-9a-f]{6}")


class Asked(BaseModel):
    """A request for samples, as the page sends it. request: as `provenance` writes it."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any] = {}
    arrangement: dict[str, Any] = {}


def router(studio: Studio) -> APIRouter:
    """Return the routes of samples."""
    api = APIRouter(prefix="/api")

    @api.get("/runs/{name}/controls")
    def controls(name: str) -> dict[str, Any]:
        model, run = studio.model(name)
        return controls_of(model, run.spec, run)

    @api.post("/runs/{name}/samples")
    def samples(name: str, asked: Asked) -> StreamingResponse:
        request = read_request(studio, asked.request)
        return stream(told(_drawn(studio, name, request, asked.arrangement)))

    @api.post("/restore")
    async def restore(request: Request) -> dict[str, Any]:
        content = await request.body()
        found = read(content, studio.pictures)
        if found.request.guidance.autoguide is not None and not str(found.request.guidance.autoguide).isdecimal():
            raise UsageError("the picture was guided by another run: only the command line can draw it again")
        paths = studio.runs()
        exact = [key for key in paths if found.weights and weights_of(studio.opened(key)) == found.weights]
        named = [key for key, path in paths.items() if path.name == found.run]
        both = [key for key in exact if key in named]  # a copy of the run has the same weights
        if not exact and not named:
            raise UsageError(f"the picture was drawn by the run {found.run!r}, which is not in the folders of this studio")
        with Image.open(io.BytesIO(content)) as image:
            pixels = pixels_of(image)
        return {
            "run": (both or exact or named)[0],
            "exact": bool(exact),
            "request": to_json(found.request),
            "arrangement": found.arrangement,
            "pixels": pixels,
            "version": found.version,
        }

    @api.get("/gallery")
    def gallery() -> list[dict[str, Any]]:
        favourites, figures = _favourites(studio), _figures(studio)
        found = [_item(path, path.stem in favourites) for path in _pictures(studio)]
        return [item | {"figure": item["run"] in figures} for item in found if item is not None]

    @api.get("/gallery/{item}.png")
    def picture(item: str) -> FileResponse:
        return FileResponse(_picture(studio, item), media_type="image/png")

    @api.get("/gallery/{item}.gif")
    def film(item: str) -> FileResponse:
        return FileResponse(_picture(studio, item, ".gif"), media_type="image/gif")

    @api.post("/gallery/{item}/favourite")
    def favour(item: str) -> dict[str, Any]:
        _picture(studio, item)
        favourites = _favourites(studio) ^ {item}
        write_atomically(studio.gallery / "favourites.json", json.dumps(sorted(favourites)).encode())
        return {"id": item, "favourite": item in favourites}

    @api.delete("/gallery/{item}")
    def remove(item: str) -> dict[str, Any]:
        _picture(studio, item).unlink()
        (studio.gallery / f"{item}.gif").unlink(missing_ok=True)
        return {"id": item}

    return api


def read_request(studio: Studio, values: Mapping[str, Any]) -> SampleRequest:
    """Read the request of the page. Raises UsageError if it has another form, or names a file of this machine."""
    request = from_client(values, studio.pictures)
    weak = request.guidance.autoguide
    if weak is not None and not str(weak).isdecimal():
        raise UsageError("the studio takes only the step of a checkpoint of the same run as `autoguide`")
    if request.count > MOST:
        raise UsageError(f"the studio draws at most {MOST} samples at a time: use `ancestral sample` for more")
    return replace(request, device=studio.device)


def controls_of(model: GenerativeModel, spec: DataSpec, run: Opened | None = None) -> dict[str, Any]:
    """Return what can be asked of a model: its conditions, options, edits and arrangements. run: its run."""
    denoiser = denoising(model)
    kinds = dict(model.conditioner.kinds.items())
    found = [control for name, kind in kinds.items() if (control := _control(name, kind, spec)) is not None]
    pictures = form_of(spec) == "pixels" and spec.shape[0] in (1, 3)
    edits = [name for name in ("inpaint", "upscale") if pictures and (denoiser is model or name in kinds)]
    edits += ["vary"] if pictures and denoiser is not None else []
    options: dict[str, Any] = dict.fromkeys(model.options, True)
    usual = None if denoiser is None else denoiser.usual_guidance(list(kinds))
    settings = [name for name in SETTINGS if name in ("seed", *options)]
    settings += ["class"] if "class" in kinds else []
    if denoiser is None or not kinds:
        settings = [name for name in settings if name != "guidance"]
    return {
        "form": form_of(spec),
        "shape": list(spec.shape),
        "family": model.family,
        "conditions": found,
        "guided": denoiser is not None and bool(kinds),
        "guidance": usual,
        "steps": "steps" in options,
        "usual_steps": USUAL_STEPS,
        "tuning": None if run is None or "steps" not in options else _tuned(run),
        "solvers": [{"name": n, "meaning": meaning("solver", n)} for n in names("solver")] if "solver" in options else [],
        "spacings": [{"name": n, "meaning": meaning("spacing", n)} for n in names("spacing")] if "spacing" in options else [],
        "truncation": "truncation" in options,
        "edits": edits,
        "settings": settings,
        "walk": isinstance(model, HasDecoder),
        "notes": list(model.notes),
    }


def _tuned(run: Opened) -> dict[str, Any] | None:
    """Return what `ancestral tune` found for a run: the samplers by their steps, the usual one and the best. None: nothing."""
    tuning = Tuning.of(run)
    if tuning is None:
        return None
    return {
        "settings": [{"steps": setting.steps, "sampler": str(setting)} for setting in tuning.settings],
        "usual": tuning.usual,
        "best": tuning.best,
    }


def _scale(mean: float, std: float) -> dict[str, float]:
    """Return the ends, the step and the beginning of a slider over most of a number's values, all of them round numbers."""
    width = 4 * std if std > 0 else 1.0
    power = 10.0 ** math.floor(math.log10(width / 100))
    step = power * min(m for m in (1, 2, 5, 10) if m * power >= width / 100 or m == 10)
    low, high, start = (step * round(value / step) for value in (mean - width / 2, mean + width / 2, mean))
    return {name: float(f"{value:.12g}") for name, value in {"low": low, "high": high, "step": step, "mean": start}.items()}


def _control(name: str, kind: Any, spec: DataSpec) -> dict[str, Any] | None:
    """Return the description of a condition for the page, or None if an edit gives it."""
    if isinstance(kind, ClassCondition):
        return {"name": name, "type": "class", "names": list(kind.names)}
    if isinstance(kind, TextCondition | SentenceCondition):
        return {"name": name, "type": "text"}
    if isinstance(kind, NumberCondition):
        known = dict(zip(spec.numbers, zip(spec.number_mean, spec.number_std, strict=True), strict=True))
        ranges = [known.get(number, (0.0, 1.0)) for number in kind.names]
        numbers = [{"name": number, **_scale(mean, std)} for number, (mean, std) in zip(kind.names, ranges, strict=True)]
        return {"name": name, "type": "number", "numbers": numbers}
    if isinstance(kind, LayoutCondition | TextLayoutCondition):
        classes = list(getattr(kind, "names", spec.box_classes))
        colours = [list(colour(i)) for i in range(len(classes))]
        free = isinstance(kind, TextLayoutCondition)
        return {
            "name": name,
            "type": "layout",
            "names": classes,
            "colours": colours,
            "canvas": list(spec.canvas[1:]),
            "free": free,
        }
    if isinstance(kind, MapCondition):
        colours = [[0, 0, 0], *(list(colour(i)) for i in range(len(kind.names)))]
        return {
            "name": name,
            "type": "map",
            "names": ["background", *kind.names],
            "colours": colours,
            "canvas": list(kind.canvas),
        }
    if isinstance(kind, InpaintCondition | UpscaleCondition):
        return None
    if isinstance(kind, SketchCondition):
        return {"name": name, "type": "sketch", "canvas": list(kind.canvas)}
    if isinstance(kind, ImageCondition):
        return {"name": name, "type": "image", "canvas": list(kind.canvas)}
    return {"name": name, "type": "other"}


def _drawn(studio: Studio, name: str, request: SampleRequest, arrangement: dict[str, Any]) -> Iterator[str]:
    """Draw the samples of a request and yield events: begin, state, done."""
    model, run = studio.model(name)
    started = time.perf_counter()
    if "walk" in arrangement:
        yield from _walk(studio, name, model, run, request, arrangement)
        return
    if arrangement:
        yield from _grid(studio, name, model, run, request, arrangement)
        return
    check_memory(request.count, Path("samples.png"), run.spec)
    sampling = request.prepare(model, run=run)
    yield event("begin", {"n": sampling.n, "labels": request.conditions.labels, "columns": sampling.columns})
    results: list[Tensor] = []
    with studio.compute:
        for states in sampling.batches():
            last, nfe = 0.0, 0
            for state in states:
                nfe = state.nfe
                now, end = time.perf_counter(), state.done >= state.total
                every = max(1, state.total // FRAMES)
                if not results and (end or (state.done % every == 0 and now - last > FRAME)):
                    last = now
                    part = shown(state.x[:FEW], run.spec) if not end else {}
                    yield event("state", {"done": state.done, "total": state.total, "nfe": nfe, "samples": part})
            results.append(state.x.cpu())
            yield event("progress", {"ready": sum(map(len, results)), "n": sampling.n})
    x = torch.cat(results)
    picture = picture_of(x, sampling, request, run.spec)
    columns = sampling.columns if sampling.columns > 1 else None
    facts = {"seeds": sampling.seeds, "seconds": time.perf_counter() - started, "nfe": nfe, "columns": columns}
    yield event("done", facts | _kept(studio, name, run, request, {}, picture, sampling) | {"samples": shown(x, run.spec)})


def _grid(
    studio: Studio, name: str, model: GenerativeModel, run: Opened, request: SampleRequest, arrangement: Mapping[str, Any]
) -> Iterator[str]:
    """Draw one sample for each pair of values of two settings."""
    cells, started = SampleGrid.of(request, arrangement), time.perf_counter()
    wide, n = len(cells.across.values), len(cells.requests())
    yield event("begin", {"n": n, "columns": wide, "across": cells.across.labels, "down": cells.down.labels})
    results: list[Tensor] = []
    with studio.compute:
        for i, x in enumerate(cells.samples(model, run)):
            results.append(x)
            yield event("cell", {"index": i, "samples": shown(x, run.spec)})
    x = torch.cat(results)
    facts = {"seconds": time.perf_counter() - started, "columns": wide}
    kept = _kept(studio, name, run, request, cells.arrangement, cells.picture(x, run.spec))
    yield event("done", facts | kept | {"samples": shown(x, run.spec)})


def _walk(
    studio: Studio, name: str, model: GenerativeModel, run: Opened, request: SampleRequest, arrangement: Mapping[str, Any]
) -> Iterator[str]:
    """Draw a film that walks from the sample of each seed to the next."""
    walk, started = Walk.of(request, arrangement), time.perf_counter()
    if len(walk.seeds) > SEEDS or walk.steps > PICTURES:
        raise UsageError(f"the studio walks through at most {SEEDS} seeds, with at most {PICTURES} pictures between two")
    yield event("begin", {"n": walk.n, "columns": walk.steps})
    frames: list[Tensor] = []
    with studio.compute:
        for part in walk.frames(model, run.spec):
            frames.append(part)
            yield event("progress", {"ready": sum(map(len, frames)), "n": walk.n})
    x = torch.cat(frames)
    kept = _kept(studio, name, run, request, walk.arrangement, walk.picture(x, run.spec))
    save_animation(walk.film(x, run.spec), studio.gallery / f"{kept['id']}.gif")
    facts = {"seconds": time.perf_counter() - started, "columns": walk.steps, "film": f"/api/gallery/{kept['id']}.gif"}
    yield event("done", facts | kept | {"samples": shown(x, run.spec)})


def _kept(
    studio: Studio,
    name: str,
    run: Opened,
    request: SampleRequest,
    arrangement: Mapping[str, Any],
    picture: Image.Image,
    sampling: Sampling | None = None,
) -> dict[str, Any]:
    """Write the picture into the gallery, with the record of how it was made. Returns what the page needs of it."""
    studio.gallery.mkdir(parents=True, exist_ok=True)
    item = f"{time.time_ns() // 1000}-{secrets.token_hex(3)}"
    path = studio.gallery / f"{item}.png"
    save(picture, path, record(request, run, arrangement, sampling).chunks())
    favourites = _favourites(studio)
    for old in [other for other in _pictures(studio) if other.stem not in favourites][KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".gif").unlink(missing_ok=True)
    return {"id": item, "png": f"/api/gallery/{item}.png", "pixels": pixels_of(picture), "run": name}


def _pictures(studio: Studio) -> list[Path]:
    """Return the pictures of the gallery, the newest first."""
    found = [path for path in studio.gallery.glob("*.png") if ID.fullmatch(path.stem)] if studio.gallery.is_dir() else []
    return sorted(found, key=lambda path: path.stem, reverse=True)


def _picture(studio: Studio, item: str, suffix: str = ".png") -> Path:
    path = studio.gallery / f"{item}{suffix}"
    if not ID.fullmatch(item) or not path.is_file():
        raise UsageError(f"there is no picture {item!r} in the gallery")
    return path


def _favourites(studio: Studio) -> set[str]:
    try:
        return set(read_json((studio.gallery / "favourites.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()


def _figures(studio: Studio) -> set[str]:
    """Return the runs whose samples are drawn as figures on white, and not as tiles of pixels."""
    found = set()
    for name, path in studio.runs().items():
        with suppress(AncestralError):  # a damaged run
            if form_of(studio.opened(name).spec) != "pixels":
                found.add(path.name)
    return found


def _item(path: Path, favourite: bool) -> dict[str, Any] | None:
    try:
        with Image.open(path) as image:
            values = read_json(getattr(image, "text", {}).get("ancestral", "{}"))
            width, height = image.size
        if not isinstance(values, dict):
            return None
    except (OSError, ValueError, SyntaxError):
        return None
    return {
        "id": path.stem,
        "png": f"/api/gallery/{path.stem}.png",
        "film": f"/api/gallery/{path.stem}.gif" if path.with_suffix(".gif").is_file() else None,
        "favourite": favourite,
        "run": values.get("run", ""),
        "request": values.get("request", {}) and {k: v for k, v in values["request"].items() if k != "edit"},
        "kind": "walk" if "walk" in values.get("arrangement", {}) else "grid" if values.get("arrangement") else "samples",
        "when": int(path.stem.partition("-")[0]) / 1e6,
        "width": width,
        "height": height,
    }
