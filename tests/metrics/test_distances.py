"""Distances against closed forms and against the packages that compute the same."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from ancestral.metrics import (
    Estimate,
    difference,
    frechet,
    frechet_infinity,
    frechet_pairs,
    gaussian_distance2,
    half_samples,
    holm,
    kid,
    mmd,
    mmd_jackknife,
    sliced_wasserstein,
    vendi,
)
from ancestral.metrics.frechet import moments
from ancestral.metrics.kernel import Scale
from ancestral.metrics.sliced import _directions


def normal(seed, n, d, mean=0.0, std=1.0):
    return mean + std * np.random.default_rng(seed).normal(size=(n, d))


def whitened(seed, n, d):
    """Normal points with mean 0 and covariance I exactly."""
    x = normal(seed, n, d)
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / n)).T


def covariance(seed, d):
    root = np.random.default_rng(seed).normal(size=(d, d))
    return root @ root.T / d + 0.1 * np.eye(d)


def test_frechet_of_commuting_gaussians_in_closed_form():
    """For equal eigenvectors it is |mu - mu'|^2 + sum (s_i - s_i')^2, s the deviations."""
    s, t = np.array([1.0, 2.0, 0.5]), np.array([0.7, 2.5, 0.0])
    shift = np.array([0.3, -1.0, 2.0])
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    a, b = ((turn * v**2) @ turn.T for v in (s, t))
    assert gaussian_distance2((shift, a), (np.zeros(3), b)) == pytest.approx((shift**2).sum() + ((s - t) ** 2).sum(), abs=1e-6)


def test_frechet_is_symmetric_and_zero_only_for_equals():
    a, b = (np.zeros(5), covariance(0, 5)), (np.ones(5), covariance(1, 5))
    assert gaussian_distance2(a, b) == pytest.approx(gaussian_distance2(b, a), rel=1e-9)
    assert gaussian_distance2(a, a) == pytest.approx(0, abs=1e-9)
    assert gaussian_distance2(a, b) > 5


def test_frechet_of_finite_samples_has_its_known_expectation():
    """About O(d^2/n): measured .180 at d = 16, n = 1000 for two sets of one distribution."""
    values = [gaussian_distance2(moments(normal(2 * i, 1000, 16)), moments(normal(2 * i + 1, 1000, 16))) for i in range(40)]
    assert np.mean(values) == pytest.approx(0.180, abs=0.01)


def test_frechet_agrees_with_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    a, b = moments(normal(0, 400, 24) @ covariance(2, 24)), moments(normal(1, 300, 24) + 0.2)
    theirs = _compute_fid(*(torch.from_numpy(v) for v in (a[0], a[1], b[0], b[1]))).item()
    assert gaussian_distance2(a, b) == pytest.approx(theirs, rel=1e-6)


def test_extrapolation_removes_the_bias():
    """Equal distributions, a reference large enough to be the truth: the distance at n is c/n, at infinity 0."""
    reference = normal(0, 100_000, 8)
    found = [(frechet(x, reference), frechet_infinity(x, reference)) for x in (normal(i + 1, 1500, 8) for i in range(8))]
    at_n, at_infinity = (np.array([pair[i].value for pair in found]) for i in (0, 1))
    assert at_n.mean() > 0.015
    assert abs(at_infinity.mean()) < 0.2 * at_n.mean()


@pytest.mark.long
def test_error_bars_cover_the_expectation_at_their_rate():
    """Of the Fréchet distance, KID and the sliced distance: two errors around a value hold the mean of all in about 95 %."""
    reference = normal(0, 2000, 6)
    for metric in (frechet, kid, partial(sliced_wasserstein, projections=30)):
        found = [metric(normal(i + 1, 300, 6, 0.3, 1.2), reference) for i in range(80)]
        centre = np.mean([e.value for e in found])
        inside = np.mean([abs(e.value - centre) < 2 * e.std_err for e in found])
        assert 0.85 <= inside <= 1.0, metric
        spread = np.std([e.value for e in found], ddof=1)
        assert np.mean([e.std_err for e in found]) == pytest.approx(spread, rel=0.4), metric


def test_half_samples_give_the_standard_error_of_a_mean():
    x = normal(0, 500, 1)[:, 0]
    error = half_samples(lambda rows: float(x[rows].mean()), len(x), draws=400)
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(500), rel=0.1)


def test_kid_is_unbiased():
    """Its mean over repetitions is zero for equal distributions, at any n, within the error of that mean."""
    for n in (30, 120):
        values = np.array([kid(normal(2 * i, n, 5), normal(2 * i + 1, 200, 5)).value for i in range(200)])
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


def test_kid_is_unbiased_for_unequal_distributions_too():
    """N(.3, 1.2^2) against N(0, 1), whose kernels have known means: it depends on neither size.

    E (x.y/d + 1)^3 = sum_j C(3, j) E (x.y/d)^j of independent x, y with equal independent coordinates, by their raw moments.
    """
    d = 6

    def expected(a, b):
        """The mean of (x.y/d + 1)^3 for raw moments a and b of a coordinate: with p_j = E (x_i y_i)^j = a_j b_j."""
        p1, p2, p3 = (a[j] * b[j] for j in range(3))
        first, second = d * p1, d * p2 + d * (d - 1) * p1**2
        third = d * p3 + 3 * d * (d - 1) * p2 * p1 + d * (d - 1) * (d - 2) * p1**3
        return 1 + 3 * first / d + 3 * second / d**2 + third / d**3

    m, s = 0.3, 1.2
    x, y = (m, m**2 + s**2, m**3 + 3 * m * s**2), (0.0, 1.0, 0.0)
    true = expected(x, x) + expected(y, y) - 2 * expected(x, y)
    assert true == pytest.approx(0.566, abs=0.005)
    for n, size in ((40, 50), (120, 300)):
        found = [kid(normal(2 * i, n, d, m, s), normal(2 * i + 1, size, d)) for i in range(400)]
        values = np.array([f.value for f in found])
        assert values.mean() == pytest.approx(true, abs=3 * values.std() / 20)
        assert np.mean([f.std_err for f in found]) == pytest.approx(values.std(), rel=0.35)


def far_classes(rng, labels, d=5):
    centres = 3 * np.random.default_rng(7).normal(size=(10, d))
    return centres[labels] + 0.3 * rng.normal(size=(len(labels), d))


@pytest.mark.long
@pytest.mark.parametrize("fixed", ["reference", "both", "unequal"])
def test_kid_of_samples_with_fixed_numbers_of_each_class(fixed):
    """Ten far classes in the reference, each as often as the others: without strata the distance is far below 0."""
    shares = np.full(10, 0.1) if fixed != "unequal" else np.array([0.3, 0.02, *[0.085] * 8])
    counts = np.round(shares * 200).astype(int)
    values, plain, errors = [], [], []
    for i in range(200):
        rng = np.random.default_rng(i)
        reference_labels = np.repeat(np.arange(10), counts)
        labels = np.repeat(np.arange(10), 2 * counts) if fixed == "both" else rng.choice(10, 400, p=shares)
        x, reference = far_classes(rng, labels), far_classes(rng, reference_labels)
        estimate = kid(x, reference, labels if fixed == "both" else None, reference_labels)
        values.append(estimate.value)
        errors.append(estimate.std_err)
        plain.append(kid(x, reference).value)
    mean, error = np.mean(values), np.std(values) / np.sqrt(len(values))
    assert abs(mean) < 3 * error
    assert np.mean(plain) < -3 * error
    assert np.mean(np.abs(values) < 2 * np.array(errors)) > 0.9


def test_strata_of_random_classes_change_nothing_but_noise():
    """If classes say nothing of the features, U with strata and U without estimate the same."""
    x, y = normal(0, 300, 4, 0.2), normal(1, 300, 4)
    labels = np.random.default_rng(2).integers(0, 3, 300)
    a, b = kid(x, y), kid(x, y, labels, labels)
    assert a.value == pytest.approx(b.value, abs=0.2 * a.std_err)
    assert a.std_err == pytest.approx(b.std_err, rel=0.1)
    few = np.arange(300) // 2  # classes of two samples have no strata
    assert kid(x, y, few, few).value == pytest.approx(a.value)


def test_the_jackknife_of_strata_is_that_of_deletions():
    """The values without each row, computed one by one."""
    from ancestral.metrics.kernel import _within, _within_sums, cubic

    x, strata = normal(0, 12, 3), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    share = np.bincount(strata) / 12

    def u(rows):
        k, s = cubic(x[rows], x[rows]), strata[rows]
        total = 0.0
        for a in range(3):
            for b in range(3):
                pairs = k[np.ix_(s == a, s == b)]
                n = len(pairs)
                mean = (pairs.sum() - np.trace(pairs)) / (n * (n - 1)) if a == b else pairs.mean()
                total += share[a] * share[b] * mean
        return total

    value, without = _within(_within_sums(x, cubic, strata).strata, strata)
    assert value == pytest.approx(u(np.arange(12)))
    np.testing.assert_allclose(without, [u(np.delete(np.arange(12), i)) for i in range(12)])


def test_kid_agrees_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    scale = Scale.of(normal(2, 100, 7, 0.1, 1.3))
    x, y = scale(normal(0, 100, 7)), scale(normal(1, 100, 7, 0.4, 1.5))
    theirs = poly_mmd(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert kid(x, y).value == pytest.approx(theirs, rel=1e-6)


def test_kid_survives_a_feature_that_the_training_split_does_not_show():
    train = normal(1, 200, 5)
    train[:, 0] = 1e-9 * train[:, 0]
    scale = Scale.of(train)
    assert kid(scale(normal(0, 200, 5)), scale(train)).value < 1e5


def test_mmd_tells_a_shift():
    reference = normal(0, 800, 2)
    same, shifted = mmd(normal(1, 400, 2), reference), mmd(normal(1, 400, 2, 0.5), reference)
    assert abs(same.value) < 3 * same.std_err
    assert shifted.value > 4 * shifted.std_err


@pytest.mark.parametrize("d", [1, 3, 50])
def test_sliced_wasserstein_of_a_shift_is_exact(d):
    """A shift by v moves each projection by theta.v, and over a whole basis (theta.v)^2 sums to |v|^2."""
    x, v = normal(0, 100, d), normal(1, 1, d)
    found = sliced_wasserstein(x + v, x, projections=60)
    assert found.value == pytest.approx((v**2).sum(), rel=1e-9)


def test_sliced_wasserstein_of_isotropic_gaussians_is_the_frechet_distance():
    """|m|^2 + d (s - 1)^2, in a random basis of its own for each seed."""
    d, s, m = 6, 1.4, np.array([0.5, -1.0, 0.2, 0.0, 0.3, 0.1])
    x, y = m + s * normal(0, 3000, d), normal(1, 3000, d)
    exact = (m**2).sum() + d * (s - 1) ** 2
    assert gaussian_distance2((m, s**2 * np.eye(d)), (np.zeros(d), np.eye(d))) == pytest.approx(exact)
    found = sliced_wasserstein(x, y, projections=60)
    assert found.value == pytest.approx(exact, abs=3 * found.std_err)
    assert found.std_err < 0.05 * exact


def test_sliced_wasserstein_of_anisotropic_gaussians_in_closed_form():
    """d E_theta (sqrt(theta' A theta) - sqrt(theta' B theta))^2, over the directions used, whose mean is that over all."""
    a, b = np.array([[4.0, 1.5], [1.5, 1.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])

    def expected(theta):
        return 2 * (np.sqrt(((theta @ a) * theta).sum(1)) - np.sqrt(((theta @ b) * theta).sum(1))) ** 2

    x, y = (whitened(i, 4000, 2) @ np.linalg.cholesky(c).T for i, c in enumerate((a, b)))
    assert sliced_wasserstein(x, y, projections=40).value == pytest.approx(expected(_directions(2, 40, 0)).mean(), rel=0.02)
    angle = np.arange(1000) * 2 * np.pi / 1000
    found = expected(_directions(2, 4000, 0))
    assert found.mean() == pytest.approx(
        expected(np.stack([np.cos(angle), np.sin(angle)], 1)).mean(), abs=3 * found.std() / np.sqrt(4000)
    )


@pytest.mark.parametrize("sizes", [(300, 300), (300, 170), (90, 300)])
def test_sliced_wasserstein_agrees_with_pot(sizes):
    import ot

    x, y = normal(0, sizes[0], 3), normal(1, sizes[1], 3, 0.5, 2.0)
    directions = _directions(3, 100, 0)
    theirs = ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=2)
    assert sliced_wasserstein(x, y, projections=100).value == pytest.approx(3 * float(theirs) ** 2, rel=1e-6)


def test_sliced_wasserstein_needs_few_samples():
    """Its value for equal distributions grows with d, where that of the Fréchet distance grows with d^2."""
    pairs = {d: [(normal(2 * i, 80, d), normal(2 * i + 1, 80, d)) for i in range(10)] for d in (4, 32)}
    sliced, gaussians = (
        {d: np.mean([metric(x, y) for x, y in pairs[d]]) for d in pairs}
        for metric in (
            lambda x, y: sliced_wasserstein(x, y, projections=40).value,
            lambda x, y: gaussian_distance2(moments(x), moments(y)),
        )
    )
    assert sliced[32] / sliced[4] == pytest.approx(8, rel=0.25)
    assert gaussians[32] / gaussians[4] > 24
    assert sliced[32] < gaussians[32] / 2


def test_sliced_wasserstein_sees_what_two_moments_do_not():
    """Signs against a Gaussian of the same moments, in each of two coordinates: a Fréchet distance of no more than noise."""
    x, y = np.sign(normal(0, 2000, 2)), normal(1, 2000, 2)
    assert frechet(x, y).value < 0.01
    assert sliced_wasserstein(x, y, projections=100).value > 0.1


def test_vendi_agrees_with_its_package_and_knows_its_extremes():
    x = normal(0, 60, 5)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of names that scipy moved and the package still uses
        from vendi_score import vendi as package

        theirs = package.score_K(unit @ unit.T)
    assert vendi(x).value == pytest.approx(theirs, rel=1e-6)
    assert vendi(np.ones((40, 3))).value == pytest.approx(1)
    assert vendi(np.eye(16)).value == pytest.approx(16)


def test_the_jackknife_of_a_difference_is_that_of_deletions():
    """The deviations of a difference are the deleted values of the difference itself, and common rows cancel."""
    a, b, y = normal(0, 30, 3), normal(1, 30, 3, 0.4), normal(2, 20, 3)
    one, other = mmd_jackknife(a, y), mmd_jackknife(b, y)

    def without(rows):
        return np.array([mmd(np.delete(a, i, 0), y).value - mmd(np.delete(b, i, 0), y).value for i in rows])

    deleted = without(range(30))
    np.testing.assert_allclose(one.samples - other.samples, (deleted - deleted.mean()) * np.sqrt(29 / 30))
    assert mmd(a, y).std_err == pytest.approx(one.estimate.std_err)
    assert difference([one], [one]) == (0, 1)


def pairs_of(a, b, y, kernel):
    """The variance of pairs of MMD^2(a, y) - MMD^2(b, y) as a sum over the kernel's matrices, without strata."""

    def rest(k):
        return k - k.mean(0) - k.mean(1)[:, None] + k.mean()

    def within(x):
        k, n = kernel(x, x), len(x)
        np.fill_diagonal(k, 0)
        row, mean = k.sum(1) / (n - 1), k.sum() / (n * (n - 1))
        r = k - row - row[:, None] + mean
        np.fill_diagonal(r, 0)
        return r

    n, m = len(a), len(y)
    own, between = within(a) - within(b), rest(kernel(a, y) - kernel(b, y))
    return 2 * (own**2).sum() / (n * (n - 1)) ** 2 + 4 * (between**2).sum() / (n * m) ** 2


