"""The health check of a VAE: its active latents, their information about x, and its reconstructions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.fidelity import fidelity
from ancestral.gaussian import Gaussian
from ancestral.models.capabilities import Diagnosis
from ancestral.models.codec import Encoding

ACTIVE = 0.01  # variance over the data of a posterior's centre, above which a unit is in use (Burda et al. 2016, section 5.2)

EARLY = 10_000  # training samples before the first finding


@dataclass(frozen=True)
class Standing:
    """The inputs of the check, on held-out samples.

    `elbo` and `elbo_train` are the mean bounds of held-out and of training samples in nats. `code` is the encoding of the
    held-out samples x `(n, *shape)`, and `mean` is the mean of p(x | z) `(n, *shape)`. `std` and `bounds` are the deviation of
    each channel and the range of the data. `of_codes` has numbers and findings of a codebook. `seen` is the number of training
    samples so far.
    """

    elbo_train: float
    elbo: float
    code: Encoding
    x: Tensor
    mean: Tensor
    std: Tensor
    bounds: tuple[float, float] | None
    of_codes: tuple[dict[str, float], tuple[str, ...]]
    seen: int

    def diagnosis(self) -> Diagnosis:
        """Return numbers, the summary for the progress line, and findings with remedies."""
        code, kl, d = self.code, self.code.kl.mean(0), self.x[0].numel()
        error = float((self.mean - self.x).square().mean().sqrt())
        explained = 1 - float(((self.mean - self.x) / self.std).square().mean())
        numbers = {
            "elbo": self.elbo,
            "elbo_train": self.elbo_train,
            "kl": float(kl.sum()),
            "explained": explained,
        }
        words, findings = [f"elbo {self.elbo / d:.3f}/dim", f"error {error:.3f}"], []
        numbers |= fidelity(self.x, self.mean, self.bounds)
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
            findings.append(
                "reconstructions explain none of the variance: the decoder does not use its latents; lower model.beta"
            )
        more, said = self.of_codes
        numbers |= more
        if more:
            words.append(f"{more['codes_used']:.0f} codes")
        gap = self.elbo_train - self.elbo
        if gap > max(10.0, 0.1 * d):
            findings.append(
                f"held-out samples score {2 ** int(math.log2(gap))} nats or more below training samples: the model memorises "
                "the latter; stop earlier, lower model.width or model.latent, or give more data"
            )
        early = self.seen < EARLY
        return Diagnosis(numbers, "  ".join(words), () if early else (*findings, *said))


def information(q: Gaussian, z: Tensor) -> float:
    """Return I(x; z) = E [log q(z | x) - log q(z)] in nats (Hoffman & Johnson 2016). It is at most log n.

    q(z) is the mixture of the n given posteriors.

    Args:
        q: the posteriors of n samples `(n, d)`.
        z: a draw of each.
    """
    n = len(z)
    var = q.var[None]
    cross = -0.5 * ((z[:, None] - q.mean[None]).square() / var + var.log() + math.log(2 * math.pi)).sum(2)
    return float((cross.diagonal() - (torch.logsumexp(cross, 1) - math.log(n))).mean())
