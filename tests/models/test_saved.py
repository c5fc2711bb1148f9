"""Models that are built by hand: saved and loaded, with their units, their own networks, and what is damaged refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ancestral as an
from ancestral.batch import Batch
from ancestral.conditioning import (
    ClassCondition,
    Conditioner,
    ContextShape,
    InpaintCondition,
    LayoutCondition,
    MapCondition,
    TextCondition,
    UpscaleCondition,
)
from ancestral.distributions import GaussianLikelihood, likelihood
from ancestral.errors import AncestralError, UsageError
from ancestral.models import Standardize
from ancestral.models.autoencoder import Autoencoder
from ancestral.models.codec import Amortised, Diagonal
from ancestral.models.diffusion import Diffusion
from ancestral.models.gan import GAN
from ancestral.models.hierarchical import Hierarchical
from ancestral.models.latent import LatentModel
from ancestral.models.objectives import Penalties
from ancestral.models.quantised import Quantised
from ancestral.models.score import ScoreModel
from ancestral.models.vae import VAE
from ancestral.networks import MLP, DiT, UNet
from ancestral.networks.adversarial import adversarial_networks, spectral
from ancestral.networks.autoencoder import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, Plan
from ancestral.networks.patch import PatchCritic
from ancestral.noise import StreamNoise
from ancestral.schedules import VE, Chain, Cosine, Linear
from ancestral.weights import checksum, read_tensors, serialise, write_tensors

PIXELS = (1, 8, 8)
UNITS = {"mean": 0.3, "std": 0.4, "bounds": (0.0, 1.0)}
PLAN = Plan.of(PIXELS, width=8)
CLASSES = ContextShape(vector=8)


def by_class():
    return Conditioner({"class": ClassCondition(["cat", "dog"], 8)}, drop=0.2)


def dense(latent=3):
    return DenseEncoder(PIXELS, 2 * latent, 16, 1), DenseDecoder(PIXELS, latent, 1, 16, 1)


def autoencoder():
    codec = Amortised(ConvEncoder(PLAN, 4, local=True), Diagonal(2, 16), ConvDecoder(PLAN, 2, 1, local=True))
    return Autoencoder(codec, PIXELS, (2, 4, 4), PatchCritic(PIXELS, 8), **UNITS)


def latent():
    model = LatentModel(autoencoder(), Diffusion(UNet(2, (8,), patch=1, context=CLASSES), (2, 4, 4), conditioner=by_class()))
    model.measure(torch.randn(8, 2, 4, 4))
    return model


def quantised():
    return Quantised(ConvEncoder(PLAN, 4, local=True), ConvDecoder(PLAN, 4, 1, local=True), 16, 4, 8)


MODELS = {
    "diffusion": lambda: Diffusion(UNet(1, (8, 16)), PIXELS, **UNITS),
    "diffusion, class": lambda: Diffusion(
        UNet(1, (8,), context=CLASSES), PIXELS, schedule=Cosine(), target="v", sigma_data=0.5, conditioner=by_class(), **UNITS
    ),
    "diffusion, chain": lambda: Diffusion(
        DiT(PIXELS, 16, 1, head=8), PIXELS, schedule=Chain.cosine(50), target="eps", levels=17, bounds=(0, 1)
    ),
    "score": lambda: ScoreModel(MLP(2, 16, 1), (2,), schedule=VE(0.02, 7.0), mean=(1.0, -2.0), std=(0.5, 3.0)),
    "vae": lambda: VAE(*dense(), shape=PIXELS, latent=3, **UNITS),
    "vae, full, logistic": lambda: VAE(
        DenseEncoder(PIXELS, 9, 16, 1), DenseDecoder(PIXELS, 3, 15, 16, 1),
        shape=PIXELS, latent=3, posterior="full", likelihood="logistic", levels=17, **UNITS,
    ),
    "vae, hierarchy": lambda: VAE(
        Hierarchical(PLAN, 1, 2, 1), shape=PIXELS, likelihood=likelihood("gaussian-learned", [0.3], [0.4], 2, None), **UNITS
    ),
    "vae, codes": lambda: VAE(quantised(), shape=PIXELS, likelihood="bernoulli", bounds=(0, 1)),
    "gan": lambda: GAN(*adversarial_networks(PIXELS, width=8), PIXELS, penalties=Penalties(r1=0.5), **UNITS),
    "gan, spectral": lambda: GAN(
        adversarial_networks((2,), width=8)[0], spectral(adversarial_networks((2,), width=8)[1]), (2,), objective="hinge"
    ),
    "autoencoder": autoencoder,
    "latent": latent,
}  # fmt: skip


def randomised(model):
    """The same with random weights, also where a network starts from zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def sample(model):
    how = {"steps": 3} if "steps" in model.options else {}
    if "class" in model.conditioner.kinds:
        how["condition"] = {"class": "dog"}
    return model.sample(2, seeds=[3, 7], **how)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_samples_the_same_to_the_bit(name, tmp_path):
    model = randomised(MODELS[name]())
    expected = sample(model)
    model.save(tmp_path / "m")
    assert {file.name for file in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors"}
    torch.manual_seed(1)
    loaded = an.load(tmp_path / "m", device="cpu")
    assert type(loaded) is type(model)
    assert torch.equal(sample(loaded), expected)
    assert loaded.config() == model.config() == json.loads((tmp_path / "m/config.json").read_text())


def test_a_configuration_says_what_the_model_is():
    config = MODELS["diffusion, class"]().config()
    network = {"class": "UNet", "in_channels": 1, "channels": [8], "context": {"class": "ContextShape", "vector": 8}}
    assert {name: config["network"][name] for name in ("class", "in_channels", "channels")} == {
        name: network[name] for name in ("class", "in_channels", "channels")
    }
    del config["network"], config["version"], config["conditioner"]
    assert config == {
        "format": 2, "family": "diffusion", "class": "Diffusion", "shape": [1, 8, 8], "schedule": {"class": "Cosine"},
        "target": "v", "sigma_data": 0.5, "weight": "simple", "times": "uniform", "levels": None,
        "mean": [pytest.approx(0.3)], "std": [pytest.approx(0.4)], "bounds": [0.0, 1.0],
    }  # fmt: skip


def test_every_kind_of_condition_is_built_again(tmp_path):
    """Together with what was fitted: a vocabulary travels with the weights."""
    size = (8, 8)
    kinds = {
        "class": ClassCondition(["cat", "dog"], 8),
        "text": TextCondition(8, 64),
        "layout": LayoutCondition(["house", "tree"], 3, size, size, 8),
        "map": MapCondition(["sea", "land"], size, size, 8),
        "upscale": UpscaleCondition(1, size, size, True, 2),
        "inpaint": InpaintCondition(1, size, size, True),
    }
    kinds["text"].fit(["a cat", "two dogs"])
    conditioner = Conditioner(kinds)
    model = randomised(Diffusion(UNet(1, (8,), context=conditioner.widths), PIXELS, conditioner=conditioner))
    asked = {"class": "cat", "text": "two dogs"}
    expected = model.sample(2, asked, seeds=[1, 2], steps=2)
    model.save(tmp_path)
    loaded = an.load(tmp_path, device="cpu")
    assert torch.equal(loaded.sample(2, asked, seeds=[1, 2], steps=2), expected)
    assert loaded.conditioner.reads_like(model.conditioner)


# own networks


class Own(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, z, logsnr):
        return self.last(torch.tanh(self.first(torch.cat([z, logsnr[:, None] / 10], 1))))


def test_a_network_of_ones_own_is_given_again(tmp_path):
    model = Diffusion(Own(), (2,), mean=(1.0, 2.0)).eval()
    model.save(tmp_path / "m")
    assert torch.equal(sample(an.load(tmp_path / "m", network=Own(), device="cpu")), sample(model))
    with pytest.raises(UsageError, match=r'the network of the model in .* is your own.*load\(".*m", network=Own\(\.\.\.\)\)'):
        an.load(tmp_path / "m")
    with pytest.raises(AncestralError, match=r"model.safetensors does not fit: the network that was given is not the one"):
        an.load(tmp_path / "m", network=Own(4))


def test_several_networks_of_ones_own_are_given_by_name(tmp_path):
    """Neither takes a context."""
    networks = lambda: {"generator": nn.Linear(3, 2), "critic": nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))}  # noqa: E731
    model = GAN(**networks(), shape=(2,), latent=3).eval()
    model.save(tmp_path)
    loaded = an.load(tmp_path, network=networks(), device="cpu")
    assert torch.equal(sample(loaded), sample(model))
    assert torch.equal(loaded.critic(torch.ones(4, 2)), model.critic(torch.ones(4, 2)))
    with pytest.raises(UsageError, match="the generator and critic of the model"):
        an.load(tmp_path, network={"generator": nn.Linear(3, 2)})
    with pytest.raises(UsageError, match="has no network 'decoder' of your own"):
        an.load(tmp_path, network=networks() | {"decoder": nn.Identity()})


