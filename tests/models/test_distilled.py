"""Distilled samplers against closed forms: the flow that they learn, their loss, and what they reach."""

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.batch import Batch
from ancestral.conditioning import ClassCondition, Conditioner
from ancestral.errors import UsageError
from ancestral.models.diffusion import Diffusion
from ancestral.models.distilled import DistilledModel, distilled, times_of
from ancestral.models.latent import LatentModel
from ancestral.models.score import ScoreModel
from ancestral.models.vae import VAE
from ancestral.networks import denoising_network
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle
from ancestral.schedules import VE, VP, Chain, Cosine, Linear

MEAN, STD = 0.7, 0.4
SCHEDULES = [VP(), Cosine(), Linear(), VE(), Chain.linear()]


class Exact(nn.Module):
    """The network that predicts the exact x of N(MEAN, STD^2), with parameters that begin at 0 for what a student adds."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = (nn.Parameter(torch.zeros(2)) for _ in range(2))  # at much and at little noise

    def forward(self, z, logsnr, context):
        k = (logsnr > -4).long()
        logsnr = logsnr.double().view(-1, 1)
        alpha2, sigma2 = logsnr.sigmoid(), (-logsnr).sigmoid()
        x = MEAN + alpha2.sqrt() * STD**2 / (alpha2 * STD**2 + sigma2) * (z - alpha2.sqrt() * MEAN)
        return x.float() + self.gain[k, None] * z + self.shift[k, None]


class Mirrored(nn.Module):
    """An autoencoder whose latents are the negative data."""

    latent_shape = (3,)

    def encode(self, x, condition=None):
        return -x

    def decode(self, z, condition=None):
        return -z


def teacher(schedule):
    return Diffusion(Exact(), (3,), schedule=schedule, target="x")


def by_class(drop=0.1):
    """An untrained diffusion model with classes."""
    conditioner = Conditioner({"class": ClassCondition(("a", "b"), width=8)}, drop=drop)
    network = denoising_network((1, 8, 8), channels=(8, 8), context=conditioner.widths)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return Diffusion(network, (1, 8, 8), bounds=(0, 1), mean=0.3, std=0.2, conditioner=conditioner)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_teacher_follows_the_known_flow_of_gaussian_data(schedule, steps):
    student = DistilledModel.of(teacher(schedule), steps, teacher_steps=200)
    states = student.flow(SampleNoise(range(5)).normal((3,)), student.conditioner.null(5))
    levels, oracle = student.levels, GaussianOracle(MEAN, STD)
    assert len(states) == len(levels) == steps + 1
    start = next(student.sample_path(SampleNoise(range(5)), student.conditioner.null(5)))
    torch.testing.assert_close(start.x, states[0])
    for state, level in zip(states[1:], levels[1:], strict=True):
        expected = oracle.flow(states[0].double(), levels[0], level)
        torch.testing.assert_close(state.double(), expected, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("schedule", [Linear(), pytest.param(VP(), marks=pytest.mark.long)], ids=lambda s: type(s).__name__)
def test_a_student_of_gaussian_data_learns_the_known_map_of_two_steps(schedule):
    """The teacher's own two steps of Euler miss it by far."""
    model = teacher(schedule)
    student = distilled(model, 2, teacher_steps=30)
    z = SampleNoise(range(200)).normal((3,))
    expected = GaussianOracle(MEAN, STD).flow(z.double(), student.levels[0], student.levels[-1]).float()
    before = (student.decode(z) - expected).abs().mean()
    optimizer = torch.optim.Adam(student.players()[0].parameters, lr=0.02)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 150)
        loss = student.loss(torch.zeros(32, 3), seed=step)["total"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = (student.decode(z) - expected).abs().mean()
    assert before > 0.05
    assert after < 0.01
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), teacher(schedule).parameters(), strict=True))


def test_the_loss_is_zero_where_one_step_is_exact_and_the_pseudo_huber_distance_elsewhere():
    """Data of one point: every prediction is this point. A constant error e of x has the loss 2 c (sqrt(e^2 + c^2) - c)."""

    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.tensor(0.3))

        def forward(self, z, logsnr, context):
            return self.x.expand_as(z)

    student = distilled(Diffusion(Point(), (5,), target="x"), 4)
    assert student.loss(torch.zeros(4, 5))["total"].abs().max() < 1e-5
    with torch.no_grad():
        student.denoiser.network.x += 0.2
    expected = 5 * 2 * 0.03 * ((0.2**2 + 0.03**2) ** 0.5 - 0.03)
    torch.testing.assert_close(student.loss(torch.zeros(4, 5))["total"], torch.full((4,), expected), rtol=1e-4, atol=0)


