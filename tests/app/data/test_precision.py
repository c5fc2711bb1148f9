"""Large numbers close together: times, identifiers. float32 would make them equal."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ancestral.app.api import train
from ancestral.app.data import load
from ancestral.app.data.columns import Numbers
from ancestral.app.data.precision import real
from ancestral.conditioning.numbers import NumberCondition
from ancestral.errors import UsageError
from ancestral.models.base import Standardize
from ancestral.runtime import Runtime, holds_float64

TIMES = 1.7e9 + np.linspace(0, 60, 200)  # seconds of one minute; steps of float32 are 128 s there
IDS = np.arange(200) + 20_000_000  # steps of float32 are 2 there


def test_a_table_keeps_times_of_a_minute_and_every_id(tmp_path):
    pq.write_table(pa.table({"user": IDS, "time": TIMES, "v": np.random.RandomState(0).rand(200)}), tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet")
    x = torch.cat([data.x("train"), data.x("test")])
    assert len(x[:, 0].unique()) == 200
    assert float(x[:, 1].max() - x[:, 1].min()) == pytest.approx(60)
    assert data.spec.std[1] == pytest.approx(17.4, abs=0.5)
    units = Standardize(data.spec.shape, data.spec.mean, data.spec.std)
    z = units.normalize(data.x("train"))
    assert z.dtype == torch.float32
    assert z.std(0).tolist() == pytest.approx([1, 1, 1], abs=0.01)
    assert units.denormalize(z)[:, 1].tolist() == pytest.approx(data.x("train")[:, 1].tolist(), abs=1e-4)


@pytest.mark.parametrize("x", [np.stack([TIMES, TIMES], 1), torch.from_numpy(np.stack([TIMES, TIMES], 1)), IDS[:, None]])
def test_arrays_and_tensors_too(x):
    data = load(x)
    assert len(torch.cat([data.x("train"), data.x("test")])[:, 0].unique()) == 200


def test_other_numbers_stay_float32():
    rng = np.random.RandomState(0)
    noisy = np.where(np.arange(50) % 2, 0.3, 0.1 + 0.2)[:, None]  # equal but for the rounding of float64
    for x in (rng.rand(50, 3), 1e5 + rng.rand(50, 2) * 1e3, np.full((50, 1), 1e8), np.arange(50)[:, None], noisy):
        assert real([x])[0].dtype == np.float32
    assert load(np.concatenate([noisy, rng.rand(50, 1)], 1)).spec.std[0] == 1.0


def test_numbers_of_samples_too():
    assert len(Numbers(torch.from_numpy(TIMES)).values.unique()) == 200
    known = Numbers(torch.tensor([1.5, float("nan"), 3.0], dtype=torch.float64)).values
    assert known.dtype == torch.float32
    data = load({"x": np.zeros((200, 1, 8, 8), np.uint8), "time": TIMES})
    assert data.spec.number_std[0] == pytest.approx(17.4, abs=0.5)


def test_a_device_without_float64_is_not_used_for_them(monkeypatch):
    """No machine of the tests has MPS, so only the choice is tested."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    large, usual = (torch.nn.Sequential(Standardize((1,), mean, 17.4)) for mean in (1.7e9, 0.5))
    assert (holds_float64(large), holds_float64(usual)) == (True, False)
    assert Runtime.choose(parameters=1, float64=True).device.type == "cpu"
    assert Runtime.choose(parameters=1).device.type == "mps"
    with pytest.raises(UsageError, match=r"only float64 can tell apart, and the device mps has no float64: choose cpu"):
        Runtime.choose("mps", parameters=1, float64=True)


def test_a_condition_of_usual_numbers_holds_no_float64():
    assert not holds_float64(NumberCondition(["angle"], [30.0], [9.0], 8))
    time = NumberCondition(["time"], [1.7e9], [17.4], 8)
    assert holds_float64(time)
    with torch.no_grad():
        near, later = (time(time.parse(1.7e9 + t, 1), 1).vector for t in (0, 20))
    assert not torch.allclose(near, later)


@pytest.mark.parametrize("family", ["diffusion", "score", "vae", "gan"])
def test_every_family_draws_numbers_between_the_steps_of_float32(family, tmp_path):
    x = np.stack([TIMES, np.random.RandomState(0).rand(200)], 1)
    settings = ("train.batch=64", "train.previews=0", "model.width=32")
    model = train(x, family, "20it", tmp_path / "run", quiet=True, settings=settings)
    samples = model.sample(64)
    assert samples.dtype == torch.float64
    assert len(samples[:, 0].unique()) > 50
    assert abs(float(samples[:, 0].mean()) - TIMES.mean()) < 200
