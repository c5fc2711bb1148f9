"""Pipelines of diffusers: ours in their folders, and theirs as models here."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.conditioning import ClassCondition, Conditioner
from ancestral.errors import UsageError
from ancestral.likelihood import Bound
from ancestral.models.pipelines import forward_process, load_pipeline
from ancestral.networks.diffusers import DiffusersAutoencoder, DiffusersUNet, unet_config
from ancestral.noise import SampleNoise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own imports
    import diffusers

diffusers.utils.logging.set_verbosity_error()
CHAIN = an.schedules.Chain.linear()
TINY = {"in_channels": 2, "out_channels": 2, "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1}
TINY |= {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
TINY |= {"norm_num_groups": 4, "attention_head_dim": 8}
AUTOENCODER = {"in_channels": 3, "out_channels": 3, "latent_channels": 2, "block_out_channels": [8, 8], "norm_num_groups": 4}
AUTOENCODER |= {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
}
CROSS = TINY | {"cross_attention_dim": 6, "attention_head_dim": 2}  # of a UNet2DConditionModel, where it counts heads
CROSS |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
FLOOR = 1e-5


def shaken(module, scale=0.05):
    """Give every weight a value, since some layers start at zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))
    return module.eval()


def ours(target="v", shape=(2, 8, 8), **how):
    network = shaken(DiffusersUNet(unet_config(shape, (8, 16)), CHAIN))
    return an.Diffusion(network, shape, schedule=CHAIN, target=target, mean=0.5, std=0.5, bounds=(0, 1), **how).eval()


def loaded(kind, folder):
    pipeline = getattr(diffusers, kind).from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Same:
    """Noise of one generator of torch, as their pipelines draw it."""

    def __init__(self, n, seed=3):
        self.n, self.generator = n, torch.Generator().manual_seed(seed)

    def normal(self, shape):
        return torch.randn(self.n, *shape, generator=self.generator)


def path(model, noise, condition=None, **how):
    """The samples of a model from given noise, `(n, h, w, c)` as pipelines return them."""
    raw = model.conditioner.parse(condition, noise.n)
    with torch.no_grad():
        *_, last = model.sample_path(noise, model.conditioner(raw, noise.n), **model.resolve(raw, noise.n, how))
        return model.to_data(last.x).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("target", ["eps", "x", "v"])
def test_their_pipelines_draw_our_samples(target, tmp_path):
    model = ours(target)
    done = an.export(model, "diffusers", tmp_path / "p")
    assert done.agreement["largest"] < FLOOR
    pipeline = loaded("DDIMPipeline", tmp_path / "p")
    how = {"generator": torch.Generator().manual_seed(3), "output_type": "np", "use_clipped_model_output": True}
    theirs = pipeline(batch_size=3, num_inference_steps=5, **how).images
    np.testing.assert_allclose(theirs, path(model, Same(3), solver="ddim", steps=5, spacing="trailing"), atol=FLOOR)
    assert theirs.std() > 0.05
    assert type(loaded("DiffusionPipeline", tmp_path / "p")).__name__ == "DDPMPipeline"


def test_ddpm_with_the_same_noise_at_every_step(tmp_path):
    chain = an.schedules.Chain(torch.linspace(0.01, 0.2, 20, dtype=torch.float64))
    network = shaken(DiffusersUNet(unet_config((1, 8, 8), (8, 16)), chain))
    model = an.Diffusion(network, (1, 8, 8), schedule=chain, target="eps", mean=0.5, std=0.5, bounds=(0, 1)).eval()
    an.export(model, "diffusers", tmp_path / "p")
    generator = torch.Generator().manual_seed(3)
    theirs = loaded("DDPMPipeline", tmp_path / "p")(2, generator, num_inference_steps=20, output_type="np").images
    mine = path(model, Same(2), solver="ddpm", steps=20, spacing="trailing")
    np.testing.assert_allclose(theirs, mine, atol=FLOOR)


