"""Variational autoencoders (Kingma & Welling 2014, arXiv:1312.6114; Rezende et al. 2014, arXiv:1401.4082).

Latents explain the data, p(x) = int p(x | z) p(z) dz, and an encoder infers them, q(z | x). Training maximises

    L = E_q(z|x) [log p(x | z)] - KL(q(z | x) || p(z))  =  log p(x) - KL(q(z | x) || p(z | x))                     (1)

the evidence lower bound, in nats, of x in the units of the data. Its two terms are separate, and no constant is dropped.
Training may weight the second term by beta (Higgins et al. 2017), increase it from 0 (Bowman et al. 2016), and not count the
first `free_bits` of each latent dimension (Kingma et al. 2016, arXiv:1606.04934, eq. 15). Samples come from p(z), or from the
aggregate prior, which is fitted to the encoded data (`mixture`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.configuration import configurable
from ancestral.distributions import BernoulliLikelihood, GaussianLikelihood, Likelihood, LikelihoodName, Observation
from ancestral.distributions import likelihood as likelihood_of
from ancestral.errors import NoLikelihoodError, UsageError
from ancestral.gaussian import slerp
from ancestral.likelihood import Bound, elbo, iwae
from ancestral.models.aggregate_prior import Mixture, aggregate, numbers
from ancestral.models.base import GenerativeModel
from ancestral.models.capabilities import Diagnosis
from ancestral.models.codec import POSTERIORS, Amortised, Encoding, LatentCodec, PosteriorName, log_standard
from ancestral.models.health.vae import Standing
from ancestral.networks.contract import taking_context
from ancestral.noise import Noise, SampleNoise, StreamNoise
from ancestral.schedules import CLEAN
from ancestral.solvers import State
from ancestral.suggest import unknown

Method = Literal["elbo", "iwae"]
Prior = Literal["aggregate", "standard"]
FIT_KEY = 2**61  # key of the noise for the fit of the mixtures, larger than that of any step
PART = 512  # samples encoded at a time


@configurable
class VAE(GenerativeModel):
    """A variational autoencoder: an encoder and a decoder, which maximise the evidence lower bound.

        model = VAE(encoder, decoder, shape=(1, 28, 28), latent=16, likelihood="bernoulli", bounds=(0, 1))

    Args:
        encoder: any module (y `(n, *shape)` of mean 0 and deviation 1, context) -> the posterior's parameters `(n, outputs)`:
            for a diagonal posterior the means and the log variances, 2 `latent` numbers. It may also take only (y).
            Or a `LatentCodec`, which is encoder, posterior and decoder in one; then decoder, latent and posterior are left out.
        decoder: any module (z `(n, latent)`, context) -> h, the likelihood's parameters `(n, outputs * c, *space)`.
        shape: of one sample.
        latent: numbers in z.
        posterior: q(z | x): "diagonal", "full" or "flow".
        likelihood: p(x | z) from the decoder's output, by name (`ancestral.distributions.likelihood`) or as an object.
        levels: of data that are stored as whole levels, for the likelihood "logistic".
        beta: weight of the KL term, reached after `warmup` samples. free_bits: nats of each latent dimension that cost nothing.
        parts: of the second-stage prior. notes: what a person should be told before training.
        mean, std, bounds: the units of the data, see `Standardize`.
        conditioner: encodes the conditions; None: the model has none.

    Raises:
        UsageError: if decoder or latent are missing, or a network takes other inputs.
    """

    family = "vae"
    methods: tuple[Method, ...] = ("elbo", "iwae")  # of `log_prob`
    seen: Tensor
    activity: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module | None = None,
        *,
        shape: Sequence[int],
        latent: int | None = None,
        posterior: PosteriorName = "diagonal",
        likelihood: Likelihood | LikelihoodName = "gaussian",
        levels: int | None = None,
        beta: float = 1.0,
        warmup: int = 0,
        free_bits: float = 0.0,
        parts: int = 16,
        notes: tuple[str, ...] = (),
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        super().__init__(shape, mean=mean, std=std, bounds=bounds, conditioner=conditioner)
        if isinstance(encoder, LatentCodec):
            coder = encoder
        elif decoder is None or latent is None:
            raise UsageError("a VAE of an encoder needs a decoder and the numbers in z: give decoder and latent=")
        else:
            encoder, decoder = taking_context(encoder, "y"), taking_context(decoder, "z")
            coder = Amortised(encoder, POSTERIORS[posterior](latent), decoder)
        if isinstance(likelihood, str):
            units = self.standardize.units
            likelihood = likelihood_of(likelihood, units["mean"], units["std"], len(shape) - 1, levels)
        self.coder, self.likelihood = coder, likelihood
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits
        self.latent_shape = (coder.latent,)
        self.mixture = Mixture(coder.latent, parts)
        context_dims = self.conditioner.widths.vector + self.conditioner.widths.channels
        self.mixture_given = Mixture(coder.latent, parts, context_dims) if context_dims else None  # of conditional samples
        self.notes = notes
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("activity", torch.ones(coder.latent))

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return -L of eq. 1 with the weighted second term: {"total", "reconstruction": -log p(x | z), "kl"}, `(n,)` each."""
        context = self.conditioner(batch.conditions, len(batch), noise)
        code, h = self.coder(self._features(batch.x, context), context, noise)
        h = h.float()
        error = self.likelihood.error(h, batch.x) if self.training else None
        observed = self.likelihood(h, None if error is None else batch.mean(error))
        reconstruction = -observed.log_prob(batch.x)
        weight: float | Tensor = self.beta
        if self.warmup and self.training:
            weight = self.beta * (self.seen / self.warmup).clamp(max=1.0)
        if self.training:
            if error is not None:
                batch.record("error", error.sum())
            self.coder.record(batch, code, noise)
        total = reconstruction + weight * self._charged(code.kl, batch)
        if code.penalty is not None:
            total = total + code.penalty
        return {"total": total, "reconstruction": reconstruction, "kl": code.kl.sum(1)}

    def _charged(self, kl: Tensor, batch: Batch) -> Tensor:
        """Return sum_j max(lambda, KL_j) `(n,)`, where the KL of a dimension is its mean over the batch."""
        if self.free_bits:
            kl = torch.where(batch.mean(kl) > self.free_bits, kl, self.free_bits)
        return kl.sum(1)

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the encoder and the decoder."""
        return self.coder.networks()

    def after_step(self, player: str, sums: Mapping[str, Tensor], n: int) -> None:
        """Count the training samples, and update the parts that are not learned by gradient."""
        self.seen += n
        if "error" in sums:
            self.likelihood.after_step(sums["error"] / n)
        self.coder.after_step(sums)

    def _features(self, x: Tensor, context: Context) -> Any:
        return self.coder.features(self.standardize.normalize(x), context)

    def observation(self, z: Tensor, context: Context) -> Observation:
        """Return p(x | z)."""
        observed: Observation = self.likelihood(self.coder.decode(z, context).float())
        return observed

    # sampling

    def sample_path(
        self, noise: Noise, context: Context, *, prior: Prior = "aggregate", observe: Literal["mean", "draw"] = "mean"
    ) -> Iterator[State]:
        """Draw z from the prior (aggregate or N(0, I)), and yield the mean of p(x | z), or a draw of it, as the only state."""
        if observe not in ("mean", "draw"):
            raise UsageError(unknown("way to observe", observe, ("mean", "draw")))
        observed = self.observation(self.draw_latent(noise, prior, context), context)
        x = observed.mean if observe == "mean" else observed.draw(noise)
        yield State(self.standardize.normalize(x), CLEAN, None, 1, 1, 1)

    def draw_latent(self, noise: Noise, prior: Prior = "aggregate", context: Context | None = None) -> Tensor:
        """Draw z ~ p(z) `(n, d)`. context None: without a condition. Raises UsageError for an unknown prior."""
        if _known(prior) == "standard":
            return self.coder.prior(noise)
        return self._aggregate(context, noise.n, lambda mixture, c: mixture.draw(noise, c))

    def log_prior(self, z: Tensor, prior: Prior = "standard", context: Context | None = None) -> Tensor:
        """Return log p(z) `(n,)`. Raises UsageError for an unknown prior, and for mixtures of codes, which have no density."""
        if _known(prior) == "standard":
            return log_standard(z)
        if not self.coder.continuous:
            raise UsageError("the aggregate prior is a density, and these codes are whole numbers: choose prior='standard'")
        return self._aggregate(context, len(z), lambda mixture, c: mixture.log_prob(z, c))

    def _aggregate(self, context: Context | None, n: int, evaluate: Callable[[Mixture, Tensor | None], Tensor]) -> Tensor:
        return aggregate(self.mixture, self.mixture_given, context, self.conditioner.null(n), evaluate)

    # latents

    def encode(self, x: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor:
        """Return the means of q(z | x) `(n, d)` for samples in the units of the data."""
        with self.evaluation():
            context = self.conditioner.context(condition, len(x))
            code: Encoding = self.coder(self._features(x, context), context, None)[0]
            return code.z

    def decode(self, z: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor:
        """Return the means of p(x | z) `(n, *shape)` in the units of the data."""
        with self.evaluation():
            mean = self.observation(z, self.conditioner.context(condition, z.shape[0])).mean
            return self.to_data(self.standardize.normalize(mean))  # within the range of the data

    def reconstruct(self, x: Tensor, condition: Mapping[str, Any] | None = None) -> Tensor:
        """Encode and decode samples `(n, *shape)`."""
        return self.decode(self.encode(x, condition), condition)

    def interpolate(self, a: Tensor, b: Tensor, steps: int = 8, condition: Mapping[str, Any] | None = None) -> Tensor:
        """Return `(n, steps, *shape)` from samples a to samples b `(n, *shape)`, along great circles of their latents."""
        z_a, z_b = self.encode(a, condition), self.encode(b, condition)
        share = torch.linspace(0, 1, steps, device=z_a.device)
        return torch.stack([self.decode(slerp(z_a, z_b, s), condition) for s in share], 1)

    # likelihood

    def log_prob(
        self,
        x: Tensor,
        condition: Mapping[str, Any] | None = None,
        *,
        noise: Noise | None = None,
        method: Method = "elbo",
        k: int | None = None,
        prior: Prior = "standard",
    ) -> Bound:
        """Return a lower bound of log p(x) `(n,)` in nats, from k draws of q (None: 16, iwae: 100).

        The method elbo is eq. 1. iwae is E log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x), which is tighter for larger k (Burda
        et al. 2016, arXiv:1509.00519, eq. 8). `prior` is p(z), N(0, I) or the aggregate prior. If `noise` is None, sample i has
        seed i.

        Raises:
            NoLikelihoodError: for grey values under a Bernoulli.
            UsageError: for an unknown method.
        """
        if isinstance(self.likelihood, BernoulliLikelihood) and not torch.all((x == 0) | (x == 1)):
            raise NoLikelihoodError(
                "the cross-entropy of values between 0 and 1 is not a likelihood: for one train with "
                "model.likelihood=continuous-bernoulli or logistic, or make the data black and white"
            )
        if method not in self.methods:
            raise UsageError(unknown("method", method, self.methods))
        k = (16 if method == "elbo" else 100) if k is None else k
        if k < 1:
            raise UsageError(f"a bound needs at least one draw; got k={k}")
        noise = noise or SampleNoise(range(len(x)), self.device)
        with self.inference():
            context = self.conditioner.context(condition, len(x))
            features = self._features(x, context)
            log_px, kl = [], []
            for _ in range(k):
                code, h = self.coder(features, context, noise)
                log_px.append(self.likelihood(h.float()).log_prob(x))
                analytic = method == "elbo" and prior == "standard"
                swap = log_standard(code.z) - self.log_prior(code.z, prior, context)  # p(z) in the place of N(0, I)
                kl.append(code.kl.sum(1) if analytic else code.log_ratio + swap)
        bound = elbo if method == "elbo" else iwae
        return bound(torch.stack(log_px), torch.stack(kl), self.dimensions, self.likelihood.discrete)

    # what is fitted, and how it fares

    def fit_after(self, batch: Batch) -> None:
        """Fit the mixtures to draws of q(z | x), the optimal variance to errors, and `activity` to the means of q(z | x)."""
        with self.inference():
            self._fit(batch)

    def _fit(self, batch: Batch) -> None:
        gaussian = self.likelihood if isinstance(self.likelihood, GaussianLikelihood) else None
        mixtures: list[tuple[dict[str, Tensor], Mixture]] = [({}, self.mixture)]
        if self.mixture_given is not None:
            mixtures.append((batch.conditions, self.mixture_given))
        for conditions, mixture in mixtures:
            draws, centres, errors, contexts = [], [], [], []
            for start in range(0, len(batch), PART):
                x = batch.x[start : start + PART]
                context = self.conditioner({name: c[start : start + PART] for name, c in conditions.items()}, len(x))
                code, h = self.coder(self._features(x, context), context, StreamNoise(len(x), 0, FIT_KEY + start, self.device))
                if gaussian is not None:
                    errors.append(((gaussian(h.float()).mean - x) / gaussian.scale).square().flatten(1).mean(1).sum())
                draws.append(code.z)
                centres.append(code.z if code.q is None else code.q.mean)
                if mixture is self.mixture_given:
                    contexts.append(numbers(context))
            mixture.fit(torch.cat(draws), torch.cat(contexts) if contexts else None)
        self.activity.copy_(torch.cat(centres).var(0))
        if gaussian is not None and gaussian.variance == "optimal":
            gaussian.value.copy_((torch.stack(errors).sum() / len(batch)).clamp(min=1e-8))

    def diagnose(self, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
        """Measure active units, KL of each dimension, mutual information and errors; see `ancestral.models.health.vae`."""
        with self.inference():
            bounds: list[float] = []
            error = None  # of the training samples: the running value depends on when the model was saved
            for batch in (train, test):
                context = self.conditioner(batch.conditions, len(batch))
                code, h = self.coder(self._features(batch.x, context), context, noise)
                if batch is train and (errors := self.likelihood.error(h.float(), batch.x)) is not None:
                    error = errors.mean()
                observed = self.likelihood(h.float(), error)
                bounds.append(float((observed.log_prob(batch.x) - code.kl.sum(1)).mean()))
            return Standing(
                elbo_train=bounds[0],
                elbo=bounds[1],
                code=code,
                x=test.x,
                mean=observed.mean,
                std=self.standardize.std,
                bounds=self.standardize.bounds,
                of_codes=self.coder.diagnose(),
                seen=int(self.seen),
            ).diagnosis()


def _known(prior: Prior) -> Prior:
    """Return the prior, or raise UsageError if it is unknown."""
    if prior not in ("aggregate", "standard"):
        raise UsageError(unknown("prior", prior, ("aggregate", "standard")))
    return prior
