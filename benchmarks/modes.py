"""How many modes of eight Gaussians and of two rings the default GAN finds, over five seeds.

    taskset -c 0 env OMP_NUM_THREADS=1 python benchmarks/modes.py --for 60s --out build/modes

Every run is `ancestral.train` with its defaults, one thread as the package chooses for so small a network. The modes of
`gaussians` are counted by `ancestral evaluate`'s own rule; those of `rings` are 16 equal arcs of either ring, found where
at least a quarter of their share of samples lies within four deviations of them. Beside them the plain minimax game without
penalties, and what the run says of it. Prints a table and writes OUT/modes.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from pathlib import Path

import torch
from torch import Tensor

import ancestral
from ancestral.app.data import load
from ancestral.app.data.toys import RING_STD, RINGS
from ancestral.app.evaluation.truth import ENOUGH, WITHIN, true_density
from ancestral.app.training.run import Run, diagnoses
from ancestral.errors import AncestralError

GAMES = {"the default": (), "minimax, no penalty": ("model.objective=minimax", "model.r1=0", "model.r2=0")}
ARCS = 16  # of each ring


def gaussians(x: Tensor) -> tuple[int, int]:
    """Modes found, and how many there are."""
    density = true_density("gaussians", load("gaussians").spec.fingerprint)
    assert density is not None
    return int(density(x)["modes"].value), 8


def rings(x: Tensor) -> tuple[int, int]:
    """Arcs found, and how many there are."""
    distance = (x.norm(dim=1)[:, None] - torch.tensor(RINGS)).abs()
    ring, inside = distance.argmin(1), distance.amin(1) < WITHIN * RING_STD
    arc = ((torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) + 0.5) * ARCS).long().clamp(max=ARCS - 1)
    total = len(RINGS) * ARCS
    share = torch.bincount((ring * ARCS + arc)[inside], minlength=total) / len(x)
    return int((share > ENOUGH / total).sum()), total


COUNT = {"gaussians": gaussians, "rings": rings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="budget", default="60s")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sources", nargs="+", choices=COUNT, default=list(COUNT))
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--n", type=int, default=2500, help="samples (2500)")
    parser.add_argument("--out", type=Path, default=Path("build/modes"))
    asked = parser.parse_args()
    found = []
    print("| data | game | seed | modes | of | seconds | turns | covered | findings |\n|---|---|---|---|---|---|---|---|---|")
    for source in asked.sources:
        for game in asked.games:
            for seed in range(asked.seeds):
                out = asked.out / f"{source}-{list(GAMES).index(game)}-{seed}"
                words = (f"train.seed={seed}", "train.previews=0", *GAMES[game])
                with contextlib.suppress(AncestralError):  # a game that is lost stops early, and says so in its findings
                    ancestral.train(source, "gan", asked.budget, out, quiet=True, device="cpu", settings=words)
                modes, of = COUNT[source](ancestral.load(out, device="cpu").sample(asked.n, seeds=seed))
                run = Run(out)
                last = [row for row in run.metrics() if "rate" in row][-1]
                (look,) = diagnoses(run.metrics())
                row = {"data": source, "game": game, "seed": seed, "modes": modes, "of": of}
                row |= {"seconds": round(last["seconds"]), "turns": last["step"], "coverage": round(look["health/coverage"], 3)}
                row["findings"] = "; ".join(look["findings"])
                print("|", " | ".join(map(str, row.values())), "|", flush=True)
                found.append(row)
    (asked.out / "modes.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
