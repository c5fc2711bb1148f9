"""Constants, few values and whole numbers come back as such in samples."""

import numpy as np
import pytest
import torch

from ancestral.app.data import DataSpec, load
from ancestral.app.data.discrete import allowed_values, as_allowed, described

N = 400
RANDOM = np.random.RandomState(0)
CHANNELS = {
    "constant": (np.full(N, 7.0), (7.0,)),
    "flag": (RANDOM.randint(0, 2, N), (0.0, 1.0)),
    "halves": (RANDOM.randint(0, 6, N) / 2, (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)),
    "age": (RANDOM.randint(18, 90, N), "count"),
    "change": (RANDOM.randint(-50, 50, N), "whole"),
    "income": (RANDOM.rand(N), None),
}
TABLE = np.stack([values for values, _ in CHANNELS.values()], 1)


@pytest.fixture(scope="module")
def spec():
    return load(TABLE).spec


def test_what_each_channel_can_be(spec):
    assert spec.allowed == tuple(kind for _, kind in CHANNELS.values())
    assert DataSpec.from_json(spec.to_json()) == spec
    assert load(RANDOM.rand(30, 5)).spec.allowed == ()


def test_few_values_need_many_samples():
    """Twelve different whole numbers of twelve samples are no choice among twelve."""
    assert allowed_values(np.arange(12.0)[:, None], None) == ("count",)
    assert allowed_values(np.arange(12.0)[:, None] + 0.5, None) == (None,)


def test_a_value_that_comes_late_is_seen():
    x = np.zeros((10_000, 1), np.float32)
    x[-1] = 0.5
    assert allowed_values(x, None) == ((0.0, 0.5),)
    wide = np.tile(np.arange(100, dtype=np.float32), 100)[:, None]
    wide[-1] = -0.25
    assert allowed_values(wide, None) == (None,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_get_these_values(spec, dtype):
    x = torch.tensor([[5.85, 1.65, 0.74, 17.5001, -3.4, 0.3], [7.7, -0.74, 9.0, -2.0, 2.6, -0.1]], dtype=dtype)
    expected = [[7, 1, 0.5, 18, -3, 0.3], [7, 0, 2.5, 0, 3, -0.1]]
    found = as_allowed(x, spec)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype))


def test_data_are_not_changed_by_their_own_rules(spec):
    data = load(TABLE)
    assert torch.equal(as_allowed(data.x("train"), spec), data.x("train"))


def test_images_and_signals():
    """12-bit images are whole numbers; a constant channel of levels is kept exactly."""
    deep = load(RANDOM.randint(0, 4096, (20, 8, 8)).astype(np.uint16)).spec
    assert (deep.allowed, described(deep)) == (("count",), "whole numbers")
    x = torch.rand(2, 1, 8, 8) * 4095
    assert torch.equal(as_allowed(x, deep), x.round())
    opaque = np.concatenate([RANDOM.randint(0, 256, (20, 3, 8, 8)), np.full((20, 1, 8, 8), 255)], 1).astype(np.uint8)
    spec = load(opaque).spec
    assert spec.allowed == (None, None, None, (1.0,))
    assert (as_allowed(torch.rand(2, 4, 8, 8), spec)[:, 3] == 1).all()
    assert described(spec) == ""


def test_it_is_said():
    data = load({"x": TABLE})
    found = (
        "number 1 (always 7), number 2 (0 or 1), number 3 (one of 6 values), number 4 (whole numbers), number 5 (whole numbers)"
    )
    assert data.notes[-1] == f"written samples get the values that the data have: {found}"
