"""Few steps: how many evaluations of the network does a sample need, and with which solver?"""

from pathlib import Path

import torch

import ancestral as an
from ancestral.metrics.sliced import sliced_wasserstein

SOLVERS = ("ddim", "dpmpp", "dpmpp-3", "heun", "unipc")


def main(budget: str = "1m", out: Path = Path("runs/few-steps"), n: int = 2000) -> dict[tuple[str, int], float]:
    model = an.train("moons", budget=budget, out=out, quiet=True)
    data = an.load_data("moons")
    held_out = data.batch(torch.arange(n), "test").x.numpy()

    # where each seed ends with very many steps
    exact = model.sample(n, steps=200, solver="heun")
    print(f"heun, 200 steps: to the data {sliced_wasserstein(exact.numpy(), held_out)}")

    errors = {}
    for solver in SOLVERS:
        for steps in (4, 8, 16, 32):
            *_, last = model.trajectory(n, steps=steps, solver=solver)
            errors[solver, steps] = (last.x - exact).norm(dim=1).mean().item()
            to_data = sliced_wasserstein(last.x.numpy(), held_out)
            print(
                f"{solver:8} {last.nfe:3} evaluations: from the exact flow {errors[solver, steps]:.4f}, to the data {to_data}"
            )
    return errors


if __name__ == "__main__":
    main()
