"""The adversarial family against closed forms: optima of the objectives, gradients, penalties, the Dirac game, diagnosis."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ancestral.batch import Batch
from ancestral.conditioning import ClassCondition, Conditioner, Context, ContextShape
from ancestral.errors import UsageError
from ancestral.models import HasCritic, HasDecoder, HasDiagnosis
from ancestral.models.augment import augment, cut_out, translate
from ancestral.models.gan import GAN, frozen
from ancestral.models.health.gan import Standing, calibration, coverage, distinct, jensen_shannon, spacing
from ancestral.models.inversion import invert
from ancestral.models.objectives import OBJECTIVES, Penalties
from ancestral.networks.adversarial import adversarial_networks, spectral
from ancestral.noise import SampleNoise, StreamNoise

EACH = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
GRID = torch.linspace(-9, 10, 3801, dtype=torch.float64)


def density(mean):
    return (-((GRID - mean) ** 2) / 2).exp() / math.sqrt(2 * math.pi)


def integral(f):
    return torch.trapezoid(f, GRID).item()


def best(objective, p, q):
    """The discriminator's optimum on a grid, each point on its own, by Newton's steps on p J(l, .) + q J(., l)."""
    l = torch.full_like(p, 0.3).requires_grad_()
    optimizer = torch.optim.LBFGS([l], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    zero = torch.zeros_like(l)
    real = lambda v: objective.discriminator(v, zero) - objective.discriminator(zero, zero) / 2  # noqa: E731
    fake = lambda v: objective.discriminator(zero, v) - objective.discriminator(zero, zero) / 2  # noqa: E731

    def closure():
        optimizer.zero_grad()
        total = ((p * real(l) + q * fake(l)) / (p + q)).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return l.detach(), integral((p * real(l) + q * fake(l)).detach())


def test_the_best_discriminator_is_that_of_the_paper():
    """D* = p/(p + q), V(D*) = JSD - log 2 = -0.581726 for N(0, 1) and N(1, 1)."""
    p, q = density(0), density(1)
    l, cost = best(OBJECTIVES["minimax"], p, q)
    centre = (GRID > -4) & (GRID < 5)
    torch.testing.assert_close(l.sigmoid()[centre], (p / (p + q))[centre], atol=1e-5, rtol=0)
    m = (p + q) / 2
    jsd = integral(p * (p / m).log() + q * (q / m).log()) / 2
    assert -cost == pytest.approx(jsd - math.log(2), abs=1e-6)
    assert -cost == pytest.approx(-0.581726, abs=1e-6)


def test_optima_of_least_squares_and_hinge():
    p, q = density(0), density(1)
    l, cost = best(OBJECTIVES["least-squares"], p, q)
    torch.testing.assert_close(l, p / (p + q), atol=1e-5, rtol=0)
    assert cost == pytest.approx(integral(p * q / (p + q)) / 2, abs=1e-7)
    sign = torch.sign(p - q)
    hinge = OBJECTIVES["hinge"]
    at = lambda l: integral(p * (1 - l).relu() + q * (1 + l).relu())  # noqa: E731
    tv = integral((p - q).abs()) / 2
    assert at(sign) == pytest.approx(2 * (1 - tv), abs=1e-6)
    torch.testing.assert_close(hinge.discriminator(sign, sign), (1 - sign).relu() + (1 + sign).relu())
    assert all(at(sign * (1 + e)) > at(sign) for e in (-0.1, 0.1))


def test_optimum_of_the_relativistic_pairing():
    """l = log p/q + c: there the gradient of E softplus(l(y) - l(x)) over pairs x ~ p, y ~ q is zero at every point."""
    p, q = density(0)[::10], density(1)[::10]
    l = ((p / q).log() + 3.7).requires_grad_()
    pairs = OBJECTIVES["relativistic"].discriminator(l[:, None].expand(-1, len(l)), l[None].expand(len(l), -1))
    (pairs * p[:, None] * q[None]).sum().backward()
    assert l.grad.abs().max() < 1e-9 * len(l)


def test_a_trained_discriminator_reaches_the_optimum():
    """Through `GAN.losses`, with a generator of N(1, 1): within the error of 40,000 samples, D* and V(D*)."""
    torch.manual_seed(0)
    model = gan("minimax", (1,), generator=Shift(1.0), discriminator=Poly())
    optimizer = torch.optim.LBFGS(model.discriminator.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    x = torch.randn(40_000, 1)

    def closure():
        optimizer.zero_grad()
        total = model.losses(Batch(x), "discriminator", StreamNoise(len(x), 0, 0))["total"].mean()
        total.backward()
        return total

    optimizer.step(closure)
    value = -closure().item()
    points = torch.linspace(-2, 3, 11)
    torch.testing.assert_close(model.critic(points[:, None]).detach(), 0.5 - points, atol=0.06, rtol=0)
    assert value == pytest.approx(-0.581726, abs=0.004)


def test_saturating_over_non_saturating_is_the_exponential_of_the_logit():
    l = torch.linspace(-20, 5, 26, dtype=torch.float64, requires_grad=True)
    slopes = [torch.autograd.grad(OBJECTIVES[name].generator(l).sum(), l)[0] for name in ("minimax", "non-saturating")]
    torch.testing.assert_close(slopes[0] / slopes[1], l.detach().exp())


def test_at_the_best_discriminator_the_two_add_up_to_the_divergence():
    """E_q of saturating plus non-saturating, D held fixed, has half the gradient of KL(q || p), which for N(m, 1) is m."""
    for m in (0.5, 1.0, 2.0):
        mean = torch.tensor(m, dtype=torch.float64, requires_grad=True)
        z = GRID[(GRID > -8) & (GRID < 8)]
        y = mean + z
        l = m * m / 2 - m * y  # log p/q at the present m
        both = OBJECTIVES["minimax"].generator(l) + OBJECTIVES["non-saturating"].generator(l)
        weight = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
        (slope,) = torch.autograd.grad(torch.trapezoid(weight * both, z), mean)
        assert slope.item() == pytest.approx(m / 2, rel=1e-6)


@EACH
def test_certain_logits_are_safe(objective):
    """Losses and gradients of both players are finite at |logit| = 100, in float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        l = torch.tensor([-100.0, 100.0, -100.0, 100.0], dtype=dtype, requires_grad=True)
        other = torch.tensor([100.0, -100.0, -100.0, 100.0], dtype=dtype)
        for loss in (objective.discriminator(l, other), objective.discriminator(other, l), objective.generator(l, other)):
            assert loss.isfinite().all()
            (slope,) = torch.autograd.grad(loss.sum(), l, allow_unused=True, retain_graph=True)
            assert slope.isfinite().all()
    if objective.name == "non-saturating":
        l = torch.tensor([-100.0], requires_grad=True)
        objective.generator(l).sum().backward()
        assert l.grad.item() == pytest.approx(-0.5)


