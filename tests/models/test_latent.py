"""Autoencoders of pictures, and models composed of one and a prior: against closed forms and other people's code."""

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import nn

from ancestral.app.api import plan
from ancestral.app.data import load as load_data
from ancestral.app.recipes.autoencoder import AutoencoderRecipe
from ancestral.app.recipes.latent import LatentRecipe
from ancestral.app.training.latents import encoded
from ancestral.batch import Part
from ancestral.errors import AncestralError, UsageError
from ancestral.fidelity import psnr, ssim
from ancestral.models import HasBound, HasLatent, HasPrior, HasProgress, Standardize
from ancestral.models.autoencoder import ALONE, LARGEST
from ancestral.models.diffusion import Diffusion
from ancestral.models.edits import Vary
from ancestral.models.latent import LatentModel
from ancestral.networks import imagenet
from ancestral.networks.dit import attention
from ancestral.networks.imagenet import Perceptual, efficientnet
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.schedules import Cosine

MU, S = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([2.0, 0.1, 5.0])


class Rotation(nn.Module):
    """An autoencoder whose latents are an orthogonal map of the data."""

    latent_shape = (3,)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        self.register_buffer("q", q.float())

    def encode(self, x, condition=None):
        return x @ self.q

    def decode(self, z, condition=None):
        return z @ self.q.T


class Standard(nn.Module):
    """The network, of target x, of N(0, 1) under a variance-preserving schedule: E[x | x_t] = alpha x_t."""

    def forward(self, z, logsnr, context):
        return logsnr.sigmoid().sqrt()[:, None] * z


def plain(d, bounds=None):
    return Standardize((d,), (0.0,) * d, (1.0,) * d, bounds)


def rotated(known=True):
    prior = Diffusion(Standard(), (3,), schedule=Cosine(), target="x")
    model = LatentModel(Rotation(), prior, shape=(3,))
    if known:
        model.mean.copy_(MU)
        model.std.copy_(S)
        model.known.fill_(True)
    return model


def test_samples_are_the_push_forward_of_the_prior():
    """A prior N(0, I), solved by DDIM in N uniform steps of the cosine schedule, gives c eps with c = cos^N(pi/2N); what the
    autoencoder makes of it is N(A mu, c^2 A diag(s^2) A^T), drawn as A (c s eps + mu)."""
    model, N = rotated(), 10
    x = model.sample(4, seeds=[3, 1, 4, 1], steps=N, solver="ddim", spacing="trailing")
    eps = SampleNoise([3, 1, 4, 1]).normal((3,))
    c = math.cos(math.pi / 2 / N) ** N
    torch.testing.assert_close(x, (c * S * eps + MU) @ model.autoencoder.q.T, atol=2e-4, rtol=2e-4)


def test_the_states_of_the_walk_are_decoded():
    model = rotated()
    states = list(model.trajectory(2, seeds=[0, 1], steps=5))
    torch.testing.assert_close(states[-1].x, model.sample(2, seeds=[0, 1], steps=5))
    start = SampleNoise([0, 1]).normal((3,))
    torch.testing.assert_close(states[0].x, (S * start + MU) @ model.autoencoder.q.T, atol=1e-4, rtol=1e-4)


