"""The experiments of the lab show what the theory says, against closed forms."""

import math

import pytest
import torch

from ancestral.app import lab
from ancestral.app.lab.adversarial import _gradient, critic_network
from ancestral.app.lab.plane import mlp, plane_of
from ancestral.errors import UsageError
from ancestral.models.gan import GAN
from ancestral.schedules import Cosine

POINT = [[1.0, -0.5], [1.0, -0.5], [1.0, -0.5]]  # three equal points: one Gaussian of deviation .07 at this place


def test_the_distance_falls_as_the_closed_form_of_a_gaussian():
    found = lab.forward(POINT, "cosine")
    for i in (0, 15, 30, 45, 60):
        a, s = found["alpha"][i], found["sigma"][i]
        v = a**2 * 0.07**2 + s**2
        exact = 2 * (v - 1 - math.log(v)) / 2 + a**2 * 1.25 / 2
        assert found["kl"][i] == pytest.approx(exact, abs=0.12)
    assert found["kl"][-1] < 1e-3


def test_the_distance_of_digits_falls_to_zero():
    found = lab.forward("digits", "vp")
    assert found["kl"][0] > 50
    assert found["kl"] == sorted(found["kl"], reverse=True)
    assert found["kl"][-1] < 0.01


def test_the_score_points_to_the_data_and_falls_with_the_noise():
    found = lab.field(POINT, 0.5)
    at, arrows = torch.tensor(found["at"]), torch.tensor(found["arrows"])
    towards = torch.tensor(POINT[0]) - at
    cosine = (arrows * towards).sum(1) / (arrows.norm(dim=1) * towards.norm(dim=1)).clamp(min=1e-9)
    assert cosine.min() > 0.98
    farthest = towards.norm(dim=1).max()
    assert found["largest"] == pytest.approx(float(farthest / (0.5**2 + 0.07**2)), rel=1e-3)


def test_the_paths_of_the_sde_and_the_ode_end_at_the_data():
    found = lab.paths(POINT, 1.0, (-1.5, 1.5), seed=3)
    for way in ("sde", "ode"):
        end = torch.tensor(found[way][-1])
        assert (end - torch.tensor(POINT[0])).norm() < 0.6
    assert found["ode"] == lab.paths(POINT, 1.0, (-1.5, 1.5), seed=4)["ode"]
    assert found["sde"] != lab.paths(POINT, 1.0, (-1.5, 1.5), seed=4)["sde"]


def test_the_four_readings_are_one_answer():
    *_, last = lab.readings("moons", "x", 0.5, steps=25)
    own = {name: torch.tensor(form["own"]) for name, form in last["forms"].items()}
    a, s, x_t = last["alpha"], last["sigma"], torch.tensor(last["at"])
    assert torch.allclose(a * own["x"] + s * own["eps"], x_t, atol=2e-2)
    assert torch.allclose(own["score"], -own["eps"] / s, atol=2e-2)
    assert torch.allclose(own["v"], a * own["eps"] - s * own["x"], atol=2e-2)


def test_the_two_gradients_of_a_generator_differ_by_the_odds():
    """The minimax gradient is D / (1 - D) = e^l times the non-saturating one, at every sample."""
    generator, critic = mlp(4, 2), critic_network()
    with torch.no_grad():
        critic[0][-1].bias.fill_(-3.0)  # the critic is nearly certain that samples are drawn
    model, x = GAN(generator, critic, shape=(2,), latent=4), torch.randn(20, 2)
    lengths = {name: _gradient(model, x, name).norm(dim=1) for name in ("minimax", "non-saturating")}
    odds = model.critic(x).exp().detach()
    assert odds.max() < 0.2
    assert torch.allclose(lengths["minimax"], odds * lengths["non-saturating"], rtol=1e-4)


def test_a_gan_shows_its_critic_on_the_whole_plane():
    first = next(lab.gan("gaussians", steps=1))
    assert len(first["critic"]) == first["cells"] ** 2
    assert 0.4 < first["certain"] < 0.6  # nothing is learned yet
    assert all(0 <= d <= 1 for d in first["critic"])


def test_guidance_trades_variety():
    varieties = [lab.guided("moons", scale)["variety"] for scale in (1, 3, 9)]
    assert varieties[0] == pytest.approx(1, abs=0.25)
    assert varieties == sorted(varieties, reverse=True)
    assert lab.guided("moons", 1)["inside"] > 0.9
    assert lab.guided("moons", 0)["inside"] < 0.7  # the class is ignored


def test_the_terms_of_the_elbo_add_up_and_the_plane_decodes():
    *_, (last, model) = lab.vae(steps=2)
    assert last["reconstruction"] - last["kl"] == pytest.approx(last["elbo"])
    assert len(last["map"]) == last["side"] ** 2
    assert torch.tensor(lab.decode(model, (0.0, 1.0))).shape == (8, 8)


def test_latent_diffusion_goes_through_its_stages():
    states = list(lab.latent(steps=2))
    assert [state["stage"] for state in states] == [1, 1, 2, 2, 3]
    assert len(states[-1]["pictures"][0]) == states[-1]["n"]


def test_drawn_points_have_the_moments_of_the_points():
    points = [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]]
    mean, covariance = plane_of(points).moments
    assert mean.tolist() == [1.0, 0.5]
    assert torch.allclose(covariance, torch.diag(torch.tensor([1.0, 0.25]).double() + 0.07**2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plane_of("nowhere"), "nowhere"),
        (lambda: plane_of([[0, 0]]), "between 3"),
        (lambda: plane_of([[0, 0], [1, 1], [1e9, 0]]), "near the middle"),
        (lambda: lab.guided("swiss-roll", 1), "no classes"),
        (lambda: lab.field("moons", 1e-9), "noise level"),
        (lambda: next(lab.gan("moons", "kind")), "objective"),
        (lambda: next(lab.readings("moons", "colour")), "target"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_times_of_the_forward_process_are_those_of_the_schedule():
    found = lab.forward("moons", "cosine")
    level = Cosine().levels(torch.tensor([found["t"][20]], dtype=torch.float64))[0]
    assert (found["alpha"][20], found["sigma"][20]) == pytest.approx((level.alpha, level.sigma), abs=1e-4)
