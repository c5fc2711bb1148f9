"""Conditions control the samples of every family, and a run keeps them."""

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral
from ancestral.app.api import plan
from ancestral.app.cli.conditions import Asked
from ancestral.app.data.assemble import assemble
from ancestral.app.data.scenes import DIGITS, INK, compose, digits
from ancestral.app.progress import Reporter, follow
from ancestral.app.recipes import FAMILIES
from ancestral.batch import Batch
from ancestral.errors import UsageError
from ancestral.models.edits import Upscale
from ancestral.models.latent import LatentModel
from ancestral.noise import StreamNoise

SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0", "train.precision=fp32")


@pytest.fixture(scope="module")
def scenes():
    source = digits()
    train, test = compose(source.train, 400, np.random.RandomState(0)), compose(source.test, 32, np.random.RandomState(1))
    return assemble("scenes", train, test, levels=256, box_classes=DIGITS, map_classes=DIGITS)


def trained(scenes, out, condition, budget="8it", model="diffusion", settings=SMALL):
    trainer = plan(scenes, model=model, budget=budget, out=out, condition=condition, settings=settings, device="cpu").begin()
    follow(trainer, Reporter(quiet=True))
    return ancestral.load(out, device="cpu", precision="fp32")


@pytest.mark.full
def test_a_map_rules_where_ink_is(scenes, tmp_path):
    """Intersection over union of ink and map, far above that with the maps of other scenes."""
    settings = ("model.channels=[32, 48]", "train.batch=32", "train.previews=0", "train.precision=fp32", "train.lr=4e-3")
    model = trained(scenes, tmp_path / "run", "map", "120it", settings=settings)
    wanted = scenes.test.maps
    x = model.sample(32, {"map": wanted}, steps=8, guidance=2.0)[:, 0]
    ink, there = x > INK / 255, wanted > 0

    def overlap(other):
        return ((ink & other).sum() / (ink | other).sum()).item()

    assert overlap(there) > 0.5
    assert overlap(there) > 3 * overlap(there.roll(1, 0))


def test_pictures_are_given_as_training_reads_them(scenes, tmp_path):
    """Grey of 16 bits is not clipped, and what is transparent is white."""
    model = plan(scenes, condition="sketch", settings=SMALL, device="cpu").model
    grey = scenes.test.array[0, 0].numpy()
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)).save(tmp_path / "clear.png")
    expected = model.conditioner.kinds["sketch"].derive(scenes.test.array[:1].float() / 255, StreamNoise(1, 0, 0))[0]
    for name in ("deep.png", "clear.png"):
        given = Asked(image=tmp_path / name).for_model(model, scenes.spec)
        torch.testing.assert_close(given["sketch"], expected, atol=2 / 255, rtol=0)


