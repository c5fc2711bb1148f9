"""The diffusion family against closed forms: its loss, its weights, its guidance, its samples."""

import math

import pytest
import torch
from torch import nn

from ancestral.batch import Batch
from ancestral.conditioning import ClassCondition, Conditioner, Context, ContextShape
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.guidance import ClassifierFree, Clip, Conditional, guided
from ancestral.likelihood import vlb
from ancestral.models import seeds_from
from ancestral.models.diffusion import Diffusion
from ancestral.networks import denoising_network
from ancestral.noise import SampleNoise, StreamNoise
from ancestral.oracles import GaussianOracle
from ancestral.prediction import PREDICTION_TYPES, Prediction
from ancestral.schedules import VE, VP, Chain, Cosine, Level, Levels, Linear, SubVP, grid
from ancestral.solvers import DPMpp

SCHEDULES = [VP(), SubVP(), Cosine(), Linear(), VE(), Chain.linear()]
ids = lambda s: type(s).__name__  # noqa: E731


class OracleNetwork(nn.Module):
    """The network whose reading is the exact denoiser of N(mean, std^2)."""

    def __init__(self, target, mean=0.0, std=1.0):
        super().__init__()
        self.target, self.mean, self.std = target, mean, std

    def forward(self, z, logsnr, context):
        logsnr = logsnr.double().view(-1, *[1] * (z.ndim - 1))
        alpha2, sigma2 = logsnr.sigmoid(), (-logsnr).sigmoid()
        x = self.mean + alpha2.sqrt() * self.std**2 / (alpha2 * self.std**2 + sigma2) * (z - alpha2.sqrt() * self.mean)
        p = Prediction(x, z, alpha2.sqrt(), sigma2.sqrt())
        return -p.eps if self.target == "score" else p.read(self.target)


def model(target="v", schedule=None, weight="simple", times="uniform", shape=(3,), network=None, kinds=None, **scaling):
    network, conditioner = network or OracleNetwork(target), Conditioner(kinds or {})
    options = {"target": target, "weight": weight, "times": times, "conditioner": conditioner}
    return Diffusion(network, shape, schedule=schedule or VP(), **options, **scaling)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Linear(), Chain.linear()], ids=ids)
@pytest.mark.parametrize("target", PREDICTION_TYPES)
def test_every_target_reads_as_the_exact_denoiser(target, schedule):
    """Whatever a perfect network was asked to output, the prediction is E[x | x_t]. Levels where alpha and sigma are both
    in float32's reach."""
    denoiser, oracle = Denoiser(OracleNetwork(target, 0.7, 0.4), target), GaussianOracle(0.7, 0.4)
    for level in schedule.levels(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)):
        r = math.hypot(level.alpha, level.sigma)
        x_t = torch.randn(5, 1, dtype=torch.float64) * r
        expected = oracle(x_t, Level(level.t, level.alpha, level.sigma)).x
        torch.testing.assert_close(denoiser(x_t, level).x, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Linear(), VE(), Chain.linear()], ids=ids)
@pytest.mark.parametrize("s", [0.1, 1.0])
def test_the_best_network_is_zero_for_gaussian_data_of_deviation_sigma_data(schedule, s):
    """The best denoiser of N(0, s^2) is x_t times a number, so the best F is 0 and the loss is s^2 at every level."""

    def silent(z, logsnr, context):
        return torch.zeros_like(z)

    denoiser, oracle = Denoiser(silent, "v", s), GaussianOracle(0.0, s)
    for level in schedule.levels(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)):
        x_t = torch.randn(5, 1, dtype=torch.float64)
        torch.testing.assert_close(denoiser(x_t, level).x, oracle(x_t, Level(level.t, level.alpha, level.sigma)).x)
    level = schedule.at(torch.linspace(0.05, 0.95, 9, dtype=torch.float64))
    variance = s**2 * level.sigma**2 / (level.sigma**2 + s**2 * level.alpha**2)  # of x given x_t
    for weight in ("simple", "edm"):
        w = Diffusion(denoiser, (1,), schedule=schedule, weight=weight).weights(level)
        torch.testing.assert_close(w * variance, torch.full_like(w, s**2))


def test_the_smaller_sigma_data_the_nearer_a_network_comes_to_predicting_x():
    """F = -x in the limit, whatever x_t is."""
    x, x_t = torch.randn(2, 6, 3, dtype=torch.float64)
    denoiser = Denoiser(lambda z, logsnr, context: -x, "v", 1e-6)
    torch.testing.assert_close(denoiser(x_t, Cosine().levels(torch.tensor([0.5]))[0]).x, x, atol=1e-8, rtol=0)