def test_a_network_given_in_vain_is_refused(tmp_path):
    MODELS["score"]().save(tmp_path)
    with pytest.raises(UsageError, match="has no network of your own: leave network out"):
        an.load(tmp_path, network=Own())


@pytest.mark.parametrize(
    ("forward", "fits"),
    [
        (lambda self, z, logsnr: z, True),
        (lambda self, z, logsnr, context: z, True),
        (lambda self, z, logsnr, context=None: z, True),
        (lambda self, z, logsnr, gain=1.0: gain * z, True),  # gain is no context, and is left at its default
        (lambda self, *inputs: inputs[0], True),
        (lambda self, z: z, False),
        (lambda self, z, logsnr, context, more: z, False),
        (lambda self, z, logsnr, *, gain: z, False),
    ],
)
def test_the_contract_of_a_network_is_checked_when_the_model_is_built(forward, fits):
    network = type("Net", (nn.Module,), {"forward": forward})()
    if not fits:
        with pytest.raises(UsageError, match=r"the network Net takes \(.*\): its forward must take \(z, logsnr\) or"):
            Diffusion(network, (2,))
        return
    assert Diffusion(network, (2,)).sample(2, steps=2).shape == (2, 2)


def test_conditions_need_a_network_that_takes_a_context():
    with pytest.raises(UsageError, match="the network Own takes no context, and the model has conditions"):
        Diffusion(Own(), (2,), conditioner=by_class())