def test_a_constant_changes_nothing_in_the_relativistic_game():
    o, (real, fake) = OBJECTIVES["relativistic"], torch.randn(2, 50, dtype=torch.float64)
    torch.testing.assert_close(o.discriminator(real + 5, fake + 5), o.discriminator(real, fake))
    torch.testing.assert_close(o.generator(fake + 5, real + 5), o.generator(fake, real))


class Shift(nn.Module):
    """G(z) = z + theta."""

    latent = 1

    def __init__(self, theta, scale=1.0):
        super().__init__()
        self.theta, self.scale = nn.Parameter(torch.tensor(theta)), scale

    def forward(self, z, context):
        return self.scale * z + self.theta


class Poly(nn.Module):
    """l(x) = a + b x + c x^2."""

    def __init__(self, degree=2):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(degree + 1))

    def forward(self, x, context):
        return sum(w * x[:, 0] ** k for k, w in enumerate(self.weights))


class Slope(nn.Module):
    """l(x) = psi x, the discriminator of the Dirac game."""

    def __init__(self, psi):
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, x, context):
        return self.psi * x[:, 0]


def gan(objective="relativistic", shape=(1,), generator=None, discriminator=None, kinds=None, augmented=0.0, **penalties):
    g, d = adversarial_networks(shape, width=16, context=ContextShape(8 if kinds else 0))
    made = generator or g, discriminator or d
    return GAN(
        *made,
        shape,
        objective=objective,
        penalties=Penalties(**penalties),
        augmented=augmented,
        conditioner=Conditioner(kinds or {}),
    )