def test_sigma_data_belongs_to_the_target_v():
    with pytest.raises(UsageError, match=r"sigma_data=0\.5 needs the target v, and the target is velocity: set"):
        Denoiser(OracleNetwork("velocity"), "velocity", 0.5)


def test_a_network_reads_the_same_under_every_schedule():
    """z and logsnr are all that it sees, so VP and VE at equal logsnr give the same x."""
    denoiser = Denoiser(OracleNetwork("v", 0.7, 0.4), "v")
    z = torch.randn(4, 1, dtype=torch.float64)
    vp = VP().levels(VP().time(torch.tensor([1.0], dtype=torch.float64)))[0]
    ve = VE().levels(VE().time(torch.tensor([1.0], dtype=torch.float64)))[0]
    torch.testing.assert_close(denoiser(z, vp).x, denoiser(z * math.hypot(1, ve.sigma), ve).x)


def per_sample(schedule):
    """Two predictions at the same x_t and their levels."""
    level = schedule.at(torch.rand(64, dtype=torch.float64) * 0.9 + 0.05)
    alpha, sigma = level.alpha[:, None], level.sigma[:, None]
    x_t, x, other = torch.randn(3, 64, 5, dtype=torch.float64)
    return level, Prediction(x, x_t, alpha, sigma), Prediction(other, x_t, alpha, sigma)


def squared(a, b, reading):
    return (a.read(reading) - b.read(reading)).square().sum(1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=ids)
def test_loss_equivalences_per_sample(schedule):
    """|eps - eps'|^2 = SNR |x - x'|^2, and for v and flow likewise."""
    level, p, q = per_sample(schedule)
    x2, snr = squared(p, q, "x"), level.alpha**2 / level.sigma**2
    torch.testing.assert_close(squared(p, q, "eps"), snr * x2)
    torch.testing.assert_close(squared(p, q, "score"), snr / level.sigma**2 * x2)
    r2 = level.alpha**2 + level.sigma**2
    torch.testing.assert_close(squared(p, q, "v"), r2**2 / level.sigma**2 * x2)  # VP: (SNR + 1) |x - x'|^2
    torch.testing.assert_close(
        squared(p, q, "velocity"), ((level.alpha + level.sigma) / level.sigma) ** 2 * x2
    )  # linear: 1/t^2


@pytest.mark.parametrize(
    ("target", "schedule"),
    [(t, s) for t in PREDICTION_TYPES for s in SCHEDULES if t not in ("eps", "score") or not isinstance(s, Cosine | Linear)],
)
def test_simple_weight_is_the_squared_error_of_the_target(target, schedule):
    level, p, q = per_sample(schedule)
    weights = model(target, schedule).weights(level)
    scale = {"v": 1 / (level.alpha**2 + level.sigma**2), "score": level.sigma**2}.get(target, torch.ones(64))
    torch.testing.assert_close(weights * squared(p, q, "x"), scale * squared(p, q, target))


def test_other_weights():
    level = Levels(*torch.tensor([[0.5], [0.6], [0.8]], dtype=torch.float64))
    snr = 0.36 / 0.64
    assert model(weight="min-snr").weights(level).item() == pytest.approx(snr)
    assert model(weight="edm").weights(level).item() == pytest.approx((0.8**2 + 0.6**2) / 0.8**2)
    low = Levels(*torch.tensor([[0.1], [0.99], [0.1]], dtype=torch.float64))
    assert model(weight="min-snr").weights(low).item() == 5


def test_edm_loss_is_one_at_every_level_for_unit_data_and_an_untrained_network():
    """F = 0 gives x = c_skip x_t, and the expected loss 1 a dimension at every sigma (Karras et al. 2022)."""
    zero = lambda z, logsnr, context: torch.zeros_like(z)  # noqa: E731
    untrained = model("v", VE(), "edm", network=_Wrap(zero), shape=(500,))
    noise = StreamNoise(64, 0, 0)
    loss = untrained.losses(Batch(torch.randn(64, 500)), "model", noise)["total"] / 500
    torch.testing.assert_close(loss, torch.ones(64), atol=0.3, rtol=0)
    assert loss.mean().item() == pytest.approx(1, abs=0.02)