# damage


@pytest.fixture
def saved(tmp_path):
    MODELS["score"]().save(tmp_path)
    return tmp_path


def test_a_flipped_bit_is_found(saved):
    file = saved / "model.safetensors"
    contents = bytearray(file.read_bytes())
    contents[-5] ^= 1
    file.write_bytes(contents)
    with pytest.raises(AncestralError, match=r"model.safetensors is damaged \(its tensors do not match their checksum\)"):
        an.load(saved)


def test_weights_that_are_not_finite_are_refused(saved):

    file, model = saved / "model.safetensors", MODELS["score"]()
    tensors = load_file(file)
    tensors["denoiser.network.head.bias"][0] = float("nan")
    with torch.no_grad():
        model.denoiser.network.head.bias[0] = float("nan")
    with pytest.raises(
        AncestralError, match=r"is not saved to .*: it is refused: its tensor denoiser.network.head.bias is not finite"
    ):
        model.save(saved / "other")
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    write_tensors(file, tensors, metadata | {"checksum": checksum(tensors)})
    with pytest.raises(
        AncestralError, match=r"model.safetensors is refused: its tensor denoiser.network.head.bias is not finite"
    ):
        an.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"score"', '"gan"'), r"config.json was changed, or is of another model"),
        (lambda text: text[:-20], r"config.json is damaged \(line \d+ is not JSON"),
    ],
)
def test_a_changed_configuration_is_found(saved, change, message):
    file = saved / "config.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(AncestralError, match=message):
        an.load(saved)


def test_a_missing_or_cut_file_is_named(saved):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AncestralError, match=r"model.safetensors is damaged"):
        an.load(saved)
    file.unlink()
    with pytest.raises(AncestralError, match=r"model.safetensors is missing"):
        an.load(saved)


# units


