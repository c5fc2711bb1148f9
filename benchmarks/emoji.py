"""Emoji with captions, as a folder that `ancestral train` reads: text-to-image, and Twitter-to-Google images.

    python benchmarks/emoji.py data/emoji
    ancestral train data/emoji --condition text --for 30m
    python benchmarks/emoji.py data/google --style google
    ancestral train data/google --condition image --for 30m

The pictures come from the npm packages emoji-datasource-twitter (art CC BY 4.0) and emoji-datasource-google (Apache-2.0), which
`npm pack` fetches into OUT/packages, or which lie there already. A concept, the emoji without its skin tone, is held out whole:
no split shares one. The Twitter pictures are samples captioned "twitter emoji of a panda face", each with Google's picture of
the same emoji as its conditioning image; with `--style google` it is the other way round, and with `--both` all are samples.
With `--combinations` both are samples, and what is held out are combinations of seen parts instead: a tenth of the concepts in
one of the styles, and a tenth of the pairs of a concept and a skin tone.
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
from typing import NamedTuple

from PIL import Image

from ancestral.app.data.emoji import spoken

VERSION = "16.0.0"
STYLES = ("twitter", "google")
TONES = {  # by code point, the names of Unicode's CLDR
    "1F3FB": "light skin tone",
    "1F3FC": "medium-light skin tone",
    "1F3FD": "medium skin tone",
    "1F3FE": "medium-dark skin tone",
    "1F3FF": "dark skin tone",
}
HELD_OUT = 10  # of a hundred concepts, or combinations


class Emoji(NamedTuple):
    """picture: its file. concept: its code points without skin tone. tones: spoken, "" for none."""

    picture: str
    name: str
    concept: str
    tones: str
    category: str

    def caption(self, style: str) -> str:
        return f"{style} emoji of {spoken(self.name)}" + (f", {self.tones}" if self.tones else "")


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


def emoji(package: tarfile.TarFile) -> list[Emoji]:
    """Every emoji and each of its skin tones."""
    stored = package.extractfile("package/emoji.json")
    assert stored is not None
    found = []
    for row in json.load(stored):
        about = row["name"].lower(), row["unified"]
        found.append(Emoji(row["image"], *about, "", row["category"]))
        for codes, variation in row.get("skin_variations", {}).items():
            tones = " and ".join(dict.fromkeys(TONES[code] for code in codes.split("-")))
            found.append(Emoji(variation["image"], *about, tones, row["category"]))
    return found


def attributes(package: tarfile.TarFile) -> dict[str, dict[str, str | None]]:
    """What each caption asks for: category, style and skin tone, which is None where there is none, or two."""
    return {
        one.caption(style): {
            "category": one.category,
            "style": style,
            "skin tone": one.tones if one.tones in TONES.values() else None,
        }
        for one in emoji(package)
        for style in STYLES
    }


def share(text: str) -> int:
    """From 0 to 99, which depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % 100


def split(one: Emoji, style: str, combinations: bool) -> str:
    """The side of an emoji in a style."""
    if not combinations:
        return "test" if share(one.concept) < HELD_OUT else "train"
    other_style = share(one.concept) < HELD_OUT and style == STYLES[share(f"style {one.concept}") % 2]
    other_tone = one.tones != "" and share(f"{one.concept} {one.tones}") < HELD_OUT
    return "test" if other_style or other_tone else "train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--style", choices=STYLES, default=STYLES[0], help="of the samples")
    parser.add_argument("--both", action="store_true", help="both styles are samples")
    parser.add_argument("--combinations", action="store_true", help="both, and combinations of seen parts are held out")
    asked = parser.parse_args()

    packages = {style: fetch(style, asked.out / "packages") for style in STYLES}
    pictures = {style: read(package, f"package/img/{style}/64/") for style, package in packages.items()}
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    both = asked.both or asked.combinations
    for one in emoji(packages["twitter"]):
        if any(one.picture not in pictures[style] for style in STYLES):
            continue  # not every style has every emoji
        sides = {style: split(one, style, asked.combinations) for style in STYLES}
        for style in STYLES:
            drawn = Image.open(io.BytesIO(pictures[style][one.picture])).convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            white.alpha_composite(drawn)
            for side in set(sides.values()):
                target = asked.out / side / style / one.picture
                target.parent.mkdir(parents=True, exist_ok=True)
                white.convert("RGB").save(target)
        for style, other in (STYLES, STYLES[::-1]):
            if not both and style != asked.style:
                continue
            rows[sides[style]].append(
                {
                    "file_name": f"{style}/{one.picture}",
                    "text": one.caption(style),
                    "conditioning_image_file_name": f"{other}/{one.picture}",
                }
            )
    for side, mine in rows.items():
        (asked.out / side / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
        print(f"{side}: {len(mine):,} pictures")


if __name__ == "__main__":
    main()
