"""Every claim can fail: with one formula of the library made wrong, each is refuted.

The wrong formulas are the field's own: a constant dropped, sigma for sigma^2, a divergence turned around, a step too early.
"""

import math
from dataclasses import replace
from pkgutil import resolve_name

import pytest
import torch
from torch.nn.functional import interpolate, softplus

from ancestral.app.theory import CLAIMS
from ancestral.app.theory.claims import Sides
from ancestral.distributions import Bernoulli, Normal
from ancestral.gaussian import Gaussian
from ancestral.likelihood import elbo
from ancestral.models.objectives import NonSaturating
from ancestral.schedules import Chain, transition
from ancestral.solvers import Euler, UnadjustedLangevin

LOG_2PI = math.log(2 * math.pi)


class Silent:
    """Noise that is zero."""

    def __init__(self, noise):
        self.n = noise.n

    def normal(self, shape):
        return torch.zeros(self.n, *shape)


def silent(step):
    """A step of a solver without its noise."""
    return lambda self, denoise, x, t, s, memory, noise: step(self, denoise, x, t, s, memory, Silent(noise))


def turned(kl):
    """KL(p || q) for KL(q || p)."""

    def swapped(self, other=None):
        one = Gaussian(torch.zeros_like(self.mean), torch.ones_like(self.var)) if other is None else other
        return kl(one, self)

    return swapped


def penalised_twice(call):
    def wrong(self, *arguments):
        real, fake, terms = call(self, *arguments)
        return real, fake, {name: 2 * term for name, term in terms.items()}

    return wrong


def steady_langevin(denoise, x, t, eta, noise):
    """sqrt(eta) for sqrt(2 eta)."""
    z = noise.normal(x.shape[1:]).to(x)
    return x + t.alpha * (-eta * denoise(x, t).eps / t.u + math.sqrt(eta) * z)


def at_one_size(forward):
    return lambda self, z, *rest: interpolate(forward(self, interpolate(z, (32, 32)), *rest), z.shape[2:])


def guided_by_w(call):
    """Ho & Salimans' weight w where a scale 1 + w is asked for."""
    return lambda self, x_t, t: call(replace(self, scale=self.scale + 1), x_t, t)


def dropped_by_batch(forward):
    def wrong(self, raw, n, noise=None):
        keep = self.drop
        if noise is not None:
            self.drop = float(noise.uniform()[0] < keep)
        try:
            return forward(self, raw, n, noise)
        finally:
            self.drop = keep

    return wrong


def without_beta(loss):
    def wrong(self, *arguments):
        self.beta = 1.0
        return loss(self, *arguments)

    return wrong


def thousandfold(players):
    def wrong(self):
        (player,) = players(self)
        return (type(player)(player.name, player.parameters * 1000),)

    return wrong


def without_time(players):
    """The parameters of the embedding are not trained."""

    def wrong(self):
        (player,) = players(self)
        of_time = {id(p) for p in self.denoiser.network.noise.parameters()}
        return (type(player)(player.name, tuple(p for p in player.parameters if id(p) not in of_time)),)

    return wrong


BETA = "ancestral.models.vae.VAE"
MINIMAX = "ancestral.models.objectives.Minimax"
CHAIN = "ancestral.schedules.Chain"
VLB = "ancestral.likelihood.vlb"
DIFFUSION = "ancestral.models.diffusion.Diffusion"
SCORE = "ancestral.models.score.ScoreModel"
ODE = "ancestral.likelihood.ode"