@pytest.mark.parametrize("name", MODELS)
def test_units_survive_a_state_dict(name):
    """Weights of one model make another one, which was built with other units, the same in all that it gives."""
    model = randomised(MODELS[name]())
    other = MODELS[name]().eval()
    other.standardize.mean.fill_(5.0)
    other.standardize.std.fill_(2.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(sample(other), sample(model))


def test_old_weights_without_units_leave_those_of_the_constructor():
    scale, head = Standardize((2, 4, 4), (1.0, 2.0), (3.0, 4.0)), GaussianLikelihood(torch.tensor([1.0]), torch.tensor([2.0]))
    assert set(scale.state_dict()) == {"mean", "std"}
    scale.load_state_dict({})
    head.load_state_dict({"value": torch.tensor(0.5)})
    assert scale.mean.flatten().tolist() == [1, 2]
    assert head.scale.tolist() == [2]


def test_units_are_one_number_or_one_for_each_channel():
    assert Standardize((3, 4, 4), 0.5).mean.shape == (3, 1, 1)
    with pytest.raises(UsageError, match="mean has 2 numbers and a sample 3 channels"):
        Standardize((3, 4, 4), (0.5, 0.5))


def test_a_latent_model_takes_shape_and_units_from_its_autoencoder():
    model = latent()
    assert (model.shape, model.standardize.units) == (PIXELS, autoencoder().standardize.units)
    with pytest.raises(UsageError, match=r"the latents have shape \(2, 4, 4\) and the prior \(3,\)"):
        LatentModel(autoencoder(), Diffusion(MLP(3), (3,)))


# gradients


@pytest.mark.parametrize("name", MODELS)
def test_what_maps_tensors_is_differentiable_and_what_draws_is_not(name):
    """One rule for every family: gradients are tracked where the caller tracks them."""
    model = MODELS[name]().train()
    x, condition = torch.rand(2, *model.shape), {"class": "dog"} if model.conditioner.kinds else None
    maps = {"critic": x, "reconstruct": x, "encode": x}
    if hasattr(model, "latent_shape"):
        maps["decode"] = torch.randn(2, *model.latent_shape)
    found = {m: getattr(model, m)(at.requires_grad_(), condition) for m, at in maps.items() if hasattr(model, m)}
    if hasattr(model, "denoise"):
        found |= {"denoise": model.denoise(x, 0.5, condition).x, "score": model.score(x, 0.5, condition)}
    assert found
    for method, y in found.items():
        assert y.requires_grad, method
        assert y.grad_fn is not None, method
    with torch.no_grad():
        assert not any(getattr(model, m)(at, condition).requires_grad for m, at in maps.items() if hasattr(model, m))
    assert model.training
    assert not sample(model).requires_grad
    assert not any(state.x.requires_grad for state in model.trajectory(2, condition))
    if hasattr(model, "log_prob"):
        assert not model.log_prob(model.to_data(x).detach().round(), condition).value.requires_grad


# losses of models that are built by hand


@pytest.mark.parametrize("name", ["diffusion", "score", "vae", "gan"])
def test_a_model_built_by_hand_has_losses(name):
    """Per sample, keyed by the seed, that of a batch with its raw conditions, and with gradients for each player."""
    model = MODELS[name]()
    x = torch.rand(4, *model.shape)
    names = [player.name for player in model.players()]
    for player in model.players():
        total = model.loss(x, seed=3, player=player.name)["total"]
        assert total.shape == (4,)
        assert torch.equal(total, model.losses(Batch(x), player.name, StreamNoise(4, 3, 0))["total"])
        total.sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters)
    if len(names) == 1:
        assert torch.equal(model.loss(x, seed=3)["total"], total)
        assert not torch.equal(model.loss(x, seed=4)["total"], total)
    else:
        with pytest.raises(UsageError, match="several players, discriminator and generator: choose one with player="):
            model.loss(x)
    with pytest.raises(UsageError, match="samples of this model have shape"):
        model.loss(torch.rand(4, 5, 5, 5))
    with pytest.raises(UsageError, match="unknown player 'modl'"):
        model.loss(x, player="modl")


def test_conditions_of_a_loss_are_written_as_in_sample():
    model = MODELS["diffusion, class"]()
    nn.init.normal_(model.denoiser.network.head.weight)
    nn.init.normal_(model.denoiser.network.down[0][0].modulation.weight)
    x = torch.rand(4, *PIXELS)
    terms = [model.loss(x, {"class": c})["total"] for c in ("cat", ["cat"] * 4, torch.zeros(4, dtype=torch.long))]
    assert torch.equal(terms[0], terms[1])
    assert torch.equal(terms[0], terms[2])


def test_conditions_derived_from_samples_are_computed_from_them():
    conditioner = Conditioner({"upscale": UpscaleCondition(1, (8, 8), (8, 8), True, 2)}, drop=0.0)
    model = Diffusion(UNet(1, (8,), context=conditioner.widths), PIXELS, conditioner=conditioner)
    x = torch.rand(4, *PIXELS)
    given = model.loss(x, {"upscale": conditioner.derive(x, StreamNoise(4, 0, 0))["upscale"]})["total"]
    assert torch.equal(model.loss(x)["total"], given)


def test_a_latent_model_has_the_losses_of_its_parts():
    model, x = latent(), torch.rand(4, *PIXELS)
    total = model.loss(x, {"class": "dog"})["total"]
    assert total.shape == (4,)
    total.sum().backward()
    assert all(p.grad is None for p in model.autoencoder.parameters())
    assert model.loss(x, player="autoencoder")["error"].shape == (4,)
    model.known.fill_(False)
    with pytest.raises(UsageError, match=r"not known yet: call `model.measure\(latents\)` first"):
        model.loss(x)


def test_defaults_are_those_that_are_documented():
    model = Diffusion(MLP(2), (2,))
    assert (model.schedule, model.denoiser.target, model.standardize.units) == (
        Linear(), "velocity", {"mean": [0.0, 0.0], "std": [1.0, 1.0], "bounds": None}
    )  # fmt: skip


def test_the_same_content_has_the_same_bytes(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float16)}
    metadata = {"checksum": "é", "config": "2", "more": '"quoted"'}
    contents = {serialise(tensors, dict(sorted(metadata.items(), reverse=i % 2 == 0))) for i in range(20)}
    assert len(contents) == 1
    (tmp_path / "a.safetensors").write_bytes(b"".join(contents.pop()))
    found, stored = read_tensors(tmp_path / "a.safetensors", "")
    assert stored.items() >= metadata.items()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
