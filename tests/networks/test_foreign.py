"""Networks that take a noisy sample and a time, read as ours: exact denoisers in the place of trained networks."""

import warnings

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.errors import UsageError
from ancestral.networks import FromTime, Preconditioned
from ancestral.noise import SampleNoise
from ancestral.oracles import MixtureOracle
from ancestral.schedules import VE, VP, Chain, Cosine, Level, Linear

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own imports
    import diffusers

ORACLE = MixtureOracle([0.3, 0.7], [[-1.0, 0.5], [2.0, -0.3]], [0.25, 0.04])
CHAIN = Chain.linear(1000)


class Exact(nn.Module):
    """(x_t, time) -> the form of the exact prediction, at the level that `level` gives for a time."""

    def __init__(self, form, level):
        super().__init__()
        self.form, self.level = form, level

    def forward(self, x, time):
        rows = [ORACLE(x[i : i + 1], self.level(time[i].item())).read(self.form) for i in range(len(x))]
        return torch.cat(rows)


def by_t(schedule):
    return lambda t: schedule.levels(torch.tensor([t], dtype=torch.float64))[0]


SCHEDULES = [Linear(), VP(), Cosine(), VE(0.01, 20.0), CHAIN]
FORMS = [
    (s, form) for s in SCHEDULES for form in ("eps", "x", "velocity", "v") if form != "v" or not isinstance(s, Linear | VE)
]


@pytest.mark.parametrize(("schedule", "form"), FORMS)
def test_any_prediction_on_any_schedule(schedule, form):
    """x_t has another scale than z if alpha^2 + sigma^2 is not 1. (The schedule of the sampler plays no part.)"""
    model = an.Diffusion(FromTime(Exact(form, by_t(schedule)), schedule), (2,), schedule=VP(), target=form)
    x_t = torch.randn(4, 2)
    for t in (0.11, 0.5, 0.93):
        level = by_t(schedule)(t)
        torch.testing.assert_close(model.denoise(x_t, level).x, ORACLE(x_t, level).x, atol=2e-4, rtol=2e-4)


def test_samples_of_different_noise_in_one_batch():
    network = FromTime(Exact("x", by_t(Linear())), Linear())
    level = Linear().at(torch.tensor([0.2, 0.7, 0.2]))
    x_t = torch.randn(3, 2)
    r = (level.alpha**2 + level.sigma**2).sqrt().float()[:, None]
    logsnr = (2 * (level.alpha.log() - level.sigma.log())).float()
    expected = torch.cat([ORACLE(x_t[i : i + 1], by_t(Linear())(t)).x for i, t in enumerate((0.2, 0.7, 0.2))])
    torch.testing.assert_close(network(x_t / r, logsnr), expected, atol=1e-5, rtol=1e-4)


def test_flow_matching_whose_time_runs_to_the_data():
    """x_s = s x + (1 - s) eps, and the network gives dx_s/ds = x - eps, which is minus our velocity."""

    class Theirs(nn.Module):
        def forward(self, x, s):
            return -Exact("velocity", lambda s: Level(1 - s, s, 1 - s))(x, s)

    class Turned(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x, t):
            return -self.network(x, 1 - t)

    model = an.Diffusion(FromTime(Turned(Theirs()), Linear()), (2,), target="velocity")
    x_t, level = torch.randn(5, 2), Linear().levels(torch.tensor([0.3], dtype=torch.float64))[0]
    torch.testing.assert_close(model.denoise(x_t, level).x, ORACLE(x_t, level).x, atol=1e-4, rtol=1e-4)


def test_ddim_as_diffusers_draws_it():
    """The library's scheduler and ours ask the same network, by its own steps."""
    network = Exact("eps", lambda i: CHAIN.level(round(i) + 1))
    model = an.Diffusion(FromTime(network, CHAIN, "step"), (2,), schedule=CHAIN, target="eps").eval()
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(20)
    x = SampleNoise(range(6)).normal((2,))
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(6)), t, x).prev_sample
    torch.testing.assert_close(
        model.sample(6, seeds=range(6), solver="ddim", steps=20, spacing="trailing"), x, atol=1e-5, rtol=1e-5
    )


class Zero(nn.Module):
    def forward(self, x, noise):
        return torch.zeros_like(x)


def test_a_preconditioned_network_of_zero_denoises_a_gaussian():
    """D = c_skip x is exact for N(0, sigma_data^2), and DDIM in many steps then draws it: std 2 * 0.5 in data units."""
    schedule = VE(0.002, 80.0)
    model = an.Diffusion(
        FromTime(Preconditioned(Zero()), schedule, "sigma"), (2,), schedule=schedule, target="x", std=2.0
    ).eval()
    x_t = torch.randn(3, 2) * 10
    for sigma in (0.01, 0.5, 60.0):
        prediction = model.denoise(x_t, Level(0.5, 1.0, sigma))
        torch.testing.assert_close(prediction.x, x_t * 0.25 / (0.25 + sigma**2), atol=1e-6, rtol=1e-4)
    x = model.sample(4000, solver="heun", steps=60, spacing="karras")
    assert x.std().item() == pytest.approx(1.0, rel=0.03)


def test_preconditioning_is_that_of_the_paper():
    """F of a network that answers its inputs shows c_in and c_noise."""

    class Shows(nn.Module):
        def forward(self, x, noise):
            return x + noise[:, None]

    x, sigma = torch.randn(3, 2), torch.tensor([0.1, 1.0, 30.0])
    s, d = sigma[:, None], 0.5
    c_skip, c_out, c_in = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt(), 1 / (s**2 + d**2).sqrt()
    expected = c_skip * x + c_out * (c_in * x + sigma.log()[:, None] / 4)
    torch.testing.assert_close(Preconditioned(Shows())(x, sigma), expected)


@pytest.mark.parametrize("time", ["t", "sigma", "logsnr", lambda level: 7 * level.t])
def test_the_time_that_the_network_takes(time):
    class Told(nn.Module):
        def forward(self, x, time):
            return time[:, None].expand_as(x)

    level = Linear().at(torch.tensor([0.25, 0.5]))
    logsnr = (2 * (level.alpha.log() - level.sigma.log())).float()
    expected = {"t": level.t, "sigma": level.sigma, "logsnr": logsnr}.get(time if isinstance(time, str) else "", 7 * level.t)
    torch.testing.assert_close(FromTime(Told(), Linear(), time)(torch.randn(2, 2), logsnr)[:, 0], expected.float())


def test_the_context_reaches_the_network():
    class Conditional(nn.Module):
        def forward(self, x, time, context):
            return x + context.vector

    context = an.conditioning.Context(vector=torch.ones(2, 2))
    z = torch.randn(2, 2)
    out = FromTime(Conditional(), CHAIN, "step")(z, torch.zeros(2), context)
    torch.testing.assert_close(out, z + 1, atol=1e-5, rtol=1e-5)


def test_wrong_requests_are_one_sentence():
    with pytest.raises(UsageError, match="only a Chain has steps"):
        FromTime(Zero(), Linear(), "step")
    with pytest.raises(UsageError, match="unknown time 'u': choose t, step, sigma or logsnr"):
        FromTime(Zero(), Linear(), "u")