@pytest.mark.parametrize("gamma", [0.0, 0.4, 2.0])
def test_the_dirac_game(gamma):
    """Data and samples are single points, 0 and theta; l(x) = psi x. The vector field's eigenvalues at the equilibrium are
    -g/2 +- sqrt(g^2/4 - f'(0)^2): circles without R1, a spiral or a straight way inward with it (Mescheder et al. 2018).
    """
    theta, psi = 0.0, 0.0
    model = gan("minimax", generator=Shift(theta, 0.0), discriminator=Slope(psi), r1=gamma).double()
    batch = Batch(torch.zeros(1, 1, dtype=torch.float64))
    parameters = model.generator.theta, model.discriminator.psi

    def field():
        """The direction in which both players move, whose weights 1/2 are doubled: f(t) = -log(1 + e^-t)."""
        noise = StreamNoise(1, 0, 0)
        g = model.losses(batch, "generator", noise)["total"].sum()
        d = model.losses(batch, "discriminator", noise)
        (game,) = torch.autograd.grad(2 * (d["total"] - d.get("r1", 0)).sum(), parameters[1], retain_graph=True)
        penalty = torch.autograd.grad(d["r1"].sum(), parameters[1])[0] if gamma else 0
        return torch.stack([-2 * torch.autograd.grad(g, parameters[0])[0], -game - penalty])

    def at(theta, psi):
        for p, value in zip(parameters, (theta, psi), strict=True):
            p.data.fill_(value)
        return field().numpy()

    e = 1e-4
    jacobian = np.stack([(at(e, 0) - at(-e, 0)) / (2 * e), (at(0, e) - at(0, -e)) / (2 * e)], 1)
    root = np.sqrt(complex(gamma**2 / 4 - 0.25))
    expected = np.sort_complex(np.array([-gamma / 2 - root, -gamma / 2 + root]))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(jacobian).astype(complex)), expected, atol=2e-4)

    where = np.array([1.0, 0.0])
    for _ in range(400):
        where = where + 0.1 * at(*where)
    if gamma:
        assert np.linalg.norm(where) < 1e-2
    else:
        assert np.linalg.norm(where) > 1


def small_discriminator(shape):
    torch.manual_seed(0)
    _, d = adversarial_networks(shape, width=8)
    for p in d.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return d


@pytest.mark.parametrize("shape", [(3,), (2, 11), (1, 9, 10), (3, 18, 20)], ids=str)
def test_r1_and_its_gradient_by_finite_differences(shape):
    """r1/2 |grad l|^2 per sample, and its derivative in a parameter, which passes twice through every layer."""
    d = small_discriminator(shape).double()
    x = torch.randn(4, *shape, dtype=torch.float64)
    y = torch.randn(4, *shape, dtype=torch.float64)
    critic = lambda x, rows: d(x, Context())  # noqa: E731
    _, _, terms = Penalties(r1=3.0, r2=0.5)(critic, x, y, torch.rand(4))
    for name, at, weight in (("r1", x, 3.0), ("r2", y, 0.5)):
        i, e = 7 % at[0].numel(), 1e-6
        for n in range(4):
            jacobian = torch.autograd.functional.jacobian(lambda v: d(v[None], Context())[0], at[n])
            assert terms[name][n].item() == pytest.approx(weight / 2 * jacobian.square().sum().item(), rel=1e-5)
        step = torch.zeros_like(at)
        step.flatten(1)[:, i] = e
        numeric = (d(at + step, Context()) - d(at - step, Context())) / (2 * e)
        seen = at.clone().requires_grad_()
        (g,) = torch.autograd.grad(d(seen, Context()).sum(), seen)
        torch.testing.assert_close(g.flatten(1)[:, i], numeric.detach(), atol=1e-6, rtol=1e-5)
    weight = next(p for name, p in d.named_parameters() if name.endswith("first.weight"))
    (slope,) = torch.autograd.grad(terms["r1"].sum(), weight)
    values = []
    for sign in (1, -1):
        weight.data.flatten()[0] += sign * 1e-5
        values.append(Penalties(r1=3.0)(critic, x, y, torch.rand(4))[2]["r1"].sum().item())
        weight.data.flatten()[0] -= sign * 1e-5
    assert slope.flatten()[0].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-2, abs=1e-4)


def test_lazy_penalties_look_at_few_and_expect_the_same():
    d = small_discriminator((3,))
    x, y = torch.randn(2, 64, 3)
    critic = lambda x, rows: d(x, Context())  # noqa: E731
    real, fake, whole = Penalties(r1=1.0, r2=1.0)(critic, x, y, torch.rand(64))
    real_l, fake_l, some = Penalties(r1=1.0, r2=1.0, lazy=4)(critic, x, y, torch.rand(64))
    torch.testing.assert_close(real, real_l)
    torch.testing.assert_close(fake, fake_l)
    torch.testing.assert_close(some["r1"][::4], 4 * whole["r1"][::4], atol=1e-4, rtol=1e-3)
    assert some["r1"].view(16, 4)[:, 1:].abs().max() == 0
    parts = [Penalties(r2=1.0, lazy=4)(critic, x.roll(i, 0), y.roll(i, 0), torch.rand(64))[2]["r2"] for i in range(4)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole["r2"].mean().item(), rel=1e-3)


