"""Is my GAN collapsing? Train one with and one without the penalties that make training converge, and read their reports."""

import json
from pathlib import Path

import torch

import ancestral as an
from ancestral.app.data.toys import gaussian_mixture

PLAIN = ("model.objective=non-saturating", "model.r1=0", "model.r2=0")  # a GAN as in 2014
HEALTH = ("coverage", "distinct", "js", "log4")


def modes(x: torch.Tensor) -> tuple[int, float]:
    """Count the Gaussians with at least 1 % of the samples within four deviations; also return the share within any of them."""
    mixture = gaussian_mixture()
    distance, nearest = torch.cdist(x, mixture.means.float()).min(1)
    close = distance < 4 * mixture.std
    counts = torch.bincount(nearest[close], minlength=8)
    return int((counts >= 0.01 * len(x)).sum()), close.float().mean().item()


def main(
    budget: str = "2000it", runs: Path = Path("runs"), settings: tuple[str, ...] = ("model.width=64",)
) -> dict[str, tuple[int, float]]:
    found = {}
    for name, options in (("plain", PLAIN), ("penalised", ())):
        run = runs / f"gan-{name}"
        model = an.train("gaussians", model="gan", budget=budget, out=run, quiet=True, settings=(*options, *settings))

        # the last of the model's reports on its own health
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        looks = [row for row in rows if "health/coverage" in row]
        print(name, {key: round(looks[-1][f"health/{key}"], 2) for key in HEALTH})

        # the truth, which is known only for toy data
        found[name] = modes(model.sample(2000))
        print(f"{name}: {found[name][0]} of 8 modes, {found[name][1]:.0%} of samples on one")
    return found


if __name__ == "__main__":
    main()