def test_a_latent_model_is_theirs(tmp_path):
    """The mean and deviation of the latents are part of the exported autoencoder."""
    autoencoder = shaken(DiffusersAutoencoder(AUTOENCODER, (3, 16, 16), (0.0, 1.0)))
    network = shaken(DiffusersUNet(unet_config((2, 8, 8), (8, 16)), CHAIN))
    prior = an.Diffusion(network, (2, 8, 8), schedule=CHAIN, target="v")
    model = an.LatentModel(autoencoder, prior, shape=(3, 16, 16), bounds=(0, 1)).eval()
    model.measure(torch.randn(50, 2, 8, 8) * torch.tensor([0.5, 2.0]).view(2, 1, 1) + torch.tensor([1.0, -3.0]).view(2, 1, 1))
    assert an.export(model, "diffusers", tmp_path / "p").agreement["largest"] < FLOOR
    pipeline = loaded("LDMPipeline", tmp_path / "p")
    theirs = pipeline(2, torch.Generator().manual_seed(3), num_inference_steps=5, output_type="np").images
    mine = path(model, Same(2), solver="ddim", steps=5, spacing="trailing")
    np.testing.assert_allclose(theirs, mine, atol=FLOOR)
    x = torch.rand(2, 3, 16, 16)
    latents = pipeline.vqvae.encode(2 * x - 1).latent_dist
    torch.testing.assert_close(latents.mean, model.encode(x), atol=1e-5, rtol=1e-4)
    there = autoencoder.network.encode(2 * x - 1).latent_dist
    torch.testing.assert_close(latents.std, there.std / model.std, atol=1e-5, rtol=1e-4)
    back = load_pipeline(tmp_path / "p")
    torch.testing.assert_close(
        back.sample(2, seeds=0, solver="ddim", steps=5), model.sample(2, seeds=0, solver="ddim", steps=5), atol=1e-4, rtol=1e-4
    )


SCHEDULERS = {
    "linear": {},
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {},
    "trained": {"trained_betas": [0.01, 0.02, 0.1, 0.3]},
}


@pytest.mark.parametrize("betas", SCHEDULERS)
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_their_chain_is_ours(betas, predicts):
    how = {"prediction_type": predicts, **SCHEDULERS[betas]} | ({} if betas == "trained" else {"beta_schedule": betas})
    theirs = diffusers.DDPMScheduler(**how)
    chain, target = forward_process(dict(theirs.config), "there")
    torch.testing.assert_close(chain.alphas_bar.float(), theirs.alphas_cumprod, atol=1e-6, rtol=1e-4)
    assert target == {"epsilon": "eps", "sample": "x", "v_prediction": "v"}[predicts]


def pipeline(folder, predicts="epsilon", **how):
    torch.manual_seed(5)
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type=predicts, timestep_spacing="trailing", clip_sample=False, **how
    )
    made = diffusers.DDIMPipeline(shaken(diffusers.UNet2DModel(**TINY)), scheduler)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("pipelines") / "theirs")


@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_our_ddim_draws_their_samples(predicts, tmp_path):
    folder = pipeline(tmp_path / "p", predicts)
    model = an.load(f"diffusers:{folder}")
    assert (model.shape, model.levels, model.standardize.bounds) == ((2, 8, 8), 256, (0.0, 1.0))
    made = loaded("DDIMPipeline", folder)(2, torch.Generator().manual_seed(3), num_inference_steps=8, output_type="np").images
    mine = path(model, Same(2), solver="ddim", steps=8, spacing="trailing", clip=False)
    np.testing.assert_allclose(made, mine, atol=FLOOR)


def test_our_ddim_draws_their_latents(tmp_path):
    """Their latents are scaled by one number, which the configuration of the autoencoder has."""
    torch.manual_seed(5)
    autoencoder = shaken(diffusers.AutoencoderKL(**AUTOENCODER, scaling_factor=0.3, sample_size=16))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    made = diffusers.LDMPipeline(autoencoder, shaken(diffusers.UNet2DModel(**TINY)), scheduler)
    made.save_pretrained(tmp_path / "p")
    model = an.load(f"diffusers:{tmp_path / 'p'}")
    assert (model.shape, model.latent_shape) == ((3, 16, 16), (2, 8, 8))
    theirs = loaded("LDMPipeline", tmp_path / "p")(2, torch.Generator().manual_seed(3), num_inference_steps=5, output_type="np")
    mine = path(model, Same(2), solver="ddim", steps=5, spacing="trailing")
    np.testing.assert_allclose(theirs.images, mine, atol=FLOOR)
    assert mine.std() > 0.02