def test_the_gradient_penalty_between_data_and_samples():
    """For l = a.x of |a| = 3 it is gp (3 - 1)^2 everywhere."""
    a = torch.tensor([1.0, 2.0, 2.0])
    _, _, terms = Penalties(gp=10.0)(lambda x, rows: x @ a, torch.randn(5, 3), torch.randn(5, 3), torch.rand(5))
    torch.testing.assert_close(terms["gp"], torch.full((5,), 40.0))


def test_penalties_in_bfloat16_are_near_those_in_float32():
    d = small_discriminator((1, 28, 28)).to(memory_format=torch.channels_last)
    x, y = torch.randn(2, 8, 1, 28, 28)
    critic = lambda x, rows: d(x, Context())  # noqa: E731
    exact = Penalties(r1=1.0)(critic, x, y, torch.rand(8))[2]["r1"]
    with torch.autocast("cpu", torch.bfloat16):
        near = Penalties(r1=1.0)(critic, x, y, torch.rand(8))[2]["r1"]
        near.sum().backward()
    torch.testing.assert_close(near, exact, atol=0.02, rtol=0.1)
    assert all(p.grad.isfinite().all() for name, p in d.named_parameters() if name.endswith("weight") and p.grad is not None)


def test_spectral_normalisation_bounds_every_layer():
    torch.manual_seed(0)
    _, d = adversarial_networks((1, 8, 8), width=8)
    spectral(d)
    x = torch.randn(16, 1, 8, 8)
    for _ in range(60):
        d(x, Context())
    for m in d.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            assert torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
    assert d(x, Context()).isfinite().all()


SHAPES = [(2,), (5,), (1, 16), (2, 37), (1, 8, 8), (3, 13, 9), (1, 28, 28), (3, 64, 48)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("classes", [0, 3])
def test_networks_of_every_shape(shape, classes):
    kinds = {"class": ClassCondition("abc", 8)} if classes else {}
    model = gan(shape=shape, kinds=kinds, augmented=0.5 * (len(shape) > 1), r1=1.0, r2=1.0, lazy=2)
    batch = Batch(torch.randn(6, *shape), {"class": torch.arange(6) % 3})
    for player in ("discriminator", "generator"):
        terms = model.losses(batch, player, StreamNoise(6, 0, 0))
        assert all(t.shape == (6,) and t.isfinite().all() for t in terms.values())
        terms["total"].mean().backward()
    x = model.sample(4, {"class": [0, 1, 2, 0]} if classes else None, seeds=[3, 4, 5, 6])
    assert x.shape == (4, *shape)
    assert isinstance(model, HasDecoder)
    assert isinstance(model, HasCritic)
    assert isinstance(model, HasDiagnosis)
    z = SampleNoise([3, 4, 5, 6]).normal(model.latent_shape)
    torch.testing.assert_close(model.decode(z, {"class": [0, 1, 2, 0]} if classes else None), x)
    assert model.critic(x).shape == (4,)


def test_each_player_trains_itself_alone():
    kinds = {"class": ClassCondition("abc", 8)}
    model = gan(shape=(1, 8, 8), kinds=kinds, r1=1.0)
    own = {player.name: list(player.parameters) for player in model.players()}
    assert [player.name for player in model.players()] == ["discriminator", "generator"]
    assert sum(map(len, own.values())) == len(list(model.parameters()))
    batch = Batch(torch.randn(6, 1, 8, 8), {"class": torch.arange(6) % 3})
    for player, others in (("discriminator", own["generator"]), ("generator", own["discriminator"])):
        model.zero_grad()
        model.losses(batch, player, StreamNoise(6, 0, 0))["total"].mean().backward()
        assert all(p.grad is None for p in others)
        assert sum(p.grad is not None for p in own[player]) >= len(own[player]) - 1
        assert all(p.requires_grad for p in others)


def test_truncation():
    model = gan(shape=(2,))
    full, none = model.sample(50, seeds=0), model.sample(50, seeds=0, truncation=0.0)
    torch.testing.assert_close(none, none[:1].expand(50, -1))
    half = model.sample(50, seeds=0, truncation=0.5)
    assert half.std(0).sum() < full.std(0).sum()
    with pytest.raises(UsageError, match="truncation"):
        model.sample(1, truncation=-1.0)
    with pytest.raises(UsageError, match="unknown option of this model 'steps'"):
        model.sample(1, steps=3)


def test_augmentation():
    noise = lambda key=0: StreamNoise(200, 0, key)  # noqa: E731
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(200, 1, 8, 8).requires_grad_()
    moved = translate(x, noise())
    assert {int(v) for v in moved[:, 0, 4, 4].tolist()} == {36 + 8 * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)}
    holes = (cut_out(torch.ones(200, 1, 8, 8), noise()) == 0).flatten(1).sum(1)
    assert holes.max() == 16
    assert holes.min() >= 4
    altered = augment(x, noise())
    altered.sum().backward()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(altered, augment(x, noise()))
    assert (augment(x, noise(), 0.3) == x).flatten(1).all(1).float().mean().item() == pytest.approx(0.7, abs=0.1)
    assert augment(torch.randn(200, 3, 9, 7), noise()).shape == (200, 3, 9, 7)
    assert augment(torch.randn(200, 2, 31), noise()).shape == (200, 2, 31)


