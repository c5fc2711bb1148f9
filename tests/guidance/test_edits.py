"""Edits of a model's samples: variations, what is filled in, what is enlarged; and guidance among the options of a model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ancestral.conditioning import ClassCondition, Conditioner, ContextShape
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.models import seeds_from
from ancestral.models.diffusion import Diffusion
from ancestral.models.edits import Classified, Inpaint, Measured, Upscale, Vary
from ancestral.models.score import ScoreModel
from ancestral.networks import denoising_network
from ancestral.schedules import VE, VP, Cosine, Linear, grid

SHAPE = (1, 4, 4)


class Smooth(nn.Module):
    """The exact x-prediction, at unit scale, of pictures whose pixels have the covariance 0.8^distance."""

    def __init__(self):
        super().__init__()
        where = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
        self.S = 0.8 ** torch.cdist(where, where, p=1)
        self.values, self.basis = torch.linalg.eigh(self.S)

    def forward(self, z, logsnr, context):
        a2 = logsnr.double().sigmoid()[:, None]
        gain = a2.sqrt() * self.values / (a2 * self.values + 1 - a2)
        return ((z.flatten(1).double() @ self.basis * gain) @ self.basis.T).view_as(z).to(z)


MEAN, STD = 0.4, 0.25


def smooth(schedule=None, family=Diffusion):
    return family(Denoiser(Smooth(), "x"), SHAPE, schedule=schedule or Cosine(), mean=MEAN, std=STD)


def trained(classes=3, **scaling):
    """A network with random weights in all its branches, by class."""
    torch.manual_seed(0)
    network = denoising_network((1, 8, 8), channels=(16, 32), blocks=1, context=ContextShape(vector=8))
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)
    kinds = {"class": ClassCondition([f"c{i}" for i in range(classes)], 8)}
    nn.init.normal_(kinds["class"].table.weight, std=5.0)
    units = {"mean": 0.3, "std": 0.4, "bounds": scaling.get("bounds", (0.0, 1.0))}
    return Diffusion(network, (1, 8, 8), schedule=Cosine(), target="v", conditioner=Conditioner(kinds), **units)


LEFT = torch.tensor([True, True, False, False]).view(1, 1, 1, 4)
SOLVERS = ["dpmpp", "ddpm", "heun", "unipc", "churn"]


@pytest.mark.parametrize("solver", [*SOLVERS, "adaptive", "langevin", "langevin-one"])
@pytest.mark.parametrize("family", [Diffusion, ScoreModel])
def test_no_strength_is_the_picture_and_all_strength_a_fresh_sample(family, solver):
    model = smooth(VE() if family is ScoreModel else Linear(), family)
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(model.sample(3, steps=6, solver=solver, edit=Vary(x, 0.0)), x)
    fresh = model.sample(3, steps=6, solver=solver)
    assert torch.equal(model.sample(3, steps=6, solver=solver, edit=Vary(x, 1.0)), fresh)


def within(got, expected, deviation, n, bias):
    """Means of n draws of that deviation: four standard errors, and what the steps of the solver leave."""
    assert ((got - expected).abs() <= 4 * deviation / math.sqrt(n) + bias).all(), (got - expected).abs().max()


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("solver", ["heun", "dpmpp-sde", "dpmpp"])
def test_variations_of_data_are_data(solver, strength):
    """x ~ p, noise up, walk down: p again, at any strength. On the axes of S, of variance l, the flow is
    y = x_t (l/(alpha^2 l + sigma^2))^(1/2), and the reverse SDE draws y of p(x | x_t), so that

        E x y = alpha l^(3/2)/(alpha^2 l + sigma^2)^(1/2)  by the flow,    alpha^2 l^2/(alpha^2 l + sigma^2)  by the SDE.
    """
    model, n = smooth(VP()), 3000
    S, l = model.denoiser.network.S, model.denoiser.network.values
    noise = torch.randn(n, 16, dtype=torch.float64)
    x = (MEAN + STD * noise @ torch.linalg.cholesky(S).T).view(n, *SHAPE).float()
    y = model.sample(n, steps=40, solver=solver, edit=Vary(x, strength))
    a, b = (((v - MEAN) / STD).flatten(1).double() for v in (x, y))
    within(b.mean(0), 0.0, 1.0, n, 0.01)
    within(torch.cov(b.T), S, (1 + S**2).sqrt(), n, 0.02)
    t = VP().levels(grid(VP(), 40, "logsnr"))[40 - round(40 * strength)]
    v = t.alpha**2 * l + t.sigma**2
    kept = t.alpha**2 * l**2 / v if solver == "dpmpp-sde" else t.alpha * l**1.5 / v.sqrt()
    products = (a * b).mean(1)
    within(products.mean(), kept.mean(), products.std(), n, 0.01)


@pytest.mark.parametrize("solver", [*SOLVERS, "adaptive", "langevin", "pc", "euler-maruyama"])
def test_known_pixels_do_not_change(solver):
    model, x = smooth(), torch.rand(2, *SHAPE)
    y = model.sample(2, steps=4, solver=solver, edit=Inpaint(x, LEFT, repeats=2))
    torch.testing.assert_close(y[..., :2], x[..., :2])
    assert (y[..., 2:] - x[..., 2:]).abs().min() > 1e-4
    levels = torch.randint(0, 256, (2, 1, 8, 8))
    half = torch.arange(8).view(1, 1, 1, 8) < 4
    z = trained().sample(2, steps=4, solver=solver, edit=Inpaint(levels / 255, half, repeats=2))
    assert torch.equal((z * 255).round().long()[..., :4], levels[..., :4])


def test_inpainting_has_the_conditional_mean():
    model, n = smooth(), 400
    x = torch.zeros(1, *SHAPE) + MEAN + 1.5 * STD * LEFT
    y = model.sample(n, steps=20, solver="heun", edit=Inpaint(x, LEFT, repeats=20))
    S, known = model.denoiser.network.S, LEFT.expand(1, 1, 4, 4).flatten()
    expected = S[~known][:, known] @ torch.linalg.solve(S[known][:, known], torch.full((8,), 1.5, dtype=torch.float64))
    spread = (S[~known][:, ~known] - S[~known][:, known] @ torch.linalg.solve(S[known][:, known], S[known][:, ~known])).diag()
    got = ((y - MEAN) / STD).flatten(1)[:, ~known].double().mean(0)
    within(got, expected, spread.sqrt(), n, 0.1)  # what 20 repeats leave


@pytest.mark.parametrize("solver", ["dpmpp", "heun", "dpmpp-sde"])
@pytest.mark.parametrize("schedule", [VP(), Linear(), VE()], ids=lambda s: type(s).__name__)
def test_upscaling_keeps_the_given_means_and_has_the_posterior_mean(solver, schedule):
    model, n = smooth(schedule), 1000
    small = torch.tensor([[0.1, 0.5], [0.6, 0.4]]).view(1, 1, 2, 2)
    y = model.sample(n, steps=30, solver=solver, edit=Upscale(small, sigma_y=0.01, iterations=4))
    means = F.avg_pool2d(y, 2)
    assert (means - small).abs().max() < 6 * 0.01 * STD  # six of sigma_y for 4,000 normal numbers
    S = model.denoiser.network.S
    A = torch.stack([F.avg_pool2d(e.view(1, 1, 4, 4), 2).flatten() for e in torch.eye(16).double()], 1)
    gain = torch.linalg.solve(A @ S @ A.T + 1e-4 * torch.eye(4), A @ S).T
    expected, spread = gain @ ((small.flatten() - MEAN) / STD).double(), (S - gain @ A @ S).diag().sqrt()
    within(((y - MEAN) / STD).flatten(1).double().mean(0), expected, spread, n, 0.03)


def edits(n):
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    half = torch.arange(8).view(1, 1, 1, 8) < 4
    return {
        "vary": Vary(x, 0.5),
        "inpaint": Inpaint(x, half, repeats=2),
        "upscale": Upscale(F.avg_pool2d(x, 2)),
        "measured": Measured(lambda z: z[..., ::2], (x[..., ::2] - 0.3) / 0.4),
    }


@pytest.mark.parametrize("kind", ["vary", "inpaint", "upscale", "measured"])
def test_an_edited_sample_does_not_depend_on_its_batch(kind):
    model, seeds, labels = trained(), seeds_from(3, 10), [i % 3 for i in range(10)]
    how = {
        "steps": 5,
        "solver": "dpmpp-sde",
        "guidance": 2.0,
        "rescale": 0.5,
        "interval": (0.1, 10.0),
        "negative": {"class": 1},
    }
    edit = edits(10)[kind]
    whole = model.sample(10, {"class": labels}, seeds=seeds, edit=edit, **how)
    split = model.sample(10, {"class": labels}, seeds=seeds, edit=edit, batch=4, **how)
    alone = model.sample(1, {"class": labels[7]}, seeds=seeds[7:8], edit=edit.part(slice(7, 8)), **how)
    torch.testing.assert_close(split, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(alone, whole[7:8], atol=1e-4, rtol=0)


def test_a_negative_condition_replaces_the_null():
    """Away from itself is nowhere; and with scale 0 only the negative one is left."""
    model = trained()
    plain = model.sample(2, {"class": 1}, steps=4, guidance=1)
    torch.testing.assert_close(model.sample(2, {"class": 1}, steps=4, guidance=3, negative={"class": 1}), plain)
    torch.testing.assert_close(model.sample(2, {"class": 2}, steps=4, guidance=0, negative={"class": 1}), plain)
    assert not torch.allclose(model.sample(2, {"class": 2}, steps=4, guidance=3, negative={"class": 1}), plain, atol=1e-2)


def test_the_usual_guidance_of_a_class(monkeypatch):
    """The scale is 1.5 if the null was trained; without a condition there is no guidance."""
    model = trained()
    asked = {"class": [1, 2]}
    usual = model.sample(2, asked, steps=4)
    torch.testing.assert_close(usual, model.sample(2, asked, steps=4, guidance=1.5))
    assert not torch.allclose(usual, model.sample(2, asked, steps=4, guidance=1), atol=1e-3)
    torch.testing.assert_close(model.sample(2, steps=4), model.sample(2, asked, steps=4, guidance=0))
    monkeypatch.setattr(model.conditioner, "drop", 0.0)
    torch.testing.assert_close(model.sample(2, asked, steps=4), model.sample(2, asked, steps=4, guidance=1))


def test_a_weak_model_gets_the_same_condition():
    model, weak = trained(), trained()
    for p in weak.parameters():
        nn.init.normal_(p, std=0.03)
    labels = {"class": [0, 1, 2]}
    how = {"steps": 4, "guidance": 1}
    torch.testing.assert_close(model.sample(3, labels, steps=4, guidance=0, weak=weak), weak.sample(3, labels, **how))
    torch.testing.assert_close(model.sample(3, labels, weak=weak, **how), model.sample(3, labels, **how))
    with pytest.raises(UsageError, match="leave one out"):
        model.sample(1, labels | {"class": 0}, guidance=2, weak=weak, negative={"class": 1})
    with pytest.raises(UsageError, match="trained on the data"):
        model.sample(1, guidance=2, weak=smooth())


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: Vary(torch.zeros(1, 1, 8, 8), 1.2), "strength is from 0"),
        (lambda: Vary(torch.zeros(1, 1, 7, 8)), "samples of shape 1x7x8, and 2 of shape 1x8x8"),
        (lambda: Vary(torch.zeros(3, 1, 8, 8)), "there are 3 samples"),
        (lambda: Inpaint(torch.zeros(1, 1, 8, 8), torch.ones(8, 8) > 0), "mask has shape 8x8 and the samples 2x1x8x8"),
        (lambda: Inpaint(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 7)), "mask has shape 1x1x8x7 and the samples 2x1x8x8"),
        (lambda: Upscale(torch.zeros(1, 1, 3, 4)), "cannot be shrunk to 1x3x4"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edit, words):
    with pytest.raises(UsageError, match=words):
        trained().sample(2, steps=2, edit=edit())


def test_classifier_guidance_moves_samples_to_the_class():
    """The classifier p(y = 1 | x_t) = Phi(k'E[x | x_t] / s_t) is that of the sign of k'x: nearly all samples get it."""
    model = smooth()
    k = torch.full((16,), 1 / 16)
    network = model.denoiser.network

    def log_prob(x_t, level):
        logsnr = torch.full((len(x_t),), 2 * math.log(level.alpha / level.sigma))
        centre = network(x_t / math.hypot(level.alpha, level.sigma), logsnr, None).flatten(1) @ k
        values = network.values / (1 + network.values * (level.alpha / level.sigma) ** 2)
        deviation = ((network.basis.T @ k.double()) ** 2 * values).sum().sqrt().float()
        return torch.special.log_ndtr(centre / deviation)

    def share(**how):
        x = model.standardize.normalize(model.sample(200, steps=20, **how))
        return (x.flatten(1) @ k > 0).float().mean().item()

    assert 0.4 < share() < 0.6
    assert share(edit=Classified(log_prob)) > 0.97
