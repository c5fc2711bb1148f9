"""Start on data that are larger than they should be in memory: 100,000 images in a folder and in tar shards, first and again.

Usage: python benchmarks/large.py [--images 100000] [--side 64] [--folder build/large]

It writes the images once, then starts a training in processes of their own, and prints the seconds since the start of each
(`import` included) and its peak memory. The first start decodes into the cache, the second finds it there. Linux only.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

START = """
import sys, threading, time
from pathlib import Path
began, source, out, *settings = sys.argv
peak = [0.0]

def watch():  # memory of the process without the pages of mapped files, which the system takes back when it needs them
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak[0] = max(peak[0], *(int(line.split()[1]) / 1e6 for line in lines if line.startswith("RssAnon")))
        time.sleep(0.1)

threading.Thread(target=watch, daemon=True).start()

def say(what):
    print(f"{what}: {time.time() - float(began):.1f} s, peak {peak[0]:.2f} GB", flush=True)

import ancestral.app.api as api
say("imported")
planned = api.plan(source, budget="1000it", out=out, settings=("train.batch=64", *settings))
say("data read and network built")
trainer = planned.begin()
say("ready to train")
next(iter(trainer))
say("first step done")
print(*planned.data.notes, sep="\\n")
"""


def write(folder: Path, images: int, side: int) -> None:
    """Write images of smooth colours in 10 classes, with a little noise."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    for i in range(images):
        file = folder / str(i % 10) / f"{i:07}.jpg"
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        slopes = random.uniform(-120, 120, (3, 2))
        plane = 128 + slopes[:, :1, None] * (y - 0.5) + slopes[:, 1:, None] * (x - 0.5)
        pixels = (plane + random.normal(0, 8, plane.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, quality=90)


def pack(folder: Path, shards: Path, each: int = 1000) -> None:
    """Write the images of a folder into tar shards, with their classes."""
    files = sorted(folder.rglob("*.jpg"), key=lambda file: file.name)
    shards.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(files), each)):
        if (path := shards / f"part-{number:04}.tar").exists():
            continue
        with tarfile.open(path, "w") as tar:
            for file in files[first : first + each]:
                for name, content in ((file.name, file.read_bytes()), (f"{file.stem}.cls", file.parent.name.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def start(source: Path, place: Path, name: str, settings: list[str]) -> None:
    """Start a training in a process of its own, and print how long the first step took to come."""
    out = place / f"run-{name}"
    began = time.time()
    command = f"import sys; sys.argv = [{str(began)!r}, *sys.argv[1:]]\n{START}"
    environment = os.environ | {"ANCESTRAL_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "2"}
    run = [sys.executable, "-c", command, str(source), str(out), *settings]
    print(subprocess.run(run, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")
    print(f"{name}: {time.time() - began:.1f} s in all\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path("build/large"))
    given, settings = parser.parse_known_args()
    folder = given.folder / "images"
    write(folder, given.images, given.side)
    for name in ("folder, first", "folder, again"):
        start(folder, given.folder, name, settings)
    pack(folder, given.folder / "shards")
    for name in ("shards, first", "shards, again"):
        start(given.folder / "shards" / "part-*.tar", given.folder, name, settings)


if __name__ == "__main__":
    main()
