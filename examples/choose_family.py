"""Choose a family for given data: train all with one budget, compare them with baselines, and print a verdict."""

from pathlib import Path

import ancestral as an
from ancestral.app.evaluation import Comparison


def main(
    source: str = "gaussians",
    models: tuple[str, ...] | None = None,
    budget: str = "1m",
    n: int = 2000,
    settings: tuple[str, ...] = (),
    out: Path = Path("runs/compare"),
) -> Comparison:
    comparison, page = an.compare([source], models=models, budget=budget, out=out, n=n, settings=settings)

    # the best first; each figure with its standard error, and the figure of real data at the same n
    for subject in comparison.subjects:
        found = subject.evaluation
        distance, recall = found.headline, found.get("recall-coordinates") or found.get("recall-classifier")
        kind = "baseline" if subject.baseline else "model"
        print(f"{subject.name:12} {kind:9} {distance.name} {distance.value.value:.4f} ± {distance.value.std_err:.4f}", end="")
        print(f"  recall {recall.value.value:.2f}" if recall else "")
    print(f"real data: {distance.real.value:.4f}")

    # what may be claimed by the rule
    print(comparison.rule, *comparison.verdict, f"the whole report: {page}", sep="\n")
    return comparison


if __name__ == "__main__":
    main()