@pytest.mark.long
def test_everything_that_a_denoiser_has(theirs, tmp_path, command):
    """Solvers, likelihood, guidance by a weaker model, an edit, tuning, saving; and the commands."""
    model = an.load(f"diffusers:{theirs}")
    x = model.sample(4, seeds=range(4), steps=4)
    assert x.shape == (4, 2, 8, 8)
    bound = model.log_prob(x.mul(255).round().div(255), draws=2)
    assert isinstance(bound, Bound)
    assert bound.discrete
    weak = an.load(f"diffusers:{pipeline(tmp_path / 'weak')}")
    assert (
        model.sample(2, seeds=0, steps=2, weak=shaken(weak, 0.1), guidance=2.0) - model.sample(2, seeds=0, steps=2)
    ).abs().max() > 0.01
    copy = tmp_path / "copy"
    shutil.copytree(theirs, copy)
    for words in (
        ("sample", f"diffusers:{copy}", "-n", 2, "--solver", "unipc", "--steps", 3, "--out", tmp_path / "x.npz"),
        ("tune", f"diffusers:{copy}", "-n", 2, "--steps", "2"),
        ("sample", f"diffusers:{copy}", "-n", 2, "--quick"),
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "x.npz")["x"].dtype == np.uint8
    assert (copy / "tuning.json").is_file()
    assert (copy / "samples.png").is_file()
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.integers(0, 256, (40, 2, 8, 8), dtype=np.uint8))
    words = ("evaluate", f"diffusers:{copy}", "--likelihood", "-n", 2)
    told = command(*words, "--against", tmp_path / "data.npy", "--json")
    assert told.returncode == 0, told.stderr
    kinds = [figure["kind"] for figure in json.loads(told.stdout)["likelihoods"]]
    assert len(kinds) == 2
    for more, message in (
        ((), "is a model without data: name some with --against"),
        (("--against", "digits"), "shape and levels of"),
    ):
        refused = command(*words, *more)
        assert refused.returncode == 2
        assert message in " ".join(refused.stderr.split())
    model.save(tmp_path / "saved")
    torch.testing.assert_close(an.load(tmp_path / "saved").sample(2, seeds=1, steps=2), model.sample(2, seeds=1, steps=2))


