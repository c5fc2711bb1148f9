"""Does what is filled in or enlarged fit what was given?

    python benchmarks/editing.py RUN [--n 100] [--picture editing.png]

RUN is a model of digits that denoises (`ancestral train digits --condition class`); no condition is given to it here. Held-out
digits lose a half, or are shrunk to 4x4, or varied, and a classifier of the training digits, a support vector machine, reads
what comes back. The picture has in its rows: digits, what is given of them, and what is made of that.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

import ancestral
from ancestral.app.data import load
from ancestral.app.pictures import grid
from ancestral.app.training.run import Run
from ancestral.models.denoising import DenoisingModel
from ancestral.models.edits import Edit, Inpaint, Measured, Upscale, Vary

COLUMNS = 12


def edits(x: Tensor, model: DenoisingModel) -> dict[str, Edit]:
    """Return the edits of the digits x by name."""
    left = torch.arange(x.shape[-1]).view(1, 1, 1, -1) < x.shape[-1] // 2
    known = model.standardize.normalize(x)[..., : x.shape[-1] // 2]
    return {
        "half, RePaint": Inpaint(x, left),
        "half, RePaint without repeats": Inpaint(x, left, repeats=1),
        "half, moment matching": Measured(lambda z: z[..., : z.shape[-1] // 2], known),
        "4x4 enlarged": Upscale(F.avg_pool2d(x, 2)),
        "varied, strength 0.3": Vary(x, 0.3),
        "varied, strength 0.5": Vary(x, 0.5),
        "varied, strength 0.7": Vary(x, 0.7),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--solver", default="dpmpp")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()

    model, data = ancestral.load(options.run), load(Run(options.run).recipe.data.source)
    assert isinstance(model, DenoisingModel), "edits need a model that denoises"
    train = data.batch(torch.arange(len(data.train)))
    test = data.batch(torch.arange(min(options.n, len(data.test))), "test")
    classifier = SVC(gamma="scale").fit(train.x.flatten(1).numpy(), train.conditions["class"].numpy())
    x, labels = test.x, test.conditions["class"].numpy()

    def read(y: Tensor) -> float:
        return float((classifier.predict(y.flatten(1).numpy()) == labels).mean())

    half = x.clone()
    half[..., 4:] = train.x.mean(0)[..., 4:]
    small = F.avg_pool2d(x, 2)
    print(f"{'':32}{'read as the digit':>18}{'rms of what was known':>24}{'seconds':>10}")
    print(f"{'the digits themselves':32}{read(x):18.0%}")
    print(f"{'half, filled with the mean':32}{read(half):18.0%}")
    print(f"{'4x4, pixels repeated':32}{read(F.interpolate(small, scale_factor=2)):18.0%}")
    rows = [x, x.masked_fill(torch.arange(8) >= 4, 0.5), F.interpolate(small, scale_factor=2)]
    for name, edit in edits(x, model).items():
        begun = time.perf_counter()
        y = model.sample(len(x), solver=options.solver, steps=options.steps, edit=edit)
        seconds = time.perf_counter() - begun
        known = {"half": (y - x)[..., :4], "4x4 ": F.avg_pool2d(y, 2) - small}.get(name[:4])
        off = "" if known is None else f"{known.square().mean().sqrt():.4f}"
        print(f"{name:32}{read(y):18.0%}{off:>24}{seconds:10.1f}")
        if name in ("half, RePaint", "4x4 enlarged", "varied, strength 0.5"):
            rows.append(y)
    if options.picture is not None:
        digits, halves, shrunk, filled, enlarged, varied = (row[:COLUMNS] for row in rows)
        grid(torch.cat([digits, halves, filled, shrunk, enlarged, varied]), data.spec, COLUMNS).save(options.picture)


if __name__ == "__main__":
    main()
