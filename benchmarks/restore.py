"""What is made of a picture that is given: enlarged, filled in, or drawn anew in another style.

    python benchmarks/restore.py upscale scenes64       from a quarter of each side (model.factor)
    python benchmarks/restore.py inpaint scenes64       where a rectangle, a half or strokes are hidden
    python benchmarks/restore.py image data/google      after the image that goes with it, which is Twitter's drawing if
                                                        `benchmarks/emoji.py data/google --style google` made the folder
    options: --size 32  --for 10m  --n 500  --guidance 1  --steps 20  --run RUN  --plain RUN  --out runs/restore
             section.name=value

Trains a model that is given such pictures, or takes that of RUN, and measures what it makes of held-out ones: PSNR and SSIM to
the true pictures, the Fréchet distance to them in features of the ImageNet network, and how far the small picture that was
given is from the same of an enlarged one. Beside it stand real pictures that are not meant, what no learning gives (bicubic
enlargement; colours that flow in from the edges; the given drawing itself), the mean of four answers, which is nearest to the
truth in PSNR where the truth is uncertain, and, with --plain, a model of the same pictures that was not trained for this:
moment matching enlarges, RePaint fills in.
Writes OUT/KIND-NAME.json and a picture: given, made, true.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import ancestral
from ancestral.app.api import plan
from ancestral.app.data import DataSet, load
from ancestral.app.evaluation.extractors import extractor
from ancestral.app.evaluation.samples import at_levels
from ancestral.app.pictures import save_grid
from ancestral.app.progress import Reporter, follow
from ancestral.fidelity import psnr, ssim
from ancestral.metrics.frechet import frechet_pairs
from ancestral.models import GenerativeModel
from ancestral.models.edits import Edit, Inpaint, Upscale
from ancestral.runtime import Runtime

SHOWN = 12  # pictures in a row
ANSWERS = 4  # of which the mean is taken


class Given:
    """What is given of held-out pictures x, as conditions tell it. kind: "upscale", "inpaint" or "image"."""

    def __init__(self, kind: str, x: Tensor, raw: Tensor):
        self.kind, self.x = kind, x
        self.raw = raw.float() / 255 if raw.dtype == torch.uint8 else raw

    def plainly(self) -> Tensor:
        """The picture that no learning makes of it."""
        if self.kind == "upscale":
            return F.interpolate(self.raw, self.x.shape[2:], mode="bicubic").clamp(0, 1)
        return flowed(self.raw[:, :-1], self.raw[:, -1:]) if self.kind == "inpaint" else self.raw

    def as_picture(self) -> Tensor:
        """The given part as a picture for people, grey where it is hidden."""
        if self.kind == "upscale":
            return F.interpolate(self.raw, self.x.shape[2:])
        return self.raw[:, :-1] + (1 - self.raw[:, -1:]) / 2 if self.kind == "inpaint" else self.raw

    def missed(self, y: Tensor) -> float | None:
        """The root of the mean square by which enlarged pictures y differ from the small ones; None of other kinds."""
        if self.kind == "upscale":
            return float((F.adaptive_avg_pool2d(y, self.raw.shape[2:]) - self.raw).square().mean().sqrt())
        return None

    def edit(self, rows: slice) -> Edit:
        """What a model is asked to do that was not trained for it."""
        if self.kind == "upscale":
            return Upscale(self.raw[rows])
        return Inpaint(self.x[rows], self.raw[rows, -1:] > 0)

    def kept(self) -> Edit | None:
        """What `ancestral sample` asks of a model that was trained for it: that what is known of a picture stays."""
        return Inpaint(self.x, self.raw[:, -1:] > 0, repeats=1) if self.kind == "inpaint" else None


def flowed(x: Tensor, known: Tensor, rounds: int = 1000) -> Tensor:
    """The hidden part of x as the harmonic function of its edges: each pixel the mean of its four neighbours."""
    y = x + (1 - known) * (x.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1))
    for _ in range(rounds):
        z = F.pad(y, [1] * 4, mode="replicate")
        around = z[..., :-2, 1:-1] + z[..., 2:, 1:-1] + z[..., 1:-1, :-2] + z[..., 1:-1, 2:]
        y = torch.where(known > 0, x, around / 4)
    return y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("upscale", "inpaint", "image"))
    parser.add_argument("source")
    parser.add_argument("settings", nargs="*", help="of the recipe, as section.name=value")
    parser.add_argument("--size", type=int)
    parser.add_argument("--for", dest="budget", default="10m")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--features", default="efficientnet", help="of the distance (efficientnet)")
    parser.add_argument("--run", type=Path, help="a run that is trained already")
    parser.add_argument("--plain", type=Path, help="a run that was not trained for it")
    parser.add_argument("--out", type=Path, default=Path("runs/restore"))
    asked = parser.parse_intermixed_args()
    if asked.kind == "image" and asked.plain:
        parser.error("--plain enlarges and fills in alone")
    asked.out.mkdir(parents=True, exist_ok=True)

    data = load(asked.source, size=asked.size)
    name = f"{asked.kind}-{data.spec.name}"
    run = asked.run or asked.out / name
    if asked.run is None:
        settings = tuple(asked.settings)
        trainer = plan(data, condition=asked.kind, budget=asked.budget, out=run, settings=settings).begin()
        if follow(trainer, Reporter()) is not None:
            raise SystemExit("stopped: the same command continues")
    model = ancestral.load(run)
    rows = torch.arange(min(asked.n, len(data.test)))
    data = data.encoded(model.conditioner)
    x, raw = data.batch(rows, "test").x, data.asked(rows)
    evaluator = Evaluator(data, Given(asked.kind, x, raw[asked.kind]), asked.features)
    evaluator.row("another real picture", data.batch(rows, "train").x)
    evaluator.row("without learning", evaluator.given.plainly())
    shown = [evaluator.given.as_picture()]
    for guidance in asked.guidance:
        how = {"steps": asked.steps, "guidance": guidance, "edit": evaluator.given.kept()}
        y = [model.sample(len(x), raw, seeds=range(i * len(x), (i + 1) * len(x)), **how).cpu() for i in range(ANSWERS)]
        evaluator.row(f"guidance {guidance:g}", y[0])
        evaluator.row(f"guidance {guidance:g}, mean of {ANSWERS}", torch.stack(y).mean(0))
        shown += y[:2]
    if asked.plain is not None:
        y = restored(ancestral.load(asked.plain), evaluator.given, asked.steps)
        evaluator.row("not trained for it", y)
        shown.append(y)
    (asked.out / f"{name}.json").write_text(json.dumps({"steps": asked.steps, "rows": evaluator.rows}, indent=1))
    save_grid(torch.cat([some[:SHOWN] for some in (*shown, x)]), asked.out / f"{name}.png", data.spec, SHOWN)


def restored(model: GenerativeModel, given: Given, steps: int, part: int = 50) -> Tensor:
    """Samples of a model that was not trained for the task, guided to what is given."""
    made = []
    for first in range(0, len(given.x), part):
        rows = slice(first, min(first + part, len(given.x)))
        seeds = range(rows.start, rows.stop)
        made.append(model.sample(len(seeds), seeds=seeds, steps=steps, edit=given.edit(rows)).cpu())
    return torch.cat(made)


class Evaluator:
    """Prints and keeps a row for each that answers."""

    def __init__(self, data: DataSet, given: Given, features: str):
        self.data, self.given = data, given
        self.features = extractor(features, data, Runtime.choose("cpu", parameters=10**6))
        self.true = self.features(given.x)
        self.rows: dict[str, dict[str, Any]] = {}

    def row(self, who: str, y: Tensor) -> None:
        y = at_levels(y, self.data)
        x, n = self.given.x, len(y)
        each = {"psnr": psnr(x, y), "ssim": ssim(x, y)}
        row: dict[str, Any] = {k: {"value": v.mean().item(), "std_err": v.std().item() / n**0.5} for k, v in each.items()}
        row |= {"distance": vars(frechet_pairs(self.features(y), self.true)), "missed": self.given.missed(y)}
        cells = [f"{k} {row[k]['value']:7.4g} ± {row[k]['std_err']:.2g}" for k in ("psnr", "ssim", "distance")]
        cells += [] if row["missed"] is None else [f"given, missed by {row['missed']:.4f}"]
        print(f"{who:26}" + "   ".join(cells), flush=True)
        self.rows[who] = row


if __name__ == "__main__":
    main()