@pytest.mark.long
def test_evaluated_and_compared_with_runs(tmp_path, command):
    """`net=unet-diffusers` trains a network of theirs, in their units."""
    how = {"device": "cpu", "quiet": True}
    settings = ("model.net=unet-diffusers", "model.channels=[8,8]", "train.previews=0", "train.batch=8")
    an.train("digits", budget="4it", out=tmp_path / "run", settings=settings, **how)
    model = an.load(tmp_path / "run", device="cpu", precision="fp32")
    assert isinstance(model.denoiser.network.network, diffusers.UNet2DModel)
    assert (model.denoiser.target, model.standardize.mean.item(), model.standardize.std.item()) == ("v", 0.5, 0.5)
    exported = command("export", tmp_path / "run", "--to", "diffusers")
    assert exported.returncode == 0, exported.stderr
    assert "DDPMPipeline.from_pretrained" in " ".join(exported.stderr.split())
    name = f"diffusers:{tmp_path / 'run-diffusers'}"
    assert json.loads((tmp_path / "run-diffusers" / "ancestral.json").read_text())["agreement"]["largest"] < FLOOR
    torch.testing.assert_close(
        an.load(name).sample(3, seeds=0, solver="ddim", steps=4, spacing="trailing"),
        an.Diffusion(model.denoiser, (1, 8, 8), schedule=CHAIN, target="v", **model.standardize.units)
        .eval()
        .sample(3, seeds=0, solver="ddim", steps=4, spacing="trailing"),
    )
    told = command("evaluate", name, "--against", "digits", "-n", 40, "--features", "random", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["cost"]["parameters"] > 1000
    compared = command("compare", tmp_path / "run", name, "-n", 40, "--features", "random", "--out", tmp_path / "c", "--json")
    assert compared.returncode == 0, compared.stderr
    assert name in compared.stdout
    alone = command("compare", name, "-n", 40)
    assert alone.returncode == 2
    assert "is a model without data: give a run of its data beside it" in " ".join(alone.stderr.split())


def test_the_step_is_the_library_s_number():
    network = DiffusersUNet(unet_config((1, 8, 8), (8,)), CHAIN)
    i = torch.arange(1000)
    level = CHAIN.at((i + 1) / 1000)
    logsnr = (2 * (level.alpha.log() - level.sigma.log())).float()
    assert torch.equal(network.steps(logsnr), i.float())
    between = CHAIN.at(torch.tensor([0.5004]))  # halfway in log abar between two steps, as in the chain
    assert network.steps(2 * (between.alpha.log() - between.sigma.log()).float()).item() == pytest.approx(499.4, abs=2e-3)
    assert network.steps(torch.tensor([20.0, -20.0])).tolist() == [0, 999]


def test_a_step_never_waits_for_the_device():
    """The meta device has no values: a step that reads one raises there."""
    network = DiffusersUNet(unet_config((1, 8, 8), (8, 8)), CHAIN).to("meta")
    out = network(torch.zeros(2, 1, 8, 8, device="meta"), torch.zeros(2, device="meta"), an.conditioning.Context())
    assert out.shape == (2, 1, 8, 8)


def by_class(shape=(3, 8, 8), drop=0.1, **how):
    kind = ClassCondition(("cat", "dog", "fox"), 6)
    network = shaken(DiffusersUNet(unet_config(shape, (8, 16)), CHAIN, kind.widths))
    conditioner = Conditioner({"class": kind}, drop)
    return an.Diffusion(network, shape, schedule=CHAIN, target="v", conditioner=conditioner, **how).eval()


PIXELS = {"mean": 0.5, "std": 0.5, "bounds": (0, 1)}


@pytest.mark.parametrize("drop", [0.1, 0.0])
def test_their_pipeline_draws_our_classes(drop, tmp_path):
    """The only pipeline that gives a UNet2DModel a class, with the scheduler of the folder; and back as a model here."""
    model = by_class(drop=drop, **PIXELS)
    assert an.export(model, "diffusers", tmp_path / "p").agreement["largest"] < FLOOR
    pipeline = loaded("DiffusionPipeline", tmp_path / "p")
    assert type(pipeline).__name__ == "ConsistencyModelPipeline"
    assert pipeline.unet.config.num_class_embeds == (4 if drop else 3)  # with a row for no class, if it was trained
    how = {"generator": torch.Generator().manual_seed(3), "num_inference_steps": 20, "output_type": "np"}
    theirs = pipeline(3, class_labels=[0, 2, 1], **how).images
    condition, by = {"class": ["cat", "fox", "dog"]}, {"solver": "ddpm", "steps": 20, "spacing": "trailing"}
    np.testing.assert_allclose(theirs, path(model, Same(3), condition, guidance=1.0, **by), atol=FLOOR)
    assert np.abs(theirs - path(model, Same(3), {"class": "fox"}, guidance=1.0, **by))[0].max() > 1e-3
    back = an.load(f"diffusers:{tmp_path / 'p'}")
    assert back.conditioner.kinds["class"].names == ("cat", "dog", "fox")
    for scale in (1.0, 3.0) if drop else (1.0,):
        np.testing.assert_allclose(
            path(back, Same(3), condition, guidance=scale, **by),
            path(model, Same(3), condition, guidance=scale, **by),
            atol=FLOOR,
        )
    if drop:
        np.testing.assert_allclose(path(back, Same(3), **by), path(model, Same(3), **by), atol=FLOOR)
        return
    with pytest.raises(UsageError, match="guidance needs the model without condition"):
        back.sample(2, {"class": "cat"}, steps=2, guidance=2.0)
    with pytest.raises(UsageError, match="always had the condition class"):
        back.sample(2, steps=2)


def documented(latents):
    """Run the loop of the page on exports, and return its noise and its images."""
    page = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    code = next(block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "class_labels" in block)
    line = "# of latents: z = "
    assert line in code
    assert "tensor([3, 7])" in code
    code = code.replace("tensor([3, 7])", "tensor([1, 2])").replace(line if latents else "# nothing", "z = ")
    noise, randn = [], torch.randn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda *shape: noise.append(randn(*shape)) or noise[-1].clone())
        exec(code, names := {})
    return noise[0], names["images"].permute(0, 2, 3, 1).numpy()


