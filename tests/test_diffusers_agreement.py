"""Where a respected library does the same, agree with it: diffusers' schedulers on the same denoiser and the same grid."""

import warnings

import pytest
import torch

from ancestral.noise import SampleNoise
from ancestral.oracles import MixtureOracle
from ancestral.schedules import Chain, Level, grid
from ancestral.solvers import Ancestral, DPMpp, Heun, UniPC

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own imports
    import diffusers

ORACLE = MixtureOracle([0.3, 0.7], [[-1.0, 0.5], [2.0, -0.3]], [0.25, 0.04])
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}
TRAILING = {"timestep_spacing": "trailing"}
CHAIN = Chain.linear(1000)


def theirs(scheduler, steps, x):
    """The library's loop, asking the oracle for eps."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        level = CHAIN.level(int(t) + 1)
        x = scheduler.step(ORACLE(x, level).eps, t, x, return_dict=False)[0]
    return x


def ours(method, steps, x):
    *_, state = method(ORACLE, x, CHAIN.levels(grid(CHAIN, steps)), SampleNoise(range(len(x))))
    return state.x


def start():
    return torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_ddim(steps):
    scheduler = diffusers.DDIMScheduler(**BETAS, **TRAILING, clip_sample=False, set_alpha_to_one=True)
    torch.testing.assert_close(ours(Ancestral(0), steps, start()), theirs(scheduler, steps, start()), atol=1e-5, rtol=1e-5)


def test_ddpm_mean_and_variance():
    """Each of the thousand steps: the same mean, and the same variance beta~."""
    scheduler = diffusers.DDPMScheduler(**BETAS, clip_sample=False, variance_type="fixed_small")
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = CHAIN.betas, CHAIN.alphas, CHAIN.alphas_bar  # float64
    x_t = start()
    for i in (2, 3, 10, 500, 999, 1000):
        eps = ORACLE(x_t, CHAIN.level(i)).eps
        their_x = scheduler.step(eps, i - 1, x_t, generator=torch.Generator().manual_seed(0)).prev_sample
        our_x, _ = Ancestral(1).step(ORACLE, x_t, CHAIN.level(i), CHAIN.level(i - 1), None, _Same())
        torch.testing.assert_close(our_x, their_x, atol=1e-5, rtol=1e-5)


class _Same:
    """The numbers that their scheduler draws."""

    def normal(self, shape):
        return torch.randn(6, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_dpm_solver_2m(steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **BETAS, **TRAILING, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    torch.testing.assert_close(ours(DPMpp(2), steps, start()), theirs(scheduler, steps, start()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_unipc(steps):
    scheduler = diffusers.UniPCMultistepScheduler(
        **BETAS, **TRAILING, solver_order=2, solver_type="bh2", final_sigmas_type="zero"
    )
    torch.testing.assert_close(ours(UniPC(2), steps, start()), theirs(scheduler, steps, start()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_heun(steps):
    """Their sampler walks in x/alpha with sigma/alpha; its states are scaled to ours on the way in and out."""
    scheduler = diffusers.HeunDiscreteScheduler(**BETAS, **TRAILING)
    scheduler.set_timesteps(steps)
    u = [CHAIN.level(int(t) + 1).u for t in scheduler.timesteps]
    y = start() / CHAIN.level(1000).alpha
    for t, u_t in zip(scheduler.timesteps, u, strict=True):
        level = CHAIN.level(int(t) + 1)
        eps = ORACLE(y * level.alpha, Level(level.t, level.alpha, u_t * level.alpha)).eps
        y = scheduler.step(eps, t, y, return_dict=False)[0]
    torch.testing.assert_close(ours(Heun(), steps, start()), y, atol=1e-5, rtol=1e-5)
