"""Quality against evaluations of the network, for every solver on one trained network, beside diffusers' schedulers.

    python benchmarks/solvers.py RUN [--n 1000] [--nfe 5 10 20 50 100 1000] [--out solvers]

Of `adaptive`, which chooses its own number of evaluations, the tolerance falls instead, and its mean number is what is plotted.

Fréchet distance in the features of a classifier for fashion-mnist, sliced Wasserstein distance for everything else, against the
held-out split; real data at the same n stand beside it. diffusers' schedulers walk the same network with their own defaults of
T = 1000 linear betas, so the run's network must know that chain: any of ours does, since it sees z and log SNR alone.
A class-conditional model is asked for its classes in turn. Writes OUT.json and OUT.png. Needs diffusers.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ancestral
from ancestral.app.data import DataSet, load
from ancestral.metrics import sliced_wasserstein
from ancestral.models.denoising import STEPS, DenoisingModel
from ancestral.noise import SampleNoise
from ancestral.schedules import Chain
from ancestral.solvers import SOLVERS, DormandPrince, Solver
from quality import EPOCHS, SOURCE, classifier, features, frechet

COSTS = {"heun": 2, "rk4": 4, "churn": 2, "pc": 2, "langevin": 5, "langevin-v1": 100}  # evaluations a step; others take 1
RANDOM = ("ddpm", "dpmpp-sde", "euler-maruyama", "churn", "pc", "langevin", "langevin-v1", "langevin-one")  # noise in each step
MARKERS = "osv^DPX<>*"
TOLERANCES = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)
BATCH = 250


def ours(model: DenoisingModel, solver: str, counts: list[int]) -> Iterator[tuple[Solver | str, int]]:
    """(solver, steps) for each of the counts of evaluations in which two steps fit; for each tolerance of `adaptive`."""
    if solver == "adaptive":
        yield from ((DormandPrince(rtol=tolerance, atol=tolerance), STEPS) for tolerance in TOLERANCES)
    else:
        yield from ((solver, steps) for nfe in counts if (steps := nfe // COSTS.get(solver, 1)) >= 2)


def sample_path(model: DenoisingModel, solver: Solver | str, steps: int, n: int) -> tuple[Tensor, int]:
    """N samples, and the mean number of evaluations that one of them took."""
    x, nfe = [], 0
    for start in range(0, n, BATCH):
        seeds = range(start, min(start + BATCH, n))
        condition = {name: values[start : start + BATCH] for name, values in asked(model, n).items()}
        *_, last = model.trajectory(len(seeds), condition, seeds=seeds, solver=solver, steps=steps)
        x.append(last.x)
        nfe += last.nfe * len(seeds)
    return torch.cat(x), round(nfe / n)


def asked(model: DenoisingModel, n: int) -> dict[str, list[int]]:
    """The classes in turn, of a model that has them."""
    kinds = model.conditioner.kinds
    return {"class": [i % len(kinds["class"].names) for i in range(n)]} if "class" in kinds else {}


def theirs() -> dict[str, tuple[Any, int]]:
    """The schedulers of diffusers by name, with the evaluations that a step of each takes."""
    from diffusers import (
        DDIMScheduler,
        DDPMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        UniPCMultistepScheduler,
    )

    kinds = (
        DDPMScheduler,
        DDIMScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        DPMSolverMultistepScheduler,
        UniPCMultistepScheduler,
    )
    quiet = {DDPMScheduler: {"clip_sample": False}, DDIMScheduler: {"clip_sample": False}}
    return {
        f"diffusers {kind.__name__.removesuffix('Scheduler')}": (
            kind(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **quiet.get(kind, {})),
            2 if kind is HeunDiscreteScheduler else 1,
        )
        for kind in kinds
    }


@torch.no_grad()
def by_diffusers(model: DenoisingModel, scheduler: Any, steps: int, n: int) -> Tensor:
    """N samples of the same network under a scheduler of diffusers, which gets its eps on the chain's levels."""
    chain, parts = Chain.linear(), []
    for start in range(0, n, BATCH):
        seeds = range(start, min(start + BATCH, n))
        scheduler.set_timesteps(steps)
        condition = {name: values[start : start + BATCH] for name, values in asked(model, n).items()}
        x = SampleNoise(seeds).normal(model.shape) * scheduler.init_noise_sigma
        with model.inference():
            for t in scheduler.timesteps:
                scaled = scheduler.scale_model_input(x, t)
                level = chain.levels(torch.tensor([(float(t) + 1) / 1000], dtype=torch.float64))[0]
                x = scheduler.step(model.denoise(scaled, level, condition).eps, t, x).prev_sample
        parts.append(model.standardize.denormalize(x.float()))
    return torch.cat(parts)


