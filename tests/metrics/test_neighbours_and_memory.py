"""Rates of nearest neighbours; copies and duplicates."""

import numpy as np
import pytest

from ancestral.metrics import (
    Nearness,
    copy_rate,
    copy_test,
    data_copying,
    duplicate_rate,
    expected_coverage,
    nearest,
    neighbour_rates,
)


def normal(seed, n, d, mean=0.0, std=1.0):
    return mean + std * np.random.default_rng(seed).normal(size=(n, d))


def test_four_rates_agree_with_their_package():
    from prdc import compute_prdc

    x, y = normal(0, 300, 6, 0.3, 0.8), normal(1, 300, 6)
    theirs = compute_prdc(y, x, nearest_k=5)
    ours = neighbour_rates(x, y)
    for name, value in theirs.items():
        assert ours[name].value == pytest.approx(value, abs=1e-12), name


def test_coverage_of_equal_distributions():
    """1 - 2^-k in expectation (Naeem et al. 2020, lemma 2)."""
    values = [neighbour_rates(normal(2 * i, 400, 8), normal(2 * i + 1, 400, 8))["coverage"].value for i in range(10)]
    assert np.mean(values) == pytest.approx(1 - 2**-5, abs=0.01)


def test_dropping_a_mode_costs_recall_and_coverage_but_no_precision():
    both = np.concatenate([normal(0, 300, 4, -4), normal(1, 300, 4, 4)])
    one = normal(2, 600, 4, -4)
    whole = neighbour_rates(np.concatenate([normal(3, 300, 4, -4), normal(4, 300, 4, 4)]), both)
    dropped = neighbour_rates(one, both)
    assert dropped["precision"].value > 0.95 * whole["precision"].value
    assert dropped["recall"].value < 0.6 * whole["recall"].value
    assert dropped["coverage"].value < 0.6 * whole["coverage"].value


def test_repeated_images_are_seen_in_recall_and_coverage():
    """Five hundred real images, each twenty times: a Fréchet distance hardly sees it."""
    real = normal(0, 1000, 4)
    repeated = np.tile(normal(1, 50, 4), (20, 1))
    rates = neighbour_rates(repeated, real)
    assert rates["recall"].value < 0.2
    assert rates["coverage"].value < 0.5


def test_rates_want_sets_of_one_size():
    with pytest.raises(ValueError, match="equal size; got 10 and 20"):
        neighbour_rates(normal(0, 10, 2), normal(1, 20, 2))


@pytest.mark.parametrize("shift", [0.0, 0.8])
@pytest.mark.parametrize("n", [100, 400, *(pytest.param(n, marks=pytest.mark.long) for n in (200, 390, 1000))])
def test_errors_of_rates_are_of_the_size_of_their_spread(n, shift):
    """Of all six, at every n, for equal and for unequal distributions in R^4. A share that ends at 1 varies less."""
    found = [neighbour_rates(normal(2 * i, n, 4, shift), normal(2 * i + 1, n, 4)) for i in range(40 if n < 1000 else 15)]
    for name in found[0]:
        spread = np.std([f[name].value for f in found], ddof=1)
        most = 3.5 if name.startswith("clipped") and not shift else 2.2
        assert 0.65 * spread < np.mean([f[name].std_err for f in found]) < most * max(spread, 1 / n), name


@pytest.mark.parametrize("k", [1, 2, 5])
def test_expected_coverage_of_good_samples(k):
    """E min(J, k) / k of a beta-binomial J: m / n up to k samples, and m / (m + n - 1) for k = 1."""
    n, most = 40, 120
    f = expected_coverage(n, most, k)
    np.testing.assert_allclose(f[: k + 1], np.arange(k + 1) / n, rtol=1e-9)
    assert (np.diff(f) > 0).all()
    if k == 1:
        m = np.arange(most + 1)
        np.testing.assert_allclose(f, m / (m + n - 1), rtol=1e-9)


def test_expected_coverage_knows_no_distribution():
    """Simulated in three spaces: Gaussian, uniform and heavy-tailed points."""
    n, m, k = 40, 30, 3
    random = np.random.default_rng(0)
    for draw in (random.normal, random.uniform, random.standard_cauchy):
        seen = []
        for _ in range(150):
            real, x = draw(size=(n, 2)), draw(size=(m, 2))
            radii = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, k]
            inside = np.linalg.norm(real[:, None] - x, axis=2) <= radii[:, None]
            seen.append((np.minimum(inside.sum(1), k) / k).mean())
        assert np.mean(seen) == pytest.approx(expected_coverage(n, m, k)[m], abs=4 * np.std(seen) / np.sqrt(150))


