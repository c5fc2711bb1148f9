"""Conditions on numbers: what may be written, the nulls, and what a model learns of data whose truth is known."""

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.conditioning import Conditioner, NumberCondition
from ancestral.conditioning.numbers import read
from ancestral.errors import UsageError
from ancestral.noise import StreamNoise

NAMES = ("angle", "size")


def two() -> NumberCondition:
    torch.manual_seed(0)
    return NumberCondition(NAMES, (10.0, 2.0), (20.0, 0.5), 16)


def one() -> NumberCondition:
    torch.manual_seed(0)
    return NumberCondition(("age",), (40.0,), (10.0,), 16)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"angle": 30, "size": 2}, [[30, 2]] * 2),
        ({"size": 2}, [[None, 2]] * 2),
        ({}, [[None, None]] * 2),
        ([{"angle": 1}, (3, 4)], [[1, None], [3, 4]]),
        (np.array([5.0, 6.0]), [[5, 6]] * 2),
        (torch.tensor([[1.0, torch.nan], [3, 4]]), [[1, None], [3, 4]]),
    ],
)
def test_what_may_be_written_for_several(value, expected):
    raw = two().parse(value, 2)
    assert (raw.dtype, raw.shape) == (torch.float32, (2, 2))
    torch.testing.assert_close(
        raw,
        torch.tensor([[np.nan if v is None else float(v) for v in row] for row in expected]),
        equal_nan=True,
    )
    torch.testing.assert_close(two().parse(raw, 2), raw, equal_nan=True)


@pytest.mark.parametrize("value", [0.5, [0.5, 0.5], {"age": 0.5}, torch.tensor(0.5), torch.tensor([0.5, 0.5]), np.float64(0.5)])
def test_what_may_be_written_for_one(value):
    assert one().parse(value, 2).tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"anlge": 3}, "^unknown number 'anlge': did you mean 'angle'"),
        (3.0, r'trained with 2 numbers: write {"angle": ..., "size": ...}, found 1$'),
        ("3", r"found the text"),
        ([{"angle": 1}] * 3, "^3 numbers given for 2 samples"),
        ({"angle": float("nan")}, "must be finite.*leave it out"),
        ({"angle": "wide"}, "^the number angle is written as 0.3 or -2e5, found 'wide'$"),
        (torch.tensor([[1.0, torch.inf]] * 2), "must be finite"),
        (torch.zeros(2, 3), "found a tensor of shape"),
    ],
)
def test_what_has_no_meaning(value, message):
    with pytest.raises(UsageError, match=message):
        two().parse(value, 2)


def test_what_a_person_writes():
    assert read("0.3", ("age",)) == {"age": 0.3}
    assert read("angle=30, size=-2e-1", NAMES) == {"angle": 30.0, "size": -0.2}
    assert read("size=2", NAMES) == {"size": 2.0}
    for text, message in (
        ("30", "write angle=30"),
        ("angle=1,angle=2", "given twice"),
        ("agle=1", "did you mean 'angle'"),
        ("angle=", "is written as"),
        ("angle=inf", "finite"),
    ):
        with pytest.raises(UsageError, match=message):
            read(text, NAMES)


def test_the_rest_of_a_kind():
    kind = two()
    assert kind.render(kind.parse({"angle": 30, "size": 0.3}, 1)[0]).words == "angle 30, size 0.3"
    assert kind.render(kind.parse({"size": 2}, 1)[0]).words == "size 2"
    assert kind.language == (NumberCondition, NAMES)
    raw = torch.tensor([[1.0, 2.0]])
    assert torch.equal(kind.mirror(raw), raw)


def test_an_unknown_number_is_its_null_whatever_made_it_unknown():
    kind = two()
    raw = torch.tensor([[30.0, 2.0], [torch.nan, 2.0], [torch.nan, torch.nan]])
    vectors = kind(raw, 3).vector
    assert vectors.isfinite().all()
    whole = kind(raw[[0, 0, 0]], 3, torch.tensor([[False, False], [True, False], [True, True]])).vector
    torch.testing.assert_close(vectors, whole)
    torch.testing.assert_close(kind(None, 1).vector, vectors[2:])
    torch.testing.assert_close(kind(raw[:1], 1, torch.tensor([True])).vector, vectors[2:])
    assert not torch.allclose(vectors[0], vectors[1])
    kind(raw, 3).vector.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in kind.parameters())


