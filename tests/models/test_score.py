"""The score family: three objectives with one minimum, the bridge to diffusion, and a model that learned a known score."""

import math

import pytest
import torch
from torch import nn

from ancestral.app.api import plan
from ancestral.app.data import load
from ancestral.app.data.toys import DENSITIES
from ancestral.batch import Batch
from ancestral.errors import UsageError
from ancestral.metrics import sliced_wasserstein
from ancestral.models import HasBound, HasLatent, HasScore
from ancestral.models.diffusion import Diffusion
from ancestral.models.score import ScoreModel, geometric_count, largest_noise
from ancestral.networks import denoising_network
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle
from ancestral.prediction import PREDICTION_TYPES
from ancestral.schedules import VE, VP, Chain, GeometricLevels, Level, Linear, SubVP, grid
from ancestral.solvers import SOLVERS, Langevin


class Affine(nn.Module):
    """F = gain times the exact F of N(0, std^2) data at unit scale; training would find the gain."""

    def __init__(self, std, target="score", gain=1.0):
        super().__init__()
        self.std, self.target = std, target
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, z, logsnr, context):
        logsnr = logsnr.double().view(-1, *[1] * (z.ndim - 1))
        alpha2, sigma2 = logsnr.sigmoid(), (-logsnr).sigmoid()
        eps = sigma2.sqrt() / (alpha2 * self.std**2 + sigma2) * z
        if self.target == "score":
            return (-self.gain * eps).to(z)
        x = (z - sigma2.sqrt() * eps) / alpha2.sqrt()
        return {"eps": eps, "x": x, "v": alpha2.sqrt() * eps - sigma2.sqrt() * x, "velocity": eps - x}[self.target].to(z)


def score_model(matching="denoising", schedule=None, weight="sigma2", shape=(3,), network=None, **scale):
    options = {"matching": matching, "weight": weight, **scale}
    return ScoreModel(network or Affine(0.5), shape, schedule=schedule or VE(0.05, 5.0), **options)


@pytest.mark.parametrize("matching", ["denoising", "sliced", "exact"])
@pytest.mark.parametrize(
    "schedule", [VE(0.05, 5.0), GeometricLevels(0.05, 5.0, 10), VP(), SubVP(), Linear()], ids=lambda s: type(s).__name__
)
def test_the_exact_score_is_the_minimum_of_every_objective(matching, schedule):
    """dJ/dgain = 0 at gain 1, and rises to both sides, in units of its own standard error."""
    model = score_model(matching, schedule, network=Affine(0.5))
    x = 0.5 * torch.randn(20_000, 3)

    def slope(gain):
        with torch.no_grad():
            model.denoiser.network.gain.fill_(gain)
        total = model.losses(Batch(x), "model", StreamNoise(len(x), 0, 0))["total"]
        (g,) = torch.autograd.grad(total.mean(), model.denoiser.network.gain)
        return g.item()

    assert abs(slope(1.0)) < 0.06
    assert slope(0.8) < -0.1
    assert slope(1.2) > 0.1


def test_the_objectives_differ_by_a_constant():
    """sigma^2 J on N(0, s^2): exact is -D/2 sigma^2/v, denoising D/2 (1 - sigma^2/v), v = alpha^2 s^2 + sigma^2."""
    n, schedule = 40_000, VE(0.05, 5.0)
    x = 0.5 * torch.randn(n, 3)
    level = schedule.at(torch.linspace(0, 1, 20_001, dtype=torch.float64).clamp(min=1e-9))
    share = (level.sigma**2 / (0.25 + level.sigma**2)).mean().item()
    expected = {"denoising": 1.5 * (1 - share), "exact": -1.5 * share, "sliced": -1.5 * share}
    for matching, value in expected.items():
        loss = score_model(matching, schedule).losses(Batch(x), "model", StreamNoise(n, 0, 0))["total"]
        assert loss.mean().item() == pytest.approx(value, abs=0.03)


def test_it_is_the_loss_of_diffusion_in_other_words():
    """sigma^2 weight: half of L_simple for eps; likelihood weight: the VLB's."""
    x = torch.randn(50, 3)
    for weight, other in (("sigma2", "simple"), ("likelihood", "vlb")):
        model = score_model("denoising", VP(), weight)
        diffusion = Diffusion(model.denoiser, (3,), schedule=VP(), weight=other)
        mine = model.losses(Batch(x), "model", StreamNoise(50, 0, 0))["total"]
        same_draws = SwappedNoise(StreamNoise(50, 0, 0))
        theirs = diffusion.losses(Batch(x), "model", same_draws)["total"]
        torch.testing.assert_close(mine, theirs * (0.5 if weight == "sigma2" else 1.0), rtol=1e-3, atol=1e-3)


class SwappedNoise:
    """Diffusion draws the time first, ScoreModel the noise first: hand out the same numbers."""

    def __init__(self, noise):
        self.n = noise.n
        self.eps, self.t = noise.normal((3,)), noise.stratified()

    def normal(self, shape):
        return self.eps

    def stratified(self):
        return self.t