def test_the_end_of_the_flow_is_the_teachers_sample_with_its_guidance():
    model = by_class()
    student = distilled(model, 1)
    assert student.guidance == model.usual_guidance(["class"]) == 1.5
    x = SampleNoise(range(6)).normal((1, 8, 8))
    context = student.conditioner.context({"class": ["a", "b"] * 3}, 6)
    drawn = model.sample(6, {"class": ["a", "b"] * 3}, seeds=range(6), steps=8)
    torch.testing.assert_close(student.to_data(student.flow(x, context)[-1]), drawn)
    assert distilled(by_class(drop=0), 1).guidance == 1
    plain = distilled(model, 1, guidance=1.0).flow(x, context)[-1]
    drawn = model.sample(6, {"class": ["a", "b"] * 3}, seeds=range(6), steps=8, guidance=1)
    torch.testing.assert_close(student.to_data(plain), drawn)


def test_teacher_and_student_read_the_same_context_also_where_conditions_are_dropped():
    """With all conditions dropped the flow is that without a condition, for which guidance changes nothing."""
    student = distilled(by_class(drop=1.0), 1)
    student.train()
    assert not student.conditioner.training
    batches = [Batch(torch.zeros(6, 1, 8, 8), {"class": torch.tensor(classes * 3)}) for classes in ([0, 1], [1, 0])]
    torch.testing.assert_close(*(student.losses(batch, "model", StreamNoise(6, 0, 0))["total"] for batch in batches))
    names = {name for name, _ in student.named_parameters()}
    assert len(student.players()[0].parameters) == sum(name.startswith("denoiser") for name in names) < len(names)


def test_steps_of_a_student_visit_its_times_and_sample_is_decode():
    assert times_of(Linear(), 4) == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert times_of(Chain.linear(), 2)[1] * 1000 == pytest.approx(round(times_of(Chain.linear(), 2)[1] * 1000))
    student = distilled(by_class(), 3)
    states = list(student.trajectory(2, {"class": "b"}, seeds=[4, 9]))
    assert [state.t.t for state in states] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [state.nfe for state in states] == [0, 1, 2, 3]
    z = SampleNoise([4, 9]).normal((1, 8, 8))
    torch.testing.assert_close(student.decode(z, {"class": "b"}), states[-1].x)
    torch.testing.assert_close(student.sample(1, {"class": "b"}, seeds=[9])[0], states[-1].x[1])
    assert isinstance(student, an.models.HasDecoder)
    assert not isinstance(student, an.models.HasScore | an.models.HasBound)
    assert student.options == ()
    with pytest.raises(UsageError, match="steps"):
        student.sample(1, steps=3)


def test_it_is_saved_without_its_teacher(tmp_path):
    student = distilled(by_class(), 2, origin="digits 1234")
    student.save(tmp_path)
    loaded = an.load(tmp_path)
    assert loaded.times == [1.0, 0.5, 0.0]
    assert (loaded.guidance, loaded.origin) == (1.5, "digits 1234")
    torch.testing.assert_close(loaded.sample(3, seeds=1), student.sample(3, seeds=1))
    with pytest.raises(UsageError, match=r"training needs the teacher: build the model by DistilledModel.of"):
        loaded.loss(torch.zeros(2, 1, 8, 8), {"class": "a"})


def test_of_a_latent_model_the_prior_is_distilled():
    model = LatentModel(Mirrored(), ScoreModel(Exact(), (3,), schedule=VE(0.01, 20.0)), shape=(3,))
    model.measure(torch.randn(100, 3) * 2 + 1)
    student = distilled(model, 2)
    assert isinstance(student.prior, DistilledModel)
    assert isinstance(student.autoencoder, Mirrored)
    drawn = student.sample(3, seeds=0)
    z = student.prior.sample(3, seeds=0)
    torch.testing.assert_close(drawn, -(z * model.std + model.mean))


def test_models_without_a_denoiser_are_refused():
    with pytest.raises(UsageError, match=r"a vae model takes one evaluation.*give a diffusion, score or latent model"):
        distilled(VAE(nn.Flatten(), nn.Identity(), shape=(2,), latent=1), 2)


@pytest.mark.parametrize("steps", [0, 9])
def test_more_steps_than_the_teacher_are_refused(steps):
    with pytest.raises(UsageError, match=f"from 1 step to the teacher's 8; got {steps}"):
        distilled(by_class(), steps)


@pytest.mark.parametrize("times", [[1.0], [0.9, 0.0], [1.0, 0.5], [1.0, 0.2, 0.5, 0.0], [1.0, 0.5, 0.5, 0.0]])
def test_times_fall_from_one_to_zero(times):
    with pytest.raises(UsageError, match="fall from 1 to 0"):
        DistilledModel(Exact(), (3,), schedule=Linear(), times=times, target="x")
