"""Models of the Hugging Face hub, under names like `hub:user/name` wherever a run folder is expected.

Only the files of `PULLED` are downloaded: JSON, YAML, safetensors and text. Nothing of a repository is executed.

A name means one commit: the newest when it is first used, which is then kept, also without a network. `hub:user/name@main`
looks for a newer one and keeps that; `hub:user/name@REVISION` takes a branch, tag or commit and keeps nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from ancestral.app.data.cache import cache_dir
from ancestral.errors import AncestralError, UsageError
from ancestral.files import FULL, disk_error, disk_errors, read_json, write_atomically

PREFIX = "hub:"
MODEL = ("model/config.json", "model/model.safetensors", "config.json", "model.safetensors", "recipe.yaml", "tuning.json")
PULLED = (*MODEL, "evaluation.json", "metrics.jsonl", "README.md")
NEWEST = "main"
NAME = re.compile(r"(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def is_remote(place: str | Path) -> bool:
    """Return whether the place is a name of the hub."""
    return str(place).startswith(PREFIX)


def located(place: str | Path) -> Path:
    """Return the folder of a run or a saved model on this machine. A model of the hub is downloaded first.

    Raises:
        UsageError: if the name of a model of the hub is malformed, or the hub has no such model.
        AncestralError: if the hub does not answer.
    """
    if not is_remote(place):
        return Path(place)
    owner, name, revision = named(str(place).removeprefix(PREFIX))
    pins = _pins()
    commit = pins.get(f"{owner}/{name}") if revision is None else None
    if commit is None:
        commit = _commit(f"{owner}/{name}", revision or NEWEST)
    folder = cache_dir() / "hub" / owner / commit / name  # the last part is the name of the run
    if not folder.is_dir():
        _download(f"{owner}/{name}", commit, folder)
    if revision in (None, NEWEST) and pins.get(f"{owner}/{name}") != commit:
        with disk_errors(cache_dir()):
            write_atomically(_pin_file(), json.dumps(_pins() | {f"{owner}/{name}": commit}, indent=1).encode())
    return folder


def named(text: str) -> tuple[str, str, str | None]:
    """Return owner, name and revision of `owner/name@revision`. Raises UsageError if the text has another form."""
    found = NAME.fullmatch(text)
    parts = [] if found is None else [*found["owner"].split("/"), found["name"], *(found["revision"] or "x").split("/")]
    if found is None or any(set(part) <= {"."} for part in parts):
        raise UsageError(f"{text!r} is not the name of a model of the hub: write user/name or user/name@revision")
    return found["owner"], found["name"], found["revision"]


@contextmanager
def hub_errors(repo: str) -> Iterator[Any]:
    """Give the client of the hub (`HF_ENDPOINT`, `HF_TOKEN`), and turn its errors into sentences."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise AncestralError("huggingface_hub is not installed: pip install 'ancestral[hub]'") from None
    try:
        yield HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="ancestral")
    except (UsageError, AncestralError):
        raise
    except HFValidationError as error:
        raise UsageError(f"{repo!r} is not a name that the hub takes: {_first_line(error)}") from None
    except GatedRepoError:
        raise UsageError(
            f"{repo} asks for your agreement first: give it on its page, and log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise UsageError(f"the hub has no such revision of {repo}: look at its page for branches, tags and commits") from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"the hub has no model {repo}, or it is private: check the name, or log in with `hf auth login`"
        ) from None
    except LocalEntryNotFoundError:
        raise AncestralError(f"the hub did not give all files of {repo}: check the network and your rights there") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        remedy = "log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else "try again later"
        raise AncestralError(f"the hub refused {repo} ({_first_line(error)}): {remedy}") from None
    except Exception as error:  # of the network: its types differ between versions of the client
        raise AncestralError(
            f"the hub does not answer ({type(error).__name__}: {_first_line(error)}): check the network"
        ) from None


def _commit(repo: str, revision: str) -> str:
    with hub_errors(repo) as hub:
        commit = str(hub.model_info(repo, revision=revision).sha)
    if not re.fullmatch(r"[0-9a-f]{4,64}", commit):
        raise AncestralError(f"the hub names no commit of {repo}: try again later")
    return commit


def _download(repo: str, commit: str, folder: Path) -> None:
    """Download a commit whole, or nothing."""
    with disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=".", suffix=".tmp", dir=folder.parent))
    try:
        with hub_errors(repo) as hub:
            try:
                hub.snapshot_download(repo, revision=commit, local_dir=part, allow_patterns=list(PULLED))
            except OSError as error:
                if error.errno in FULL:
                    raise disk_error(folder, error) from None
                raise
        shutil.rmtree(part / ".cache", ignore_errors=True)  # of the client
        if not any((part / file).is_file() for file in ("recipe.yaml", "config.json")):
            raise UsageError(f"{repo} holds no model of ancestral: it has neither a recipe.yaml nor a config.json")
        with disk_errors(folder):
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _pin_file() -> Path:
    return cache_dir() / "hub" / "pins.json"


def _pins() -> dict[str, str]:
    try:
        found = read_json(_pin_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