def shaken(model):
    """The model with other weights, the same each time: after few steps a model hears no text."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def test_text_is_kept_with_the_run_and_does_not_depend_on_its_neighbours(scenes, tmp_path):
    model = shaken(trained(scenes, tmp_path / "run", ("text", "layout")))
    again = shaken(ancestral.load(tmp_path / "run", device="cpu", precision="fp32"))
    prompts = ["a 3 left of a 7", "an 8", "a 1 above a 2 and left of a 5"]
    how = {"steps": 2, "guidance": 2.0}
    together = model.sample(3, {"text": prompts}, seeds=[4, 5, 6], **how)
    levels = (together * 255).round()
    assert torch.equal(levels, (again.sample(3, {"text": prompts}, seeds=[4, 5, 6], **how) * 255).round())
    for i, prompt in enumerate(prompts):
        alone, other = (model.sample(1, {"text": text}, seeds=[4 + i], **how) * 255 for text in (prompt, "a 6 right of a 6"))
        assert (alone.round()[0] - levels[i]).abs().max() <= 1
        assert (other.round()[0] - levels[i]).abs().max() > 5
    with pytest.raises(UsageError, match="word 'zebra'"):
        model.sample(1, {"text": "a zebra"})
    with pytest.raises(UsageError, match="not trained with the condition 'map'"):
        model.sample(1, {"map": torch.zeros(32, 32)})


KINDS = ("class", "text", "layout", "map", "image", "upscale", "inpaint", "sketch")


def woken(scenes, family, condition, *settings):
    """A model, of which no weight is left at zero, and the scenes as it reads them: with classes, and their maps as images."""
    small = {"vae": ("model.width=8",), "latent": ("model.prior.channels=[8, 16]", "model.autoencoder.width=8")}
    train, test = (
        part.with_columns({"class": torch.arange(len(part)) % 2, "image": part.maps[:, None] * 20})
        for part in (scenes.train, scenes.test)
    )
    scenes = assemble("scenes", train, test, levels=256, classes=("even", "odd"), box_classes=DIGITS, map_classes=DIGITS)
    settings = (*small.get(family, ("model.channels=[8, 16]",)), *settings)
    model = plan(scenes, model=family, condition=condition, settings=settings, device="cpu").model
    if isinstance(model, LatentModel):
        model.known.fill_(True)
    model.conditioner.fit(scenes.train.columns)
    torch.manual_seed(0)
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    return model, scenes.encoded(model.conditioner)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("condition", KINDS)
def test_every_family_hears_every_kind(scenes, family, condition):
    """What the sample is made of depends on what is asked."""
    model, data = woken(scenes, family, condition)
    asked = data.asked(torch.tensor([0, 1]))
    assert asked.keys() == {condition}
    how = {"prior": "standard"} if family == "vae" else {"steps": 2} if "steps" in model.options else {}
    one, other = (model.sample(1, {condition: asked[condition][i : i + 1]}, seeds=[0], **how) for i in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("family", ["diffusion", "score", "vae", "gan"])
@pytest.mark.parametrize("condition", ["class", "map"])
def test_every_player_drops_its_condition_at_the_given_rate(scenes, family, condition):
    """The loss does not depend on the condition at rate 1, and depends on it at rate 0."""
    model, data = woken(scenes, family, condition)
    batch = data.batch(torch.arange(6))
    for player in model.players():
        for drop, heard in ((1.0, False), (0.0, True)):
            model.conditioner.drop = drop
            told, untold = (model.losses(b, player.name, StreamNoise(6, 0, 0))["total"] for b in (batch, Batch(batch.x, {})))
            assert torch.allclose(told, untold) != heard, player.name


@pytest.mark.parametrize("condition", ["class", "map"])
def test_encoder_and_critic_depend_on_the_condition(scenes, condition):
    vae, data = woken(scenes, "vae", condition)
    gan, _ = woken(scenes, "gan", condition)
    x, asked = data.batch(torch.tensor([0, 1])).x[:1], data.asked(torch.tensor([0, 1]))
    one, other = ({condition: asked[condition][i : i + 1]} for i in (0, 1))
    assert not torch.allclose(vae.encode(x, one), vae.encode(x, other))
    assert not torch.allclose(gan.critic(x, one), gan.critic(x, other))


def test_spatial_conditions_get_networks_that_accept_them(scenes):
    """The default would be an MLP, which has no positions."""
    many = assemble(
        "many", compose(digits().train, 10_000, np.random.RandomState(0)), scenes.test, levels=256, map_classes=DIGITS
    )
    assert "channels" in FAMILIES["vae"](condition=("map",)).accepts(many.spec)
    assert "channels" not in FAMILIES["vae"]().accepts(many.spec)


def test_a_map_is_guided_as_a_class_is(scenes):
    model, data = woken(scenes, "diffusion", "map")
    asked = data.asked(torch.tensor([0, 1]))
    usual, said = (model.sample(2, asked, steps=2, **how) for how in ({}, {"guidance": 1.5}))
    torch.testing.assert_close(usual, said)
    sketch, _ = woken(scenes, "diffusion", "sketch")
    assert sketch.usual_guidance(["sketch"]) == 1


def test_a_null_that_was_not_trained_is_refused(scenes):
    model, _ = woken(scenes, "diffusion", "class", "model.condition_dropout=0")
    model.sample(1, {"class": "odd"}, steps=1)
    model.sample(1, {"class": "odd"}, steps=1, guidance=2.0, negative={"class": "even"})
    with pytest.raises(UsageError, match=r"guidance needs the model without condition.*model\.condition_dropout=0"):
        model.sample(1, {"class": "odd"}, steps=1, guidance=2.0)
    with pytest.raises(UsageError, match=r"always had the condition class in its training \(model\.condition_dropout=0\)"):
        model.sample(1, steps=1)


def test_a_weak_model_with_another_vocabulary_is_refused(scenes):
    model, _ = woken(scenes, "diffusion", "text")
    weak, _ = woken(scenes, "diffusion", "text")
    weak.conditioner.kinds["text"].fit(("a 3 above a 5",))
    with pytest.raises(UsageError, match="trained on the data and the conditions"):
        model.sample(1, {"text": "a 3"}, steps=1, guidance=2.0, weak=weak)


def test_a_prompt_does_not_depend_on_its_neighbours_in_bfloat16_either(scenes):
    """But for roundings, of which one in the network is about a level."""
    model, _ = woken(scenes, "diffusion", "text")
    prompts = ["a 3 left of a 7", "an 8", "a 1 above a 2 and left of a 5"]
    with torch.autocast("cpu", torch.bfloat16):
        together = model.sample(3, {"text": prompts}, seeds=[4, 5, 6], steps=2)
        alone = model.sample(1, {"text": prompts[2]}, seeds=[6], steps=2)
    assert ((together[2:] - alone).abs() * 255).max() < 6


@pytest.mark.parametrize("condition", ["text", "layout", "map"])
def test_parts_in_full_precision_depend_on_the_condition_too(scenes, condition):
    """Derivatives and ODEs leave bfloat16, in which the condition was encoded."""
    model, data = woken(scenes, "diffusion", condition)
    asked = data.asked(torch.tensor([0, 1]))
    model.precision = lambda: torch.autocast("cpu", torch.bfloat16)
    assert model.sample(2, asked, steps=2, edit=Upscale(torch.rand(2, 1, 8, 8))).isfinite().all()
    assert model.log_prob(torch.rand(2, 1, 32, 32), asked, method="ode", steps=2).value.isfinite().all()


@pytest.mark.parametrize(
    ("family", "settings"),
    [*((f, ()) for f in FAMILIES), ("diffusion", ("model.channels=null", "model.net=dit", "model.width=32"))],
)
def test_what_a_text_draws_does_not_depend_on_its_neighbours(scenes, family, settings):
    model, _ = woken(scenes, family, "text", *settings)
    prompts = ["a 3 left of a 7", "an 8", "a 1 above a 2 and left of a 5"]
    how = {"steps": 2, "guidance": 2.0} if "steps" in model.options else {}
    together = model.sample(3, {"text": prompts}, seeds=[4, 5, 6], **how)
    for i, prompt in enumerate(prompts):
        alone = model.sample(1, {"text": prompt}, seeds=[4 + i], **how)
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=0)
    assert (together[0] - model.sample(1, {"text": "an 8"}, seeds=[4], **how)[0]).abs().max() > 1e-3


def test_boxes_may_hold_texts(scenes):
    model, data = woken(scenes, "diffusion", "layout", "model.layout=text")
    one, other = (model.sample(1, {"layout": [[digit, 2, 2, 12, 12]]}, seeds=[0], steps=2) for digit in ("3", "7"))
    assert not torch.equal(one, other)
    assert data.render(torch.tensor([0]))[0].boxes


def test_a_kind_that_a_network_cannot_consume_is_refused(scenes):
    with pytest.raises(UsageError, match="the condition sketch has the form channels"):
        plan(scenes, model="vae", condition="sketch", settings=("model.net=mlp",))
    with pytest.raises(UsageError, match="no captions"):
        plan("digits", condition="text")
    with pytest.raises(UsageError, match="for images"):
        plan("moons", condition="upscale")
    with pytest.raises(UsageError, match=r"model.condition"):
        plan("digits", condition="colour")
