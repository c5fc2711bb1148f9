"""Models that are told something: what they are told rules what they draw, and is kept with a run."""

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral
from ancestral.api import plan
from ancestral.cli.conditions import Asked
from ancestral.data.assemble import assemble
from ancestral.data.scenes import DIGITS, INK, compose, digits
from ancestral.errors import UsageError
from ancestral.families.latent import LatentModel
from ancestral.progress import Reporter, follow
from ancestral.randomness import StreamNoise
from ancestral.training.catalogue import FAMILIES

SMALL = ("model.channels=[16, 32]", "train.batch=32", "train.previews=1", "train.precision=fp32")


@pytest.fixture(scope="module")
def scenes():
    source = digits()
    train, test = compose(source.train, 400, np.random.RandomState(0)), compose(source.test, 32, np.random.RandomState(1))
    return assemble("scenes", train, test, levels=256, box_classes=DIGITS, map_classes=DIGITS)


def trained(scenes, out, condition, budget="8it", model="diffusion", settings=SMALL):
    trainer = plan(scenes, model=model, budget=budget, out=out, condition=condition, settings=settings, device="cpu").begin()
    follow(trainer, Reporter(quiet=True))
    return ancestral.load(out, device="cpu", precision="fp32")


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
        given = Asked(image=tmp_path / name).condition(model, scenes.spec)
        torch.testing.assert_close(given["sketch"], expected, atol=2 / 255, rtol=0)


def test_text_is_kept_with_the_run_and_does_not_depend_on_its_neighbours(scenes, tmp_path):
    model = trained(scenes, tmp_path / "run", ("text", "layout"))
    again = ancestral.load(tmp_path / "run", device="cpu", precision="fp32")
    prompts = ["a 3 left of a 7", "an 8", "a 1 above a 2 and left of a 5"]
    how = {"steps": 2, "guidance": 2.0}
    together = model.sample(3, {"text": prompts}, seeds=[4, 5, 6], **how)
    levels = (together * 255).round()
    assert torch.equal(levels, (again.sample(3, {"text": prompts}, seeds=[4, 5, 6], **how) * 255).round())
    for i, prompt in enumerate(prompts):
        alone = model.sample(1, {"text": prompt}, seeds=[4 + i], **how)
        assert torch.equal((alone * 255).round()[0], levels[i])
    with pytest.raises(UsageError, match="word 'zebra'"):
        model.sample(1, {"text": "a zebra"})
    with pytest.raises(UsageError, match="not trained with the condition 'map'"):
        model.sample(1, {"map": torch.zeros(32, 32)})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("condition", ["text", "layout", "map", "upscale", "inpaint", "sketch"])
def test_every_family_hears_every_kind(scenes, family, condition):
    """What the sample is made of depends on what is asked; weights are drawn until nothing is left at zero."""
    small = {"vae": ("model.width=8",), "latent": ("model.prior.channels=[8, 16]", "model.autoencoder.width=8")}
    settings = small.get(family, ("model.channels=[8, 16]",))
    model = plan(scenes, model=family, condition=condition, settings=settings, device="cpu").model
    if isinstance(model, LatentModel):
        model.known.fill_(True)
    model.conditioner.fit(scenes.train.columns)
    torch.manual_seed(0)
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    data = scenes.encoded(model.conditioner)
    asked = data.asked(torch.tensor([0, 1]))
    assert asked.keys() == {condition}
    how = {"prior": "standard"} if family == "vae" else {"steps": 2} if "steps" in model.options else {}
    one, other = (model.sample(1, {condition: asked[condition][i : i + 1]}, seeds=[0], **how) for i in (0, 1))
    assert not torch.equal(one, other)


def test_a_kind_that_a_network_cannot_consume_is_refused(scenes):
    with pytest.raises(UsageError, match="the condition sketch is told in channels"):
        plan(scenes, model="vae", condition="sketch", settings=("model.net=mlp",))
    with pytest.raises(UsageError, match="no captions"):
        plan("digits", condition="text")
    with pytest.raises(UsageError, match="for images"):
        plan("moons", condition="upscale")
    with pytest.raises(UsageError, match=r"model.condition"):
        plan("digits", condition="colour")
