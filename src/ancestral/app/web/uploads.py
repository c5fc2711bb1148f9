"""The API of data: uploads, what was understood of them, and the start of a training."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from ancestral.app.api import default_budget, free_name, plan
from ancestral.app.data import DataSet, built_in, load, size_of
from ancestral.app.estimate import estimate
from ancestral.app.recipes import FAMILIES
from ancestral.app.recipes.recipe import DEFAULT_FAMILY
from ancestral.app.training.budget import Budget
from ancestral.app.web.render import shown
from ancestral.app.web.runs import described, source_of
from ancestral.app.web.studio import UPLOAD_LIMIT, Studio
from ancestral.errors import AncestralError, UsageError
from ancestral.files import FULL, disk_error, disk_errors
from ancestral.registry import meaning

FILES = 200_000  # files in a zip
THUMBNAILS = 24
ALWAYS = ("inpaint", "upscale", "sketch")  # conditions that images give by themselves


class Wanted(BaseModel):
    """A source of data and what is wanted of it."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None  # a built-in name
    upload: str | None = None  # or an upload
    run: str | None = None  # or the data of a run
    size: str | None = None
    family: str | None = None
    budget: str | None = None
    condition: list[str] = []
    name: str | None = None
    start_from: str | None = None  # the run from whose weights the training starts