class _Wrap(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


def test_vlb_weight_of_a_chain_telescopes_to_the_middle_terms():
    """Sum over t of 1/2 (SNR_{t-1} - SNR_t) Var(x | x_t) on N(0, 1), T = 1000: 5.07004233 nats, without the first step."""
    chain = Chain.linear()
    level = chain.at(torch.arange(2, 1001, dtype=torch.float64) / 1000)
    snr = level.alpha**2 / level.sigma**2
    w = model(schedule=chain, weight="vlb").weights(level) / 1000
    assert (w / (1 + snr)).sum().item() == pytest.approx(5.07004233, abs=1e-6)
    first = chain.at(torch.tensor([1e-3], dtype=torch.float64))
    assert model(schedule=chain, weight="vlb").weights(first).item() == pytest.approx(500 / 1e-4)


def test_vlb_weight_of_a_chain_is_the_elbo():
    """The sum over all steps of w/T E|x - x_hat|^2 is -ELBO but for terms without parameters: the same for each denoiser."""
    chain, x = Chain.linear(5, 0.1, 0.4), torch.tensor([[0.9]], dtype=torch.float64)
    level = chain.at(torch.arange(1, 6, dtype=torch.float64) / 5)
    w = model(schedule=chain, weight="vlb").weights(level) / 5

    def both(off):
        """Return the loss and -ELBO of a denoiser that errs by off_i at step i."""
        denoise = lambda x_t, t: Prediction(x + off[round(float(t.t) * 5) - 1], x_t, t.alpha, t.sigma)  # noqa: E731
        return (w @ off.square()).item(), -vlb(denoise, chain, x, SampleNoise([0])).value.item()

    nothing = both(torch.zeros(5, dtype=torch.float64))
    for off in torch.eye(5, dtype=torch.float64):
        loss, cost = both(off)
        assert loss - nothing[0] == pytest.approx(cost - nothing[1], rel=1e-9)


def test_vlb_weight_in_continuous_time_integrates_to_the_change_of_snr():
    t = torch.linspace(0.2, 0.9, 20_001, dtype=torch.float64)
    snr = VP().logsnr(t).exp()
    w = model(weight="vlb").weights(VP().at(t))
    assert torch.trapezoid(w, t).item() == pytest.approx(((snr[0] - snr[-1]) / 2).item(), rel=1e-6)


@pytest.mark.parametrize("std", [1.0, 0.4])
def test_perfect_network_reaches_the_known_floor(std):
    """eps loss on N(0, s^2): alpha^2 s^2/(alpha^2 s^2 + sigma^2) a dimension, averaged over t."""
    chain = Chain.linear()
    perfect = model("eps", chain, shape=(200,), network=OracleNetwork("eps", 0.0, std))
    noise = StreamNoise(1000, 0, 0)
    loss = perfect.losses(Batch(std * torch.randn(1000, 200)), "model", noise)["total"].mean().item() / 200
    level = chain.at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    floor = (level.alpha**2 * std**2 / (level.alpha**2 * std**2 + level.sigma**2)).mean().item()
    assert loss == pytest.approx(floor, rel=0.01)


def test_refusals():
    with pytest.raises(UsageError, match="predicts eps cannot give x without signal"):
        model("eps", Cosine())
    with pytest.raises(UsageError, match="vlb is a bound only for uniform times"):
        model(weight="vlb", times="logit-normal")


@pytest.mark.parametrize("times", ["uniform", "logit-normal", "log-normal"])
def test_training_times_have_their_density(times):
    m = model(schedule=VE(), times=times)
    t = m.draw_times(StreamNoise(4000, 0, 0))
    assert ((t > 0) & (t <= 1)).all()
    if times == "log-normal":
        log_sigma = m.schedule.sigma(t).log()
        assert log_sigma.mean().item() == pytest.approx(math.log(2) - 1.2, abs=0.02)  # theirs, for data of deviation 1/2
        assert log_sigma.std().item() == pytest.approx(1.2, abs=0.02)
    if times == "logit-normal":
        assert t.logit().std().item() == pytest.approx(1, abs=0.02)
    if times == "uniform":
        assert t.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=ids)
def test_samples_of_a_perfect_model_have_the_datas_moments(schedule):
    """In the units of the data: mean 5 + 2 * 0.7, deviation 2 * 0.4."""
    perfect = model("v", schedule, shape=(1,), network=OracleNetwork("v", 0.7, 0.4), mean=(5.0,), std=(2.0,))
    x = perfect.sample(4000, steps=60)
    assert x.mean().item() == pytest.approx(6.4, abs=0.06)
    assert x.std().item() == pytest.approx(0.8, rel=0.06)