def test_near_numbers_have_near_vectors():
    kind = one()
    raw = torch.linspace(10, 70, 601)[:, None]
    steps = kind(raw, 601).vector.diff(dim=0).norm(dim=1)
    assert steps.max() < 0.02 * kind(raw, 601).vector.norm(dim=1).mean() + 0.02


def test_dropout_is_of_all_at_once_or_of_each_on_its_own():
    """Rate r of the kind, and r of each number: (1 - r)^3 keep both, r + (1 - r) r^2 keep none."""
    n, r, kind, seen = 40_000, 0.2, two(), []
    kind.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    Conditioner({"number": kind}, r)({"number": torch.zeros(n, 2)}, n, StreamNoise(n, 0, 0))
    (drop,) = seen
    assert drop.shape == (n, 2)
    assert (~drop).all(1).double().mean().item() == pytest.approx((1 - r) ** 3, abs=0.01)
    assert drop.all(1).double().mean().item() == pytest.approx(r + (1 - r) * r**2, abs=0.01)


# Known truth: x = (y, 2 y + c) + noise of 0.3, y in [-1, 1] without the middle (-0.3, 0.3), c = -1 or 1 by class.


def known(n: int = 4000):
    random = np.random.RandomState(0)
    y = random.uniform(0.3, 1, n) * random.choice([-1, 1], n)
    c = random.randint(2, size=n)
    x = np.stack([y, 2 * y + 2 * c - 1], 1) + 0.3 * random.normal(size=(n, 2))
    return x.astype(np.float32), y.astype(np.float32), c


def mean(model, n=256, **how):
    return model.sample(n, seeds=range(n), **{"steps": 12, "guidance": 1.0, **how}).double().mean(0)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    x, y, c = known()
    folder = tmp_path_factory.mktemp("numbers")
    settings = ("train.previews=0", "train.batch=256", "train.lr=0.003", "model.width=64")
    data = {"x": x, "number": y, "class": np.array(["low", "high"])[c]}
    return an.train(
        data, budget="700it", out=folder / "run", condition=("class", "number"), quiet=True, settings=settings, device="cpu"
    )


@pytest.mark.parametrize("name", ["low", "high"])
@pytest.mark.parametrize("y", [-0.8, 0.0, 0.15, 0.6])
def test_numbers_between_those_seen_give_what_is_between(both, y, name):
    """0 and 0.15 lie in the gap: no training sample had a number within 0.15 of them."""
    expected = torch.tensor([y, 2 * y + (1 if name == "high" else -1)], dtype=torch.float64)
    torch.testing.assert_close(mean(both, condition={"number": y, "class": name}), expected, atol=0.2, rtol=0)


def test_one_kind_alone_leaves_the_other_open(both):
    """E[x | y] = (y, 2 y) and E[x | c] = (0, c)."""
    torch.testing.assert_close(
        mean(both, 512, condition={"number": 0.6}), torch.tensor([0.6, 1.2], dtype=torch.float64), atol=0.3, rtol=0
    )
    found = mean(both, 512, condition={"class": "high"})
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=0.3, rtol=0)


def posterior(x, y, c):
    """E over samples x of log p(x | y, c) - log p(x), which is log p(y, c | x) up to a constant. c is -1 or 1."""

    def log_p(y, c):
        centre = torch.stack([y, 2 * y + c], -1)
        return -(x.double()[:, None] - centre).square().sum(-1) / (2 * 0.3**2)

    ys = torch.cat([torch.linspace(-1, -0.3, 100), torch.linspace(0.3, 1, 100)]).double()
    everything = torch.cat([log_p(ys, -1), log_p(ys, 1)], 1)
    return (log_p(torch.tensor([y]), c)[:, 0] - everything.logsumexp(1) + np.log(400)).mean().item()


def test_guidance_by_two_kinds_makes_samples_follow_their_conditions(both):
    """With the scale, samples become more typical of both conditions than of all data: log p(y, c | x) grows."""
    condition = {"number": -0.4, "class": "high"}
    found = [
        posterior(both.sample(512, seeds=range(512), steps=12, condition=condition, guidance=scale), -0.4, 1)
        for scale in (0.0, 1.0, 2.0)
    ]
    assert found[0] + 1 < found[1] < found[2] - 0.1