def test_weights_and_geometric_levels():
    level = VP().at(torch.tensor([0.3, 0.7], dtype=torch.float64))
    torch.testing.assert_close(score_model(schedule=VP()).weights(level), level.sigma**2)
    beta = 0.1 + level.t * 19.9
    torch.testing.assert_close(score_model(schedule=VP(), weight="likelihood").weights(level), beta)
    schedule = GeometricLevels(0.01, 1.0, 5)
    sigmas = schedule.sigma(schedule.noisy(torch.linspace(0, 0.999, 1000, dtype=torch.float64))).unique()
    torch.testing.assert_close(sigmas, torch.logspace(-2, 0, 5, dtype=torch.float64))
    torch.testing.assert_close(schedule.sigma(grid(schedule, 5, "logsnr")[:-1]).flip(0), sigmas)
    assert largest_noise(2) == 4
    assert largest_noise(10**6) == 80
    assert geometric_count(2, 400) < geometric_count(64, 400) < geometric_count(784, 400)
    with pytest.raises(UsageError, match="is for vectors"):
        score_model("exact", shape=(1, 8, 8))


@pytest.mark.parametrize("dimensions", [64, 784, 3072])
def test_neighbouring_levels_overlap_in_half_of_their_mass(dimensions):
    """Phi(r + 3g) - Phi(r - 3g) >= 1/2, r = sqrt(2D) (g - 1), and not with two levels less."""

    def overlap(levels, ratio=5000.0):
        g = ratio ** (1 / (levels - 1))
        reach = math.sqrt(2 * dimensions) * (g - 1)
        return (math.erf((reach + 3 * g) / math.sqrt(2)) - math.erf((reach - 3 * g) / math.sqrt(2))) / 2

    found = geometric_count(dimensions, 5000.0)
    assert overlap(found) >= 0.5 > overlap(found - 2)


# the bridge