MUTATIONS = [
    ("vae.elbo", "half of the KL", "ancestral.gaussian.Gaussian.kl_terms", lambda f: lambda *a: 0.5 * f(*a)),
    ("vae.gap", "KL turned around", "ancestral.gaussian.Gaussian.kl", turned),
    ("vae.gaussian-kl", "KL turned around", "ancestral.gaussian.Gaussian.kl", turned),
    (
        "vae.gaussian-kl",
        "variance for deviation",
        "ancestral.gaussian.Gaussian.draw",
        lambda _: lambda q, e: q.mean + q.var * e,
    ),
    ("vae.gaussian-kl", "KL turned around, posteriors", "ancestral.gaussian.Gaussian.kl_terms", turned),
    (
        "vae.gaussian-reconstruction",
        "sigma for sigma^2",
        "ancestral.distributions.GaussianLikelihood.forward",
        lambda f: lambda *a: Normal(f(*a).mean, f(*a).var.sqrt()),
    ),
    (
        "vae.bernoulli-reconstruction",
        "a sign",
        "ancestral.distributions.Bernoulli.log_prob",
        lambda _: lambda p, x: (x * p.logits - softplus(-p.logits)).sum(1),
    ),
    (
        "vae.bernoulli-reconstruction",
        "squared error",
        "ancestral.distributions.Bernoulli.log_prob",
        lambda _: lambda p, x: -(x - Bernoulli(p.logits).mean).square().sum(1),
    ),
    (
        "vae.optimal-variance",
        "root of the error",
        "ancestral.distributions.GaussianLikelihood.error",
        lambda f: lambda *a: f(*a).sqrt(),
    ),
    (
        "vae.linear-optimum",
        "constant dropped",
        "ancestral.distributions.Normal.log_prob",
        lambda f: lambda p, x: f(p, x) + x.shape[1] / 2 * LOG_2PI,
    ),
    ("vae.gaussian-reconstruction", "half of the KL", "ancestral.gaussian.Gaussian.kl_terms", lambda f: lambda *a: 0.5 * f(*a)),
    ("vae.beta", "beta forgotten", f"{BETA}.losses", without_beta),
    ("vae.importance-weights", "the mean of logarithms", "ancestral.models.vae.iwae", lambda _: elbo),
    ("gan.cross-entropy", "1/2 forgotten", f"{MINIMAX}.discriminator", lambda f: lambda *a: 2 * f(*a)),
    ("gan.zero-sum", "minimax that is non-saturating", f"{MINIMAX}.generator", lambda _: NonSaturating.generator),
    ("gan.optimal-discriminator", "labels swapped", f"{MINIMAX}.discriminator", lambda f: lambda o, x, y: f(o, -x, -y)),
    (
        "gan.equilibrium",
        "unequal weights",
        f"{MINIMAX}.discriminator",
        lambda _: lambda o, x, y: softplus(-x) + softplus(y) / 2,
    ),
    ("gan.vanishing-gradient", "minimax that is non-saturating", f"{MINIMAX}.generator", lambda _: NonSaturating.generator),
    (
        "gan.sum-of-gradients",
        "minimax twice",
        "ancestral.models.objectives.NonSaturating.generator",
        lambda _: lambda o, y: -softplus(y) / 2,
    ),
    (
        "gan.least-squares",
        "labels smoothed",
        "ancestral.models.objectives.LeastSquares.discriminator",
        lambda _: lambda o, x, y: ((x - 0.9).square() + y.square()) / 2,
    ),
    (
        "gan.hinge",
        "another margin",
        "ancestral.models.objectives.Hinge.discriminator",
        lambda _: lambda o, x, y: (0.5 - x).relu() + (1 + y).relu(),
    ),
    (
        "gan.relativistic",
        "each judged alone",
        "ancestral.models.objectives.Relativistic.discriminator",
        lambda _: lambda o, x, y: softplus(-x) + softplus(y),
    ),
    ("gan.dirac", "1/2 of the penalty forgotten", "ancestral.models.objectives.Penalties.__call__", penalised_twice),
    (
        "diffusion.step",
        "variance for deviation",
        f"{CHAIN}.step",
        lambda _: lambda c, x, i, e: (1 - c.betas[i - 1]).sqrt() * x + c.betas[i - 1] * e,
    ),
    ("diffusion.closed-form", "a step too early", f"{CHAIN}.level", lambda f: lambda c, i: f(c, i - 1)),
    ("diffusion.forgetting", "variance for deviation", f"{CHAIN}.sigma", lambda f: lambda c, t: f(c, t) ** 2),
    (
        "diffusion.forgetting",
        "a chain that stops halfway",
        f"{CHAIN}._log_abar",
        lambda f: lambda c, t: f(c, t / 2),
    ),
    (
        "diffusion.reverse-step",
        "beta for beta~",
        f"{CHAIN}.posterior",
        lambda f: lambda c, x, y, i: (f(c, x, y, i)[0], c.betas[i - 1].item()),
    ),
    (
        "diffusion.reverse-step",
        "alpha for its root",
        f"{CHAIN}.posterior",
        lambda f: lambda c, x, y, i: (f(c, x * c.level(i - 1).alpha, y, i)[0], f(c, x, y, i)[1]),
    ),
    ("diffusion.reconstruction", "constant dropped", f"{VLB}._reconstruction", lambda f: lambda *a: f(*a) + LOG_2PI / 2),
    ("diffusion.prior-matching", "a step too early", f"{VLB}._prior", lambda f: lambda c, x: f(Chain(c.betas[:-1]), x)),
    ("diffusion.prior-matching", "a prior that is learned", f"{VLB}._prior", lambda f: lambda c, x: f(c, x.requires_grad_())),
    ("diffusion.consistency", "weight halved", f"{DIFFUSION}.weights", lambda f: lambda *a: f(*a) / 2),
    ("diffusion.consistency", "bound's weight doubled", f"{VLB}._ratio", lambda f: lambda *a: 2 * f(*a)),
    (
        "diffusion.reconstruction",
        "SNR_1 for 1/beta_1",
        f"{DIFFUSION}.weights",
        lambda f: lambda m, t: f(m, t) - m.schedule.T / 2,
    ),
    ("diffusion.elbo", "the prior term forgotten", f"{VLB}._prior", lambda f: lambda *a: 0.9 * f(*a)),
    ("diffusion.elbo", "a term forgotten", f"{VLB}._every_step", lambda f: lambda *a: f(*a)[1:]),
    ("diffusion.tight", "error's root", "ancestral.oracles.MixtureOracle.error", lambda f: lambda *a: math.sqrt(f(*a))),
    ("diffusion.simple-loss", "root of the SNR", f"{DIFFUSION}.weights", lambda f: lambda *a: f(*a).sqrt()),
    (
        "diffusion.ddim",
        "beta for beta~",
        "ancestral.solvers.ancestral.transition",
        lambda _: lambda s, t: (transition(s, t)[0], transition(s, t)[1] * (t.sigma / s.sigma) ** 2),
    ),
    ("diffusion.algorithm-2", "no noise added", "ancestral.solvers.ancestral.Ancestral.step", silent),
    ("diffusion.one-network", "a network for each t", f"{DIFFUSION}.players", thousandfold),
    ("diffusion.one-network", "no embedding of t", f"{DIFFUSION}.players", without_time),
    ("diffusion.solver-order", "Heun without its correction", "ancestral.solvers.ode.Heun.step", lambda _: Euler.step),
    ("latent.compute", "work at one size", "ancestral.networks.unet.UNet.forward", at_one_size),
    ("latent.memory", "work at one size", "ancestral.networks.unet.UNet.forward", at_one_size),
    ("latent.guidance", "w for 1 + w", "ancestral.guidance.ClassifierFree.__call__", guided_by_w),
    (
        "latent.dropped-condition",
        "dropped by batch",
        "ancestral.conditioning.conditioner.Conditioner.forward",
        dropped_by_batch,
    ),
    (
        "latent.dropped-condition",
        "never dropped",
        "ancestral.conditioning.classes.ClassCondition.forward",
        lambda f: lambda c, raw, n, drop=None: f(c, raw, n),
    ),
    ("score.noise", "sigma forgotten", "ancestral.prediction.Prediction.score", lambda _: property(lambda p: -p.eps)),
    (
        "score.tweedie",
        "sigma for sigma^2",
        "ancestral.prediction.Prediction.of",
        lambda _: classmethod(lambda cls, kind, s, x_t, alpha, sigma: cls((x_t + sigma * s) / alpha, x_t, alpha, sigma)),
    ),
    ("score.matching", "twice the trace", f"{SCORE}._trace", lambda f: staticmethod(lambda *a: 2 * f(*a))),
    ("score.matching", "half of the slice", f"{SCORE}._slice", lambda f: staticmethod(lambda *a: 0.5 * f(*a))),
    ("score.matching", "sigma for sigma^2", f"{SCORE}.weights", lambda f: lambda *a: f(*a).sqrt()),
    ("score.is-diffusion", "g for g^2", f"{SCORE}.weights", lambda f: lambda *a: f(*a).sqrt()),
    (
        "score.langevin",
        "sqrt(eta) for sqrt(2 eta)",
        "ancestral.app.theory.score.langevin.langevin_step",
        lambda _: steady_langevin,
    ),
    ("score.annealed-variance", "the same", "ancestral.solvers.langevin.langevin_step", lambda _: steady_langevin),
    (
        "score.far-from-data",
        "no noise in training",
        "ancestral.schedules.VE.sigma",
        lambda f: lambda s, t: f(s, t).clamp(max=0.07),
    ),
    (
        "score.mode-weights",
        "no annealing",
        "ancestral.app.theory.score.models.Langevin",
        lambda _: lambda repeats, step: UnadjustedLangevin(0.1, step),
    ),
    ("score.same-marginals", "no noise added", "ancestral.solvers.sde.EulerMaruyama.step", silent),
    (
        "score.same-marginals",
        "half the slope",
        "ancestral.prediction.Prediction.v",
        lambda f: property(lambda p: 0.9 * f.fget(p)),
    ),
    ("score.ode-likelihood", "the trace's sign", f"{ODE}._full_trace", lambda f: lambda *a: -f(*a)),
    (
        "score.hutchinson",
        "normal numbers for signs",
        f"{ODE}._hutchinson",
        lambda f: lambda signs: f(torch.randn_like(signs)),
    ),
]


def test_every_claim_has_a_wrong_formula():
    assert {name for name, *_ in MUTATIONS} == set(CLAIMS)


SLOW = ("score.far-from-data", "diffusion.algorithm-2")  # they train, or draw much


@pytest.mark.parametrize(
    ("name", "what", "target", "mutate"),
    [pytest.param(*m, id=f"{m[0]}: {m[1]}", marks=pytest.mark.long if m[0] in SLOW else ()) for m in MUTATIONS],
)
def test_a_wrong_formula_is_refuted(name, what, target, mutate, monkeypatch):
    where, _, attribute = target.rpartition(".")
    owner = resolve_name(where)
    wrong = mutate(getattr(owner, attribute))
    monkeypatch.setattr(owner, attribute, wrong)
    sides = (side for side in CLAIMS[name].compute() if isinstance(side, Sides))
    assert not all(side.holds for side in sides)  # the first that fails is enough
