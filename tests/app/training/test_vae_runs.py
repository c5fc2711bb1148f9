"""The VAE family through the trainer: every kind of data and of latents, exact resume, what is said aloud."""

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.api import plan
from ancestral.errors import UsageError
from ancestral.registry import lookup, register

RNG = np.random.default_rng(0)
ARRAYS = {
    "vectors": RNG.normal(size=(40, 5)),
    "signals": RNG.normal(size=(40, 2, 37)),
    "colour": RNG.integers(0, 256, (40, 13, 9, 3), dtype=np.uint8),
    "binary": RNG.integers(0, 2, (40, 7, 7)).astype(bool),
}
KINDS = {
    "plain": ("model.net=auto",),
    "hierarchical": ("model.hierarchy=3",),
    "vq": ("model.bottleneck=vq", "model.codes=16"),
    "full": ("model.posterior=full", "model.latent=4"),
    "flow": ("model.posterior=flow", "model.latent=4"),
}
SMALL = ("model.width=8", "train.batch=16")


def prepare(source, out, *settings, budget="12it", **options):
    return plan(source, model="vae", out=out, budget=budget, device="cpu", settings=(*SMALL, *settings), **options)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_trains_and_samples(tmp_path, array, kind):
    settings = (*SMALL, *KINDS[kind], "train.previews=1", "train.diagnoses=1")
    model = an.train(ARRAYS[array], "vae", budget="3it", out=tmp_path / "run", quiet=True, settings=settings)
    x = model.sample(3, seeds=[4, 5, 6])
    assert x.shape == (3, *model.shape)
    assert x.isfinite().all()
    torch.testing.assert_close(model.sample(2, seeds=[6, 4]), x[[2, 0]], atol=1e-5, rtol=1e-4)
    drawn = model.sample(3, observe="draw", prior="standard")  # of binary data 0 and 1
    for prior in ("aggregate", "standard"):
        bound = model.log_prob(drawn, method="iwae", k=2, prior=prior) if kind != "vq" else model.log_prob(drawn, k=2)
        assert bound.value.isfinite().all()
        assert bound.bits_per_dim(256).shape == (3,)
    assert model.reconstruct(x).shape == x.shape
    assert drawn.isfinite().all()


@pytest.mark.parametrize("kind", ["vq", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("plain", "hierarchical"))])
def test_resume_is_exact(tmp_path, kind):
    """Warm-up, codebook, optimal variance and second stage are state too."""
    settings = (*KINDS[kind], "model.kl_warmup=150", "model.free_bits=0.05", "train.previews=0", "train.diagnoses=3")

    def begin(name):
        return prepare("digits", tmp_path / name, *settings, condition="class").begin()

    whole, part = begin("whole"), begin("part")
    list(whole)
    for step in part:
        if step.step == 7:
            part.save()
            break
    last = begin("part")
    assert last.step == 7
    list(last)
    a, b = (t.run.path.joinpath("model/model.safetensors").read_bytes() for t in (whole, last))
    assert a == b
    assert last.model.seen == 12 * 16


def test_the_likelihood_is_chosen_from_the_data_and_said(tmp_path):
    said = {}
    for name, array in ARRAYS.items():
        t = prepare(array, tmp_path / name, "train.previews=0", budget="1it").begin()
        said[name] = next(iter(t)).notes[0]
    assert said["binary"] == "likelihood of binary data: Bernoulli (model.likelihood=bernoulli)"
    assert "likelihood of uint8 data: Gaussian with optimal variance" in said["colour"]
    assert "likelihood of real data: Gaussian" in said["vectors"]
    grey = prepare("digits", tmp_path / "grey", "model.likelihood=bernoulli").model.notes
    assert "digits has grey values, and a Bernoulli has only 0 and 1" in grey[1]
    assert "model.likelihood=continuous-bernoulli" in grey[1]


@pytest.mark.parametrize(
    ("source", "setting", "message"),
    [
        ("moons", ("model.likelihood=logistic",), "moons has no levels to count: set model.likelihood=gaussian"),
        ("moons", ("model.likelihood=bernoulli",), "moons is not within 0 and 1"),
        ("moons", ("model.net=conv",), "vectors cannot be convolved"),
        ("digits", ("model.hierarchy=2", "model.bottleneck=vq"), "a hierarchy has convolutions and continuous latents"),
        ("digits", ("model.bottleneck=vq", "model.posterior=full"), "a posterior other than diagonal"),
        ("digits", ("model.beta=-1",), "model.beta=-1"),
    ],
)
def test_wrong_requests_are_one_sentence(tmp_path, source, setting, message):
    with pytest.raises(UsageError, match=message):
        prepare(source, tmp_path / "run", *setting)


def test_training_raises_the_elbo_and_diagnoses(tmp_path):
    t = prepare(
        "digits", tmp_path / "run", "model.net=mlp", "model.width=128", "train.diagnoses=4", "train.previews=0", budget="400it"
    ).begin()
    steps = list(t)
    assert steps[-1].losses["model/total"] < steps[0].losses["model/total"] - 0.5
    parts = steps[-1].losses
    assert parts["model/total"] == pytest.approx(parts["model/reconstruction"] + parts["model/kl"], abs=1e-4)
    health = [step.diagnosis for step in steps if step.diagnosis]
    assert health[-1].numbers["elbo"] > health[0].numbers["elbo"] + 10
    assert health[-1].numbers["explained"] > 0.4
    assert "dimensions" in health[-1].line
    model = an.load(t.run.path)
    x = t.data.batch(torch.arange(64), "test").x
    elbo, iwae = model.log_prob(x, k=32), model.log_prob(x, method="iwae", k=32)
    assert iwae.value.mean() > elbo.value.mean()
    assert ((model.reconstruct(x) - x).square().mean() < 0.05).all()
    assert model.likelihood.value.item() < 0.5


def test_each_condition_has_its_own_aggregate_prior(tmp_path):
    t = prepare("digits", tmp_path / "run", "model.net=mlp", "train.previews=0", budget="60it", condition="class").begin()
    list(t)
    model = an.load(t.run.path)
    assert model.mixture_given is not None
    assert not torch.equal(model.mixture.centre, model.mixture_given.centre)
    x = model.sample(4, {"class": [0, 1, 2, 3]}, seeds=[1, 2, 3, 4])
    torch.testing.assert_close(model.sample(1, {"class": 2}, seeds=[3]), x[2:3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.sample(1, seeds=[3]), x[2:3])
    held_out = t.data.batch(torch.arange(20), "test")
    bound = model.log_prob(held_out.x, {"class": held_out.conditions["class"]}, prior="aggregate")
    assert bound.value.isfinite().all()


def test_registered_networks_are_choices_of_a_recipe(registered):
    """A VAE takes every registered autoencoder, with its sizes, and names those that exist."""
    asked = []

    @register("autoencoder", "narrow", "an MLP of half the width")
    def narrow(shape, *sizes, width, **options):
        asked.append((shape, sizes, width))
        return lookup("autoencoder", "mlp")(shape, *sizes, width=width // 2, **options)

    model = prepare("digits", None, "model.net=narrow", "model.width=32", "model.latent=4").model
    assert asked == [((1, 8, 8), (8, 4, 1), 32)]
    assert model.coder.latent == 4
    with pytest.raises(UsageError, match="unknown autoencoder 'narow': did you mean 'narrow'"):
        prepare("digits", None, "model.net=narow")