def test_the_variance_of_pairs_is_that_of_the_matrices():
    """The sketch by random signs agrees with the sum of all squares, also where samples of both models are correlated."""
    from ancestral.metrics.kernel import gaussian

    a, y = normal(0, 200, 6), normal(2, 150, 6)
    b = 0.8 * a + 0.6 * normal(1, 200, 6)
    joint = mmd_jackknife(a, y) - mmd_jackknife(b, y)
    assert (joint.pairs**2).sum() == pytest.approx(pairs_of(a, b, y, gaussian(np.sqrt(12))), rel=0.15)


@pytest.mark.long
@pytest.mark.parametrize("classes", [False, True])
def test_the_error_of_a_difference_covers_it_where_both_models_are_perfect(classes):
    """It is then the error of pairs alone, which the jackknife doubles. The reference has fixed numbers of classes, or not."""
    centres, labels = normal(9, 4, 6, std=0.7), np.arange(160) % 4
    differences, wrong = [], 0
    for i in range(150):
        random = np.random.default_rng((8, i))
        drawn = [labels if classes and k == 2 else random.integers(4, size=160) for k in range(3)]
        a, b, y = (centres[c] + normal((7, i, k), 160, 6) for k, c in enumerate(drawn))
        strata = labels if classes else None
        joint = mmd_jackknife(a, y, None, strata) - mmd_jackknife(b, y, None, strata)
        rows, pairs = (joint.samples**2).sum() + (joint.reference**2).sum(), (joint.pairs**2).sum()
        differences.append((joint.value, joint.variance, rows, pairs))
        wrong += difference([mmd_jackknife(a, y, None, strata)], [mmd_jackknife(b, y, None, strata)])[1] < 0.05
    value, variance, rows, pairs = np.array(differences).T
    assert 0.75 < pairs.mean() / value.var() < 1.35  # a variance of 150 values is known within 12 %
    assert value.var() < variance.mean() < 0.85 * rows.mean()
    assert wrong / 150 < 0.09


