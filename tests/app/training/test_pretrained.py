"""Trained autoencoders that a latent model takes over: of a latent run, of a VAE, of the library diffusers."""

import json
import shutil
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.cli import main
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own imports
    from diffusers import AutoencoderKL, VQModel

PRIOR = ("model.prior.width=16", "train.batch=16", "train.previews=1")
FIRST = ("model.autoencoder.width=16", "model.autoencoder.batch=16", "model.autoencoder.share=0.5")
VAE = ("model.net=conv", "model.width=8", "model.latent=6", "train.batch=16", "train.previews=0")


def trained(out, source="digits", *settings, model="latent", budget="4it", **options):
    t = plan(source, model=model, budget=budget, out=out, device="cpu", settings=settings, **options).begin()
    notes = [note for step in t for note in step.notes]
    return t, notes


def with_pretrained(out, autoencoder, source="digits", *settings, **options):
    return trained(out, source, *PRIOR, *settings, model=None, autoencoder=autoencoder, **options)


def kl(folder, channels=3):
    """An AutoencoderKL of random weights, as the library saves it."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        latent_channels=4,
        norm_num_groups=4,
    )
    model.save_pretrained(folder)
    return model.eval()


def colours(n=60, side=16, channels=3):
    """Smooth pictures of random colours."""
    corners = np.random.default_rng(0).integers(0, 256, (n, channels, 2, 2)).astype(np.float32)
    wide = torch.nn.functional.interpolate(torch.from_numpy(corners), (side, side), mode="bilinear", align_corners=True)
    return wide.round().byte().permute(0, 2, 3, 1).numpy()


def normal(t):
    """That the prior's data have mean 0 and deviation 1, and that the normalisation changes no reconstruction."""
    z = t.state.data.train.array
    axes = (0, *range(2, z.ndim))
    std = z.std(axes, unbiased=False)
    moves = t.model.std.flatten() != 1  # a constant channel keeps its own
    torch.testing.assert_close(z.mean(axes), torch.zeros(z.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(std[moves], torch.ones(int(moves.sum())), atol=1e-3, rtol=0)
    assert moves.any()
    x = t.data.values(t.data.test.array[:20])
    with t.model.inference():
        own = t.model.autoencoder.decode(t.model.autoencoder.encode(x)).clamp(0, 1)
    torch.testing.assert_close(t.model.reconstruct(x), own, atol=1e-4, rtol=0)


def test_of_a_latent_run_and_the_new_run_is_whole(tmp_path):
    first, _ = trained(tmp_path / "first", "digits", *FIRST, *PRIOR, budget="6it")
    t, notes = with_pretrained(tmp_path / "second", tmp_path / "first")
    assert "stage 1 of 1: the prior, 100% of the budget" in notes
    assert any(note.startswith("latents of 4x4x4, by channel: mean") for note in notes)
    assert any(note.startswith("reconstruction of 179 held-out samples: PSNR") for note in notes)
    normal(t)
    shutil.rmtree(tmp_path / "first")
    model = an.load(tmp_path / "second")
    for p, q in zip(first.model.autoencoder.parameters(), model.autoencoder.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q, atol=0, rtol=0)
    assert model.sample(2, steps=2).shape == (2, 1, 8, 8)
    again, _ = with_pretrained(tmp_path / "second", tmp_path / "first")  # continued with the same words, its source gone
    assert again.step == 4


def test_it_scales_as_it_was_trained_and_not_as_the_new_data_are(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 1), dtype=np.uint8)
    trained(tmp_path / "first", x, *FIRST, *PRIOR, budget="6it")
    t, _ = with_pretrained(tmp_path / "second", tmp_path / "first", x // 4)  # darker
    before, model = an.load(tmp_path / "first"), an.load(tmp_path / "second")
    dark = t.data.values(t.data.test.array)
    torch.testing.assert_close(model.autoencoder.encode(dark), before.autoencoder.encode(dark))


@pytest.mark.parametrize(
    "settings",
    [
        VAE,
        pytest.param((*VAE, "model.bottleneck=vq"), marks=pytest.mark.long),
        pytest.param(("model.hierarchy=2", "train.batch=16"), marks=pytest.mark.long),
    ],
)
def test_of_a_vae_whose_latents_are_vectors(tmp_path, settings):
    first, _ = trained(tmp_path / "vae", "digits", *settings, "train.previews=0", model="vae", budget="30it")
    t, notes = with_pretrained(tmp_path / "run", tmp_path / "vae")
    assert type(t.model.prior.denoiser.network).__name__ == "MLP"
    assert t.model.latent_shape == first.model.latent_shape
    assert any(note.startswith("reconstruction of") for note in notes)
    normal(t)
    x = t.data.values(t.data.test.array[:20])
    torch.testing.assert_close(t.model.reconstruct(x), an.load(tmp_path / "vae").reconstruct(x), atol=1e-4, rtol=0)
    shutil.rmtree(tmp_path / "vae")
    assert an.load(tmp_path / "run").sample(2, steps=2).shape == (2, 1, 8, 8)


def test_of_diffusers_as_the_library_computes_it(tmp_path):
    library = kl(tmp_path / "kl")
    t, notes = with_pretrained(tmp_path / "run", tmp_path / "kl", colours(), "train.precision=fp32")
    assert any(note.startswith("latents of 4x4x4, by channel: mean") for note in notes)
    normal(t)
    shutil.rmtree(tmp_path / "kl")
    model = an.load(tmp_path / "run", precision="fp32")
    x = t.data.values(t.data.test.array)
    with torch.no_grad():
        z = library.encode(2 * x - 1).latent_dist.mode()
        y = library.decode(z).sample / 2 + 0.5
    torch.testing.assert_close(model.autoencoder.encode(x), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.reconstruct(x), y.clamp(0, 1), atol=1e-5, rtol=0)
    assert model.sample(2, steps=2).shape == (2, 3, 16, 16)


def test_a_part_at_a_time_is_the_same(tmp_path, monkeypatch):
    from ancestral.networks import diffusers as ours

    library = kl(tmp_path / "kl")
    monkeypatch.setattr(ours, "PIXELS", 3 * 16 * 16)
    model = ours.DiffusersAutoencoder(dict(library.config), (3, 16, 16), (0.0, 1.0)).eval()
    model.network.load_state_dict(ours.read(tmp_path / "kl"))
    x = torch.rand(8, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.encode(x), library.encode(2 * x - 1).latent_dist.mode(), atol=1e-5, rtol=0)


def broken(folder, what):
    """A folder of the library's with something wrong."""
    if what == "grey":
        return kl(folder, channels=1)
    if what == "pipeline":
        return kl(folder / "vae")
    if what == "class":
        return VQModel(norm_num_groups=4, block_out_channels=(8,)).save_pretrained(folder)
    if what == "empty":
        return folder.mkdir()
    kl(folder)
    if what == "config":
        (folder / "config.json").write_text("{}")
    if what == "no weights":
        (folder / "diffusion_pytorch_model.safetensors").unlink()
    if what == "other weights":
        file = folder / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        save_file({name: w for name, w in weights.items() if name != "quant_conv.weight"}, file)
    if what == "cut weights":
        file = folder / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:100])
    return None


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing", "does not exist: give a run that was trained with --model latent or vae"),
        ("empty", "holds no trained autoencoder: give a run"),
        ("pipeline", "is a complete pipeline of diffusers: give its autoencoder"),
        ("config", "has no _class_name"),
        ("class", "describes a VQModel: AutoencoderKL is the only autoencoder"),
        ("no weights", "has no diffusion_pytorch_model.safetensors"),
        ("other weights", "quant_conv.weight is missing or different"),
        ("cut weights", "cannot read the AutoencoderKL"),
        ("grey", "takes pictures of 1 channels, and these have 3"),
    ],
)
def test_a_pretrained_autoencoder_that_does_not_fit_is_one_sentence(tmp_path, what, words):
    if what != "nothing":
        broken(tmp_path / "kl", what)
    with pytest.raises(UsageError, match=words) as said:
        with_pretrained(tmp_path / "run", tmp_path / "kl", colours())
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (colours(side=18), "4 does not divide 18x18"),
        ("moons", "need pictures with levels"),
    ],
)
def test_data_that_diffusers_cannot_encode(tmp_path, source, words):
    kl(tmp_path / "kl")
    with pytest.raises(UsageError, match=words):
        with_pretrained(tmp_path / "run", tmp_path / "kl", source)


