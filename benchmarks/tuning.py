"""What `ancestral tune` gains: the distance of a run's samples from real data against evaluations of the network.

    python benchmarks/tuning.py RUN [--n 2000] [--steps 4 5 6 8 10 20] [--distance classifier]

Before is the default solver at the default spacing. Tuned is what `sample` uses in a tuned run; the column is empty for numbers
of steps without a tuning. The distance is that of `solvers.py`, of the same n seeds each. Prints a table for the documentation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ancestral.app.evaluate import data_of
from ancestral.app.sampling import Tuning
from ancestral.app.training.run import Run
from ancestral.models.denoising import SOLVER, SPACING
from quality import EPOCHS, SOURCE
from solvers import asked as classes
from solvers import yardstick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 5, 6, 8, 10, 20])
    parser.add_argument("--distance", choices=("classifier", "sliced"), help=f"left out: classifier for {SOURCE}, else sliced")
    options = parser.parse_args()
    run = Run.existing(options.run)
    tuning = Tuning.of(run)
    if tuning is None:
        sys.exit(f"{options.run} has no tuning of its weights: run `ancestral tune {options.run}` first")
    model, data, n = run.load_model(), data_of(run), options.n
    by_classifier = data.spec.name == SOURCE if options.distance is None else options.distance == "classifier"
    name, distance, floor = yardstick(data, n, by_classifier, EPOCHS)

    def measured(**how: Any) -> str:
        x = model.sample(n, classes(model, n), seeds=range(n), **how).cpu()  # type: ignore[arg-type]
        return f"{distance(x):.1f}" if by_classifier else f"{distance(x):.4f}"

    print(f"{name} of {n:,} samples; of real data {floor:.4f}\n")
    print("| evaluations | before | tuned | sampler |\n|---|---|---|---|")
    for steps in options.steps:
        setting = tuning.of_steps(steps)
        before, after, sampler = measured(steps=steps, solver=SOLVER, spacing=SPACING), "", ""
        if setting is not None:
            after = measured(steps=steps, solver=setting.solver, spacing=setting.spacing)
            sampler = f"{setting.solver}, {setting.spacing if isinstance(setting.spacing, str) else 'fitted'}"
        print(f"| {steps} | {before} | {after} | {sampler} |", flush=True)


if __name__ == "__main__":
    main()
