"""A page that runs an exported model in the browser with onnxruntime-web. npm fetches that; it is not part of this package."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path

from ancestral.errors import AncestralError, UsageError
from ancestral.files import write_atomically
from ancestral.models import GenerativeModel

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
NEEDED = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE = ("index.html", "page.js", "style.css")
WAIT = 600  # seconds for npm


def check(model: GenerativeModel) -> None:
    """Raise UsageError unless the samples are pictures."""
    if len(model.shape) != 3 or model.standardize.bounds is None or model.shape[0] not in (1, 3, 4):
        raise UsageError(
            f"the page shows pictures, and samples of this model have the shape {tuple(model.shape)}: export to onnx"
        )


def write_page(folder: Path, runtime: Path | None) -> None:
    """Write the page and its runtime into the folder of an export.

    Args:
        folder: the folder.
        runtime: the folder of the package onnxruntime-web. None: it is fetched with npm.

    Raises:
        UsageError: if the folder does not hold the package.
        AncestralError: if npm is missing or fails.
    """
    for name in PAGE:
        write_atomically(folder / name, (files(__package__) / "page" / name).read_bytes())
    if runtime is not None:
        _copy(runtime, folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        _copy(_fetched(Path(temporary)), folder)


def _fetched(folder: Path) -> Path:
    """Fetch the package with npm, and return its folder."""
    npm = shutil.which("npm")
    advice = f"give its folder with `runtime`, for example of `npm install {PACKAGE}`"
    if npm is None:
        raise AncestralError(f"the page needs the package {PACKAGE}, and there is no npm to fetch it: {advice}")
    command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WAIT, check=False)
    except subprocess.TimeoutExpired:
        raise AncestralError(f"npm did not fetch {PACKAGE} within {WAIT} seconds: {advice}") from None
    archive = next(folder.glob("*.tgz"), None)
    if done.returncode or archive is None:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise AncestralError(f"npm could not fetch {PACKAGE} ({reason}): {advice}")
    with tarfile.open(archive) as package:
        package.extractall(folder, filter="data")
    return folder / "package"


def _copy(runtime: Path, folder: Path) -> None:
    source = runtime / "dist" if (runtime / "dist").is_dir() else runtime
    if missing := [name for name in NEEDED if not (source / name).is_file()]:
        raise UsageError(f"{runtime} is not the package {PACKAGE}: it has no {missing[0]}")
    (folder / "ort").mkdir()
    for name in NEEDED:
        shutil.copyfile(source / name, folder / "ort" / name)
    for name in ("LICENSE", "README.md"):
        if (runtime / name).is_file():
            shutil.copyfile(runtime / name, folder / "ort" / name)