def router(studio: Studio) -> APIRouter:
    """Return the routes of data."""
    api = APIRouter(prefix="/api")

    @api.get("/sources")
    def sources() -> dict[str, Any]:
        families = [{"name": name, "meaning": meaning("family", name)} for name in FAMILIES]
        return {"built_in": list(built_in()), "families": families, "default": DEFAULT_FAMILY}

    @api.post("/uploads")
    def begin() -> dict[str, str]:
        name = secrets.token_hex(6)
        (studio.data_folder / name).mkdir(parents=True)
        return {"upload": name}

    @api.put("/uploads/{upload}/{path:path}")
    async def put(upload: str, path: str, request: Request) -> dict[str, Any]:
        folder = _folder(studio, upload)
        target = folder.joinpath(*safe_parts(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < int(request.headers.get("content-length") or 0) * 2:
            raise UsageError("the disk of this studio is full: free some space")
        unfinished = target.with_name(f".{secrets.token_hex(6)}.{os.getpid()}.tmp")
        with disk_errors(folder):
            try:
                with unfinished.open("wb") as file:
                    async for part in request.stream():
                        file.write(part)
                os.replace(unfinished, target)
            finally:
                unfinished.unlink(missing_ok=True)
        return {"path": path, "bytes": target.stat().st_size}

    @api.post("/data")
    def understand(wanted: Wanted) -> dict[str, Any]:
        try:
            data = dataset(studio, wanted)
        except AncestralError as error:
            raise type(error)(_without_folder(str(error), studio, wanted)) from None
        return understood(data) | {"title": title(studio, wanted)}

    @api.post("/estimates")
    def buys(wanted: Wanted) -> dict[str, Any]:
        data = dataset(studio, wanted)
        studio.queue.tick()
        waits = studio.queue.busy  # then it starts when the others have ended
        with studio.compute:
            planned = plan(
                _source(studio, wanted),
                model=wanted.family,
                budget=wanted.budget,
                size=wanted.size,
                condition=wanted.condition,
                out=studio.own / "nowhere",
                data=data,
                device=studio.device,
                alone=waits,
            )
            found = estimate(planned.recipe, data, planned.model, planned.runtime, alone=waits)
        notes = [note for note in planned.data.notes if note not in data.notes]
        return vars(found) | {"samples": found.samples, "budget": planned.recipe.train.budget, "notes": notes, "waits": waits}

    @api.post("/trainings")
    def start(wanted: Wanted) -> dict[str, Any]:
        source = _source(studio, wanted)
        arguments = ["train", source, *_options(wanted)]
        if wanted.family is not None and wanted.start_from is None:
            if wanted.family not in FAMILIES:
                raise UsageError(f"there is no family {wanted.family!r}")
            arguments += ["--model", wanted.family]
        for condition in wanted.condition:
            arguments += ["--condition", condition]
        if wanted.start_from is not None:
            arguments += ["--from", str(studio.run(wanted.start_from).path)]
        default = title(studio, wanted) + ("" if wanted.family in (None, DEFAULT_FAMILY) else f"-{wanted.family}")
        out = studio.home / free_name(
            studio.home, safe_name(wanted.name or default), {job.run for job in studio.queue.jobs if not job.ended}
        )
        job = studio.queue.add([*arguments, "--out", str(out)], out)
        return described(studio, job.id) | {"name": out.name}

    @api.post("/comparisons/families")
    def families(wanted: Wanted) -> dict[str, Any]:
        source = _source(studio, wanted)
        arguments = ["compare", source, *_options(wanted)]
        if wanted.condition:
            arguments += ["--condition", ",".join(wanted.condition)]
        waiting = {job.run for job in studio.queue.jobs if not job.ended}
        out = studio.home / free_name(studio.home, safe_name(f"compare-{title(studio, wanted)}"), waiting)
        return described(studio, studio.queue.add([*arguments, "--out", str(out)], out).id)

    return api


def dataset(studio: Studio, wanted: Wanted) -> DataSet:
    """Return the data of a source, which stay in memory. Raises AncestralError if they cannot be used."""
    if wanted.run is not None:
        return studio.data(wanted.run)
    source = _source(studio, wanted)
    return studio.stored(("source", source, wanted.size), lambda: load(source, size=wanted.size or None))


def _without_folder(text: str, studio: Studio, wanted: Wanted) -> str:
    """Return a message about an upload without the folder in which the studio keeps it."""
    folder = studio.data_folder / (wanted.upload or "none")
    return (
        text.replace(f"the folder {folder} ", "the upload ").replace(f"{folder}{os.sep}", "").replace(str(folder), "the upload")
    )


def understood(data: DataSet) -> dict[str, Any]:
    """Return what was understood of data: numbers, classes, texts, notes, thumbnails, and what can be made of them."""
    spec, few = data.spec, data.sampled  # data that are larger than memory are shown by a part
    n = len(few.train)
    index = torch.linspace(0, n - 1, min(THUMBNAILS if spec.shape != (2,) else 2000, n)).round().long()
    labels, captions = few.labels(), few.train.captions
    known = labels is not None and few is data
    counts = torch.bincount(labels, minlength=len(spec.classes)).tolist() if labels is not None and known else []
    words = [] if labels is None or not spec.classes else [spec.classes[i] for i in labels[index].tolist()]
    if captions is not None:
        words = [captions[i] or "" for i in index.tolist()]
    there = {"class": spec.classes, "text": spec.captions, "layout": spec.boxes, "map": spec.map_classes, "image": spec.paired}
    conditions = [name for name, has in (there | {"number": spec.numbers}).items() if has]
    conditions += list(ALWAYS) if spec.is_image else []
    families = []
    for name, family in FAMILIES.items():
        families.append({"name": name, "unfit": family(family=name).unfit(spec)})
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "kind": spec.kind,
        "train": len(data.train),
        "test": len(data.test),
        "classes": [{"name": name, "count": counts[i] if counts else None} for i, name in enumerate(spec.classes)],
        "captions": spec.captions,
        "boxes": spec.boxes,
        "box_classes": list(spec.box_classes),
        "map_classes": list(spec.map_classes),
        "numbers": list(spec.numbers),
        "channels": list(spec.channels),
        "notes": list(data.notes),
        "samples": shown(few.x("train", index), spec) | {"words": words},
        "conditions": conditions,
        "families": families,
        "budget": default_budget(spec),
    }


def title(studio: Studio, wanted: Wanted) -> str:
    """Return the name of a source for people and for run folders."""
    if wanted.run is not None:
        return Path(studio.run(wanted.run).recipe.data.source).stem or wanted.run
    source = _source(studio, wanted)
    return Path(source).stem if wanted.upload is not None else source


def _options(wanted: Wanted) -> list[str]:
    """Return budget and size as options of a command. Raises UsageError if one cannot be read."""
    options = []
    if wanted.budget:
        Budget.parse(wanted.budget)
        options += ["--for", wanted.budget]
    if wanted.size:
        size_of(wanted.size)
        options += ["--size", wanted.size]
    return options


def _source(studio: Studio, wanted: Wanted) -> str:
    """Return what `ancestral train` takes as SOURCE. Only built-in names, uploads and the data of runs can be named."""
    if wanted.run is not None:
        return source_of(studio.run(wanted.run))
    if wanted.upload is not None:
        return str(_content(_folder(studio, wanted.upload)))
    if wanted.source in built_in():
        return wanted.source
    raise UsageError(
        f"there is no built-in source {wanted.source!r}: upload your data, or choose one of {', '.join(built_in())}"
    )


def _folder(studio: Studio, upload: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{12}", upload) or not (folder := studio.data_folder / upload).is_dir():
        raise UsageError(f"there is no upload {upload!r}: begin it again")
    return folder


def _content(folder: Path) -> Path:
    """Return the source in an upload: the folder that was dropped, the one file, or the content of the one zip."""
    entries_ = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if not entries_:
        raise UsageError("nothing was uploaded: drop a folder, a zip, an array or a table")
    if len(entries_) > 1:
        return folder
    only = entries_[0]
    if only.is_file() and only.suffix.lower() == ".zip":
        return unzipped(only, folder / ".unzipped" / safe_name(only.stem))
    if only.is_file() and only.suffix.lower() not in (".npy", ".npz", ".csv", ".tsv", ".parquet", ".tif", ".tiff"):
        return folder
    return only


def unzipped(archive: Path, target: Path) -> Path:
    """Extract a zip, once. Returns the folder that holds its content.

    Names that lead outside, links, and files that grow beyond the limit are refused. Hidden files are left out.

    Raises:
        UsageError: if the zip is damaged, too large, or has names that lead outside of it.
    """
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as zipped:
                _extract(zipped, part)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, AncestralError):
                raise
            if isinstance(error, OSError) and error.errno in FULL:
                raise disk_error(part, error) from None
            raise UsageError(f"{archive.name} cannot be unpacked: it is damaged, encrypted or of an unknown kind") from None
        part.rename(target)
    inside = [entry for entry in target.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and (inside[0].is_dir() or inside[0].suffix.lower() in (".npy", ".npz", ".csv", ".tsv", ".parquet")):
        return inside[0]
    return target


def _extract(zipped: zipfile.ZipFile, target: Path) -> None:
    files = [info for info in zipped.infolist() if not info.is_dir()]
    if len(files) > FILES or sum(info.file_size for info in files) > UPLOAD_LIMIT:
        raise UsageError(f"the zip holds more than {FILES:,} files or {UPLOAD_LIMIT / 1e9:.1f} GB")
    left = UPLOAD_LIMIT
    target.mkdir(parents=True)
    for info in files:
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UsageError("the zip holds links: pack the files themselves")
        parts = safe_parts(info.filename)
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        path = target.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(info) as source, path.open("wb") as file:
            while block := source.read(1 << 20):
                left -= len(block)
                if left < 0:
                    raise UsageError(f"the zip grows beyond {UPLOAD_LIMIT / 1e9:.1f} GB")
                file.write(block)


def safe_parts(path: str) -> tuple[str, ...]:
    """Return the parts of a relative path. Raises UsageError if it could lead outside of its folder."""
    parts = PurePosixPath(path).parts
    bad = "\\" in path or "\0" in path or not parts or path.startswith("/")
    if bad or any(part in ("..", ".") or len(part.encode()) > 255 for part in parts) or ":" in parts[0][:2]:
        raise UsageError(f"{path!r} is not a path inside of the upload")
    return parts


def safe_name(name: str) -> str:
    """Return a name that is a folder's on every system: letters, digits, and -._ between them."""
    plain = unicodedata.normalize("NFKC", name)
    return re.sub(r"[^\w.-]+", "-", plain).strip("-._")[:60] or "data"