def small_model(shape=(1, 8, 8), classes=4, **kwargs):
    torch.manual_seed(0)
    network = denoising_network(shape, channels=(16, 32), blocks=1, context=ContextShape(8))
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)  # the zero-initialised branches too
    kinds = {"class": ClassCondition([f"c{i}" for i in range(classes)], 8)}
    return model(shape=shape, network=network, kinds=kinds, schedule=Cosine(), **kwargs)


@pytest.mark.parametrize("solver", ["dpmpp", "ddpm", "heun"])
def test_a_sample_is_the_same_alone_and_in_any_batch(solver):
    m = small_model()
    seeds = seeds_from(5, 64)
    labels = [i % 4 for i in range(64)]
    whole = m.sample(64, {"class": labels}, seeds=seeds, steps=6, solver=solver, guidance=2.0)
    seven = m.sample(7, {"class": labels[10:17]}, seeds=seeds[10:17], steps=6, solver=solver, guidance=2.0)
    alone = m.sample(1, {"class": labels[12]}, seeds=seeds[12:13], steps=6, solver=solver, guidance=2.0)
    split = m.sample(64, {"class": labels}, seeds=seeds, steps=6, solver=solver, guidance=2.0, batch=10)
    for part, rows in ((seven, slice(10, 17)), (alone, slice(12, 13)), (split, slice(0, 64))):
        torch.testing.assert_close(part, whole[rows], atol=1e-5, rtol=1e-5)


def test_guidance_scales():
    """0 is the unconditional model, 1 the conditional, any other the affine combination of two separate passes."""
    m = small_model()
    x_t, level = torch.randn(3, 1, 8, 8), Level(0.5, 0.6, 0.8)
    context, null = m.conditioner({"class": torch.tensor([0, 1, 2])}, 3), m.conditioner.null(3)
    at = lambda g: guided(m.denoiser, context, null, g)(x_t, level).x  # noqa: E731
    conditional, unconditional = m.denoiser(x_t, level, context).x, m.denoiser(x_t, level, null).x
    torch.testing.assert_close(at(0), unconditional)
    torch.testing.assert_close(at(1), conditional)
    torch.testing.assert_close(at(2.5), unconditional + 2.5 * (conditional - unconditional), atol=1e-6, rtol=1e-5)
    assert isinstance(guided(m.denoiser, context, null, 1), Conditional)
    assert isinstance(guided(m.denoiser, context, null, 3), ClassifierFree)
    assert not torch.allclose(conditional, unconditional)


def test_guidance_of_equal_variance_gaussians_is_a_shift():
    """N(mu_c, s^2) and N(mu_u, s^2) at scale g sample exactly N(mu_u + g (mu_c - mu_u), s^2)."""
    s, g, mu_c, mu_u = 0.5, 3.0, 1.0, 0.2

    class Two(nn.Module):
        def forward(self, x_t, level, context):
            means = context.vector.to(x_t)
            var = level.alpha**2 * s**2 + level.sigma**2
            return Prediction(means + level.alpha * s**2 / var * (x_t - level.alpha * means), x_t, level.alpha, level.sigma)

    c, u = (Context(vector=torch.full((4, 1), mu)) for mu in (mu_c, mu_u))
    levels = VP().levels(grid(VP(), 40))
    x = torch.randn(4, 1, dtype=torch.float64)
    *_, guided_state = DPMpp(2)(guided(Two(), c, u, g), x, levels, SampleNoise(range(4)))
    *_, shifted = DPMpp(2)(GaussianOracle(mu_u + g * (mu_c - mu_u), s), x, levels, SampleNoise(range(4)))
    torch.testing.assert_close(guided_state.x, shifted.x, atol=1e-6, rtol=1e-6)


def test_clip_keeps_predictions_in_range():
    wild = lambda x_t, t: Prediction(10 * x_t, x_t, t.alpha, t.sigma)  # noqa: E731
    low, high = torch.tensor([-1.0]), torch.tensor([2.0])
    x = Clip(wild, low, high)(torch.randn(50, 1), Level(0.5, 0.6, 0.8)).x
    assert x.min() == -1
    assert x.max() == 2
    bounded = small_model(bounds=(0.0, 1.0), mean=(0.3,), std=(0.4,))
    samples = bounded.sample(4, steps=3)
    assert samples.min() >= 0
    assert samples.max() <= 1