@pytest.mark.parametrize(
    ("target", "schedule"),
    [
        pytest.param(target, schedule, id=f"{target}-{type(schedule).__name__}")
        for target in PREDICTION_TYPES
        for schedule in (VP(), SubVP(), VE(), Linear(), Chain.linear())
        if not (target in ("eps", "score") and isinstance(schedule, Linear))  # refused: no signal is left at t = 1
    ],
)
def test_a_diffusion_model_has_a_score(target, schedule):
    """score = -eps/sigma = (alpha x_hat - x_t)/sigma^2, the exact one where the network is; at a level or a time."""
    model = Diffusion(Affine(0.5, target), (2,), schedule=schedule, target=target)
    assert isinstance(model, HasScore)
    assert isinstance(model, HasBound)
    assert isinstance(model, HasLatent)
    level = schedule.levels(torch.tensor([0.4], dtype=torch.float64))[0]
    x_t = torch.randn(5, 2, dtype=torch.float64)
    p, score = model.denoise(x_t, level), model.score(x_t, 0.4)
    torch.testing.assert_close(score, -p.eps / level.sigma)
    torch.testing.assert_close(score, (level.alpha * p.x - x_t) / level.sigma**2)
    torch.testing.assert_close(score, GaussianOracle(0.0, 0.5).score(x_t, level), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_samples_from_a_trained_denoiser(name):
    """Sample i of a DDPM and of a score model depends on its seed alone (adaptive steps: to their tolerance)."""
    torch.manual_seed(0)
    network = denoising_network((1, 8, 8), channels=(8, 16))
    units = {"mean": 0.3, "std": 0.4, "bounds": (0.0, 1.0)}
    model = Diffusion(network, (1, 8, 8), schedule=Chain.linear(), target="eps", **units)
    name = Langevin(repeats=10, step_size=0.1) if name == "langevin-v1" else name  # the same, sooner
    x = model.sample(3, seeds=[5, 6, 7], solver=name, steps=4)
    assert x.shape == (3, 1, 8, 8)
    torch.testing.assert_close(model.sample(1, seeds=[6], solver=name, steps=4), x[1:2], atol=2e-2, rtol=0)


def perfect(levels=None, **scale):
    return score_model(schedule=VE(0.01, 50.0), shape=(1, 4, 4), network=Affine(1.0), levels=levels, **scale)


def test_likelihoods_in_the_units_of_the_data():
    """N(5, 2^2) pixels under the exact score: both methods give the exact log-density, and 16 filled levels the right bits."""
    model = perfect(mean=(5.0,), std=(2.0,))
    x = 5 + 2 * torch.randn(200, 1, 4, 4)
    exact = torch.distributions.Normal(5.0, 2.0).log_prob(x).flatten(1).sum(1).double()
    ode = model.log_prob(x, noise=SampleNoise(range(200)), method="ode")
    torch.testing.assert_close(ode.value, exact, atol=0.02, rtol=1e-3)
    bound = model.log_prob(x, noise=SampleNoise(range(200)), method="vlb", draws=200)
    assert exact.mean().item() - 1.6 < bound.mean()[0] < exact.mean().item() + 0.2  # 1,000 steps leave 0.07 nats a dimension
    assert set(bound.terms) == {"reconstruction", "prior", "consistency", "units"}
    torch.testing.assert_close(sum(bound.terms.values()), bound.value)
    flat = perfect(levels=16, mean=(0.5,), std=(0.3,), bounds=(0.0, 1.0))
    levels = (0.5 + 0.1 * torch.randn(100, 1, 4, 4)).mul(15).round() / 15
    discrete = flat.log_prob(levels, noise=SampleNoise(range(100)))
    filled = flat.log_prob(levels, noise=SampleNoise(range(100)), method="ode", draws=2)
    assert discrete.discrete
    assert not filled.discrete
    assert discrete.bits_per_dim(16).mean().item() == pytest.approx(filled.bits_per_dim(16).mean().item(), abs=0.15)
    with pytest.raises(UsageError, match="choose vlb or ode"):
        flat.log_prob(levels, noise=SampleNoise(range(100)), method="elbo")


def test_encode_and_decode_are_inverse_and_between_keeps_its_ends():
    model = perfect(mean=(5.0,), std=(2.0,))
    x = 5 + 2 * torch.randn(4, 1, 4, 4)
    z = model.encode(x)
    torch.testing.assert_close(z, (x - 5) / 2, atol=1e-2, rtol=0)
    torch.testing.assert_close(model.decode(z), x, atol=1e-3, rtol=0)
    path = model.between(x[0], x[1], 5)
    torch.testing.assert_close(path[[0, -1]], x[:2], atol=1e-2, rtol=0)
    assert path.shape == (5, 1, 4, 4)


# training


@pytest.mark.parametrize(
    ("shape", "kind"), [((3,), "real"), ((1, 9), "real"), ((1, 7, 5), "uint8"), ((1, 4, 4), "binary")], ids=str
)
def test_every_kind_of_data(tmp_path, shape, kind):
    x = torch.rand(40, *shape)
    x = {"real": x, "uint8": (x * 255).byte(), "binary": (x > 0.5).byte()}[kind].numpy()
    small = () if len(shape) == 1 else ("model.channels=[8, 16]",)
    planned = plan(x, model="score", budget="3it", out=tmp_path / "run", settings=("train.previews=0", *small))
    trainer = planned.begin()
    for step in trainer:
        assert step.skipped is None
    model = trainer.model
    assert model.sample(2, steps=3).isfinite().all()
    with model.inference():
        batch = trainer.data.batch(torch.arange(8), "train")
        bound = model.log_prob(batch.x, noise=SampleNoise(range(8)))
    assert bound.value.isfinite().all()
    assert bound.discrete == (kind != "real")


@pytest.mark.parametrize(
    "settings",
    [
        ("model.schedule=geometric",),
        ("model.schedule=linear",),
        ("model.schedule=sub-vp", "model.weight=likelihood"),
        ("model.matching=sliced",),
    ],
)
def test_interrupted_training_is_the_same(tmp_path, settings):
    def trained(folder, stop):
        options = {"model": "score", "budget": "12it", "settings": ("train.previews=0", "train.batch=32", *settings)}
        trainer = plan("moons", out=folder, **options).begin()
        for step in trainer:
            if step.step == stop:
                trainer.save()
                break
        else:
            return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        return trained(folder, None)

    whole, parts = trained(tmp_path / "whole", None), trained(tmp_path / "parts", 5)
    for name, p in whole.items():
        assert torch.equal(p, parts[name]), name


@pytest.mark.full
def test_training_on_a_mixture_gives_its_score_at_every_level_and_its_samples(tmp_path):
    """Error of sigma * score, root mean square a dimension over x_t ~ p_t: below 0.1 at every level; sliced Wasserstein
    distance of 2,000 samples to held-out data within twice that of training data.
    """
    data = load("gaussians")
    trainer = plan("gaussians", model="score", budget="2000it", out=tmp_path / "run", settings=("train.previews=0",)).begin()
    for _ in trainer:
        pass
    oracle, scale = DENSITIES["gaussians"](), trainer.model.standardize
    with trainer.averaged():
        model = trainer.model
        x = data.batch(torch.arange(2000)).x
        for u in (0.02, 0.1, 0.3, 1.0, 3.0):
            y = scale.normalize(x) + u * torch.randn(2000, 2)
            with model.inference():
                found = model.score(y, Level(0.0, 1.0, u))
            # the models' noise is isotropic in their units: the oracle in those units
            means, var = (oracle.means - scale.mean.double()) / scale.std.double(), 0.01 / scale.std.double() ** 2
            exact = type(oracle)(oracle.weights, means, var.expand(8, 2)).score(y.double(), Level(0.0, 1.0, u))
            assert ((u * (found - exact)).square().mean().sqrt()).item() < 0.1, u
        samples = model.sample(2000, seeds=0, solver="heun", steps=20)
    held = data.batch(torch.arange(2000), "test").x
    floor, found = (math.sqrt(sliced_wasserstein(a.numpy(), held.numpy()).value / 2) for a in (x, samples))
    assert found < 2 * floor + 0.02
    assert math.isfinite(floor)
