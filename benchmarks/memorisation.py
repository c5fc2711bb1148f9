"""Whether small training sets are copied: by default runs, by runs without the watch, and when copying begins.

    python benchmarks/memorisation.py [--only sets onset] [--sets NAME ...] [--for 2m] [--json FILE] [--plot FILE]

A set is a small part of more data. The model sees this part alone, and 1,000 of its samples are compared with the rest, which
gives the threshold of a copy and the distance. `relative` is the copy rate of the watch (the distance to the nearest training
sample over that to the second nearest), with its expectation; `absolute` is that of `evaluate`, of distances between pixels or
numbers. If the watch has stopped a run, the same run without it (train.memorisation=off) stands beside it.

`onset` trains one network, an MLP, on digits as vectors of 64 numbers without a watch, for several numbers of samples, and
measures the relative copy rate as it goes. The onset is where it has doubled.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ancestral.app.api import load, plan
from ancestral.app.training.run import Run
from ancestral.metrics import Nearness, copy_rate, copy_test, nearest, sliced_wasserstein
from ancestral.models import seeds_from

DRAWN, REST, FEW = 1000, 2000, 500  # samples of a model; new data; fewer new data are joined by the training samples themselves
FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
ONSET = (50, 100, 200, 400, 800)
GROWTH, FOLLOWED, ENOUGH = 1.15, 200, 0.2  # of the checks of an onset: their ratio, their samples, and the rate that ends it
FIXED = ("train.batch=32", "train.decay=0", "train.previews=0", "train.diagnoses=0", "train.memorisation=off")
EXPECTED = 0.01


def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return (load_digits().images / 16 * 255).round().astype(np.uint8)


def fashion() -> np.ndarray:
    return np.frombuffer(gzip.open(FASHION).read(), np.uint8, offset=16).reshape(-1, 28, 28)[:8000]


def glyphs() -> np.ndarray:
    """Letters of 16x16 pixels, of random size, place and turn."""
    from PIL import Image, ImageDraw, ImageFont

    random, found = np.random.RandomState(0), []
    for _ in range(3000):
        canvas = Image.new("L", (64, 64))
        font = ImageFont.load_default(int(random.randint(34, 52)))
        letter = chr(ord("A") + random.randint(26))
        ImageDraw.Draw(canvas).text(tuple(32 + random.uniform(-6, 6, 2)), letter, fill=255, font=font, anchor="mm")
        turned = canvas.rotate(float(random.uniform(-15, 15)), Image.Resampling.BICUBIC)
        found.append(np.asarray(turned.resize((16, 16), Image.Resampling.BOX)))
    return np.stack(found)


def moons() -> np.ndarray:
    from sklearn.datasets import make_moons

    return make_moons(3000, noise=0.05, random_state=0)[0].astype(np.float32)


def table(name: str) -> np.ndarray:
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")().data.astype(np.float32)


SETS: dict[str, tuple[Callable[[], np.ndarray], int, str]] = {  # the data, the number of samples, and the budget
    "digits 50": (digits, 50, "2m"),
    "digits 200": (digits, 200, "2m"),
    "digits 1000": (digits, 1000, "1m"),
    "glyphs 100": (glyphs, 100, "90s"),
    "glyphs 600": (glyphs, 600, "1m"),
    "fashion 60": (fashion, 60, "3m"),
    "fashion 400": (fashion, 400, "90s"),
    "fashion 2000": (fashion, 2000, "1m"),
    "moons 50": (moons, 50, "30s"),
    "iris 75": (lambda: table("iris"), 75, "30s"),
    "wine 90": (lambda: table("wine"), 90, "30s"),
    "breast cancer 280": (lambda: table("breast_cancer"), 280, "30s"),
}


def parts(data: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n samples at random, and the rest."""
    data = data[np.random.RandomState(1).permutation(len(data))]
    return np.ascontiguousarray(data[:n]), data[n : n + REST]


def ended(name: str, family: str, budget: str | None, watch: str) -> dict[str, Any]:
    """Train on a set, and compare the samples at the end with the training set and with the rest of the data."""
    make, n, usual = SETS[name]
    few, rest = parts(make(), n)
    with TemporaryDirectory() as folder:
        trainer = plan(
            few, model=family, budget=budget or usual, out=folder, settings=("train.previews=0", f"train.memorisation={watch}")
        ).begin()
        for step in trainer:
            last = step
        data, run = trainer.data, Run(folder)
        x = load(folder).sample(DRAWN, seeds=range(DRAWN)).cpu()
        checks = [row for row in run.metrics() if "copies/rate" in row]
        numbers = run.load_checkpoint()
        assert numbers is not None
        kept = trainer.watch.kept[-1].step if trainer.copied and trainer.watch is not None else last.step
    new = torch.from_numpy(rest).float() / 255 if rest.dtype == np.uint8 else torch.from_numpy(rest)
    new = data.vectors(new.reshape(len(rest), *data.spec.shape))
    train, samples = data.vectors(data.x("train")), data.vectors(x)
    near = Nearness(train)
    there, apart = near(new), nearest(new, train)[0]
    if len(rest) < FEW:  # too few to give a threshold
        there, apart = np.concatenate([there, near.own(n)]), np.concatenate([apart, nearest(train, train, own=True)[0]])
    found = copy_test(near(samples), there)
    return {
        "family": family,
        "watch": watch,
        "n": n,
        "budget": budget or usual,
        "stopped": trainer.copied,
        "steps": last.step,
        "kept": kept,
        "passes": round(last.images / len(train), 1),
        "seconds": round(last.seconds, 1),
        "relative": found.rate,
        "expected": found.expected,
        "p": found.p_value,
        "absolute": copy_rate(nearest(samples, train)[0], apart).value,
        "distance": sliced_wasserstein(samples, new).value,
        "checks": [[row["images"], row["copies/rate"], row["copies/expected"], row["copies/n"]] for row in checks],
    }


