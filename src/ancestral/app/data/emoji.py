"""Twitter's emoji (art CC BY 4.0), as the npm package emoji-datasource-twitter holds them: names, groups and pictures."""

from __future__ import annotations

import io
import json
import re
import shlex
import tarfile
import zlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ancestral.app.data.cache import cache_dir
from ancestral.app.data.errors import DataError

PACKAGE = "emoji-datasource-twitter-16.0.0.tgz"
LIST, PICTURES = "package/emoji.json", "package/img/twitter/64/"
DAMAGED = (tarfile.TarError, EOFError, zlib.error, KeyError, ValueError, UnidentifiedImageError)


@dataclass(frozen=True, eq=False)
class Emoji:
    """name: Unicode's, in lower case. group: Unicode's, e.g. "Food & Drink". picture: RGBA, 64x64 in the package."""

    name: str
    group: str
    picture: Image.Image

    @property
    def spoken(self) -> str:
        return spoken(self.name)


def spoken(name: str) -> str:
    """The name with its article, which every name is given: `a tiger`, `an abacus`, `a unicorn face`, `a pancakes`."""
    return f"{'an' if re.match(r'(?!uni|one|eu)[aeiou]|x-', name) else 'a'} {name}"


def read_emoji(groups: Container[str], package: Path | None = None) -> list[Emoji]:
    """The emoji of these groups, each once (no skin tones), in the package's order. package: None, the one in the user's cache.

    Raises `DataError` with the command that fetches the package where it is missing or damaged.
    """
    path = package or cache_dir() / "emoji" / PACKAGE
    folder, name = shlex.quote(str(path.parent)), PACKAGE.removesuffix(".tgz").rpartition("-")
    fetch = f"`mkdir -p {folder} && npm pack {name[0]}@{name[2]} --pack-destination {folder}`"
    try:
        found = _files(path)
        rows = [row for row in json.loads(found[LIST]) if row["category"] in groups]
        return [Emoji(row["name"].lower(), row["category"], _picture(found[PICTURES + row["image"]])) for row in rows]
    except DAMAGED as error:
        raise DataError(f"{path} is damaged or cut short: delete it and run {fetch}") from error
    except FileNotFoundError as error:
        raise DataError(f"Twitter's emoji (art CC BY 4.0) are not on this machine: run {fetch}, 62 MB") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def _files(package: Path) -> dict[str, bytes]:
    """The list of emoji and their pictures by name, in one pass through the archive."""
    found = {}
    with tarfile.open(package, "r|gz") as archive:
        for member in archive:
            if member.name.startswith((LIST, PICTURES)) and (stored := archive.extractfile(member)) is not None:
                found[member.name] = stored.read()
    return found


def _picture(stored: bytes) -> Image.Image:
    return Image.open(io.BytesIO(stored)).convert("RGBA")