class Given:
    """Noise that is given."""

    def __init__(self, z):
        self.n, self.z = len(z), z

    def normal(self, shape):
        return self.z


@pytest.mark.parametrize("latents", [False, True])
def test_the_loop_of_the_page_draws_classes_with_guidance(latents, tmp_path, monkeypatch):
    """No pipeline of theirs has guidance for this network, or gives it a class in latents. Both are read back here."""
    model = by_class(**PIXELS)
    if latents:
        autoencoder = shaken(DiffusersAutoencoder(AUTOENCODER, (3, 16, 16), (0.0, 1.0)))
        model = an.LatentModel(autoencoder, by_class((2, 8, 8)), shape=(3, 16, 16), bounds=(0, 1)).eval()
        model.measure(torch.randn(50, 2, 8, 8) * 2 + 1)
    monkeypatch.chdir(tmp_path)
    assert an.export(model, "diffusers", "runs/theirs-diffusers").agreement["largest"] < FLOOR
    z, images = documented(latents)
    condition = {"class": ["dog", "fox"]}
    by = {"solver": "ddim", "steps": 20, "spacing": "trailing", "guidance": 1.5}
    for one in (model, an.load("diffusers:runs/theirs-diffusers")):
        np.testing.assert_allclose(path(one, Given(z), condition, **by), images, atol=FLOOR)
    assert np.abs(images - path(model, Given(z), {"class": "cat"}, **by)).max() > 1e-3
    assert np.abs(images - path(model, Given(z), condition, **by | {"guidance": 1.0})).max() > 1e-4