def test_conditions_are_dropped_at_the_asked_rate_and_per_sample():
    conditioner = Conditioner({"class": ClassCondition(["a", "b"], 3)}, drop=0.25)
    n = 4000
    vector = conditioner({"class": torch.zeros(n, dtype=torch.long)}, n, StreamNoise(n, 0, 0)).vector
    null = conditioner.null(1).vector
    dropped = (vector == null).all(1).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / n))


def test_what_people_write_for_a_class():
    condition = ClassCondition(["cat", "dog", "bird"], 3)
    assert condition.parse("dog", 2).tolist() == [1, 1]
    assert condition.parse(1, 2).tolist() == [1, 1]
    assert condition.parse(["cat", "1"], 2).tolist() == [0, 1]
    assert condition.parse("2", 1).tolist() == [2]
    assert condition.parse(torch.tensor([1, 0]), 2).tolist() == [1, 0]
    with pytest.raises(UsageError, match="unknown class 'dgo': did you mean 'dog'"):
        condition.parse("dgo", 1)
    with pytest.raises(UsageError, match="3 classes given for 2 samples"):
        condition.parse([0, 1, 1], 2)
    with pytest.raises(UsageError, match="not trained with the condition 'text'; its conditions: none"):
        Conditioner({}).parse({"text": "a"}, 1)


def test_trajectory_is_in_the_units_of_the_data_and_ends_as_sample():
    m = small_model(mean=(5.0,), std=(2.0,))
    states = list(m.trajectory(3, seeds=range(3), steps=4))
    assert len(states) == 5
    torch.testing.assert_close(states[-1].x, m.sample(3, seeds=range(3), steps=4))
    assert states[0].x.mean().item() == pytest.approx(5, abs=0.5)
    assert m.training, "sampling leaves the mode as it found it"
    assert torch.is_grad_enabled()
    with pytest.raises(UsageError, match="2 seeds given for 3 samples"):
        m.sample(3, seeds=[1, 2])
    for ask in (m.sample, lambda n: list(m.trajectory(n))):
        with pytest.raises(UsageError, match="ask for at least one sample; got n=0"):
            ask(0)
    with pytest.raises(UsageError, match="at least one at a time; got batch=0"):
        m.sample(3, batch=0)


def test_a_likelihood_leaves_no_graph_and_needs_no_noise():
    m = small_model()
    x = torch.rand(2, 1, 8, 8)
    bound = m.log_prob(x, draws=3)
    assert not bound.value.requires_grad
    assert m.training
    torch.testing.assert_close(bound.value, m.log_prob(x, noise=SampleNoise(range(2)), draws=3).value)


@pytest.mark.long
def test_training_loss_on_gaussian_data_approaches_its_floor_and_never_goes_below():
    """A small MLP on N(0, I) in two dimensions: the mean loss of the last steps is within 5 % above the floor."""
    torch.manual_seed(0)
    chain = Chain.linear()
    m = model("eps", chain, shape=(2,), network=denoising_network((2,), width=64, blocks=2))
    optimizer = torch.optim.Adam(m.parameters(), 2e-3)
    losses = []
    for step in range(1500):
        noise = StreamNoise(512, 0, step)
        x = StreamNoise(512, 1, step).normal((2,))
        loss = m.losses(Batch(x), "model", noise)["total"].mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    level = chain.at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    floor = (level.alpha**2 / (level.alpha**2 + level.sigma**2)).mean().item()
    last = sum(losses[-300:]) / 300
    assert floor * 0.995 < last < floor * 1.05


def test_contexts_merge():
    a = Context(vector=torch.ones(2, 3), tokens=torch.ones(2, 4, 5), channels=torch.ones(2, 1, 8, 8))
    b = Context(vector=torch.ones(2, 3), tokens=torch.zeros(2, 2, 5), mask=torch.zeros(2, 2, dtype=torch.bool))
    both = Context.merge([a, b])
    assert (both.vector == 2).all()
    assert both.tokens.shape == (2, 6, 5)
    assert both.mask.sum(1).tolist() == [4, 4]
    assert both.channels.shape == (2, 1, 8, 8)
    assert Context.merge([]) == Context()
    assert Context.cat([a, a]).tokens.shape == (4, 4, 5)


def test_one_level_is_refused():
    with pytest.raises(UsageError, match="at least 2; got levels=1"):
        model(levels=1)
