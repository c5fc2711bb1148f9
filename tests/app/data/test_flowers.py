"""Pictures of flowers have the petals that their formula says."""

import numpy as np
import pytest

from ancestral.app.data.flowers import KINDS, SIDE, flowers


@pytest.fixture(scope="module")
def data():
    return flowers(600, 120)


def test_size_type_and_classes(data):
    spec = data.spec
    assert (spec.name, spec.shape, spec.levels, spec.classes) == ("flowers", (3, SIDE, SIDE), 256, tuple(KINDS))
    assert data.labels("train").bincount().tolist() == [100] * len(KINDS)
    assert data.labels("test").bincount().tolist() == [20] * len(KINDS)
    assert min(spec.mean) > 0.2
    assert max(spec.mean) < 0.5


def test_a_second_call_draws_the_same(data):
    assert flowers(600, 120).spec.fingerprint == data.spec.fingerprint


@pytest.mark.parametrize("name", KINDS)
def test_petals_can_be_counted(data, name):
    """The mean spectrum of the colour on circles around the centre has its peak at the number of petals of a ring."""
    kind = KINDS[name]
    x = data.x("train")[data.labels("train") == list(KINDS).index(name)].numpy()
    power = np.zeros(SIDE)
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    for picture in x:
        colour = picture - picture[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1)[:, None, None]  # of the ground: its corners
        there = np.abs(colour).sum(0) > 0.6
        cy, cx = np.argwhere(there).mean(0)
        for radius in (7, 8, 9):
            rows = np.clip(np.rint(cy + radius * np.sin(angle)).astype(int), 0, SIDE - 1)
            columns = np.clip(np.rint(cx + radius * np.cos(angle)).astype(int), 0, SIDE - 1)
            power += (np.abs(np.fft.rfft(colour[:, rows, columns], axis=1)) ** 2).sum(0)[:SIDE]
    assert 3 + int(power[3:].argmax()) == kind.petals
