"""Few-step solvers on the consistency function of Gaussian data, which is known."""

import math

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.conditioning import Context
from ancestral.denoiser import LOGSNR_LIMIT
from ancestral.networks import MLP, DiT, UNet
from ancestral.noise import SampleNoise
from ancestral.oracles import GaussianOracle
from ancestral.schedules import CLEAN, VE, VP, Cosine, Linear, grid
from ancestral.solvers import FewStep, FlowMap, Jump, move

M, S = 0.7, 0.4


def jump(x_t, t, s):
    """x_s = alpha_s m + sqrt((alpha_s^2 S^2 + sigma_s^2) / (alpha_t^2 S^2 + sigma_t^2)) (x_t - alpha_t m)."""
    scale = math.sqrt((s.alpha**2 * S**2 + s.sigma**2) / (t.alpha**2 * S**2 + t.sigma**2))
    return s.alpha * M + scale * (x_t - t.alpha * M)


def untouched(x_t, t):
    raise AssertionError("the denoiser is not asked")


def test_the_consistency_function_of_gaussian_data():
    """VE: m + sqrt((s^2 + e^2)/(s^2 + sigma^2)) (x - m)."""
    t, e = VE(0.01, 20.0).levels(torch.tensor([1.0, 0.2], dtype=torch.float64))
    x = torch.tensor([[12.0]], dtype=torch.float64)
    torch.testing.assert_close(jump(x, t, e), M + math.sqrt((S**2 + e.sigma**2) / (S**2 + t.sigma**2)) * (x - M))
    assert isinstance(jump, Jump)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", [VP(), VE(), Linear(), Cosine()], ids=lambda s: type(s).__name__)
def test_a_flow_map_is_exact_on_any_grid(schedule, steps):
    levels = schedule.levels(grid(schedule, steps))
    x = levels[0].sigma * torch.randn(4, 1, dtype=torch.float64)
    *_, last = FewStep(jump)(untouched, x, levels, SampleNoise(range(4)))
    torch.testing.assert_close(last.x, GaussianOracle(M, S).flow(x, levels[0], levels[-1]))
    assert (last.nfe, last.done, last.total) == (len(levels) - 1,) * 3


def test_from_the_middle_of_the_process():
    levels = Linear().levels(torch.tensor([0.6, 0.4, 0.1], dtype=torch.float64))
    x = torch.randn(4, 1, dtype=torch.float64)
    *_, last = FewStep(jump)(untouched, x, levels, SampleNoise(range(4)))
    torch.testing.assert_close(last.x, GaussianOracle(M, S).flow(x, levels[0], levels[-1]))


def test_noise_that_is_added_again_keeps_the_distribution(moments):
    """Mean and variance of what Algorithm 1 ends in are the data's, whatever the levels between."""

    def to_data(x_t, t, s):
        assert s is CLEAN or s.sigma == 0
        return jump(x_t, t, s)

    levels = Linear().levels(torch.tensor([0.9, 0.6, 0.3, 0.0], dtype=torch.float64))
    a, b = levels[0].alpha, levels[0].sigma
    root = torch.tensor([[math.sqrt(a**2 * S**2 + b**2)]], dtype=torch.float64)
    mean, covariance = moments(FewStep(to_data, renoise=True), untouched, levels, torch.tensor([a * M]), root, draws=2)
    assert mean.item() == pytest.approx(M, abs=1e-6)
    assert covariance.item() == pytest.approx(S**2, abs=1e-6)


def test_a_model_samples_by_jumps():
    """In one step, by a map that knows where the flow leads; the model's network is not asked."""
    model = an.Diffusion(an.networks.MLP(1, 8, 1), (1,), schedule=VP())
    x = model.sample(20_000, solver=FewStep(jump), steps=1)
    assert x.mean().item() == pytest.approx(M, abs=0.01)
    assert x.std().item() == pytest.approx(S, abs=0.01)


class Known(nn.Module):
    """The F of the exact map of Gaussian data, from both log SNRs alone."""

    def forward(self, z, logsnr, context, second):
        (a, b), (c, d) = ((v.sigmoid().sqrt()[:, None], (-v).sigmoid().sqrt()[:, None]) for v in (logsnr, second))
        scale = ((c**2 * S**2 + d**2) / (a**2 * S**2 + b**2)).sqrt()
        turn = torch.atan2(d, c) - torch.atan2(b, a)
        z_s = c * M + scale * (z - a * M)
        return (z_s - turn.cos() * z) / turn.sin()


@pytest.mark.parametrize("times", [(0.9, 0.2), (0.6, 0.55, 0.1), (0.5, 0.0)], ids=str)
@pytest.mark.parametrize("schedule", [VP(), VE(0.01, 20.0), Linear(), Cosine()], ids=lambda s: type(s).__name__)
def test_a_network_with_two_times_is_a_flow_map(schedule, times):
    """The exact F gives the exact flow, also to data, where the network sees a log SNR of 20 for infinity."""
    levels = schedule.levels(torch.tensor(times, dtype=torch.float64))
    x = levels[0].sigma * torch.randn(4, 1, dtype=torch.float64) + levels[0].alpha * M
    *_, last = FewStep(FlowMap(Known()))(untouched, x, levels, SampleNoise(range(4)))
    atol = 1e-4 if levels[-1].logsnr > LOGSNR_LIMIT else 1e-5
    torch.testing.assert_close(last.x, GaussianOracle(M, S).flow(x, levels[0], levels[-1]), atol=atol, rtol=1e-5)


@pytest.mark.parametrize("schedule", [VP(), VE(), Linear(), Cosine()], ids=lambda s: type(s).__name__)
def test_a_flow_map_whose_f_is_v_steps_as_ddim(schedule):
    """Also from pure noise and to data; and at s = t it stays."""
    oracle = GaussianOracle(M, S)
    for a, b in ((1.0, 0.4), (0.7, 0.3), (0.3, 0.0)):
        t, s = schedule.levels(torch.tensor([a, b], dtype=torch.float64))
        x = torch.randn(4, 1, dtype=torch.float64)
        p = oracle(x, t)

        class V(nn.Module):
            def forward(self, z, logsnr, context, second, p=p, t=t):
                return (t.alpha * p.eps - t.sigma * p.x) / math.hypot(t.alpha, t.sigma)

        torch.testing.assert_close(FlowMap(V())(x, t, s), move(p, s), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(FlowMap(V())(x, t, t), x)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (MLP(2, 16, 1, second_time=True), (2,)),
        (UNet(1, (8, 16), second_time=True), (1, 8, 8)),
        (DiT((1, 8, 8), 16, 1, second_time=True), (1, 8, 8)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_networks_take_a_second_time(network, shape):
    """It changes what they answer once it is trained, and nothing before."""
    z, t, s, context = torch.randn(3, *shape), torch.zeros(3), torch.full((3,), 4.0), Context()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    assert not torch.allclose(network(z, t, context, s), network(z, t, context, s + 1))
    nn.init.zeros_(network.noise.second[-1].weight)
    assert torch.equal(network(z, t, context, s), network(z, t, context, s + 1))
    with pytest.raises(ValueError, match="second_time"):
        network(z, t, context)
    with pytest.raises(ValueError, match="second_time"):
        MLP(2)(torch.randn(3, 2), t, context, s)
