"""Fuzzing guided by coverage: atheris varies the choices of which `fuzz.py` makes an input, by the branches that inputs reach.

pip install atheris
python benchmarks/fuzz.py --engine atheris --seconds 60      # for each kind
python benchmarks/guided.py npy --seconds 60 --out row.json  # one kind, for which fuzz.py starts this program

Nothing else differs: the same readers, the same bounds, the same outcomes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

try:
    import atheris
except ModuleNotFoundError:
    atheris = None

with atheris.instrument_imports(include=["ancestral"]) if atheris else nullcontext():
    import fuzz


class Choices(random.Random):
    """Random numbers that are read from bytes, and come from a fixed seed after their end.

    Zeros would not do: `sample` draws until a number is new.
    """

    def __init__(self, content: bytes):
        super().__init__(0)
        self.content, self.at, self.rest = content, 0, random.Random(0)

    def randbytes(self, n: int) -> bytes:
        part = self.content[self.at : self.at + n]
        self.at += n
        return part + self.rest.randbytes(n - len(part))

    def getrandbits(self, k: int) -> int:
        return int.from_bytes(self.randbytes((k + 7) // 8), "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(53) / (1 << 53)


def explore(name: str, seconds: float, seed: int, corpus: Path, out: Path, place: Path) -> None:
    """Try inputs of a kind, write the counts to a file, and end the process."""
    kind = next(kind for kind in fuzz.KINDS if kind.__name__ == name)
    counts: Counter[str] = Counter()
    slowest, end = 0.0, time.monotonic() + seconds

    def one(content: bytes) -> None:
        nonlocal slowest
        if time.monotonic() > end:
            row = {"counts": counts, "slowest": slowest}
            out.write_text(json.dumps(row), encoding="utf-8")
            shutil.rmtree(place)
            os._exit(0)
        (folder := place / "input").mkdir()
        read = kind(folder, Choices(content))
        work = time.process_time()
        found = fuzz.outcome(read)
        work = time.process_time() - work
        slowest = max(slowest, work)
        found = f"BAD {work:.0f} seconds of work" if work > fuzz.SECONDS else found
        if found.startswith("BAD") and not counts[found]:
            (kept := corpus / name / f"atheris-{len(counts)}").mkdir(parents=True, exist_ok=True)
            kind(kept, Choices(content))
            (kept / "outcome").write_text(f"{found}\n", encoding="utf-8")
        counts[found] += 1
        shutil.rmtree(folder)
        if counts.total() % 200 == 0:
            gc.collect()
            shutil.rmtree(os.environ["ANCESTRAL_CACHE"], ignore_errors=True)

    fuzz.bound_memory()
    options = ["-max_len=4096", "-len_control=0", "-rss_limit_mb=0", "-timeout=100000", f"-seed={seed + 1}"]
    atheris.Setup([name, *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[kind.__name__ for kind in fuzz.KINDS])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="folder for bad inputs")
    parser.add_argument("--out", type=Path, required=True, help="file of the counts")
    asked = parser.parse_args()
    if atheris is None:
        parser.error("atheris is not installed: pip install atheris")
    place = Path(tempfile.mkdtemp())
    with patch.dict(os.environ, fuzz.VARIABLES, ANCESTRAL_CACHE=f"{place}/cache"):
        fuzz.prepare(place)
        explore(asked.kind, asked.seconds, asked.seed, asked.corpus, asked.out, place)
    sys.exit(1)  # `explore` ends the process
