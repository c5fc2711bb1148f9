"""The API of runs: what they are, how they train, their previews, and the trainings, reports and comparisons in the queue."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from starlette.responses import StreamingResponse
from torch import Tensor

from ancestral.app import overview
from ancestral.app.neighbours import Neighbours
from ancestral.app.pictures import is_picture
from ancestral.app.training.budget import Budget
from ancestral.app.training.run import Run
from ancestral.app.training.saved import SavedModel, weights_of
from ancestral.app.web.events import event, stream
from ancestral.app.web.render import data_url, form_of, shown, tiles
from ancestral.app.web.studio import Studio, is_run
from ancestral.errors import AncestralError, UsageError
from ancestral.files import read_json

PAUSE = 0.3  # seconds between looks at the files of a run
CAPTIONS = 64  # held-out captions of which the different ones are shown as examples


class Longer(BaseModel):
    """The new length of a training in all. None: that of its recipe."""

    budget: str | None = None


class Several(BaseModel):
    """The runs of a comparison."""

    runs: list[str]


def router(studio: Studio) -> APIRouter:
    """Return the routes of runs."""
    api = APIRouter(prefix="/api")

    @api.get("/runs")
    def runs() -> list[dict[str, Any]]:
        studio.queue.tick()
        found = [brief(studio, name, path) for name, path in studio.runs().items()]
        return sorted(found, key=lambda run: -run["changed"])

    @api.get("/runs/{name}")
    def run(name: str) -> dict[str, Any]:
        found = studio.opened(name)
        brief_ = brief(studio, name, found.path)
        if isinstance(found, SavedModel):
            return brief_ | {"spec": found.spec.to_json(), "form": form_of(found.spec), "previews": []}
        spec = _spec(found)
        rows = found.metrics()
        return brief_ | {
            "spec": None if spec is None else spec.to_json(),
            "form": None if spec is None else form_of(spec),
            "recipe_text": _text(found.recipe_file),
            "previews": preview_steps(found),
            "health": _health(found, rows),
            "quality": overview.quality(found),
            "sampler": None if brief_.get("problem") or not found.weights.is_file() else overview.sampler(found),
            "report": (found.path / "report.html").is_file(),
        }

    @api.get("/runs/{name}/events")
    async def events(name: str) -> StreamingResponse:
        found = studio.run(name)
        return stream(_watch(studio, name, found))

    @api.get("/runs/{name}/metrics")
    def metrics(name: str) -> list[dict[str, Any]]:
        return studio.run(name).metrics()

    @api.get("/runs/{name}/preview.png")
    def thumbnail(name: str) -> Response:
        found = studio.run(name)
        steps = preview_steps(found)
        if not steps:
            raise UsageError(f"{name} has no preview yet")
        x, spec = _samples(found, steps[-1]), _spec(found)
        if x is None or spec is None or not is_picture(spec):
            return FileResponse(found.samples / f"step-{steps[-1]:08d}.png")
        return Response(tiles(x[:4], spec), media_type="image/png")

    @api.get("/runs/{name}/previews/{step}")
    def preview(name: str, step: int) -> dict[str, Any]:
        found, spec = studio.run(name), _spec(studio.run(name))
        x = _samples(found, step)
        if x is not None and spec is not None and form_of(spec) != "picture":
            return {"step": step, **shown(x, spec)}
        file = found.samples / f"step-{step:08d}.png"
        if not file.is_file():
            raise UsageError(f"{name} has no preview of step {step}")
        figure = spec is not None and form_of(spec) != "pixels"
        return {"step": step, "form": "picture", "n": 0, "picture": data_url(file.read_bytes()), "figure": figure}

    @api.get("/runs/{name}/previews/{step}/neighbours")
    def neighbours(name: str, step: int) -> dict[str, Any]:
        found, spec = studio.run(name), _spec(studio.run(name))
        x = _samples(found, step)
        if x is None or spec is None:
            raise UsageError(f"{name} has no samples of step {step} to compare with its data")
        data = studio.data(name)
        search = studio.stored(("neighbours", spec.fingerprint), lambda: Neighbours(data))
        result = search(x)
        return {
            "distances": [round(float(d), 4) for d in result.distances],
            "copies": result.copies.tolist(),
            "copy_rate": result.copy_rate,
            "usual": round(result.usual, 4),
            "threshold": round(result.threshold, 4),
            "rows": result.rows.tolist(),
            "nearest": shown(data.x("train", _index(result.rows)), spec),
        }

    @api.get("/runs/{name}/data")
    def real(name: str, n: int = 24, column: Literal["x", "image"] = "x") -> dict[str, Any]:
        """Return held-out samples, or the conditioning images of some (column "image"), and different captions."""
        data = studio.data(name)
        n = max(1, min(n, 500, len(data.test)))
        captions = [text for text in (data.test.captions or [])[:CAPTIONS] if text]
        if column == "image":
            if "image" not in data.test:
                raise UsageError(f"the data of {name} have no conditioning images")
            x = data.test["image"].gather(_index(range(n))).values / 255
            spec = replace(data.spec, shape=tuple(x.shape[1:]), range=(0.0, 1.0))
        else:
            x, spec = data.x("test", _index(range(n))), data.spec
        return shown(x, spec) | {"captions": list(dict.fromkeys(captions))}

    @api.get("/runs/{name}/report")
    def report(name: str) -> FileResponse:
        return _page(studio.run(name).path / "report.html")

    @api.get("/comparisons")
    def comparisons() -> list[dict[str, Any]]:
        found = [
            {"id": key, "title": path.name, "changed": _changed(path / "report.html")} for key, path in _comparisons(studio)
        ]
        return sorted(found, key=lambda page: -page["changed"])

    @api.get("/comparisons/{name}/report")
    def comparison(name: str) -> FileResponse:
        path = dict(_comparisons(studio)).get(name)
        if path is None:
            raise UsageError(f"there is no comparison {name!r}")
        return _page(path / "report.html")

    @api.get("/queue")
    def queue() -> list[dict[str, Any]]:
        studio.queue.tick()
        return [described(studio, job.id) for job in reversed(studio.queue.jobs)]

    @api.post("/runs/{name}/stop")
    def stop(name: str) -> dict[str, Any]:
        studio.queue.stop(studio.run(name).path)
        return brief(studio, name, studio.run(name).path)

    @api.post("/queue/{number}/stop")
    def stop_job(number: int) -> dict[str, Any]:
        job = next((job for job in studio.queue.jobs if job.id == number), None)
        if job is None:
            raise UsageError(f"there is no training {number} in the queue")
        studio.queue.stop(Path(job.run))
        return described(studio, number)

    @api.post("/runs/{name}/continue")
    def go_on(name: str, wanted: Longer) -> dict[str, Any]:
        found = studio.run(name)
        budget = wanted.budget or found.recipe.train.budget
        Budget.parse(budget)
        arguments = ["train", source_of(found), "--out", str(found.path), "--for", budget]
        return described(studio, studio.queue.add(arguments, found.path).id)

    @api.post("/runs/{name}/report")
    def make_report(name: str) -> dict[str, Any]:
        found = studio.run(name)
        return described(studio, studio.queue.add(["report", *named([found.path])], found.path, found.path.parent).id)

    @api.post("/runs/{name}/tune")
    def tune(name: str) -> dict[str, Any]:
        found = studio.run(name)
        return described(studio, studio.queue.add(["tune", *named([found.path])], found.path, found.path.parent).id)

    @api.post("/comparisons")
    def compare(wanted: Several) -> dict[str, Any]:
        paths = [studio.run(name).path for name in wanted.runs]
        if len(paths) < 2:
            raise UsageError("a comparison needs at least two runs")
        out = studio.home / f"compare-{'-'.join(sorted(path.name for path in paths))}"[:120]
        job = studio.queue.add(["compare", *named(paths), "--out", str(out)], out, paths[0].parent)
        return described(studio, job.id)

    return api


def named(paths: Sequence[Path]) -> list[str]:
    """Return run folders as arguments of a command that runs beside the first: reports name the runs as they are given."""
    return [f"./{path.name}" if path.parent == paths[0].parent else str(path) for path in paths]


def described(studio: Studio, number: int) -> dict[str, Any]:
    """Return a command of the queue, with the names of its run and of its comparison in the API."""
    job = next(job for job in studio.queue.jobs if job.id == number)
    path = Path(job.run)
    pages = {folder: key for key, folder in _comparisons(studio)}
    return studio.queue.describe(job) | {"run_id": studio.name_of(path), "comparison": pages.get(path)}


def brief(studio: Studio, name: str, path: Path) -> dict[str, Any]:
    """Return a run as a list shows it."""
    found: dict[str, Any] = {"id": name, "name": path.name, "path": str(path), "changed": _changed(path)}
    if not (path / "recipe.yaml").is_file():
        saved = SavedModel(path)
        try:
            family = read_json((path / "config.json").read_bytes()).get("family", "")
        except (OSError, ValueError, AttributeError):
            family = ""
        return (
            found
            | {"saved": True, "family": family, "data": "", "state": "saved", "progress": 1.0, "previews": 0}
            | {"sampled": saved.weights.is_file()}
        )
    run = Run(path)
    state = overview.state_of(run)
    job = studio.queue.last(path)
    jobs = None if job is None else studio.queue.describe(job)
    word = jobs["state"] if jobs and jobs["command"] == "train" else None
    if word not in ("waiting", "running", "stopping", "failed"):
        word = "finished" if state["progress"] >= 1 else "elsewhere" if state["fresh"] and word is None else "stopped"
    steps = preview_steps(run)
    found |= state | {
        "saved": False,
        "sampled": bool(weights_of(run)),
        "state": word,
        "job": jobs,
        "previews": len(steps),
        "preview": steps[-1] if steps else None,
    }
    found["changed"] = _changed(run.metrics_file) or found["changed"]
    return found


def preview_steps(run: Run) -> list[int]:
    """Return the steps of which there are previews."""
    found = (re.fullmatch(r"step-(\d+)\.png", file.name) for file in run.samples.glob("step-*.png"))
    return sorted(int(match[1]) for match in found if match)


def source_of(run: Run) -> str:
    """Return the source of a run's data, where they are now. Raises AncestralError if they are gone."""
    sources = run.sources
    there = next((source for source in sources if "/" not in source or Path(source).exists()), None)
    if there is None:
        raise AncestralError(f"the data of {run.path.name} are no longer at {' or at '.join(sources)}: put them back")
    return there


