"""How a VAE fares: which latents carry anything, how much they say of x, how well x comes back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.families.capabilities import Diagnosis
from ancestral.fidelity import fidelity
from ancestral.gaussian import Gaussian
from ancestral.randomness import Noise

if TYPE_CHECKING:
    from ancestral.families.vae import VAE

ACTIVE = 0.01  # variance over the data of a posterior's centre, above which a unit is in use (Burda et al. 2016, section 5.2)

EARLY = 10_000  # samples seen, before which a finding would be a guess


def look(model: VAE, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
    """The diagnosis of a model on as many training as held-out samples."""
    bounds: dict[str, float] = {}
    for name, batch in (("train", train), ("test", test)):
        context = model.conditioner(batch.conditions, len(batch))
        code, h = model.coder(model.coder.features(model.scaling.encode(batch.x), context), context, noise)
        observed = model.likelihood(h.float())
        bounds[name] = float((observed.log_prob(batch.x) - code.kl.sum(1)).mean())
    kl, d = code.kl.mean(0), model.dimensions
    error = float((observed.mean - batch.x).square().mean().sqrt())
    explained = 1 - float(((observed.mean - batch.x) / model.scaling.std).square().mean())
    numbers = {
        "elbo": bounds["test"],
        "elbo_train": bounds["train"],
        "kl": float(kl.sum()),
        "explained": explained,
    }
    words, findings = [f"elbo {bounds['test'] / d:.3f}/dim", f"error {error:.3f}"], []
    numbers |= fidelity(batch.x, observed.mean, model.scaling.bounds)
    if code.q is not None:
        active = int((code.q.mean.var(0) > ACTIVE).sum())
        latent = code.z.shape[1]
        numbers |= {"active": float(active), "information": information(code.q, code.z)}
        numbers |= {f"kl/{j}": float(v) for j, v in enumerate(kl[:64])}
        words.append(f"kl {float(kl.sum()):.1f} in {active}/{latent} dimensions")
        if active <= latent / 4:
            findings.append(
                f"{active} of {latent} latent dimensions are in use: posterior collapse; lower model.beta, or give "
                "model.free_bits=0.1 or model.kl_warmup=50000"
            )
        elif active == latent and latent < d and explained < 0.8:
            findings.append(
                f"all {latent} latent dimensions are in use and a fifth of the variance is lost: raise model.latent"
            )
    elif explained < 0.05:
        findings.append("reconstructions explain none of the variance: the decoder does not use its latents; lower model.beta")
    more, said = model.coder.diagnose()
    numbers |= more
    if more:
        words.append(f"{more['codes_used']:.0f} codes")
    gap = bounds["train"] - bounds["test"]
    if gap > max(10.0, 0.1 * d):
        findings.append(
            f"held-out samples score {2 ** int(math.log2(gap))} nats or more below training samples: the model learns them by "
            "heart; stop earlier, lower model.width or model.latent, or give more data"
        )
    early = int(model.seen) < EARLY
    return Diagnosis(numbers, "  ".join(words), () if early else (*findings, *said))


def information(q: Gaussian, z: Tensor) -> float:
    """I(x; z) = E [log q(z | x) - log q(z)] in nats, q(z) the mixture of the n posteriors at hand (Hoffman & Johnson 2016).

    It cannot exceed log n. q: of n samples `(n, d)`; z: a draw of each.
    """
    n = len(z)
    var = q.var[None]
    cross = -0.5 * ((z[:, None] - q.mean[None]).square() / var + var.log() + math.log(2 * math.pi)).sum(2)
    return float((cross.diagonal() - (torch.logsumexp(cross, 1) - math.log(n))).mean())
