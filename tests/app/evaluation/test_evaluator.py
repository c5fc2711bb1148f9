"""The evaluator: what it says of good, lazy, copying and mode-dropping samples, and that it says the same in any order."""

import math

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.data import DataSet, toys
from ancestral.app.data.arrays import from_array, from_columns
from ancestral.app.evaluation import Comparison, Evaluation, Evaluator, Samples, Subject, baseline, classes
from ancestral.app.evaluation.extractors import Coordinates
from ancestral.app.evaluation.extractors import classifier as classifier_module
from ancestral.app.evaluation.samples import rows_for
from ancestral.app.recipes.base import units
from ancestral.errors import AncestralError, UsageError
from ancestral.noise import SampleNoise
from ancestral.oracles import PointsOracle
from ancestral.registry import names
from ancestral.runtime import Runtime
from ancestral.schedules import VP, grid
from ancestral.solvers import solver

CPU = Runtime.choose("cpu", "fp32", parameters=1)


@pytest.fixture(scope="module")
def evaluator(data, tmp_path_factory):
    """One for all tests, because it trains a classifier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANCESTRAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(classifier_module, "SEEN", 6000)
        patch.setattr(classes, "CAS_SEEN", 3000)
        torch.set_num_threads(1)
        yield Evaluator(data, n=400, extractors=["classifier", "random"], runtime=CPU)


@pytest.fixture(scope="module")
def fresh(squares):
    def draw(n=400, seed=5, classes=(0, 1, 2)):
        images, labels = squares(n, seed, classes)
        return Samples(torch.from_numpy(images)[:, None].float() / 255, torch.from_numpy(labels))

    return draw


@pytest.fixture(scope="module")
def good(evaluator, fresh):
    """New data, evaluated."""
    subject = Subject("good", fresh())
    evaluator.evaluate(subject)
    return subject


@pytest.fixture(scope="module")
def noise(evaluator):
    """Noise, evaluated."""
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.rand(400, 1, 12, 12, generator=draw), torch.randint(0, 3, (400,), generator=draw)
    subject = Subject("noise", Samples(x, labels))
    evaluator.evaluate(subject)
    return subject


def test_new_data_look_like_real_data(good):
    found = good.evaluation
    assert found.n == 400
    assert found.against == "test"
    for name in ("fd-classifier", "kid-random", "precision-classifier", "recall-classifier", "coverage-classifier"):
        metric = found[name]
        error = 4 * np.hypot(metric.value.std_err, metric.real.std_err)
        assert abs(metric.value.value - metric.real.value) < error + 0.05 * abs(metric.real.value), name
    assert found["copy-rate"].value.value < 0.06
    assert found["class-agreement"].value.value > 0.9
    assert found["cas"].value.value > 0.9
    assert found.headline is found["fd-classifier"]


def test_noise_does_not(noise, good):
    found = noise.evaluation
    assert found["fd-classifier"].value.value > 5 * good.evaluation["fd-classifier"].value.value
    assert found["precision-classifier"].value.value < 0.5
    assert found["class-agreement"].value.value < 0.6


def test_the_exact_denoiser_of_the_training_set_is_caught(evaluator, data, good):
    """A sampler that follows it returns training points: excellent by distance, but its copies are found."""
    oracle = PointsOracle(data.values(data.train.array) * 2 - 1)
    levels = VP().levels(grid(VP(), 12, "logsnr"))
    noise = SampleNoise(range(400))
    *_, last = solver("dpmpp")(oracle, noise.normal((1, 12, 12)), levels, noise)
    memoriser = Subject("memoriser", Samples((last.x + 1) / 2))
    evaluator.evaluate(memoriser)
    assert memoriser.evaluation["copy-rate"].value.value > 0.9
    assert memoriser.evaluation["c_t"].value.value < -5
    assert memoriser.copies
    assert not good.copies
    comparison = Comparison.of([memoriser, good], evaluator)
    assert [c.name for c in comparison.subjects] == ["good", "memoriser"]
    assert any("memoriser repeats its training data" in sentence for sentence in comparison.verdict)


def test_a_dropped_mode_costs_recall_and_coverage_not_precision(evaluator, fresh, good):
    found = evaluator.evaluate(Subject("part", fresh(classes=(0, 1))))
    for name, share in (("recall-classifier", 0.8), ("coverage-classifier", 0.8)):
        assert found[name].value.value < share * good.evaluation[name].value.value, name
    name = "precision-classifier"
    assert found[name].value.value > 0.9 * good.evaluation[name].value.value


def test_shuffling_changes_nothing(evaluator, fresh, good):
    samples = fresh()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    found = evaluator.evaluate(Subject("shuffled", Samples(samples.x[order], samples.labels[order])))
    for name in ("fd-classifier", "kid-classifier", "vendi-classifier", "copy-rate", "duplicates", "class-agreement"):
        assert found[name].value.value == pytest.approx(good.evaluation[name].value.value, rel=1e-5, abs=1e-7), name


def test_better_is_what_the_first_extractor_shows_and_no_other_contradicts(evaluator, fresh, good):
    same = Subject("same", fresh(seed=6))
    noisy = Samples((fresh(seed=7).x + 0.4 * torch.rand(400, 1, 12, 12)).clamp(0, 1))
    bad = Subject("bad", noisy)
    comparison = Comparison.of([bad, good, same], evaluator)
    assert comparison.better("good", "bad")
    assert not comparison.better("good", "same")
    assert not comparison.better("same", "good")
    text = " ".join(comparison.verdict)
    assert "cannot be distinguished from it" in text
    assert "better than bad" in text


def test_an_extractor_that_shows_the_contrary_takes_a_ranking_back():
    """Each of two extractors sees two of six coordinates. A third that sees no difference changes nothing."""

    class Part(Coordinates):
        def __init__(self, *columns):
            super().__init__(0.0, 1.0)
            self.name, self.columns = f"part{columns[0]}", list(columns)

        def __call__(self, x, progress=None):
            return super().__call__(x)[:, self.columns]

    random = np.random.default_rng(0)
    data = an.load_data(random.normal(size=(400, 6)).astype(np.float32))
    shifts = {"a": [0, 0, 1.5, 1.5, 0, 0], "b": [1.5, 1.5, 0, 0, 0, 0]}

    def better(*extractors):
        evaluator = Evaluator(data, n=100, extractors=extractors, runtime=CPU)
        draw = np.random.default_rng(1)
        x = {name: torch.from_numpy(draw.normal(size=(100, 6)) + shift).float() for name, shift in shifts.items()}
        return Comparison.of([Subject(name, Samples(of)) for name, of in x.items()], evaluator).pairs[0].better

    assert better(Part(0, 1)) == better(Part(0, 1), Part(4, 5)) == "a"
    assert better(Part(2, 3)) == "b"
    assert better(Part(0, 1), Part(2, 3)) is None


def test_several_trainings_are_compared_by_their_means_and_spread():
    """One good and one bad training together are not shown to be better than a bad one; two good ones are."""
    random = np.random.default_rng(0)
    evaluator = Evaluator(an.load_data(random.normal(size=(400, 6)).astype(np.float32)), n=100, runtime=CPU)

    def training(name, shift):
        return Subject(name, Samples(torch.from_numpy(random.normal(size=(100, 6)) + shift).float()))

    bad = training("bad", 1.0)
    mixed = Subject.of_trainings("mixed", [training("mixed 0", 0.0), training("mixed 1", 1.2)])
    good = Subject.of_trainings("good", [training("good 0", 0.0), training("good 1", 0.0)])
    comparison = Comparison.of([bad, mixed, good], evaluator)
    assert comparison.better("good", "bad")
    assert not comparison.better("mixed", "bad")
    assert not comparison.better("good", "mixed")
    assert "the spread between trainings" in comparison.rule
    assert "but not the spread" in Comparison.of([bad], evaluator).rule
    first, second = (t.evaluation.headline.value.value for t in mixed.trainings)
    assert mixed.evaluation.headline.value.value == pytest.approx((first + second) / 2)
    assert mixed.evaluation.headline.value.std_err == pytest.approx(abs(first - second) / 2**0.5)


def test_baselines_are_what_they_say(data):
    evaluator = Evaluator(data, n=400, extractors=["random"], runtime=CPU)
    for name in names("baseline"):
        samples = baseline(name, data, 400)
        assert samples.x.shape == (400, 1, 12, 12)
        assert torch.equal(samples.labels, data.test.labels[rows_for(data, 400)])
        assert torch.equal(samples.x, (samples.x * 255).round() / 255)
        subject = Subject(name, samples, baseline=True)
        evaluator.evaluate(subject)
        assert subject.copies == (name == "copy"), name
    train = data.values(data.train.array).double().flatten(1)
    gaussian = baseline("gaussian", data, 3000).x.double().flatten(1)
    assert (gaussian.mean(0) - train.mean(0)).abs().max() < 0.05


def test_the_verdict_names_the_baselines_that_a_model_beats_and_loses_to(evaluator, data, noise, good):
    kernel = baseline("kernel", data, 400)
    comparison = Comparison.of([noise, Subject("kernel", kernel, baseline=True)], evaluator)
    assert "times that of real data" in comparison.verdict[0]
    assert comparison.verdict[0].endswith("kernel is better and needs no training: train longer.")
    assert "noise is worse than kernel, which needs no training." in comparison.verdict
    comparison = Comparison.of([good, Subject("static", noise.samples, baseline=True)], evaluator)
    assert "within two standard errors of that of real data" in comparison.verdict[0]
    assert "good beats every baseline." in comparison.verdict


def test_toys_are_compared_with_the_truth(monkeypatch):
    monkeypatch.setattr(toys, "TRAIN", 4000)
    data = an.load_data("gaussians")
    evaluator = Evaluator(data, n=500, runtime=CPU)
    found = evaluator.evaluate(Subject("held out", Samples(data.values(data.test.array)[:500])))
    metric = found["true-log-density"]
    assert metric.value.value == pytest.approx(metric.real.value, abs=4 * metric.value.std_err)
    exact = -np.log(8) - np.log(2 * np.pi * 0.01) - 1  # minus the entropy of eight separate Gaussians
    assert metric.real.value == pytest.approx(exact, abs=0.1)
    assert found["modes"].value.value == 8
    half = data.test.labels < 4
    found = evaluator.evaluate(Subject("half", Samples(data.values(data.test.array)[half][:500])))
    assert found["modes"].value.value == 4
    assert found["true-log-density"].value.value == pytest.approx(exact, abs=0.1)
    assert found["recall-coordinates"].value.value < 0.7


@pytest.mark.parametrize("name", ["moons", "rings", "swiss-roll"])
def test_densities_of_toys_are_those_of_their_data(name):
    """They integrate to one, and the cross entropy of the data with them is their own entropy."""
    from ancestral.app.data.toys import DENSITIES
    from ancestral.schedules import CLEAN

    oracle = DENSITIES[name]()
    axis = torch.linspace(-2.6, 2.6, 80, dtype=torch.float64)
    cells = torch.cartesian_prod(axis, axis)
    log_p = torch.cat([oracle.log_density(part, CLEAN) for part in cells.split(3000)])
    area = (axis[1] - axis[0]) ** 2
    assert (log_p.exp() * area).sum() == pytest.approx(1, abs=1e-3)
    entropy = -(log_p.exp() * log_p.clamp(min=-700) * area).sum().item()
    test = an.load_data(name).test.array.double()
    values = oracle.log_density(test, CLEAN)
    assert -values.mean().item() == pytest.approx(entropy, abs=4 * values.std().item() / len(test) ** 0.5)


def test_an_evaluation_survives_its_file(evaluator, tmp_path, fresh):
    found = evaluator.evaluate(Subject("fresh", fresh(), cost={"nfe": 20.0}, how={"steps": "20"}, notes=("a note",)))
    found.save(tmp_path / "e.json")
    assert Evaluation.load(tmp_path / "e.json") == found
    (tmp_path / "e.json").write_text("{")
    with pytest.raises(AncestralError, match=r"e\.json is damaged \(it is not JSON"):
        Evaluation.load(tmp_path / "e.json")


def test_what_cannot_be_evaluated(evaluator, fresh, squares):
    with pytest.raises(UsageError, match="have the shape 1x8x8 and those of array 1x12x12"):
        evaluator.evaluate(Subject("small", Samples(torch.rand(400, 1, 8, 8))))
    with pytest.raises(UsageError, match="at least 20 are needed"):
        evaluator.evaluate(Subject("few", Samples(torch.rand(5, 1, 12, 12))))
    with pytest.raises(UsageError, match="too small for a comparison"):
        Evaluator(an.load_data(squares(60)[0]), extractors=["random"], runtime=CPU)
    with pytest.raises(UsageError, match="and -n is 10: raise -n"):
        Evaluator(evaluator.data, n=10, extractors=["random"], runtime=CPU)


def test_a_cache_that_cannot_be_written_costs_a_word(data, tmp_path, monkeypatch, fresh):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANCESTRAL_CACHE", str(tmp_path / "file" / "cache"))
    said = []
    alone = Evaluator(data, n=300, extractors=["random"], runtime=CPU, progress=said.append)
    assert alone.evaluate(Subject("fresh", fresh(300))).headline.real is not None
    assert any("cannot be written" in words for words in said)


@pytest.mark.parametrize("name", names("baseline"))
def test_a_class_of_one_sample_has_baselines(name):
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (61, 6, 6), dtype=np.uint8), np.repeat([0, 1], [60, 1])
    data = from_array(x, labels=labels, test=x[-30:], test_labels=labels[-30:])
    drawn = baseline(name, data, 30)
    only = data.values(data.train.array)[-1]
    assert drawn.x.isfinite().all()
    if name != "kernel":
        torch.testing.assert_close(drawn.x[drawn.labels == 1][0], only, atol=1 / 255, rtol=0)


def test_real_data_never_share_samples_with_the_reference(data):
    for against in ("test", "train", "all"):
        reference = Evaluator(data, against=against, n=300, extractors=["random"], runtime=CPU).reference
        rows = {row.numpy().tobytes() for row in reference.samples}
        assert not any(row.numpy().tobytes() in rows for row in reference.real), against
    assert isinstance(data, DataSet)


class Returning(an.GenerativeModel):
    """A model that gives back what `returned` makes of a sample."""

    latent_shape = (1, 12, 12)

    def __init__(self, data, returned):
        super().__init__(data.spec.shape, **units(data.spec))
        self.reconstruct = lambda x, condition=None: returned(x)

    def encode(self, x, condition=None):
        return x

    def decode(self, z, condition=None):
        return z


def test_reconstructions_are_evaluated(evaluator, fresh, good):
    """All comes back; or each pixel moves by 51 of 255 levels, which is -20 log10 .2 dB."""
    same = evaluator.evaluate(Subject("same", fresh(), model=Returning(evaluator.data, lambda x: x)))
    moved = evaluator.evaluate(
        Subject("moved", fresh(), model=Returning(evaluator.data, lambda x: torch.where(x < 0.5, x + 0.2, x - 0.2)))
    )
    held_out = len(evaluator.data.test)
    assert [same[name].value.n for name in ("psnr", "ssim", "rfd-classifier")] == [min(400, held_out)] * 3
    assert same["ssim"].value.value == pytest.approx(1)
    assert same["rfd-classifier"].value.value == pytest.approx(0, abs=1e-6)
    assert same["rfd-classifier"].real.value > 0.01
    assert moved["psnr"].value.value == pytest.approx(-20 * math.log10(0.2), abs=1e-4)
    assert moved["rfd-classifier"].value.value > 10 * moved["rfd-classifier"].real.value
    assert good.evaluation.get("psnr") is None


def test_samples_of_balanced_far_classes_have_the_distance_of_real_data():
    """The held-out split is balanced too. Between random parts, whose class counts vary, the distance is far larger."""
    random = np.random.default_rng(0)
    means = 8 * random.normal(size=(10, 3))
    labels = np.arange(3420) % 10
    x = (means[labels] + random.normal(size=(3420, 3))).astype(np.float32)
    evaluator = Evaluator(from_columns({"x": x[:1800], "class": labels[:1800]}))
    fd = evaluator.evaluate(Subject("perfect", Samples(torch.from_numpy(x[1800:])))).headline
    assert fd.value.value / 3 < fd.real.value < 3 * fd.value.value
    assert evaluator.evaluate(Subject("real", Samples(evaluator.reference.real))).headline.value.value == pytest.approx(
        fd.real.value, rel=0.05
    )