def yardstick(data: DataSet, n: int, by_classifier: bool, epochs: int) -> tuple[str, Callable[[Tensor], float], float]:
    """(name, distance of samples to the held-out split, that of training data at the same n)."""
    rows = torch.linspace(0, len(data.train) - 1, n).long()
    if by_classifier:
        network, _ = classifier(data, epochs)
        real = features(network, data.batch(torch.arange(len(data.test)), "test").x)
        return (
            "Fréchet distance",
            lambda x: frechet(features(network, x), real),
            frechet(features(network, data.batch(rows).x), real),
        )
    held = data.batch(torch.arange(len(data.test)), "test").x.flatten(1).numpy()
    distance = lambda x: math.sqrt(sliced_wasserstein(x.flatten(1).numpy(), held).value / held.shape[1])  # noqa: E731
    return "sliced Wasserstein distance", distance, distance(data.batch(rows).x)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """The distance for each solver and count of evaluations; "floor" is that of real data."""
    run, n, counts = asked.run, asked.n, asked.nfe
    model = ancestral.load(run)
    assert isinstance(model, DenoisingModel), "solvers need a diffusion or score model"
    from ancestral.app.training.run import Run

    data = load(Run.existing(run).recipe.data.source)
    by_classifier = data.spec.name == SOURCE if asked.distance is None else asked.distance == "classifier"
    name, distance, floor = yardstick(data, n, by_classifier, asked.epochs)
    curves: dict[str, dict[int, float]] = {}
    for solver in asked.solvers or SOLVERS:
        for stepper, steps in ours(model, solver, counts):
            x, nfe = sample_path(model, stepper, steps, n)
            curves.setdefault(solver, {})[nfe] = _finite(distance, x)
            print(f"{solver:>32} {nfe:5d}  {curves[solver][nfe]:.4f}", flush=True)
    for solver, (scheduler, cost) in theirs().items():
        for nfe in counts:
            if nfe // cost >= 2:
                curves.setdefault(solver, {})[nfe] = _finite(distance, by_diffusers(model, scheduler, nfe // cost, n))
                print(f"{solver:>32} {nfe:5d}  {curves[solver][nfe]:.4f}", flush=True)
    return {"run": run.name, "n": n, "distance": name, "floor": floor, "curves": curves}


def _finite(distance: Callable[[Tensor], float], x: Tensor) -> float:
    return distance(x) if bool(x.isfinite().all()) else float("inf")


def plot(result: dict[str, Any], path: Path) -> None:
    """A panel for each group of solvers, with the curves of the others in grey, so that no two curves of a panel look alike."""
    from matplotlib.figure import Figure

    from ancestral.app.plots import COLOURS

    curves = {
        name: [(int(nfe), value) for nfe, value in curve.items() if np.isfinite(value)]
        for name, curve in result["curves"].items()
    }
    groups = {
        "ODE": [name for name in curves if name not in RANDOM and not name.startswith("diffusers")],
        "with noise in each step": [name for name in curves if name in RANDOM],
        "diffusers' schedulers": [name for name in curves if name.startswith("diffusers")],
    }
    groups = {title: names for title, names in groups.items() if any(curves[name] for name in names)}
    top = 50 * result["floor"]  # of the axes; what is above is written
    figure = Figure(figsize=(1 + 4.2 * len(groups), 5.6), dpi=110, layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(groups), sharey=True, squeeze=False).flat, groups.items(), strict=True
    ):
        for name in curves.keys() - set(names):
            if curves[name]:
                axes.plot(*zip(*curves[name], strict=True), color="#e7e5e4", linewidth=1, zorder=0)
        for i, name in enumerate(name for name in names if curves[name]):
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linestyle": ("-", "--")[i % 2]}
            label = name.removeprefix("diffusers ")
            axes.plot(*zip(*curves[name], strict=True), markersize=5, linewidth=1.3, alpha=0.85, label=label, **style)
            for nfe, value in curves[name]:
                if value > top:
                    axes.annotate(
                        f"↑ {value:.3g}",
                        (nfe, top),
                        (-3, -10),
                        textcoords="offset points",
                        ha="right",
                        fontsize=8,
                        color=style["color"],
                    )
        axes.axhline(result["floor"], color="black", linewidth=0.8, linestyle=":", label="real data")
        axes.set(
            xscale="log", yscale="log", xlabel="evaluations of the network", title=title, ylim=(0.9 * result["floor"], top)
        )
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    figure.axes[0].set_ylabel(result["distance"])
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--nfe", type=int, nargs="+", default=[5, 10, 20, 50, 100, 1000])
    parser.add_argument("--solvers", nargs="+", help="some of ours; left out: all")
    parser.add_argument("--distance", choices=("classifier", "sliced"), help=f"left out: classifier for {SOURCE}, else sliced")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of the classifier's training ({EPOCHS})")
    parser.add_argument("--out", type=Path, default=Path("solvers"))
    options = parser.parse_args()
    result = measure(options)
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    plot(result, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