@pytest.mark.parametrize(("n", "share"), [(100, 0.7), (400, 0.3), (400, 0.7)])
def test_clipped_rates_are_the_share_of_good_samples(n, share):
    """The good ones are drawn from the data, each sample with that probability; the others lie far off."""
    found = []
    for i in range(15):
        x = normal(2 * i, n, 3)
        x[np.random.default_rng(i).random(n) > share] += 100
        found.append(neighbour_rates(x, normal(2 * i + 1, n, 3)))
    for name in ("clipped-density", "clipped-coverage"):
        values = np.array([f[name].value for f in found])
        assert values.mean() == pytest.approx(share, abs=0.05), name
        assert np.mean([abs(f[name].value - share) < 2 * f[name].std_err for f in found]) >= 0.8, name


def test_clipped_density_is_linear_in_the_good_samples():
    """Far samples add nothing, so it is the share of the others times their own value, and no more than 1."""
    real, good = normal(0, 200, 5), normal(1, 200, 5, 0.4)
    half = np.concatenate([good[:100], good[:100] + 1000])
    whole = np.concatenate([good[:100], good[:100]])
    rates = [neighbour_rates(x, real)["clipped-density"].value for x in (half, whole)]
    assert 0.3 < rates[1] < 1
    assert rates[0] == pytest.approx(rates[1] / 2, rel=1e-9)
    dense = neighbour_rates(0.1 * normal(2, 200, 5), real)["clipped-density"]
    assert dense.value == 1
    assert dense.std_err > 0


def test_clipped_rates_of_points_on_a_ring():
    """Equal steps, k = 2: each real point lies in the balls of its two neighbours, and so does a sample halfway between."""
    turn = 2 * np.pi * np.arange(40) / 40

    def ring(angles, radius=1.0):
        return radius * np.stack([np.cos(angles), np.sin(angles)], 1)

    between = neighbour_rates(ring(turn + np.pi / 40), ring(turn), k=2)
    assert (between["clipped-density"].value, between["clipped-coverage"].value) == (1, 1)
    quarter = neighbour_rates(ring(turn / 4 + np.pi / 160), ring(turn), k=2)
    assert quarter["clipped-density"].value == 1
    # samples from 1/8 to 79/8 steps: they lie in the balls of points 0 to 10, at least two in each
    assert quarter["coverage"].value == pytest.approx(11 / 40)
    share = quarter["clipped-coverage"].value
    assert np.interp(40 * share, np.arange(41), expected_coverage(40, 40, 2)) == pytest.approx(11 / 40)
    far = neighbour_rates(ring(turn, 3.0), ring(turn), k=2)
    assert (far["clipped-density"].value, far["clipped-coverage"].value) == (0, 0)


def test_an_outlier_of_the_data_has_no_large_ball_in_clipped_density():
    """Samples between the data and their one outlier lie in its ball alone."""
    real = normal(0, 300, 3)
    real[0] = 100
    rates = neighbour_rates(normal(1, 300, 3, 50), real)
    assert rates["precision"].value == 1
    assert rates["density"].value == pytest.approx(1 / 5)
    assert rates["clipped-density"].value == 0


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


def test_nearness_is_that_of_new_data_for_new_data_and_0_for_copies():
    """In d dimensions of even density the share below r is about r^d: both of new data and of a point among the others."""
    train = np.random.RandomState(0).uniform(size=(2000, 2)).astype(np.float32)
    near = Nearness(train)
    for found in (near(np.random.RandomState(1).uniform(size=(2000, 2)).astype(np.float32)), near.own(2000)):
        for r in (0.1, 0.3, 0.6):
            assert (found < r).mean() == pytest.approx(r**2, abs=0.04)
    assert (near(train[:100]) < 0.05).mean() == 1
    middle = train.mean(0, keepdims=True) + 100
    assert near(middle) > 0.99  # far from all, so near to none


def test_nearness_of_repeated_points():
    """Two equal points are one, and each of them is as near to the other as a copy."""
    train = normal(0, 50, 4)
    twice = Nearness(np.concatenate([train, train[:10]]))
    fresh = normal(1, 20, 4)
    np.testing.assert_array_equal(twice(fresh), Nearness(train)(fresh))
    np.testing.assert_array_equal(twice.own(60) == 0, [*[True] * 10, *[False] * 40, *[True] * 10])
    with pytest.raises(ValueError, match="fewer than three"):
        Nearness(np.repeat(train[:2], 10, axis=0))


def test_the_copy_test_counts_the_error_of_the_threshold():
    """p-values of new data are even, whatever the number of the values that give the threshold."""
    random = np.random.RandomState(0)
    for m in (20, 200):
        found = [copy_test(random.uniform(size=2000), random.uniform(size=m)) for _ in range(300)]
        assert np.mean([t.rate for t in found]) == pytest.approx(found[0].expected, rel=0.12)
        assert np.mean([t.p_value < 0.1 for t in found]) == pytest.approx(0.1, abs=0.05)
    assert copy_test(np.zeros(50), random.uniform(size=200)).p_value < 1e-6
    assert copy_test(np.ones(50), random.uniform(size=200)).p_value == 1
    ties = copy_test(np.zeros(50), np.repeat([0.0, 1.0], [40, 160]))
    assert ties.expected == pytest.approx(0.2)
