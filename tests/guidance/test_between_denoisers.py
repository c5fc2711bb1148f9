"""Guidance between two denoisers: one convention of scale, held against two separate passes and against closed forms."""

import pytest
import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import nn

from ancestral.conditioning import Context, ContextShape
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.guidance import Autoguidance, ClassifierFree, Conditional, guided
from ancestral.networks import DiT, UNet
from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle
from ancestral.prediction import PREDICTION_TYPES, Prediction
from ancestral.schedules import VP, Cosine, Level, Linear, grid
from ancestral.solvers import solver

FORMS = ContextShape(vector=6, tokens=5, channels=1)
LEVELS = [Level(0.9, 0.1, 0.995), Level(0.5, 0.6, 0.8), Level(0.1, 0.995, 0.1)]  # u = 9.95, 1.33, 0.10


class Means(nn.Module):
    """The exact denoiser of N(mean, std^2) whose mean is the context's vector; it counts the rows that it sees."""

    def __init__(self, std=0.5):
        super().__init__()
        self.std, self.rows = std, []

    def forward(self, x_t, level, context):
        self.rows.append(len(x_t))
        mean, var = context.vector.to(x_t), level.alpha**2 * self.std**2 + level.sigma**2
        return Prediction(mean + level.alpha * self.std**2 / var * (x_t - level.alpha * mean), x_t, level.alpha, level.sigma)