def test_whitened_features_do_not_depend_on_rotations_and_scales():
    """Distances between them are those of whitened rotated features; directions of equal variance keep their distances."""
    from ancestral.metrics import Whitening

    x, turn = normal(0, 500, 5), np.linalg.qr(normal(1, 5, 5))[0]
    x[:, 0] *= 3
    one, other = Whitening.of(x)(x), Whitening.of(7 * x @ turn)(7 * x @ turn)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-8)
    assert (one**2).mean() == pytest.approx(1, rel=0.01)
    spread = np.linalg.eigvalsh(np.cov(one, rowvar=False))
    assert spread.max() / spread.min() < 1.5 < 9 / 1.5  # of variances of 9 and 1
    flat = whitened(2, 300, 5)
    np.testing.assert_allclose(Whitening.of(flat)(flat) @ Whitening.of(flat)(flat).T, flat @ flat.T, rtol=0.01, atol=1e-3)
    assert np.isfinite(Whitening.of(np.ones((40, 3)))(np.ones((2, 3)))).all()


def test_unlike_samples_that_are_equally_far_are_told_apart_at_the_level():
    """A shift of one coordinate is as far as that of another; a test that exchanges samples would reject at 0.3."""
    p = []
    for i in range(60):
        a, b = normal(3 * i + 1, 120, 8), normal(3 * i + 2, 120, 8)
        a[:, 0] += 0.7
        b[:, 1] += 0.7
        y = normal(3 * i, 100, 8)
        p.append(difference([mmd_jackknife(a, y)], [mmd_jackknife(b, y)])[1])
    assert 0 < np.mean(np.array(p) < 0.2) < 0.35
    assert np.mean(np.array(p) < 0.05) < 0.12
    near, far = mmd_jackknife(normal(1, 80, 4), normal(0, 400, 4)), mmd_jackknife(normal(2, 80, 4, 1.0), normal(0, 400, 4))
    assert difference([near], [far])[1] < 1e-4


