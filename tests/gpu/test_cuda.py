"""On a GPU: every family trains, continues, samples and is evaluated there, and agrees with the CPU.

`ANCESTRAL_TEST_DEVICE=cpu pytest tests/gpu` runs the same code on the CPU, to try it before a GPU is at hand.
"""

import math
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.training.profile import profiled
from ancestral.app.training.run import Run
from ancestral.noise import SampleNoise
from ancestral.registry import names
from ancestral.runtime import Runtime

DEVICE = os.environ.get("ANCESTRAL_TEST_DEVICE", "cuda")
CUDA = DEVICE == "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CUDA and not torch.cuda.is_available(), reason="no CUDA device is available"),
]

SMALL = ("model.channels=[16, 32]", "train.batch=32", "train.previews=2", "train.checkpoint_every=1000")
FAMILIES = {
    "diffusion": {"model": "diffusion", "condition": "class", "settings": (*SMALL, "data.flip=true")},
    "transformer": {"model": "diffusion", "settings": (*SMALL[1:], "model.net=dit", "model.width=32", "model.blocks=2")},
    "chain": {
        "model": "diffusion",
        "settings": (*SMALL, "model.schedule=ddpm", "model.target=eps", "model.weight=vlb", "model.times=uniform"),
    },
    "score": {"model": "score", "settings": SMALL},
    "vae": {"model": "vae", "settings": (*SMALL[1:], "model.width=16")},
    "vae-flow": {"model": "vae", "settings": (*SMALL[1:], "model.width=16", "model.posterior=full")},
    "vae-vq": {"model": "vae", "settings": (*SMALL[1:], "model.width=16", "model.bottleneck=vq", "model.codes=32")},
    "vae-hierarchy": {"model": "vae", "settings": (*SMALL[1:], "model.width=16", "model.hierarchy=2")},
    "vae-logistic": {
        "model": "vae",
        "condition": "class",
        "settings": (*SMALL[1:], "model.width=16", "model.likelihood=logistic"),
    },
    "gan": {"model": "gan", "condition": "class", "settings": SMALL},
    "gan-wasserstein": {"model": "gan", "settings": (*SMALL, "model.objective=wasserstein", "model.augment=0.5")},
    "latent": {
        "model": "latent",
        "condition": "class",
        "settings": (*SMALL[1:], "model.autoencoder.width=16", "model.prior.channels=[32]"),
    },
    "latent-vq": {"model": "latent", "settings": (*SMALL[1:], "model.autoencoder.width=16", "model.autoencoder.bottleneck=vq")},
}


