"""What `ancestral tune` gains: the Fréchet distance of a run's samples against evaluations of the network, before and after.

    python benchmarks/tuning.py RUN [--n 2000] [--steps 4 5 6 8 10 18] [--guidance 1.5] [--features classifier]

Before is the default solver at the default spacing. After is what `sample` uses in a tuned run; where the run has no tuning for
a number of steps, the column is empty. The distance, its error and that of real data are those of `ancestral evaluate`.
Prints the table of the documentation, and writes RUN/tuning-distances.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ancestral.app.evaluate import data_of, evaluate
from ancestral.app.evaluation import Evaluator
from ancestral.app.evaluation.result import Metric
from ancestral.app.sampling import Tuning
from ancestral.app.training.run import Run
from ancestral.models.denoising import SOLVER, SPACING
from ancestral.runtime import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 5, 6, 8, 10, 18])
    parser.add_argument("--guidance", type=float, help="left out: the model's own")
    parser.add_argument("--features", help="of the distance; left out: what suits the data")
    asked = parser.parse_args()
    run = Run.existing(asked.run)
    tuning = Tuning.of(run)
    if tuning is None:
        sys.exit(f"{asked.run} has no tuning of its weights: run `ancestral tune {asked.run}` first")
    evaluator = Evaluator(
        data_of(run),
        n=asked.n,
        extractors=asked.features and [asked.features],
        runtime=Runtime.choose("auto", parameters=10**6),
    )
    guidance = {} if asked.guidance is None else {"guidance": asked.guidance}

    def distance(**how: object) -> Metric:
        result = evaluate(asked.run, n=asked.n, how=guidance | how, evaluator=evaluator)
        assert result is not None, "one process"
        return result.headline

    found = {}
    print("| evaluations | before | tuned | sampler |\n|---|---|---|---|")
    for steps in asked.steps:
        before, setting = distance(steps=steps, solver=SOLVER, spacing=SPACING), tuning.of_steps(steps)
        after = None if setting is None else distance(steps=steps)
        sampler = (
            ""
            if setting is None
            else f"{setting.solver}, {'fitted' if not isinstance(setting.spacing, str) else setting.spacing}"
        )
        print(f"| {steps} | {before.value} | {'' if after is None else after.value} | {sampler} |", flush=True)
        found[steps] = {"before": before.value.value, "after": None if after is None else after.value.value}
    print(f"\n{before.name} of {evaluator.n:,} samples; real data {before.real}")
    (asked.run / "tuning-distances.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