async def _watch(studio: Studio, name: str, run: Run) -> AsyncIterator[str]:
    """Yield what changes in a run: new measurements, previews, and its state."""
    offset, before = 0, ""
    known: list[int] = []
    while True:
        await asyncio.to_thread(studio.queue.tick)
        size = run.metrics_file.stat().st_size if run.metrics_file.is_file() else 0
        if size < offset:  # the training continued from an earlier checkpoint
            offset = 0
            yield event("reset", {})
        if size > offset:
            rows, offset = await asyncio.to_thread(_rows, run.metrics_file, offset)
            if rows:
                yield event("rows", rows)
        steps = preview_steps(run)
        if steps != known:
            known = steps
            yield event("previews", steps)
        state = await asyncio.to_thread(_state, studio, name, run)
        if (text := json.dumps(state)) != before:
            before = text
            yield event("state", state)
        await asyncio.sleep(PAUSE)


def _state(studio: Studio, name: str, run: Run) -> dict[str, Any]:
    found = brief(studio, name, run.path) | {"health": _health(run, run.metrics())}
    found["report"] = (run.path / "report.html").is_file()
    return {key: value for key, value in found.items() if key not in ("changed", "fresh")}


def _health(run: Run, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sentences about the health of a training, and about weights that cannot be read."""
    found = [vars(sentence) for sentence in overview.health(run, rows)]
    if run.weights.is_file() and not weights_of(run):
        found.insert(0, {"text": f"The weights cannot be read: {run.weights.name} is damaged.", "tone": "bad"})
    return found


def _rows(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a file after an offset, and the offset of the next line."""
    with file.open("rb") as lines:
        lines.seek(offset)
        text = lines.read()
    whole = text.rfind(b"\n") + 1
    rows = []
    for line in text[:whole].splitlines():
        with suppress(ValueError):
            row = read_json(line)
            rows += [row] if isinstance(row, dict) else []
    return rows, offset + whole


def _samples(run: Run, step: int) -> Tensor | None:
    """Return the samples of a preview in the units of the data, or None if only their picture is stored."""
    spec, file = _spec(run), run.samples / f"step-{step:08d}.safetensors"
    if spec is None or not file.is_file():
        return None
    try:
        stored = load_file(file).get("samples")
    except (SafetensorError, OSError):
        return None
    if stored is None or tuple(stored.shape[1:]) != spec.shape:
        return None
    return stored if spec.levels is None else stored.float() / (spec.levels - 1)


def _spec(run: Run) -> Any:
    try:
        return run.spec
    except AncestralError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _index(rows: Any) -> Tensor:
    return torch.as_tensor(list(rows), dtype=torch.long)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _page(path: Path) -> FileResponse:
    if not path.is_file():
        raise UsageError("there is no report yet: make one first")
    return FileResponse(path, media_type="text/html")


def _comparisons(studio: Studio) -> list[tuple[str, Path]]:
    """Return the folders with the report of a comparison."""
    found = []
    for folder in studio.folders:
        if folder.is_dir() and not is_run(folder):
            pages = [page.parent for page in sorted(folder.glob("*/report.html")) if not is_run(page.parent)]
            found += [(path.name, path) for path in pages if not path.is_symlink()]
    return found