def test_normalisation_changes_no_reconstruction():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    model, rng = rotated(), torch.Generator().manual_seed(2)
    before = model.reconstruct(x)
    model.measure(torch.randn(100, 3, generator=rng) * 7 - 20)
    assert not torch.allclose(model.mean, MU)
    torch.testing.assert_close(model.reconstruct(x), before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(before, x, atol=1e-4, rtol=1e-4)


def test_what_a_latent_model_can_do():
    model = rotated()
    assert isinstance(model, HasLatent)
    assert isinstance(model, HasPrior)
    assert not isinstance(model, HasBound), "a decoder without an inverse has no likelihood"
    assert model.stages == ("autoencoder", "prior")
    assert set(model.options) == set(model.prior.options) >= {"steps", "guidance"}
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        model.sample(1, step=3)
    latents = model.draw_latent(SampleNoise([5, 6]), steps=4)
    torch.testing.assert_close(model.decode(latents), model.sample(2, seeds=[5, 6], steps=4))
    with pytest.raises(AncestralError, match="only the autoencoder of this run is trained"):
        rotated(known=False).sample(1)


# the autoencoder


def pictures(n=40, side=16, channels=3):
    """Discs of random place, size and colour on white."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    images = np.full((n, side, side, channels), 255, np.uint8)
    for image in images:
        (cx, cy), r = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.3)
        image[(x - cx * side) ** 2 + (y - cy * side) ** 2 < (r * side) ** 2] = rng.integers(0, 200, channels)
    return images


def autoencoder(data, **settings):
    torch.manual_seed(0)
    small = {"width": 16, "perceptual": 0.0, "channels": 3} | settings
    return LatentRecipe.model_validate({"autoencoder": small}).first(data.spec)


def test_the_critics_weight_is_the_ratio_of_gradients_at_the_last_layer():
    """Eq. 3 by two passes back through the whole, where the loss takes one each to x_hat."""
    data = load_data(pictures())
    model = autoencoder(data, adversarial=0.7)
    with torch.no_grad():
        for p in model.coder.parameters():  # the start's zeros would hide mistakes
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    model.on_progress(1.0)
    batch = data.batch(torch.arange(8))
    terms = model.losses(batch, "autoencoder", StreamNoise(8, 0, 0))

    x = model.standardize.normalize(batch.x)
    code, x_hat = model._coded(x, StreamNoise(8, 0, 0))
    e = (x - x_hat).square().flatten(1).mean(1)
    reconstruction = model.dimensions / 2 * (math.log(2 * math.pi) + e.mean().log() + 1)  # at s^2 = E[e]
    fake, features = model.patches(x_hat)
    real = model.patches(x)[1]
    matching = sum((a - b).abs().flatten(1).mean(1) for a, b in zip(features, real, strict=True)) / len(features)
    game = (matching - fake.mean(1)).mean()
    W = model.coder.decoder.head.conv.weight
    a, b = (torch.autograd.grad(loss, W, retain_graph=True)[0].norm() for loss in (reconstruction, game))
    weight = 0.7 * a / b
    torch.testing.assert_close(terms["weight"][0] / model.loss_unit, weight.detach(), rtol=1e-3, atol=0)

    total = reconstruction + weight.detach() * game + model.beta * code.kl.sum(1).mean()
    torch.testing.assert_close(terms["total"].mean(), total, rtol=1e-4, atol=0)
    parameters = [p for p in model.coder.parameters() if p.requires_grad]
    by_hand = torch.autograd.grad(total, parameters, retain_graph=True)
    for g, h in zip(torch.autograd.grad(terms["total"].mean(), parameters), by_hand, strict=True):
        torch.testing.assert_close(g, h, rtol=2e-3, atol=2e-3 * h.abs().max().item())


def test_the_critics_weight_has_a_limit():
    """A critic without slope would have an infinite one."""
    data = load_data(pictures())
    model = autoencoder(data)
    batch = data.batch(torch.arange(2))
    x = model.standardize.normalize(batch.x)
    x_hat = model._coded(x, StreamNoise(2, 0, 0))[1]
    assert model.ratio(x_hat, torch.ones_like(x_hat), torch.zeros_like(x_hat), batch) == LARGEST


@pytest.mark.long
def test_a_late_discriminator_does_not_harm_the_autoencoder():
    """What comes back is as good some steps after the critic is first heard as before, to half a decibel."""
    data = load_data(pictures())
    torch.manual_seed(0)
    small = {"width": 16, "perceptual": 0.0, "channels": 3, "share": 0.9, "heard": 0.7, "batch": 16, "lr": 4e-3}
    model = {f"model.autoencoder.{name}": value for name, value in small.items()}
    settings = tuple(f"{name}={value}" for name, value in model.items())
    settings += ("model.prior.channels=[8]", "train.previews=0", "train.diagnoses=0", "train.decay=0", "train.precision=fp32")
    found = []
    with TemporaryDirectory() as folder:
        t = plan(data, model="latent", budget="200it", out=Path(folder) / "run", settings=settings, device="cpu").begin()
        x = data.values(data.test.array)
        for step in t:
            if step.stage != "autoencoder":
                break
            if step.step in (124, 150, 178):
                with t.averaged():
                    found.append(psnr(x, t.model.autoencoder.reconstruct(x)).mean().item())
    assert found[0] > 12
    assert min(found[1:]) > found[0] - 0.5


def test_the_perceptual_distance_is_the_papers_formula():
    """Unit vectors over channels, squared differences, means over places, sums over layers; 0 of equals, more of more noise."""
    d = Perceptual()
    x, y = torch.rand(2, 2, 3, 32, 32)
    maps = []
    network = efficientnet().eval()
    for z in (x, y):
        h = network._swish(network._bn0(network._conv_stem(2 * z - 1)))
        layers = []
        for i, block in enumerate(network._blocks[:5]):
            h = block(h)
            if i in (0, 2, 4):
                layers.append(h / h.norm(dim=1, keepdim=True))
        maps.append(layers)
    with torch.no_grad():
        expected = sum((a - b).square().sum(1).mean((1, 2)) for a, b in zip(*maps, strict=True))
        torch.testing.assert_close(d(x, y), expected, rtol=1e-4, atol=1e-5)
        assert d(x, x).abs().max() == 0
        near, far = (d(x, (x + s * torch.randn_like(x)).clamp(0, 1)).mean() for s in (0.01, 0.1))
        assert 0 < near < far
    y = y.requires_grad_()
    d(x, y).sum().backward()
    assert y.grad.isfinite().all()
    assert y.grad.any()


def test_the_critic_learns_alone_before_it_is_heard():
    data = load_data(pictures())
    model = autoencoder(data, heard=0.6)
    assert isinstance(model, HasProgress)
    assert [player.name for player in model.players()] == ["critic", "autoencoder"]
    batch = data.batch(torch.arange(4))
    turns = {}
    for progress in (0.0, 0.59 - ALONE, 0.61 - ALONE, 0.61):
        model.on_progress(progress)
        judged, coded = (model.losses(batch, player, StreamNoise(4, 0, 0)) for player in ("critic", "autoencoder"))
        turns[progress] = (bool(judged), "weight" in coded)
    assert list(turns.values()) == [(False, False), (False, False), (True, False), (True, True)]
    assert [p.name for p in autoencoder(data, adversarial=0.0).players()] == ["autoencoder"]


def test_the_codebook_moves_once_a_step_however_many_learn():
    data = load_data(pictures())
    model = autoencoder(data, bottleneck="vq").train()
    before, part = model.coder.counts.clone(), Part(0, 4)
    batch = replace(data.batch(torch.arange(4)), part=part)
    model.on_progress(1.0)
    model.losses(batch, "critic", StreamNoise(4, 0, 0))
    assert part.records == {}
    model.after_step("critic", part.records, 4)
    model.losses(batch, "autoencoder", StreamNoise(4, 0, 0))
    assert torch.equal(model.coder.counts, before)
    model.after_step("autoencoder", part.records, 4)
    assert not torch.equal(model.coder.counts, before)


def test_a_weak_model_of_other_latents_is_refused():
    model, same, other = rotated(), rotated(), rotated()
    other.autoencoder.q.copy_(other.autoencoder.q.flip(0))
    x = model.sample(2, seeds=[1, 2], steps=3)
    torch.testing.assert_close(model.sample(2, seeds=[1, 2], steps=3, weak=same, guidance=2.0), x)
    with pytest.raises(UsageError, match="must have the same latents"):
        model.sample(2, seeds=[1, 2], steps=3, weak=other, guidance=2.0)
    same.mean.mul_(1 + 1e-6)  # measured anew on another machine
    torch.testing.assert_close(model.sample(2, seeds=[1, 2], steps=3, weak=same, guidance=2.0), x, atol=1e-3, rtol=0)
    same.mean.add_(same.std)
    with pytest.raises(UsageError, match="must have the same latents"):
        model.sample(2, seeds=[1, 2], steps=3, weak=same, guidance=2.0)


def test_a_picture_to_vary_has_the_samples_shape():
    with pytest.raises(UsageError, match="of shape 4, and 2 of shape 3 are needed"):
        rotated().sample(2, steps=2, edit=Vary(torch.zeros(1, 4)))


@pytest.mark.parametrize("bottleneck", ["kl", "vq"])
@pytest.mark.parametrize(("side", "f"), [(16, 2), (13, 4), (16, 8)])
def test_latents_are_f_times_smaller(bottleneck, side, f):
    data = load_data(pictures(side=side))
    torch.manual_seed(0)
    recipe = LatentRecipe.model_validate({"autoencoder": {"f": f, "width": 16, "bottleneck": bottleneck, "channels": 3}})
    model = recipe.first(data.spec)
    z = model.encode(data.batch(torch.arange(5)).x)
    assert z.shape == (5, *model.latent_shape) == (5, 3, math.ceil(side / f), math.ceil(side / f))
    assert model.decode(z).shape == (5, 3, side, side)


def test_a_latent_lies_where_it_comes_from():
    """Position by position: a change in one corner of the picture moves that corner of the map most."""
    data = load_data(pictures())
    model = autoencoder(data)
    x = data.batch(torch.arange(1)).x
    y = x.clone()
    y[..., :4, -4:] = 0
    change = (model.encode(x) - model.encode(y)).abs().sum(1)[0]
    assert change.shape == (8, 8)
    assert change[:4, 4:].sum() > 0.9 * change.sum() > 0
    z = model.encode(x)
    moved = z.clone()
    moved[0, :, -1, 0] += 10
    assert (model.decode(z) - model.decode(moved)).abs()[0, :, 8:, :8].sum() > 5 * (
        model.decode(z) - model.decode(moved)
    ).abs()[0, :, :8, 8:].sum()


def test_a_vq_latent_is_a_row_of_the_codebook():
    data = load_data(pictures())
    model = autoencoder(data, bottleneck="vq", codes=32)
    x = data.batch(torch.arange(6)).x
    z = model.encode(x)
    rows = z.movedim(1, -1).reshape(-1, 3)
    assert torch.cdist(rows.double(), model.coder.codebook.double()).min(1).values.max() < 1e-5
    torch.testing.assert_close(model.decode(z), model.decode(z + 1e-4))


def test_psnr_and_ssim_agree_with_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    x = torch.from_numpy(pictures(6, 32)).permute(0, 3, 1, 2) / 255
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    for a, b, p, q in zip(x, y, psnr(x, y), ssim(x, y), strict=True):
        assert p == pytest.approx(peak_signal_noise_ratio(b[None], a[None], data_range=1.0).item(), abs=1e-3)
        assert q == pytest.approx(structural_similarity_index_measure(b[None], a[None], data_range=1.0).item(), abs=1e-4)
    assert ssim(x, x).min() == pytest.approx(1)
    assert psnr(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.1)).item() == pytest.approx(20)


# stage two's data


def test_latents_that_took_long_are_kept_until_what_they_depend_on_changes(tmp_path, monkeypatch):
    data = load_data("digits")
    model = LatentRecipe.model_validate({"autoencoder": {"width": 16}}).build(data.spec)
    parts = []
    encode = model.autoencoder.encode
    monkeypatch.setattr(model.autoencoder, "encode", lambda x: parts.append(len(x)) or encode(x))
    said = []
    encoded(model, data, flip=False, folder=tmp_path)
    assert not list(tmp_path.iterdir()), "what is quick is not kept"
    monkeypatch.setattr("ancestral.app.training.latents.SLOW", 0.0)
    first = encoded(model, data, flip=False, folder=tmp_path, tell=said.append)
    assert said[0] == "encoding 256 of 1,797"
    assert said[-1] == "encoding 1,797 of 1,797"
    parts.clear()
    again = encoded(model, data, flip=False, folder=tmp_path)
    assert not parts
    assert torch.equal(again.train.array, first.train.array)
    assert torch.equal(again.test.array, first.test.array)
    mirrored = encoded(model, data, flip=True, folder=tmp_path)
    assert sum(parts) == 1797 + 1618
    assert torch.equal(encoded(model, data, flip=True, folder=tmp_path).mirrored, mirrored.mirrored)
    parts.clear()
    with torch.no_grad():
        next(model.autoencoder.parameters()).add_(0.1)
    encoded(model, data, flip=True, folder=tmp_path)
    assert parts, "another autoencoder has other latents"


def test_latents_have_mean_0_and_deviation_1_and_conditions_of_their_images():
    data = load_data("digits")
    torch.manual_seed(0)
    model = LatentRecipe.model_validate({"autoencoder": {"width": 16}, "condition": ["class"]}).build(data.spec)
    data = data.encoded(model.conditioner)
    x = data.batch(torch.arange(64)).x
    before = model.autoencoder.reconstruct(x)
    latents = encoded(model, data, flip=True)
    z = latents.batch(torch.arange(len(data.train))).x
    assert latents.spec.shape == model.prior.shape == (4, 4, 4)
    assert (latents.spec.mean, latents.spec.std, latents.spec.levels) == ((0.0,) * 4, (1.0,) * 4, None)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), unbiased=False), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(z[:64]), before, atol=1e-4, rtol=0)
    flip = torch.arange(64) % 2 == 0
    batch = latents.batch(torch.arange(64), flip=flip)
    mirrored = torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x)
    torch.testing.assert_close(batch.x, model.encode(mirrored), atol=1e-4, rtol=1e-4)
    assert torch.equal(batch.conditions["class"], data.train.labels[:64])


# the transformer


def test_attention_agrees_with_torchs():
    q, k, v = torch.randn(3, 2, 9, 12, generator=torch.Generator().manual_seed(0))
    ours = attention(q, k, v, 3)
    theirs = (
        nn.functional.scaled_dot_product_attention(*(x.view(2, 9, 3, 4).transpose(1, 2) for x in (q, k, v)))
        .transpose(1, 2)
        .reshape(2, 9, 12)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(3, 9, 13), (2, 37)], ids=["odd images", "signals"])
def test_a_transformer_starts_as_zero_and_folds_without_loss(shape):
    from ancestral.conditioning import Context
    from ancestral.networks.dit import DiT

    torch.manual_seed(0)
    net = DiT(shape, width=32, blocks=2, patch=4)
    z = torch.randn(5, *shape)
    assert torch.equal(net(z, torch.zeros(5), Context()), torch.zeros(5, *shape))
    torch.testing.assert_close(net.unfold(net.fold(z)), z)


def test_a_transformer_without_places_knows_no_order():
    """Permuted patches give permuted answers; with its places they do not."""
    from ancestral.conditioning import Context
    from ancestral.networks.dit import DiT

    torch.manual_seed(0)
    net = DiT((2, 16), width=32, blocks=2, patch=1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape)
    z, order = torch.randn(3, 2, 16), torch.randperm(16)
    logsnr = torch.tensor([-2.0, 0.0, 3.0])
    straight, permuted = net(z, logsnr, Context())[..., order], net(z[..., order], logsnr, Context())
    assert not torch.allclose(straight, permuted, atol=1e-3)
    net.place.zero_()
    straight, permuted = net(z, logsnr, Context())[..., order], net(z[..., order], logsnr, Context())
    torch.testing.assert_close(straight, permuted, atol=1e-5, rtol=1e-4)


def test_without_the_imagenet_network_reconstructions_are_compared_by_less_and_it_says_so(monkeypatch):
    digits = load_data("digits", size=16)
    monkeypatch.setattr(imagenet, "available", lambda: True)
    monkeypatch.setattr(imagenet, "Perceptual", nn.Identity)
    assert not any("by pixels" in note for note in AutoencoderRecipe(f=2).build(digits.spec).notes)
    monkeypatch.setattr(imagenet, "available", lambda: False)
    made = AutoencoderRecipe(f=2).build(digits.spec)
    assert not made.perceptual
    assert any(
        "compared by pixels and by the critic's features; for better ones run pip install" in note for note in made.notes
    )


def test_a_transformer_reads_tokens_and_ignores_their_padding():
    from ancestral.conditioning import Context, ContextShape
    from ancestral.networks.dit import DiT

    torch.manual_seed(0)
    net = DiT((2, 8, 8), width=32, blocks=2, context=ContextShape(vector=6, tokens=5, channels=1))
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape)
    z, tokens, vector, channels = torch.randn(3, 2, 8, 8), torch.randn(3, 4, 5), torch.randn(3, 6), torch.randn(3, 1, 8, 8)
    mask = torch.tensor([[True, True, False, False]]).expand(3, -1)
    other, padded = tokens.clone(), tokens.clone()
    other[:, 0] += 1
    padded[:, 2:] += 100
    outs = [net(z, torch.zeros(3), Context(vector, t, mask, channels)) for t in (tokens, other, padded)]
    assert not torch.allclose(outs[0], outs[1], atol=1e-3)
    assert torch.equal(outs[0], outs[2])
    assert not torch.allclose(outs[0], net(z, torch.zeros(3), Context(vector, tokens, mask, channels + 1)), atol=1e-3)
