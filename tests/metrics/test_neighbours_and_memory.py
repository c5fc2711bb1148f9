"""Precision, recall, density, coverage; copies and duplicates."""

import numpy as np
import pytest

from ancestral.metrics import copy_rate, data_copying, duplicate_rate, nearest, prdc


def normal(seed, n, d, mean=0.0, std=1.0):
    return mean + std * np.random.default_rng(seed).normal(size=(n, d))


def test_prdc_agrees_with_its_package():
    from prdc import compute_prdc

    x, y = normal(0, 300, 6, 0.3, 0.8), normal(1, 300, 6)
    theirs = compute_prdc(y, x, nearest_k=5)
    ours = prdc(x, y)
    for name, value in theirs.items():
        assert ours[name].value == pytest.approx(value, abs=1e-12), name


def test_coverage_of_equal_distributions():
    """1 - 2^-k in expectation (Naeem et al. 2020, lemma 2)."""
    values = [prdc(normal(2 * i, 400, 8), normal(2 * i + 1, 400, 8))["coverage"].value for i in range(10)]
    assert np.mean(values) == pytest.approx(1 - 2**-5, abs=0.01)


def test_dropping_a_mode_costs_recall_and_coverage_but_no_precision():
    both = np.concatenate([normal(0, 300, 4, -4), normal(1, 300, 4, 4)])
    one = normal(2, 600, 4, -4)
    whole = prdc(np.concatenate([normal(3, 300, 4, -4), normal(4, 300, 4, 4)]), both)
    dropped = prdc(one, both)
    assert dropped["precision"].value > 0.95 * whole["precision"].value
    assert dropped["recall"].value < 0.6 * whole["recall"].value
    assert dropped["coverage"].value < 0.6 * whole["coverage"].value


def test_repeated_images_are_seen_in_recall_and_coverage():
    """Five hundred real images, each twenty times: a Fréchet distance hardly sees it."""
    real = normal(0, 1000, 4)
    repeated = np.tile(normal(1, 50, 4), (20, 1))
    rates = prdc(repeated, real)
    assert rates["recall"].value < 0.2
    assert rates["coverage"].value < 0.5


def test_prdc_wants_sets_of_one_size():
    with pytest.raises(ValueError, match="equal size; got 10 and 20"):
        prdc(normal(0, 10, 2), normal(1, 20, 2))


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize("n", [100, 200, 390, 400, 1000])
def test_errors_of_prdc_are_of_the_size_of_its_spread(n, shift):
    """Of all four, at every n, for equal and for unequal distributions of four dimensions."""
    found = [prdc(normal(2 * i, n, 4, shift), normal(2 * i + 1, n, 4)) for i in range(40 if n < 1000 else 15)]
    for name in ("precision", "recall", "density", "coverage"):
        spread = np.std([f[name].value for f in found], ddof=1)
        assert 0.65 * spread < np.mean([f[name].std_err for f in found]) < 2.2 * max(spread, 1 / n), name


def test_nearest():
    x, y = normal(0, 50, 3), normal(1, 70, 3)
    brute = np.linalg.norm(x[:, None] - y, axis=2)
    distance, index = nearest(x, y)
    np.testing.assert_allclose(distance, brute.min(1), rtol=1e-6)
    assert (index == brute.argmin(1)).all()
    own, _ = nearest(x, x, own=True)
    assert own.min() > 0


def test_new_data_copy_at_the_expected_rate_and_copies_are_caught():
    train, test = normal(0, 2000, 3), normal(1, 1000, 3)
    held_out, _ = nearest(test, train)
    fresh, _ = nearest(normal(2, 2000, 3), train)
    rate = copy_rate(fresh, held_out)
    assert abs(rate.value - 0.01) < 4 * rate.std_err
    copied, _ = nearest(train[:500], train)
    assert copy_rate(copied, held_out).value == 1
    near, _ = nearest(train[:500] + 0.002 * normal(3, 500, 3), train)
    assert copy_rate(near, held_out).value > 0.9


def test_data_copying_is_a_z_score():
    """Standard normal where samples and held-out data are alike, strongly negative for copies, positive for what is far off."""
    train = normal(0, 1000, 3)
    scores = []
    for i in range(60):
        a, b = (nearest(normal(1000 + 2 * i + j, 300, 3), train)[0] for j in (0, 1))
        scores.append(data_copying(a, b)[0])
    assert np.mean(scores) == pytest.approx(0, abs=0.4)
    assert np.std(scores) == pytest.approx(1, abs=0.25)
    test = nearest(normal(1, 300, 3), train)[0]
    assert data_copying(nearest(train[:300] + 0.01, train)[0], test)[0] < -10
    assert data_copying(nearest(normal(2, 300, 3, 2.0), train)[0], test)[0] > 10


def test_data_copying_looks_into_each_cell():
    """Copies in one half of the space, far-off samples in the other: the halves do not hide each other's sign."""
    test = np.full(200, 1.0) + 0.1 * normal(0, 200, 1)[:, 0]
    cells = np.repeat([0, 1], 100)
    copies = np.concatenate([np.full(100, 0.01), np.full(100, 1.0)])
    assert data_copying(copies, test, cells, cells)[0] < -3
    with pytest.raises(IndexError):
        data_copying(copies, test, cells[:50], cells)


def test_the_mean_over_cells_deviates_less():
    """Ten equal cells of independent scores: 1/sqrt(10), as drawn and as said."""
    cells = np.repeat(np.arange(10), 40)
    found = [data_copying(normal(2 * i, 400, 1)[:, 0], normal(2 * i + 1, 400, 1)[:, 0], cells, cells) for i in range(200)]
    assert [said for _, said in found] == pytest.approx([10**-0.5] * 200)
    assert np.std([z for z, _ in found]) == pytest.approx(10**-0.5, rel=0.15)


def test_duplicates():
    real = normal(0, 500, 3)
    within = nearest(real, real, own=True)[0]
    fresh = normal(1, 500, 3)
    assert duplicate_rate(nearest(fresh, fresh, own=True)[0], within).value < 0.05
    twice = np.repeat(fresh[:250], 2, axis=0)
    assert duplicate_rate(nearest(twice, twice, own=True)[0], within).value == 1