class Curved(nn.Module):
    """A denoiser that is no closed form: each row's answer depends on all its numbers and its context."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 4)).double()

    def forward(self, x_t, level, context):
        return Prediction(self.body(torch.cat([x_t, context.vector.to(x_t)], 1)), x_t, level.alpha, level.sigma)


def contexts(n=6, d=4):
    generator = torch.Generator().manual_seed(2)
    return tuple(Context(vector=torch.randn(n, d, generator=generator)) for _ in range(2))


def naive(denoiser, x_t, t, context, null, scale, interval=None):
    """Two passes, one after the other, in the reading eps."""
    conditional, unconditional = denoiser(x_t, t, context), denoiser(x_t, t, null)
    if interval is not None and not interval[0] < t.sigma / t.alpha <= interval[1]:
        return conditional.eps
    return unconditional.eps + scale * (conditional.eps - unconditional.eps)


@pytest.mark.parametrize("interval", [None, (0.2, 5.0), (0.0, 0.5), (5.0, 80.0)])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 4.0])
def test_one_batched_pass_equals_two_naive_ones(scale, interval):
    denoiser, (context, null) = Curved(), contexts()
    x_t = torch.randn(6, 4, dtype=torch.float64)
    for t in LEVELS:
        expected = naive(denoiser, x_t, t, context, null, scale, interval)
        got = guided(denoiser, context, null, scale, interval)(x_t, t)
        torch.testing.assert_close(got.eps, expected, atol=1e-6, rtol=0)
        forced = ClassifierFree(denoiser, context, null, scale=scale, interval=interval)(x_t, t)
        torch.testing.assert_close(forced.eps, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", [UNet(2, (32, 64), context=FORMS), DiT((2, 8, 8), 32, 2, context=FORMS)], ids=["unet", "dit"])
def test_one_pass_with_contexts_of_every_form_equals_two(net):
    generator = torch.Generator().manual_seed(3)
    net = net.double()
    for p in net.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    denoiser = Denoiser(lambda z, logsnr, context: net(z, logsnr.double(), context), "v")
    draw = lambda *shape: torch.randn(3, *shape, generator=generator, dtype=torch.float64)  # noqa: E731
    masks = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], [[1, 0, 0, 0]] * 3]).bool()
    context, null = (Context(draw(6), draw(4, 5), mask, draw(1, 8, 8)) for mask in masks)
    x_t = draw(2, 8, 8)
    for t in LEVELS:
        expected = naive(denoiser, x_t, t, context, null, 3.0)
        assert (denoiser(x_t, t, context).eps - denoiser(x_t, t, null).eps).abs().mean() > 0.01
        torch.testing.assert_close(guided(denoiser, context, null, 3.0)(x_t, t).eps, expected, atol=1e-6, rtol=0)


def test_guidance_acts_above_the_lower_level_and_up_to_the_upper_one():
    guide = Autoguidance(GaussianOracle(1.0, 0.5), GaussianOracle(0.4, 0.5), scale=2.0, interval=(0.25, 4.0))
    acts = [guide.acts(Level(0.5, 1.0, u)) for u in (0.2, 0.25, 0.26, 4.0, 4.1)]
    assert acts == [False, False, True, True, False]


@pytest.mark.parametrize("reading", PREDICTION_TYPES)
def test_the_convention_is_the_same_in_every_reading(reading):
    denoiser, (context, null) = Curved(), contexts()
    x_t, t = torch.randn(6, 4, dtype=torch.float64), LEVELS[1]
    a, b = (denoiser(x_t, t, c).read(reading) for c in (null, context))
    got = guided(denoiser, context, null, 3.0)(x_t, t).read(reading)
    torch.testing.assert_close(got, a + 3 * (b - a), atol=1e-9, rtol=0)


def test_no_more_is_computed_than_is_needed():
    denoiser, (context, null) = Means(), contexts(d=1)
    x_t = torch.zeros(6, 1)
    for scale, interval, level, rows in [
        (1.0, None, 0, [6]), (0.0, None, 0, [6]), (3.0, None, 0, [12]), (3.0, (0.2, 5.0), 0, [6]), (3.0, (0.2, 5.0), 1, [12]),
    ]:  # fmt: skip
        denoiser.rows.clear()
        guided(denoiser, context, null, scale, interval)(x_t, LEVELS[level])
        assert denoiser.rows == rows


@pytest.mark.parametrize("name", ["dpmpp", "dpmpp-3", "unipc", "heun", "ddim", "ddpm", "dpmpp-sde", "churn", "adaptive"])
@pytest.mark.parametrize("schedule", [VP(), Cosine(), Linear()], ids=lambda s: type(s).__name__)
def test_guidance_of_equal_variance_gaussians_is_a_shift(name, schedule):
    """N(mu_c, s^2) against N(mu_u, s^2) at scale g is N(mu_u + g (mu_c - mu_u), s^2): the same walk, step by step."""
    s, g, mu_c, mu_u = 0.5, 3.0, 1.0, 0.2
    c, u = (Context(vector=torch.full((4, 1), mu, dtype=torch.float64)) for mu in (mu_c, mu_u))
    levels = schedule.levels(grid(schedule, 12, "logsnr"))
    x = torch.randn(4, 1, dtype=torch.float64)
    noise = lambda: SampleNoise(range(4))  # noqa: E731
    shifted = solver(name)(GaussianOracle(mu_u + g * (mu_c - mu_u), s), x, levels, noise())
    for got, expected in zip(solver(name)(guided(Means(s), c, u, g), x, levels, noise()), shifted, strict=True):
        torch.testing.assert_close(got.x, expected.x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["dpmpp", "heun", "ddpm"])
def test_a_weaker_model_in_place_of_the_null_shifts_equally(name):
    """Autoguidance of N(1, s^2) by N(0.4, s^2) at scale 2 is N(1.6, s^2)."""
    levels = VP().levels(grid(VP(), 12, "logsnr"))
    x = torch.randn(4, 1, dtype=torch.float64)
    guide = Autoguidance(GaussianOracle(1.0, 0.5), GaussianOracle(0.4, 0.5), scale=2.0)
    *_, got = solver(name)(guide, x, levels, SampleNoise(range(4)))
    *_, expected = solver(name)(GaussianOracle(1.6, 0.5), x, levels, SampleNoise(range(4)))
    torch.testing.assert_close(got.x, expected.x, atol=1e-6, rtol=1e-6)


def test_autoguidance_sharpens_what_the_weak_model_blurs():
    """A weak model N(0, 2) and a strong one N(0, 1) give, at scale 2 and noise u, the linear gain of (1)."""
    x_t, t = torch.randn(5, 1, dtype=torch.float64), LEVELS[1]
    gain = lambda var: t.alpha * var / (t.alpha**2 * var + t.sigma**2)  # noqa: E731
    got = Autoguidance(GaussianOracle(0.0, 1.0), GaussianOracle(0.0, 2**0.5), scale=2.0)(x_t, t).x
    torch.testing.assert_close(got, (2 * gain(1.0) - gain(2.0)) * x_t)


@pytest.mark.parametrize("kind", ["scale 1", "outside"])
def test_autoguidance_asks_the_weak_model_only_where_it_counts(kind):
    def weak(x_t, t):
        raise AssertionError("asked")

    strong, x_t = GaussianOracle(1.0, 0.5), torch.randn(3, 1)
    guide = Autoguidance(strong, weak, scale=1.0 if kind == "scale 1" else 3.0, interval=(0.2, 5.0))
    torch.testing.assert_close(guide(x_t, LEVELS[0]).x, strong(x_t, LEVELS[0]).x)


@pytest.mark.parametrize("rescale", [0.3, 0.7, 1.0])
def test_rescale_agrees_with_diffusers(rescale):
    denoiser, (context, null) = Curved(), contexts()
    x_t, t = torch.randn(6, 4, dtype=torch.float64), LEVELS[1]
    wanted = Conditional(denoiser, context)(x_t, t).x
    plain = guided(denoiser, context, null, 5.0)(x_t, t).x
    expected = rescale_noise_cfg(plain, wanted, guidance_rescale=rescale)
    torch.testing.assert_close(guided(denoiser, context, null, 5.0, rescale=rescale)(x_t, t).x, expected, atol=1e-9, rtol=1e-9)
    if rescale == 1.0:
        got = guided(denoiser, context, null, 5.0, rescale=1.0)(x_t, t).x
        torch.testing.assert_close(got.std(1), wanted.std(1))


def test_a_row_does_not_depend_on_its_neighbours():
    denoiser, (context, null) = Curved(), contexts()
    x_t, t = torch.randn(6, 4, dtype=torch.float64), LEVELS[1]
    whole = guided(denoiser, context, null, 5.0, rescale=0.7)(x_t, t).x
    one = [Context(vector=c.vector[2:3]) for c in (context, null)]
    torch.testing.assert_close(guided(denoiser, *one, 5.0, rescale=0.7)(x_t[2:3], t).x, whole[2:3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": float("nan")}, "finite number"),
        ({"scale": 2, "interval": (5.0, 0.2)}, "lower one first"),
        ({"scale": 2, "interval": (-1.0, 0.2)}, "lower one first"),
        ({"scale": 2, "rescale": 1.5}, "from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        guided(Means(), *contexts(d=1), **options)
