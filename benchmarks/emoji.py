"""Emoji with captions, as a folder that `ancestral train` reads: text-to-image, and Twitter-to-Google images.

    python benchmarks/emoji.py data/emoji
    ancestral train data/emoji --condition text --for 30m
    ancestral train data/emoji --condition image --for 30m

The pictures come from the npm packages emoji-datasource-twitter (art CC BY 4.0) and emoji-datasource-google (Apache-2.0), which
`npm pack` fetches into OUT/packages, or which lie there already. A concept, the emoji without its skin tone, is held out whole:
no split shares one. The Twitter pictures are samples captioned "twitter emoji of a panda face", each with Google's picture of
the same emoji as its conditioning image; `--both` adds Google's pictures as samples of their own, with Twitter's beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from PIL import Image

VERSION = "16.0.0"
STYLES = ("twitter", "google")
HELD_OUT = 10  # of a hundred concepts


def fetch(style: str, folder: Path) -> tarfile.TarFile:
    """The package of a style, by npm where it is not there yet."""
    name = f"emoji-datasource-{style}"
    file = folder / f"{name}-{VERSION}.tgz"
    if not file.exists():
        if shutil.which("npm") is None:
            sys.exit(f"npm is not installed: put {file.name} into {folder}, as `npm pack {name}@{VERSION}` makes it")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"{name}@{VERSION}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return tarfile.open(file)


def read(package: tarfile.TarFile, folder: str) -> dict[str, bytes]:
    """The files of a folder by name, in one pass through the archive."""
    found = {}
    for member in package:
        if member.name.startswith(folder) and (stored := package.extractfile(member)) is not None:
            found[member.name.removeprefix(folder)] = stored.read()
    return found


def emoji(package: tarfile.TarFile) -> list[tuple[str, str, str]]:
    """(picture, name, concept) of every emoji and each of its skin tones."""
    stored = package.extractfile("package/emoji.json")
    assert stored is not None
    rows = json.load(stored)
    tones = {
        row["unified"]: row["name"].lower() for row in rows if row["unified"].startswith("1F3F") and len(row["unified"]) == 5
    }
    found = []
    for row in rows:
        name = row["name"].lower()
        found.append((row["image"], name, row["unified"]))
        for tone, variation in row.get("skin_variations", {}).items():
            spoken = " and ".join(dict.fromkeys(tones.get(part, part) for part in tone.split("-")))
            found.append((variation["image"], f"{name}, {spoken}", row["unified"]))
    return found


def split(concept: str) -> str:
    """The side of a concept, which depends on it alone."""
    share = int.from_bytes(hashlib.blake2b(concept.encode(), digest_size=4).digest(), "big") % 100
    return "test" if share < HELD_OUT else "train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--both", action="store_true", help="Google's pictures are samples, too")
    asked = parser.parse_args()

    packages = {style: fetch(style, asked.out / "packages") for style in STYLES}
    pictures = {style: read(package, f"package/img/{style}/64/") for style, package in packages.items()}
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for picture, name, concept in emoji(packages["twitter"]):
        if any(picture not in pictures[style] for style in STYLES):
            continue  # not every style has every emoji
        side = split(concept)
        for style in STYLES:
            target = asked.out / side / style / picture
            target.parent.mkdir(parents=True, exist_ok=True)
            drawn = Image.open(io.BytesIO(pictures[style][picture])).convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            white.alpha_composite(drawn)
            white.convert("RGB").save(target)
        for style, other in (STYLES, STYLES[::-1]) if asked.both else (STYLES,):
            article = "an" if name[0] in "aeiou" else "a"
            rows[side].append(
                {
                    "file_name": f"{style}/{picture}",
                    "text": f"{style} emoji of {article} {name}",
                    "conditioning_image_file_name": f"{other}/{picture}",
                }
            )
    for side, mine in rows.items():
        (asked.out / side / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
        print(f"{side}: {len(mine):,} pictures")


if __name__ == "__main__":
    main()
