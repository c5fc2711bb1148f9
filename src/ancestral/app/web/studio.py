"""The state of the server: the folders it may read, the runs in them, the queue, and the models that are loaded."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ancestral.app.data import DataSet
from ancestral.app.evaluate import data_of
from ancestral.app.training.run import Run
from ancestral.app.training.saved import Opened, SavedModel, holds_saved_model
from ancestral.app.web.queue import Queue
from ancestral.errors import UsageError
from ancestral.files import write_atomically
from ancestral.models import GenerativeModel

DEPTH = 3  # levels of folders below the given ones in which runs are looked for
KEPT = 3  # models and data sets in memory
UPLOAD_LIMIT = 4 << 30  # bytes
HIDDEN = ".studio"
T = TypeVar("T")


class Studio:
    """The state of the server.

    Args:
        folders: run folders, and folders of run folders. New runs and all that people upload go into the first folder that is
            not a run itself.
        device: the device on which models are loaded.

    Raises:
        UsageError: if a folder is a file.
    """

    def __init__(self, folders: Sequence[str | Path] = ("runs",), device: str = "auto"):
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]
        for folder in self.folders:
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{folder} is a file: give run folders, or folders that hold runs")
        home = next((folder for folder in self.folders if not is_run(folder)), self.folders[0].parent)
        self.home, self.device = home, device
        self.own = home / HIDDEN
        self.own.mkdir(parents=True, exist_ok=True)
        self.token = self._token()
        self.queue = Queue(self.own)
        self.compute = threading.Lock()  # one computation at a time has the processor
        self._models: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def _token(self) -> str:
        """Return the token of this folder, so that an open page continues when the server returns."""
        file = self.own / "token"
        with contextlib.suppress(OSError):
            if len(word := file.read_text(encoding="ascii").strip()) >= 32:
                return word
        word = secrets.token_urlsafe(32)
        write_atomically(file, word.encode())
        file.chmod(0o600)
        return word

    @property
    def data_folder(self) -> Path:
        return self.own / "data"

    @property
    def gallery(self) -> Path:
        return self.own / "gallery"

    @property
    def pictures(self) -> Path:
        return self.own / "pictures"

    def runs(self) -> dict[str, Path]:
        """Return the folders of all runs and saved models, by the names under which the API has them."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            for path in _runs_in(folder, DEPTH):
                name = path.name if path == folder else "~".join(path.relative_to(folder).parts)
                number, unique = 2, name
                while unique in found:
                    number, unique = number + 1, f"{name}~{number}"
                if path not in found.values():
                    found[unique] = path
        return found

    def opened(self, name: str) -> Opened:
        """Return the run or saved model of a name. Raises UsageError for an unknown name."""
        path = self.runs().get(name)
        if path is None:
            raise UsageError(f"there is no run {name!r} in the folders of this studio")
        return SavedModel(path) if holds_saved_model(path) else Run(path)

    def run(self, name: str) -> Run:
        """Return the run of a name. Raises UsageError for an unknown name, and for a saved model, which has no training."""
        found = self.opened(name)
        if not isinstance(found, Run):
            raise UsageError(f"{name} is a saved model, which has no training")
        return found

    def name_of(self, path: Path) -> str | None:
        """Return the name under which the API has a run folder, or None."""
        return next((name for name, other in self.runs().items() if other == path), None)

    def model(self, name: str) -> tuple[GenerativeModel, Opened]:
        """Return the model of a run, which stays in memory until its weights change."""
        run = self.opened(name)
        stamp = run.weights.stat().st_mtime_ns if run.weights.is_file() else 0
        return self._stored(("model", name, stamp), lambda: run.load_model(self.device)), run

    def data(self, name: str) -> DataSet:
        """Return the data of a run, which stay in memory; of data that are larger than memory, a part that stands for them."""
        run = self.run(name)
        return self._stored(("data", str(run.path), run.spec.fingerprint), lambda: data_of(run).sampled)

    def stored(self, key: Any, make: Callable[[], T]) -> T:
        """Return what `make` made for a key before, or make it."""
        return self._stored(key, make)

    def keep(self, key: Any, value: Any) -> None:
        """Keep a value under a key, in place of the one before."""
        with self._lock:
            self._models[key] = value

    def kept(self, key: Any) -> Any:
        """Return the value under a key, or None."""
        with self._lock:
            return self._models.get(key)

    def _stored(self, key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
                found: T = self._models[key]
                return found
        made = make()
        with self._lock:
            self._models[key] = made
            while len(self._models) > 4 * KEPT or sum(k[0] == key[0] for k in self._models) > KEPT:
                oldest = next(k for k in self._models if k[0] == key[0] or len(self._models) > 4 * KEPT)
                del self._models[oldest]
        return made


def is_run(path: Path) -> bool:
    """Return whether a folder is a run or a saved model."""
    return (path / "recipe.yaml").is_file() or holds_saved_model(path)


def _runs_in(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the runs in a folder. Links are not followed, so that nothing outside of the folder is read."""
    if is_run(folder):
        yield folder
        return
    if depth == 0:
        return
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in entries:
        if not name.startswith("."):
            yield from _runs_in(folder / name, depth - 1)