def standing(objective="relativistic", real=None, fake=None, held_out=None, x=None, y=None, turns=1000):
    zeros, points = torch.zeros(256), torch.randn(256, 2)
    given = [zeros if l is None else l for l in (real, fake, held_out)]
    x, y = points if x is None else x, torch.randn(256, 2) if y is None else y
    return Standing(OBJECTIVES[objective], *given, x, y, turns, False).diagnosis()


def test_the_equilibrium():
    """D = 1/2, -2V = log 4, JSD = 0, coverage 1 - 2^-k, and nothing to say."""
    d = standing("minimax")
    assert d.numbers["log4"] == pytest.approx(math.log(4))
    assert d.numbers["d_fake"] == d.numbers["d_real"] == 0.5
    assert d.numbers["js"] == pytest.approx(0, abs=1e-6)
    assert d.findings == ()
    assert d.failed is None
    covered = [coverage(torch.randn(256, 2), torch.randn(256, 2)) for _ in range(20)]
    assert sum(covered) / 20 == pytest.approx(1 - 2**-5, abs=0.02)


def test_the_jensen_shannon_estimate():
    """With the exact logit of N(0, 1) against N(1, 1), shifted and scaled as only a relativistic D may be."""
    x, y = torch.randn(100_000, dtype=torch.float64), 1 + torch.randn(100_000, dtype=torch.float64)
    assert jensen_shannon(0.5 - x, 0.5 - y) == pytest.approx(math.log(2) - 0.581726, abs=0.003)
    a, b = calibration(3 * (0.5 - x) + 7, 3 * (0.5 - y) + 7)
    assert (a, b) == (pytest.approx(1 / 3, rel=0.05), pytest.approx(-7 / 3, rel=0.05))
    assert calibration(y, y - 5)[0] > 0
    assert calibration(y - 5, y)[0] == 0


def test_findings():
    wins = standing("minimax", real=torch.full((256,), 9.0), fake=torch.full((256,), -6.9), held_out=torch.full((256,), 9.0))
    said = "the discriminator wins: D(G(z)) = 0.001 and the minimax gradient has vanished; use non-saturating or R1"
    assert wins.findings[0].startswith(said)
    assert standing("minimax", fake=torch.full((256,), -9.0)).failed is not None
    three = torch.eye(2).repeat(128, 1) + (torch.arange(256) == 3)[:, None]
    collapsed = standing(y=three)
    assert collapsed.findings[0].startswith("the generator has collapsed: 64 samples, 3 distinct")
    assert "64 samples, 3 distinct" in collapsed.failed
    heart = standing("non-saturating", real=torch.full((256,), 2.0), held_out=torch.full((256,), -1.0))
    assert any("has memorised the training samples" in finding for finding in heart.findings)
    half = standing(y=torch.randn(256, 2).abs() * torch.tensor([1.0, -1.0]) * 3)
    assert any("leaves out part of the data" in finding for finding in half.findings)
    assert standing(y=three, turns=10).findings == ()
    assert "distinct; raise model.r1" in collapsed.findings[0]  # what is set already is no advice
    assert "distinct; set model.objective=relativistic, or raise" in standing("least-squares", y=three).findings[0]


def test_what_was_frozen_before_stays_so():
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    with frozen(network):
        assert not network.weight.requires_grad
    assert network.weight.requires_grad
    assert not network.bias.requires_grad


def test_distinct():
    x = torch.randn(64, 3)
    assert distinct(x, spacing(x) / 4) >= 55
    assert distinct(x[:3].repeat(20, 1), spacing(x) / 4) == 3


def test_inversion_finds_what_the_model_made():
    torch.manual_seed(0)
    model = gan(shape=(1, 8, 8))
    for p in model.generator.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    x = model.sample(1, seeds=[77])
    *_, found = invert(model.decode, x, model.latent_shape, SampleNoise(range(64)), std=float(x.std()), steps=150)
    assert found.error < 0.02 * x.var().item()
    assert found.done == 1