def test_without_the_library(tmp_path, monkeypatch):
    kl(tmp_path / "kl")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(AncestralError, match=r"not installed: pip install 'ancestral\[diffusers\]'"):
        with_pretrained(tmp_path / "run", tmp_path / "kl", colours())


def test_runs_without_a_usable_autoencoder(tmp_path):
    trained(tmp_path / "gan", "digits", "model.width=8", model="gan", budget="1it")
    with pytest.raises(UsageError, match="a run of the family gan, which has no autoencoder"):
        with_pretrained(tmp_path / "run", tmp_path / "gan")
    trained(tmp_path / "vae", "digits", *VAE, model="vae", budget="1it", condition="class")
    with pytest.raises(UsageError, match=r"lack the information of its condition \(class\)"):
        with_pretrained(tmp_path / "run", tmp_path / "vae")
    t = plan("digits", model="latent", budget="8it", out=tmp_path / "half", device="cpu", settings=(*FIRST, *PRIOR)).begin()
    next(iter(t))
    t.save()
    with pytest.raises(UsageError, match=r"the training of the autoencoder of .* is not finished"):
        with_pretrained(tmp_path / "run", tmp_path / "half")
    list(t)
    with pytest.raises(UsageError, match=r"is for samples of 1x8x8 \(uint8\), and those of array are 3x16x16 \(uint8\)"):
        with_pretrained(tmp_path / "run", tmp_path / "half", colours())
    with pytest.raises(UsageError, match="is not the one that the recipe describes: start a new run with --autoencoder"):
        with_pretrained(tmp_path / "wide", tmp_path / "half", "digits", "model.autoencoder.width=8")
    with pytest.raises(UsageError, match="family vae must be pretrained"):
        trained(tmp_path / "other", "digits", "model.autoencoder.family=vae")
    with pytest.raises(UsageError, match="for a latent model, not for gan"):
        trained(tmp_path / "other", "digits", model="gan", autoencoder=tmp_path / "half")


def test_the_command(tmp_path, capsys):
    kl(tmp_path / "kl")
    np.save(tmp_path / "x.npy", colours())
    words = ["train", tmp_path / "x.npy", "--autoencoder", tmp_path / "kl", "--for", "2it", "--out", tmp_path / "run", *PRIOR]
    with pytest.raises(SystemExit, match="0"):
        main([*map(str, words), "--json"])
    recipe = Run(tmp_path / "run").recipe.model
    assert (recipe.family, recipe.autoencoder.family, recipe.pretrained.source) == ("latent", "diffusers", str(tmp_path / "kl"))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["info", str(tmp_path / "run"), "--json"])
    assert {"psnr", "ssim"} <= json.loads(capsys.readouterr().out)["health"].keys()
