"""Points in the plane lie where their definitions say."""

import pytest
import torch

from ancestral.app.data import load
from ancestral.app.data.toys import gaussian_mixture

TOYS = {"moons": 2, "rings": 2, "gaussians": 8, "swiss-roll": 0}


@pytest.mark.parametrize(("name", "classes"), TOYS.items())
def test_size_type_and_scale(name, classes):
    data = load(name)
    spec = data.spec
    assert (spec.name, spec.shape, spec.kind, spec.levels, spec.size) == (name, (2,), "real", None, 20_000)
    assert (len(data.train), len(data.test)) == (20_000, 2_000)
    assert data.train.array.dtype == torch.float32
    assert len(spec.classes) == classes
    assert max(map(abs, spec.mean)) < 0.5
    assert all(0.5 < std < 1.2 for std in spec.std)
    assert spec.range == (data.train.array.min(), data.train.array.max())
    if classes:
        shares = torch.bincount(data.train.labels, minlength=classes) / 20_000
        assert shares.tolist() == pytest.approx([1 / classes] * classes, abs=0.02)
    else:
        assert data.train.labels is None
    assert load(name).spec.fingerprint == spec.fingerprint


def test_gaussians_are_draws_of_their_mixture():
    weights, means, std = gaussian_mixture()
    assert float(weights.sum()) == pytest.approx(1)
    assert means.dtype == torch.float64
    assert means.norm(dim=1).tolist() == pytest.approx([2**0.5] * 8)
    train = load("gaussians").train
    for k, mean in enumerate(means):
        points = train.array[train.labels == k].double()
        assert points.mean(0).tolist() == pytest.approx(mean.tolist(), abs=5 * std / len(points) ** 0.5)
        assert points.std(0).tolist() == pytest.approx([std] * 2, rel=0.06)


def test_rings_have_their_radii():
    train = load("rings").train
    radius = train.array.norm(dim=1)
    for label, expected in enumerate((1.6, 0.8)):
        assert float(radius[train.labels == label].mean()) == pytest.approx(expected, abs=0.01)
        assert float(radius[train.labels == label].std()) == pytest.approx(0.08, rel=0.05)


def test_moons_are_half_circles():
    train = load("moons").train
    centres = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])
    offset = train.array - centres[train.labels]
    assert float(offset.norm(dim=1).mean()) == pytest.approx(1, abs=0.01)
    up, down = offset[train.labels == 0, 1], offset[train.labels == 1, 1]
    assert up.min() > -0.5
    assert down.max() < 0.5


def test_the_swiss_roll_is_a_spiral():
    """Radius and angle satisfy r = t / 7 with t = angle modulo a whole turn."""
    points = load("swiss-roll").train.array.double()
    t = 7 * points.norm(dim=1)
    turn = torch.remainder(t - torch.atan2(points[:, 1], points[:, 0]) + torch.pi, 2 * torch.pi) - torch.pi
    assert float(turn.abs().mean()) < 0.5
    assert t.quantile(torch.tensor([0.0, 1.0]).double()).tolist() == pytest.approx([1.5 * torch.pi, 4.5 * torch.pi], abs=2)
    assert float(t.mean()) == pytest.approx(3 * torch.pi, rel=0.01)
