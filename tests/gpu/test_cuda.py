"""On a GPU: every family trains, continues, samples and is evaluated there, and agrees with the CPU."""

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.api import plan
from ancestral.noise import SampleNoise
from ancestral.runtime import Runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available"),
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


def begin(tmp_path, name, budget="20it", out="run", device="cuda", **more):
    options = {**FAMILIES[name], **more}
    return plan("digits", budget=budget, out=tmp_path / out, device=device, **options).begin()


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_trains_and_continues_as_if_not_stopped(tmp_path, name):
    whole = begin(tmp_path, name, out="whole")
    losses = [step.losses for step in whole]
    assert all(np.isfinite(list(terms.values())).all() for terms in losses)
    assert all(p.device.type == "cuda" for p in whole.model.parameters())
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
        an.load(tmp_path / "run", device=d, precision="fp32").sample(6, seeds=range(6), **how) for d in ("cpu", "cuda")
    )
    assert there.device.type == "cuda"
    assert (here - there.cpu()).abs().max() < 5e-3
    model = an.load(tmp_path / "run", device="cuda", precision="fp32")
    assert torch.equal(model.sample(6, seeds=range(6), **how), there)
    alone = torch.cat([model.sample(1, seeds=[seed], **how) for seed in range(6)])
    assert (alone - there).abs().max() < 5e-3


def test_losses_and_gradients_as_on_the_cpu(tmp_path, name):
    found = {}
    for device in ("cpu", "cuda"):
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
    found = an.evaluate(tmp_path / "run", n=60, extractors=["random"], device="cuda").evaluation
    assert np.isfinite(found.headline.value.value)
    assert found.cost["memory"] > 0


def test_bf16_is_chosen_and_close(tmp_path):
    """A network large enough to be worth it runs in bfloat16, whose loss is that of float32 to a percent."""
    assert Runtime.choose("cuda", parameters=10**6).bf16
    trainer = plan("digits", budget="5it", out=tmp_path / "run", device="cuda", settings=("train.previews=0",)).begin()
    assert trainer.runtime.bf16
    steps = list(trainer)
    model = trainer.model
    batch = trainer.data.batch(torch.arange(64)).to("cuda")
    with torch.no_grad():
        exact = model.losses(batch, "model", SampleNoise(range(64), "cuda"))["total"].mean()
        with trainer.runtime.autocast():
            coarse = model.losses(batch, "model", SampleNoise(range(64), "cuda"))["total"].mean()
    assert abs(coarse / exact - 1) < 0.01
    assert steps[-1].memory > 0


@pytest.mark.parametrize(
    "solver", ["ddpm", "heun", "dpmpp-3", "unipc", "rk4", "adaptive", "langevin", "pc", "euler-maruyama", "churn"]
)
def test_solvers_as_on_the_cpu(tmp_path, solver):
    list(begin(tmp_path, "diffusion"))
    a, b = (
        an.load(tmp_path / "run", device=d, precision="fp32").sample(4, seeds=range(4), solver=solver, steps=8).cpu()
        for d in ("cpu", "cuda")
    )
    assert (a - b).abs().max() < 2e-2


def test_likelihoods_as_on_the_cpu(tmp_path):
    for name, methods in (("diffusion", ("vlb", "ode")), ("score", ("vlb",)), ("vae", ("elbo", "iwae"))):
        list(begin(tmp_path, name, out=name))
        models = [an.load(tmp_path / name, device=d, precision="fp32") for d in ("cpu", "cuda")]
        x = an.load_data("digits").batch(torch.arange(6), "test").x
        for method in methods:
            how = {"steps": 6} if method == "ode" else {}
            a, b = (m.log_prob(x.to(m.device), method=method, **how).value for m in models)
            torch.testing.assert_close(b, a, rtol=2e-3, atol=0.5)


def test_conditions_of_space_and_text(tmp_path):
    for kind in ("text", "layout", "map", "upscale", "inpaint", "sketch"):
        trainer = plan("scenes", condition=kind, budget="4it", out=tmp_path / kind, device="cuda", settings=SMALL).begin()
        assert all(np.isfinite(list(step.losses.values())).all() for step in trainer)


def test_guidance_and_edits(tmp_path):
    from ancestral.models.edits import Inpaint, Upscale, Vary

    list(begin(tmp_path, "diffusion"))
    model = an.load(tmp_path / "run", device="cuda")
    x = an.load_data("digits").batch(torch.arange(4), "test").x
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    for edit in (Vary(x), Inpaint(x, known, repeats=2), Upscale(torch.nn.functional.avg_pool2d(x, 2))):
        assert model.sample(4, {"class": 1}, edit=edit, steps=4, guidance=2.0).isfinite().all()


def test_command_line(tmp_path):
    from ancestral.app.cli import main

    for line in (
        f"train digits --for 10it --out {tmp_path}/run --device cuda --quiet",
        f"sample {tmp_path}/run -n 4 --out {tmp_path}/x.png --device cuda --quiet",
        f"evaluate {tmp_path}/run -n 40 --features random --device cuda --quiet",
        f"report {tmp_path}/run -n 40 --features random --device cuda --quiet",
    ):
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        assert ended.value.code == 0
    assert (tmp_path / "run" / "report.html").exists()