def test_their_classes_without_our_note_have_numbers(tmp_path):
    torch.manual_seed(5)
    unet = shaken(diffusers.UNet2DModel(**TINY, num_class_embeds=5))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    diffusers.DDIMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    model = an.load(f"diffusers:{tmp_path / 'p'}")
    assert (model.conditioner.kinds["class"].names, model.conditioner.drop) == (("0", "1", "2", "3", "4"), 0)
    z, t, labels = torch.randn(2, 2, 8, 8), 300, torch.tensor([4, 1])
    with torch.no_grad():
        eps = model.denoise(z, CHAIN.level(t + 1), {"class": labels}).eps
        torch.testing.assert_close(eps, unet(z, t, class_labels=labels).sample, atol=FLOOR, rtol=FLOOR)
    (tmp_path / "p" / "ancestral.json").write_text('{"classes": ["one"]}')
    with pytest.raises(UsageError, match="names other classes than the 5 of the network"):
        an.load(f"diffusers:{tmp_path / 'p'}")


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """A folder as those of Stable Diffusion, without the text encoder."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("pipelines") / "stable"
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    for name, part in {
        "unet": shaken(diffusers.UNet2DConditionModel(**CROSS)),
        "vae": shaken(diffusers.AutoencoderKL(**AUTOENCODER, scaling_factor=0.18215, sample_size=16)),
        "scheduler": diffusers.PNDMScheduler(**betas, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
    }.items():
        part.save_pretrained(folder / name)
    return folder


def test_encoder_hidden_states_are_a_condition(stable):
    """One evaluation, and samples by DDIM with guidance, equal those of their network in their loop."""
    model = an.load(f"diffusers:{stable}")
    assert (model.shape, model.latent_shape, list(model.conditioner.kinds)) == ((3, 16, 16), (2, 8, 8), ["embedding"])
    how = {"low_cpu_mem_usage": False}
    unet = diffusers.UNet2DConditionModel.from_pretrained(stable / "unet", **how).eval()
    vae = diffusers.AutoencoderKL.from_pretrained(stable / "vae", **how).eval()
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        stable / "scheduler", timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    generator = torch.Generator().manual_seed(1)
    states, empty = torch.randn(2, 7, 6, generator=generator), torch.randn(7, 6, generator=generator)
    z, t, chain = torch.randn(2, 2, 8, 8, generator=generator), 400, model.prior.schedule
    theirs = unet(z, t, encoder_hidden_states=states).sample
    eps = model.prior.denoise(z, chain.level(t + 1), {"embedding": states}).eps
    torch.testing.assert_close(eps, theirs, atol=FLOOR, rtol=FLOOR)
    assert (theirs - unet(z, t, encoder_hidden_states=states.flip(0)).sample).abs().max() > 1e-3

    scheduler.set_timesteps(5)
    z = Same(2).normal((2, 8, 8))
    with torch.no_grad():
        for t in scheduler.timesteps:
            out, null = (unet(z, t, encoder_hidden_states=s).sample for s in (states, empty.expand(2, -1, -1)))
            z = scheduler.step(null + 3 * (out - null), t, z).prev_sample
        x = (vae.decode(z / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    how = {"guidance": 3.0, "negative": {"embedding": empty}, "solver": "ddim", "steps": 5, "spacing": "trailing"}
    np.testing.assert_allclose(path(model, Same(2), {"embedding": states.numpy()}, **how), x, atol=FLOOR)
    assert x.std() > 0.02
    short = model.sample(2, {"embedding": states}, seeds=0, steps=2, guidance=3.0, negative={"embedding": empty[:3]})
    padded = model.sample(2, {"embedding": states}, seeds=0, steps=2, guidance=3.0, negative={"embedding": empty})
    assert (short - padded).abs().max() > 1e-4  # states of different lengths are padded with a mask


def test_a_model_with_hidden_states_says_what_it_needs(stable, tmp_path):
    model = an.load(f"diffusers:{stable}")
    for condition, more, words in (
        ({}, {}, "always had the condition embedding"),
        ({"embedding": torch.randn(7, 6)}, {"guidance": 2.0}, "or give a negative condition"),
        ({"embedding": "a cat"}, {}, r"an embedding is an array of real numbers of shape \(m, 6\)"),
        ({"embedding": torch.randn(7, 5)}, {}, r"found \(7, 5\)"),
        ({"embedding": torch.randn(3, 7, 6)}, {}, "3 embeddings given for 2 samples"),
    ):
        with pytest.raises(UsageError, match=words):
            model.sample(2, condition, steps=2, **more)
    with pytest.raises(UsageError, match="take no other condition than a class, and this model has embedding"):
        an.export(model, "diffusers", tmp_path / "p")
    model.save(tmp_path / "saved")
    how = {"seeds": 1, "steps": 2}
    states = torch.randn(7, 6)
    again = an.load(tmp_path / "saved").sample(2, {"embedding": states}, **how)
    torch.testing.assert_close(again, model.sample(2, {"embedding": states}, **how))


def test_a_text_is_read_by_cross_attention():
    """A token beyond the mask plays no part."""
    network = shaken(DiffusersUNet(unet_config((1, 8, 8), (8, 8), tokens=True), CHAIN, an.conditioning.ContextShape(4, 6)))
    assert isinstance(network.network, diffusers.UNet2DConditionModel)
    z, logsnr, tokens = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.randn(2, 3, 6)
    mask, vector = torch.tensor([[True, False, False], [True, True, False]]), torch.randn(2, 4)
    out = network(z, logsnr, an.conditioning.Context(vector, tokens, mask))
    other = torch.where(mask[..., None], tokens, torch.ones_like(tokens))
    torch.testing.assert_close(network(z, logsnr, an.conditioning.Context(vector, other, mask)), out)
    assert (network(z, logsnr, an.conditioning.Context(vector, tokens + 1, mask)) - out).abs().max() > 1e-4
    assert (network(z, logsnr, an.conditioning.Context(vector + 1, tokens, mask)) - out).abs().max() > 1e-4


@pytest.mark.long
def test_trained_with_a_class_and_with_a_text(tmp_path, command):
    how = {"device": "cpu", "quiet": True}
    settings = ("model.net=unet-diffusers", "model.channels=[8,8]", "train.previews=0", "train.batch=8")
    an.train("digits", budget="3it", condition="class", out=tmp_path / "run", settings=settings, **how)
    exported = command("export", tmp_path / "run", "--to", "diffusers")
    assert exported.returncode == 0, exported.stderr
    name = f"diffusers:{tmp_path / 'run-diffusers'}"
    told = command("sample", name, "-n", 2, "--condition", "class=7", "--steps", 2, "--out", tmp_path / "x.npz")
    assert told.returncode == 0, told.stderr
    an.train("scenes", budget="3it", condition="text", out=tmp_path / "text", settings=settings, **how)
    model = an.load(tmp_path / "text")
    assert isinstance(model.denoiser.network.network, diffusers.UNet2DConditionModel)
    assert model.sample(2, {"text": "a 3"}, steps=2).isfinite().all()
    with pytest.raises(UsageError, match="this model has text"):
        an.export(model, "diffusers", tmp_path / "p")


@pytest.mark.long
def test_it_is_exported_to_onnx_too(tmp_path):
    done = an.export(ours(shape=(1, 8, 8)), "onnx", tmp_path / "e", what="network", steps=2)
    assert done.agreement["largest"] < 1e-4


@pytest.mark.long
def test_the_library_is_not_imported_before_it_is_used():
    code = "import sys, ancestral as an; an.networks.UNet, an.Diffusion, an.load, an.export; print('diffusers' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_wrong_requests_are_one_sentence(theirs, tmp_path, monkeypatch):
    plain = an.Diffusion(an.networks.UNet(1, (8,)), (1, 8, 8))
    for model, words in (
        (plain, r"and this is a UNet: train one with model.net=unet-diffusers"),
        (an.GAN(an.networks.VectorGenerator(2), an.networks.VectorDiscriminator(2), (2,)), "this is a model of the family gan"),
        (ours("velocity"), "the target of this model is velocity: train one with model.target=v"),
        (
            an.Diffusion(ours().denoiser, (2, 8, 8), schedule=CHAIN, target="v", bounds=(0, 1)),
            r"pictures of pipelines are in \[-1, 1\]",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            an.export(model, "diffusers", tmp_path / "p")
    with pytest.raises(UsageError, match="chooses its sampler itself"):
        an.export(ours(), "diffusers", tmp_path / "p", steps=3)
    assert not any(tmp_path.iterdir())

    def changed(part, **values):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(theirs, folder)
        file = folder / part
        file.write_text(json.dumps(json.loads(file.read_text()) | values))
        return f"diffusers:{folder}"

    scheduler, unet = "scheduler/scheduler_config.json", "unet/config.json"
    for name, words in (
        (f"diffusers:{tmp_path / 'none'}", "does not exist"),
        (f"diffusers:{theirs / 'unet'}", "holds no pipeline"),
        (changed(scheduler, prediction_type="flow"), "predicts 'flow', and only epsilon, sample, v_prediction"),
        (changed(scheduler, beta_schedule="sigmoid"), "unknown beta_schedule 'sigmoid'"),
        (changed(scheduler, rescale_betas_zero_snr=True), "has another forward process than a chain"),
        (changed(unet, _class_name="UNet1DModel"), "is a UNet1DModel, and only a UNet2DModel or a UNet2DConditionModel"),
        (changed(unet, _class_name="UNet2DConditionModel", encoder_hid_dim=4), r"takes other inputs .* \(encoder_hid_dim in"),
        (changed(unet, _class_name="UNet2DConditionModel", num_class_embeds=4), r"takes other inputs .* \(num_class_embeds in"),
        (changed(unet, _class_name="UNet2DConditionModel", cross_attention_dim=[6, 6]), "read different states"),
        (changed(unet, in_channels=4), "has 4 channels as input and 2 as output"),
        (changed(unet, time_embedding_type="fourier"), "does not take the step of a chain"),
        (changed(unet, class_embed_type="timestep"), r"takes other inputs .* \(class_embed_type in"),
        (changed(unet, block_out_channels=[8, 8]), "cannot read the UNet2DModel|does not hold the weights"),
    ):
        with pytest.raises(UsageError, match=words):
            an.load(name)
    with pytest.raises(UsageError, match="reads conditions as a vector or as tokens"):
        DiffusersUNet(unet_config((1, 8, 8), (8,)), CHAIN, an.conditioning.ContextShape(channels=4))
    with pytest.raises(UsageError, match="2 levels do not divide 7x8"):
        unet_config((1, 7, 8), (8, 8))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(an.AncestralError, match=r"pip install 'ancestral\[diffusers\]'"):
        an.load(f"diffusers:{theirs}")


def test_its_samples_depend_on_their_seed_alone(theirs):
    model = an.load(f"diffusers:{theirs}")
    assert SampleNoise([4]).normal((2, 8, 8)).shape == (1, 2, 8, 8)
    many, one = model.sample(4, seeds=range(4), steps=2), model.sample(1, seeds=[2], steps=2)
    torch.testing.assert_close(many[2:3], one)