def test_several_trainings_are_compared_as_by_welch():
    """Without an error of samples and reference it is Welch's t-test of scipy; with one, equal trainings are as one."""
    from scipy.stats import ttest_ind

    from ancestral.metrics import Jackknife

    def trainings(*values, error=0.0):
        return [Jackknife(value, np.full(5, error), np.zeros(5), np.zeros(1)) for value in values]

    a, b = (1.0, 1.3, 0.8), (1.6, 1.5, 2.2, 1.9)
    value, p = difference(trainings(*a), trainings(*b))
    assert value == pytest.approx(np.mean(a) - np.mean(b))
    assert p == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)
    zero = trainings(0.0)
    assert difference(trainings(1, 1, 1, error=0.2), zero) == difference(trainings(1, error=0.2), zero)
    assert difference(trainings(*a), zero)[1] > 0.001


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_order_changes_nothing():
    x, y = normal(0, 200, 4), normal(1, 300, 4, 0.2)
    order = np.random.default_rng(5).permutation(len(x))
    for metric in (frechet, kid, mmd, sliced_wasserstein):
        assert metric(x[order], y).value == pytest.approx(metric(x, y).value, rel=1e-9)
    assert isinstance(kid(x, y), Estimate)


def test_the_distance_of_pairs_has_no_floor():
    """Of y = a x + b it is |(a - 1) mu + b|^2 + (a - 1)^2 tr S in the moments of x: exact at every n, and 0 for y = x."""
    x = normal(3, 60, 8)
    mean, cov = x.mean(0), np.cov(x, rowvar=False)
    for a, b in ((1.0, 0.0), (1.0, 0.5), (0.7, 0.0), (1.2, -0.3)):
        expected = (((a - 1) * mean + b) ** 2).sum() + (a - 1) ** 2 * np.trace(cov)
        assert frechet_pairs(x, a * x + b).value == pytest.approx(expected, abs=1e-9)
    assert frechet_pairs(x, x + 0.5).std_err == pytest.approx(0, abs=1e-9)
    assert frechet(normal(4, 60, 8), x).value > 0.5, "of independent sets it has"


def test_the_error_of_a_mean_of_one_value_is_not_known():
    two = Estimate.mean(torch.tensor([1.0, 3.0]))
    assert (two.value, two.std_err, two.n) == (2.0, pytest.approx(1.0), 2)
    assert Estimate.mean(torch.tensor([2.0])) == Estimate(2.0, None, 1)