def onset(n: int, seed: int, most: int) -> dict[str, Any]:
    """Follow the copy rate of a training on n digits."""
    few, rest = parts(digits().reshape(-1, 64).astype(np.float32) / 255, n)
    with TemporaryDirectory() as folder:
        trainer = plan(few, budget=f"{most // 32}it", out=folder, settings=(*FIXED, f"train.seed={seed}")).begin()
        data = trainer.data
        near = Nearness(data.vectors(data.x("train")))
        new = near(data.vectors(torch.from_numpy(rest)))
        points: list[tuple[int, float]] = []
        due = 3000.0
        for step in trainer:
            if step.images < due:
                continue
            due = GROWTH * step.images
            x = trainer.draw(FOLLOWED, data.asked(torch.zeros(FOLLOWED).long()), seeds_from(len(points), FOLLOWED)).cpu()
            points.append((step.images, copy_test(near(data.vectors(x)), new).rate))
            if points[-1][1] >= ENOUGH or step.images >= most:
                break
    return {"n": len(data.train), "seed": seed, "points": points, "onset": crossing(points, 2 * EXPECTED)}


def crossing(points: list[tuple[int, float]], rate: float) -> float | None:
    """Return the images at which the copy rate passes a value for good, on a logarithmic axis. None: it does not."""
    above = [i for i, (_, found) in enumerate(points) if found > rate]
    last = max((i for i, (_, found) in enumerate(points) if found <= rate), default=-1)
    if not above or last + 1 >= len(points):
        return None
    if last < 0:
        return float(points[0][0])
    (a, low), (b, high) = points[last], points[last + 1]
    return math.exp(math.log(a) + (rate - low) / (high - low) * math.log(b / a))


def draw(results: dict[str, Any], file: Path) -> None:
    """Draw the copy rate against the images seen for each number of samples, and the onset against this number."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = sorted({r["n"] for r in results["onset"]})
    colours = dict(zip(numbers, ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#666666"), strict=False))
    for r in results["onset"]:
        label = f"{r['n']} samples" if r["seed"] == 0 else None
        x, y = zip(*r["points"], strict=True)
        left.semilogx(x, [100 * v for v in y], "o-", markersize=3, color=colours[r["n"]], label=label)
    left.axhline(200 * EXPECTED, color="#888888", linestyle="--", label="twice the expectation")
    left.set_xlabel("training samples seen, with repetition")
    left.set_ylabel("copy rate (%)")
    left.legend(frameon=False)
    found = [r for r in results["onset"] if r["onset"]]
    for r in found:
        right.loglog(r["n"], r["onset"], "o", color=colours[r["n"]])
    line = np.array(numbers)
    if found:
        slope = np.exp(np.mean([np.log(r["onset"] / r["n"]) for r in found]))
        right.loglog(line, slope * line, "--", color="#888888", label=f"{slope:.0f} passes: proportional to n")
        right.legend(frameon=False)
        right.set_xticks(line, [str(n) for n in line])
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.0f}"))
        right.minorticks_off()
    right.set_xlabel("training samples n")
    right.set_ylabel("samples seen when the copy rate doubles")
    for panel in (left, right):
        panel.grid(visible=True, color="#dddddd", linewidth=0.6)
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["sets", "onset"], default=["sets", "onset"])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--models", nargs="+", default=["diffusion"])
    parser.add_argument("--for", dest="budget", help="budget of each set, in place of its own")
    parser.add_argument("--samples", type=int, nargs="+", default=ONSET, help="numbers of samples of the onset")
    parser.add_argument("--seeds", type=int, default=2, help="trainings for each onset")
    parser.add_argument("--most", type=int, default=1_000_000, help="images after which an onset is given up")
    parser.add_argument("--json", type=Path, help="results, which are added to those of an earlier call")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "sets": [], "onset": []}
    if options.json and options.json.exists():
        results |= json.loads(options.json.read_text(encoding="utf-8"))

    def keep(part: str, row: dict[str, Any], *same: str) -> None:
        results[part] = [r for r in results[part] if any(r[key] != row[key] for key in same)] + [row]
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    if "sets" in options.only:
        print("| set | model | watch | ended after | relative | expected | absolute | distance |")
        print("|---|---|---|---|---|---|---|---|")
        for name in options.sets:
            for family in options.models:
                for watch in ("stop", "off"):
                    row = {"set": name} | ended(name, family, options.budget, watch)
                    keep("sets", row, "set", "family", "watch")
                    print(
                        f"| {name} | {family} | {watch} | {row['seconds']:.0f} s, {row['passes']:.0f} passes "
                        f"| {row['relative']:.3f} | {row['expected']:.3f} | {row['absolute']:.3f} | {row['distance']:.3f} |",
                        flush=True,
                    )
                    if not row["stopped"]:
                        break
    if "onset" in options.only:
        print("| training samples | seed | samples seen when the copy rate doubles | passes |\n|---|---|---|---|")
        for n in options.samples:
            for seed in range(options.seeds):
                row = onset(n, seed, options.most)
                keep("onset", row, "n", "seed")
                seen = f"{row['onset']:,.0f} | {row['onset'] / row['n']:.0f}" if row["onset"] else "not seen | "
                print(f"| {row['n']} | {seed} | {seen} |", flush=True)
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
