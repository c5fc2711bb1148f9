"""Likelihoods: compute them for several models, with their kind, their unit and their error."""

import torch

import ancestral as an
from ancestral.likelihood import ode_log_prob
from ancestral.models import HasBound
from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle
from ancestral.schedules import Cosine


def main(budget: str = "1m", n: int = 64, settings: tuple[str, ...] = ()) -> dict[str, float]:
    data = an.load_data("digits")
    x = data.batch(torch.arange(n), "test").x
    noise = SampleNoise(range(n))

    bits = {}
    for family, options in (("vae", ("model.likelihood=logistic",)), ("diffusion", ()), ("gan", ())):
        run = f"runs/likelihood-{family}"
        model = an.train("digits", model=family, budget=budget, out=run, quiet=True, settings=(*options, *settings))

        # a capability is checked; a GAN has no likelihood
        if not isinstance(model, HasBound):
            print(f"{family}: no likelihood")
            continue
        bound = model.log_prob(x, noise=noise)
        mean, error = bound.mean()
        bits[family] = bound.bits_per_dim(data.spec.levels).mean().item()
        what = "probability of levels" if bound.discrete else "density"
        print(f"{family}: {bound.kind}, {what}: {mean:.1f} ± {error:.1f} nats, {bits[family]:.3f} bits/dim")
        print("  ", {term: round(value.mean().item(), 2) for term, value in bound.terms.items()})

    # where the density is known, compare the probability-flow ODE with it
    oracle = GaussianOracle(mean=0.7, std=0.4)
    y = oracle.sample(SampleNoise(range(n)))
    known = torch.distributions.Normal(0.7, 0.4).log_prob(y).sum(1)
    found = ode_log_prob(oracle, Cosine(), y, SampleNoise(range(n)), steps=64).value
    print(f"ODE against the closed form: {(found - known).abs().max():.1e} nats")
    return bits | {"error": (found - known).abs().max().item()}


if __name__ == "__main__":
    main()
