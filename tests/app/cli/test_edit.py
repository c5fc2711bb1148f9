"""`ancestral sample` with a picture to begin with, and with guidance."""

import shutil
from collections import deque
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ancestral.app.api import load, train
from ancestral.app.cli.conditions import Asked
from ancestral.app.cli.draw import draw
from ancestral.app.cli.sample import sample
from ancestral.app.sampling import Conditions, EditRequest, Guidance, SampleRequest
from ancestral.errors import UsageError
from ancestral.models import seeds_from
from ancestral.models.edits import Inpaint

SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")
VAE = ("model.width=8", "train.previews=0")
LATENT = (
    "model.autoencoder.width=8",
    "model.prior.channels=[8, 16]",
    "train.batch=16",
    "train.precision=fp32",
    "train.previews=0",
)


def wake(file, part, strength):
    """Give a part of a model weights as after long training: those of few steps hear nothing."""
    generator = torch.Generator().manual_seed(0)
    stored = load_file(file)
    for name, value in stored.items():
        if name.startswith(part):
            stored[name] = value + strength * torch.randn(value.shape, generator=generator)
    save_file(stored, file)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two runs of digits and one that does not denoise; a digit, a mask of its right half, a small digit, all as files."""
    home = tmp_path_factory.mktemp("edit")
    with suppress(KeyboardInterrupt):
        train("digits", budget="3it", out=home / "run", condition="class", settings=SMALL, quiet=True)
        train("digits", budget="2it", out=home / "weak", condition="class", settings=SMALL, quiet=True)
        train("digits", "vae", budget="2it", out=home / "vae", settings=VAE, quiet=True)
        train("digits", "vae", budget="2it", out=home / "filling", condition="inpaint", settings=VAE, quiet=True)
        train("digits", budget="2it", out=home / "denoising", condition="inpaint", settings=SMALL, quiet=True)
        for name, budget in (("latent", "6it"), ("weak-latent", "5it")):
            how = {"autoencoder": home / "latent"} if name != "latent" else {"model": "latent"}
            train("digits", budget=budget, out=home / name, condition="class", settings=LATENT, quiet=True, **how)
        train("rings", budget="2it", out=home / "points", settings=("model.width=8", "train.previews=0"), quiet=True)
    for old, new, part, strength in (("run", "heard", "denoiser", 0.2), ("latent", "awake", "prior.denoiser", 1.0)):
        shutil.copytree(home / old, home / new)
        wake(home / new / "model" / "model.safetensors", part, strength)
    generator = np.random.default_rng(0)
    digit = np.rint(np.rint(generator.uniform(0, 16, (8, 8))) * 255 / 16).astype(np.uint8)
    Image.fromarray(digit).save(home / "digit.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(home / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(home / "black.png")
    Image.fromarray(digit[:5, :5]).save(home / "five.png")
    Image.fromarray(digit.reshape(4, 2, 4, 2).mean((1, 3)).astype(np.uint8)).save(home / "small.png")
    return home


def stored(places, name="run", **options):
    out = places / "out.npz"
    steps = {} if name == "filling" else {"steps": 3}
    assert sample(places / name, out=out, quiet=True, **steps, **options) == 0
    with np.load(out) as file:
        return file["x"]


def levels(file):
    return np.rint(np.asarray(Image.open(file)) / 255 * 16).astype(np.uint8)


def test_pixels_outside_the_mask_do_not_change(places):
    x = stored(places, inpaint=places / "digit.png", mask=places / "mask.png", n=5)
    assert x.shape == (5, 1, 8, 8)
    assert (x[:, 0, :, :4] == levels(places / "digit.png")[:, :4]).all()
    assert (x[:, 0, :, 4:] != levels(places / "digit.png")[:, 4:]).any()
    assert len(np.unique(x[:, 0, :, 4:], axis=0)) == 5


def test_vary_from_nothing_to_all(places):
    same = stored(places, vary=places / "digit.png", strength=0.0, n=2)
    assert (same[:, 0] == levels(places / "digit.png")).all()
    np.testing.assert_array_equal(stored(places, vary=places / "digit.png", strength=1.0, n=2), stored(places, n=2))
    assert len(stored(places, vary=places / "digit.png")) == 16


def test_upscale_has_the_models_size(places):
    x = stored(places, upscale=places / "small.png", n=3)
    assert x.shape == (3, 1, 8, 8)
    assert not (x == stored(places, n=3)).all()


def test_pictures_are_scaled_to_the_model(places, tmp_path):
    for name in ("digit", "mask"):
        Image.open(places / f"{name}.png").resize((32, 32), Image.Resampling.NEAREST).convert("RGB").save(
            tmp_path / f"{name}.png"
        )
    x = stored(places, inpaint=tmp_path / "digit.png", mask=tmp_path / "mask.png", n=2)
    assert x.shape == (2, 1, 8, 8)
    assert (x[0, 0, :, :4] == x[1, 0, :, :4]).all()
    assert (x[0, 0, :, 4:] != x[1, 0, :, 4:]).any()


def test_guidance_options_change_the_samples(places):
    seven, weaker = Asked(class_="7"), str(places / "weak")
    plain = stored(places, asked=seven, n=2, guidance=1.0)
    np.testing.assert_array_equal(stored(places, asked=seven, n=2), stored(places, asked=seven, n=2, guidance=1.5))
    np.testing.assert_array_equal(stored(places, asked=seven, n=2, guidance=9.0, interval="1000,2000"), plain)
    np.testing.assert_array_equal(stored(places, asked=Asked(class_="3"), n=2, guidance=0.0, negative="7"), plain)
    np.testing.assert_array_equal(stored(places, n=2, asked=seven, guidance=1.0, autoguide=weaker), plain)
    weak = stored(places, "weak", asked=seven, n=2, guidance=1.0)
    np.testing.assert_array_equal(stored(places, n=2, asked=seven, guidance=0.0, autoguide=weaker), weak)


def test_guidance_options_use_the_usual_strength(places):
    """Without --guidance, a class has the usual strength."""
    seven = Asked(class_="7")
    for how in ({"interval": "0.2,5"}, {"rescale": 0.7}, {"negative": "3"}):
        usual, said = (stored(places, "heard", asked=seven, n=2, **how, **g) for g in ({}, {"guidance": 1.5}))
        np.testing.assert_array_equal(usual, said)
        assert (usual != stored(places, "heard", asked=seven, n=2)).any()


def test_latent_models_are_guided_by_a_weaker_model_too(places):
    """Scale 0 gives the weak model alone: another run, or an earlier checkpoint of this run."""
    seven = Asked(class_="7")
    weak = stored(places, "weak-latent", asked=seven, n=2, guidance=1.0)
    strong = stored(places, "awake", asked=seven, n=2, guidance=1.0)
    assert (abs(strong.astype(int) - weak) > 1).any()
    led = stored(places, "awake", asked=seven, n=2, guidance=0.0, autoguide=str(places / "weak-latent"))
    np.testing.assert_allclose(led, weak, atol=1)
    own = stored(places, "latent", asked=seven, n=2, guidance=1.0)
    np.testing.assert_array_equal(stored(places, "awake", asked=seven, n=2, guidance=0.0, autoguide="6"), own)


def test_an_interpolation_ends_at_the_samples_of_its_class(places, tmp_path):
    """Guided as those are."""
    seven = Asked(class_="7")
    how = {"asked": seven, "precision": "fp32", "quiet": True}
    sample(places / "awake", seeds="3,5", out=tmp_path / "ends.png", **how)
    sample(places / "awake", interpolate="3,5", out=tmp_path / "way.png", **how)
    with Image.open(tmp_path / "ends.png") as ends, Image.open(tmp_path / "way.png") as way:
        left, top = way.width - 9 * 50 - 2, way.height - 50 - 2  # of the tiles, behind labels
        ends, way = np.asarray(ends).astype(int), np.asarray(way.convert("L")).astype(int)[top:, left:]
    assert abs(ends[2:50, 2:50] - way[2:50, 2:50]).max() <= 1
    assert abs(ends[2:50, 52:100] - way[2:50, 402:450]).max() <= 1


def test_the_picture_that_is_given_stands_above_the_samples(places, tmp_path):
    sample(
        places / "run", inpaint=places / "digit.png", mask=places / "mask.png", n=4, steps=2, out=tmp_path / "x.png", quiet=True
    )
    with Image.open(tmp_path / "x.png") as picture:
        found = np.asarray(picture.convert("L").crop((2, 20, 50, 68)).resize((8, 8), Image.Resampling.NEAREST))
    digit = np.asarray(Image.open(places / "digit.png"))
    assert abs(found[:, :4].astype(int) - digit[:, :4]).max() <= 8  # 17 levels
    assert (found[:, 4:] == 128).all()  # the hole


def test_a_model_trained_for_inpainting_keeps_known_pixels(places):
    x = stored(places, "filling", inpaint=places / "digit.png", mask=places / "mask.png", n=3)
    assert (x[:, 0, :, :4] == levels(places / "digit.png")[:, :4]).all()
    assert len(np.unique(x[:, 0, :, 4:], axis=0)) == 3


def test_one_sample_of_each_named_class_is_drawn(places):
    many = Asked(class_=",".join(str(i % 10) for i in range(20)))
    assert len(stored(places, asked=many, vary=places / "digit.png")) == 20


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("run", {"inpaint": "digit.png"}, "--inpaint needs --mask"),
        ("run", {"mask": "mask.png"}, "give the picture with --inpaint"),
        ("run", {"strength": 0.5}, "give the picture with --vary"),
        ("run", {"inpaint": "digit.png", "mask": "five.png"}, "5x5 pixels .* 8x8: both need the same size"),
        ("run", {"inpaint": "digit.png", "mask": "black.png"}, "has no white pixels"),
        ("run", {"inpaint": "none.png", "mask": "mask.png"}, "cannot read the picture"),
        ("run", {"upscale": "five.png"}, "cannot be shrunk to 1x5x5"),
        ("run", {"vary": "digit.png", "upscale": "small.png"}, "one at a time"),
        ("run", {"vary": "digit.png", "strength": 2.0}, "strength is from 0"),
        ("vae", {"vary": "digit.png"}, "--vary needs a model that denoises"),
        ("points", {"vary": "digit.png"}, "are not pictures: leave --vary out"),
        ("run", {"guidance": 2.0}, "needs a condition or a weaker model: give one with --class"),
        ("run", {"asked": Asked(class_="7"), "autoguide": "3"}, "--autoguide needs a strength"),
        ("run", {"asked": Asked(prompt=("a 7",)), "negative": "a 3"}, "needs a strength"),
        ("run", {"interpolate": "3,7", "guidance": 2.0}, "--guidance has no effect on --interpolate, which draws no samples"),
        ("run", {"asked": Asked(class_="7"), "guidance": 2.0, "interval": "5"}, "cannot read the interval"),
        ("run", {"asked": Asked(class_="7"), "guidance": 2.0, "interval": "5,1"}, "lower one first"),
        ("run", {"asked": Asked(class_="7"), "guidance": 2.0, "negative": "12"}, "unknown class"),
        ("run", {"guidance": 2.0, "autoguide": "vae"}, "does not denoise"),
        ("run", {"guidance": 2.0, "autoguide": "points"}, "trained on the data"),
        ("run", {"guidance": 2.0, "autoguide": "7"}, "of step 7 does not exist in .*, which has those of 3: to store more"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(places, run, options, words):
    files = {name: places / v if name in ("inpaint", "mask", "upscale", "vary") else v for name, v in options.items()}
    if options.get("autoguide") in ("vae", "points"):
        files["autoguide"] = str(places / options["autoguide"])
    with pytest.raises(UsageError, match=words) as error:
        sample(places / run, out=places / "no.png", quiet=True, **files)
    assert "\n" not in str(error.value)


def test_draw_and_sample_give_the_same_conditions(places, tmp_path):
    how = {"steps": 2, "out": tmp_path / "strip.png", "quiet": True}
    assert draw("backward", str(places / "run"), asked=Asked(class_="7,3"), **how) == 0
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.size == (2 + 3 * 50, 12 + 2 + 8 * 50)  # 3 states of 8 samples below their labels
    for asked, words in ((Asked(class_="7,12"), "unknown class '12'"), (Asked(prompt=("a 7",)), "the condition 'text'")):
        for what in ("backward", "between"):
            with pytest.raises(UsageError, match=words if what == "backward" or asked.prompt else "choose one"):
                draw(what, str(places / "run"), asked=asked, **how)


def test_one_picture_has_one_class(places, tmp_path):
    with pytest.raises(UsageError, match="there are 2 classes or prompts: choose one"):
        draw("between", str(places / "run"), asked=Asked(class_="7,3"), out=tmp_path / "x.png", quiet=True)
    with pytest.raises(UsageError, match="the picture forward does not depend on a condition"):
        draw("forward", "digits", asked=Asked(class_="7"), out=tmp_path / "x.png", quiet=True)
    assert draw("between", str(places / "run"), asked=Asked(class_="7"), steps=2, out=tmp_path / "x.png", quiet=True) == 0
    assert sample(places / "vae", traverse=True, out=tmp_path / "x.png", quiet=True) == 0


def test_a_latent_is_found_under_a_condition(places, tmp_path):
    for name, asked in (("none", Asked()), ("seven", Asked(class_="7"))):
        out = tmp_path / f"{name}.npz"
        assert sample(places / "run", invert=places / "digit.png", asked=asked, out=out, quiet=True) == 0
    with np.load(tmp_path / "none.npz") as a, np.load(tmp_path / "seven.npz") as b:
        np.testing.assert_array_equal(a["x"], b["x"])
        assert (a["z"] != b["z"]).any()


def test_python_and_the_command_inpaint_equally(places):
    """The known pixels are kept below both, however they are asked for."""
    digit = torch.from_numpy(levels(places / "digit.png").astype(np.float32) / 16)[None, None]
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    for run, how in (("filling", {}), ("denoising", {"steps": 3})):
        model = load(places / run)
        command = stored(places, run, inpaint=places / "digit.png", mask=places / "mask.png", n=3)
        seeds = seeds_from(0, 3)
        given = {"inpaint": (digit[0], known[0, 0])}
        mask = (~known).float()
        request = SampleRequest(n=3, edit=EditRequest(inpaint=digit, mask=mask), steps=how.get("steps"))
        found = {
            "edit": model.sample(3, seeds=seeds, edit=Inpaint(digit, known), **how),
            "in parts": model.sample(3, seeds=seeds, batch=1, edit=Inpaint(digit, known), **how),
            "trajectory": deque(model.trajectory(3, seeds=seeds, edit=Inpaint(digit, known), **how), maxlen=1).pop().x,
            "request": request.run(model),
        }
        for name, x in found.items():
            assert (torch.round(x * 16).numpy().astype(int) == command.astype(int)).mean() > 0.99, name
            assert torch.equal(x[:, :, :, :4], digit.expand(3, -1, -1, -1)[:, :, :, :4]), name
        x = model.sample(3, given, seeds=seeds, **how)
        assert torch.equal(x[:, :, :, :4], digit.expand(3, -1, -1, -1)[:, :, :, :4])
        if run == "filling":
            assert torch.equal(x, found["edit"])


def test_errors_name_arguments_in_python_and_options_in_the_command(places):
    with pytest.raises(UsageError, match="`inpaint` needs `mask`"):
        EditRequest(inpaint=places / "digit.png")
    with pytest.raises(UsageError, match=r"`guidance` needs a condition or a weaker model.* `autoguide`"):
        SampleRequest(guidance=Guidance(scale=2.0)).run(places / "run")
    with pytest.raises(UsageError, match="`image` is for runs with"):
        SampleRequest(conditions=Conditions(image=places / "digit.png")).run(places / "run")
    with pytest.raises(UsageError, match="2 classes and 3 prompts cannot be combined"):
        Conditions(classes=("1", "2"), prompts=("a", "b", "c"))
    x = SampleRequest(n=2, conditions=Conditions(classes=("7",)), steps=2).run(places / "run")
    assert torch.equal(x, load(places / "run").sample(2, {"class": 7}, seeds=seeds_from(0, 2), steps=2))