def begin(tmp_path, name, budget="20it", out="run", device=DEVICE, **more):
    options = {**FAMILIES[name], **more}
    return plan("digits", budget=budget, out=tmp_path / out, device=device, **options).begin()


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_trains_and_continues_as_if_not_stopped(tmp_path, name):
    whole = begin(tmp_path, name, out="whole")
    losses = [step.losses for step in whole]
    assert all(np.isfinite(list(terms.values())).all() for terms in losses)
    assert all(p.device.type == DEVICE for p in whole.model.parameters())
    part = begin(tmp_path, name, out="part")
    for step in part:
        if step.step == 11:
            part.save()
            break
    list(begin(tmp_path, name, out="part"))
    a, b = (an.load(tmp_path / out, device="cpu").state_dict() for out in ("whole", "part"))
    for key, value in a.items():
        if key.startswith("mixture"):  # fitted: its axes turn freely where the latents have no direction of their own
            continue
        torch.testing.assert_close(b[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def test_same_samples_as_the_cpu_whatever_the_batch(tmp_path, name):
    list(begin(tmp_path, name))
    how = {"condition": {"class": 3}} if "condition" in FAMILIES[name] else {}
    here, there = (
        an.load(tmp_path / "run", device=d, precision="fp32").sample(6, seeds=range(6), **how) for d in ("cpu", DEVICE)
    )
    assert there.device.type == DEVICE
    assert (here - there.cpu()).abs().max() < 5e-3
    model = an.load(tmp_path / "run", device=DEVICE, precision="fp32")
    assert torch.equal(model.sample(6, seeds=range(6), **how), there)
    alone = torch.cat([model.sample(1, seeds=[seed], **how) for seed in range(6)])
    assert (alone - there).abs().max() < 5e-3


def test_losses_and_gradients_as_on_the_cpu(tmp_path, name):
    found = {}
    for device in ("cpu", DEVICE):
        trainer = begin(
            tmp_path, name, out=device, device=device, settings=(*FAMILIES[name]["settings"], "train.precision=fp32")
        )
        stage = trainer.stage.model
        batch = trainer.state.data.batch(torch.arange(32)).to(trainer.runtime.device)
        for player in stage.players():
            stage.zero_grad()
            terms = stage.losses(batch, player.name, SampleNoise(range(32), device))
            if not terms:
                continue
            terms["total"].mean().backward()
            gradient = torch.cat([p.grad.flatten().cpu() for p in player.parameters if p.grad is not None])
            found.setdefault(player.name, []).append((terms["total"].detach().cpu(), gradient))
    for (loss, gradient), (loss_there, gradient_there) in found.values():
        torch.testing.assert_close(loss_there, loss, rtol=2e-3, atol=2e-3)
        assert (gradient - gradient_there).norm() <= 5e-3 * gradient.norm() + 1e-6


def test_evaluated_on_the_gpu(tmp_path, name):
    list(begin(tmp_path, name))
    found = an.evaluate(tmp_path / "run", n=60, extractors=["random"], device=DEVICE).evaluation
    assert np.isfinite(found.headline.value.value)
    assert found.cost["memory"] > 0


def test_bf16_is_chosen_and_close(tmp_path):
    """A network large enough to be worth it runs in bfloat16, whose loss is that of float32 to a percent."""
    assert Runtime.choose(DEVICE, parameters=10**6).bf16 or not CUDA
    trainer = plan(
        "digits",
        budget="5it",
        out=tmp_path / "run",
        device=DEVICE,
        settings=("train.previews=0", *(() if CUDA else ("train.precision=bf16",))),
    ).begin()
    assert trainer.runtime.bf16
    steps = list(trainer)
    model = trainer.model
    batch = trainer.data.batch(torch.arange(64)).to(DEVICE)
    with torch.no_grad():
        exact = model.losses(batch, "model", SampleNoise(range(64), DEVICE))["total"].mean()
        with trainer.runtime.autocast():
            coarse = model.losses(batch, "model", SampleNoise(range(64), DEVICE))["total"].mean()
    assert abs(coarse / exact - 1) < 0.01
    assert steps[-1].memory > 0


@pytest.mark.parametrize(
    "solver", ["ddpm", "heun", "dpmpp-3", "unipc", "rk4", "adaptive", "langevin", "pc", "euler-maruyama", "churn"]
)
def test_solvers_as_on_the_cpu(tmp_path, solver):
    list(begin(tmp_path, "diffusion"))
    a, b = (
        an.load(tmp_path / "run", device=d, precision="fp32").sample(4, seeds=range(4), solver=solver, steps=8).cpu()
        for d in ("cpu", DEVICE)
    )
    assert (a - b).abs().max() < 2e-2


def test_likelihoods_as_on_the_cpu(tmp_path):
    for name, methods in (("diffusion", ("vlb", "ode")), ("score", ("vlb",)), ("vae", ("elbo", "iwae"))):
        list(begin(tmp_path, name, out=name))
        models = [an.load(tmp_path / name, device=d, precision="fp32") for d in ("cpu", DEVICE)]
        x = an.load_data("digits").batch(torch.arange(6), "test").x
        for method in methods:
            how = {"steps": 6} if method == "ode" else {}
            a, b = (m.log_prob(x.to(m.device), method=method, **how).value for m in models)
            torch.testing.assert_close(b, a, rtol=2e-3, atol=0.5)


def test_conditions_of_space_and_text(tmp_path):
    for kind in ("text", "layout", "map", "upscale", "inpaint", "sketch"):
        trainer = plan("scenes", condition=kind, budget="4it", out=tmp_path / kind, device=DEVICE, settings=SMALL).begin()
        assert all(np.isfinite(list(step.losses.values())).all() for step in trainer)


def test_guidance_and_edits(tmp_path):
    from ancestral.models.edits import Inpaint, Upscale, Vary

    list(begin(tmp_path, "diffusion"))
    model = an.load(tmp_path / "run", device=DEVICE)
    x = an.load_data("digits").batch(torch.arange(4), "test").x
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    for edit in (Vary(x), Inpaint(x, known, repeats=2), Upscale(torch.nn.functional.avg_pool2d(x, 2))):
        assert model.sample(4, {"class": 1}, edit=edit, steps=4, guidance=2.0).isfinite().all()


def test_command_line(tmp_path):
    from ancestral.app.cli import main

    for line in (
        f"train digits --for 10it --out {tmp_path}/run --device {DEVICE} --quiet",
        f"sample {tmp_path}/run -n 4 --out {tmp_path}/x.png --device {DEVICE} --quiet",
        f"evaluate {tmp_path}/run -n 40 --features random --device {DEVICE} --quiet",
        f"report {tmp_path}/run -n 40 --features random --device {DEVICE} --quiet",
    ):
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        assert ended.value.code == 0
    assert (tmp_path / "run" / "report.html").exists()


@contextmanager
def no_waiting():
    """An error for every operation that waits for the device."""
    if not CUDA:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_steps_do_not_wait_for_the_device(tmp_path, name):
    trainer = begin(tmp_path, name)
    trainer.model.train()
    state = trainer.state
    assert state.deferred == CUDA
    for step in range(3):
        state.update(step, 32 * step, 1.0)
    with no_waiting():
        for step in range(3, 6):
            losses, _, failure = state.update(step, 32 * step, 1.0)
            assert failure is None
    assert np.isfinite(list(losses.values())).all()


@pytest.mark.parametrize("solver", [solver for solver in names("solver") if solver != "adaptive"])
def test_solvers_do_not_wait_for_the_device(tmp_path, solver):
    trainer = begin(tmp_path, "diffusion")
    model = trainer.model.eval()
    model.sample(2, {"class": 3}, steps=2, solver=solver)
    with no_waiting():
        x = model.sample(2, {"class": 3}, steps=4, solver=solver, guidance=2.0)
    assert x.isfinite().all()


def test_a_step_that_is_not_finite_changes_nothing_and_is_reported(tmp_path):
    trainer = begin(tmp_path, "diffusion")
    (player,) = trainer.players
    target = next(p for name, p in trainer.model.named_parameters() if name == "denoiser.network.stem.weight")
    target.register_hook(lambda grad: grad * math.nan if trainer.step == 5 else grad)
    skipped, held = [], []
    for step in trainer:
        held.append(player.flat.value.detach().clone())
        if step.skipped:
            skipped.append(step.step)
    assert skipped == [7 if CUDA else 6], "on CUDA one step later"
    assert torch.equal(held[5], held[4])
    assert not torch.equal(held[6], held[5])
    assert held[-1].isfinite().all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_trains_as_float32(tmp_path, name, precision):
    ends = {}
    for arithmetic in ("fp32", precision):
        settings = (*FAMILIES[name]["settings"], f"train.precision={arithmetic}")
        trainer = begin(tmp_path, name, out=arithmetic, settings=settings)
        steps = list(trainer)
        assert not any(step.skipped for step in steps)
        ends[arithmetic] = np.mean([next(iter(step.losses.values())) for step in steps[-5:]])
    assert ends[precision] == pytest.approx(ends["fp32"], rel=0.15, abs=0.1)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("compiled", ["diffusion", "vae", "gan"])
def test_compiled_networks_agree(tmp_path, compiled):
    ends = []
    for setting in ("off", "on"):
        settings = (*FAMILIES[compiled]["settings"], "train.precision=fp32", f"train.compile={setting}")
        trainer = begin(tmp_path, compiled, out=setting, budget="6it", settings=settings)
        ends.append([next(iter(step.losses.values())) for step in trainer])
    assert ends[1] == pytest.approx(ends[0], rel=2e-2, abs=1e-2)
    a, b = (an.load(tmp_path / setting, device=DEVICE).state_dict() for setting in ("off", "on"))
    assert a.keys() == b.keys()


def test_profile(tmp_path):
    found = []
    list(profiled(begin(tmp_path, "diffusion"), found.append, warm=5, measured=10))
    assert sum(found[0].shares.values()) == pytest.approx(1)
    assert 0 < found[0].mfu < 1
    assert found[0].shares["backward"] > 0.02


@pytest.mark.skipif(CUDA and torch.cuda.device_count() < 2, reason="there are not two CUDA devices")
def test_two_processes_train_as_one(tmp_path):
    settings = ("model.channels=[16,32]", "train.batch=32", "train.previews=0", "train.precision=fp32", "train.accumulate=2")
    ends = []
    for count in (1, 2):
        out = tmp_path / str(count)
        line = ["train", "digits", "--for", "20it", "--out", str(out), "--device", DEVICE, "--nproc", str(count), *settings]
        subprocess.run([sys.executable, "-m", "ancestral", *line, "--quiet"], check=True, timeout=300)
        ends.append({row["step"]: row["model/total"] for row in Run(out).metrics() if row["step"] in (1, 20)})
    assert len(ends[0]) == 2
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)
