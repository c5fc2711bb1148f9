"""Reader of Twitter's emoji (art CC BY 4.0) in the npm package emoji-datasource-twitter: names, groups and pictures."""

from __future__ import annotations

import io
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
from ancestral.files import read_json

PACKAGE = "emoji-datasource-twitter-16.0.0.tgz"
LIST, PICTURES = "package/emoji.json", "package/img/twitter/64/"
DAMAGED = (tarfile.TarError, EOFError, zlib.error, KeyError, ValueError, UnidentifiedImageError)


@dataclass(frozen=True, eq=False)
class Emoji:
    """One emoji.

    Args:
        name: its Unicode name, in lower case.
        group: its Unicode group, e.g. "Food & Drink".
        picture: RGBA, 64x64 in the package.
    """

    name: str
    group: str
    picture: Image.Image

    @property
    def spoken(self) -> str:
        return spoken(self.name)


def spoken(name: str) -> str:
    """Return the name with an article. Every name gets one: `a tiger`, `an abacus`, `a unicorn face`, `a pancakes`."""
    return f"{'an' if re.match(r'(?!uni|one|eu)[aeiou]|x-', name) else 'a'} {name}"


def read_emoji(groups: Container[str], package: Path | None = None) -> list[Emoji]:
    """Read the emoji of these groups in the package's order, each once (without skin tones).

    Args:
        groups: Unicode's names of the groups.
        package: the file of the package. None: the file in the user's cache.

    Raises:
        DataError: if the package is missing or damaged. The message has the command that fetches it.
    """
    path = package or cache_dir() / "emoji" / PACKAGE
    folder, name = shlex.quote(str(path.parent)), PACKAGE.removesuffix(".tgz").rpartition("-")
    fetch = f"`mkdir -p {folder} && npm pack {name[0]}@{name[2]} --pack-destination {folder}`"
    try:
        found = _files(path)
        rows = [row for row in read_json(found[LIST]) if row["category"] in groups]
        return [Emoji(row["name"].lower(), row["category"], _picture(found[PICTURES + row["image"]])) for row in rows]
    except DAMAGED as error:
        raise DataError(f"{path} is damaged or incomplete: delete it and run {fetch}") from error
    except FileNotFoundError as error:
        raise DataError(f"Twitter's emoji (art CC BY 4.0) are not on this machine: to fetch 62 MB, run {fetch}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def _files(package: Path) -> dict[str, bytes]:
    """Read the list of emoji and their pictures by name, in one pass through the archive."""
    found = {}
    with tarfile.open(package, "r|gz") as archive:
        for member in archive:
            if member.name.startswith((LIST, PICTURES)) and (stored := archive.extractfile(member)) is not None:
                found[member.name] = stored.read()
    return found


def _picture(stored: bytes) -> Image.Image:
    return Image.open(io.BytesIO(stored)).convert("RGBA")
