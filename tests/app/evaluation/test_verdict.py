"""The sentences of a verdict and the marks of the best, on figures that are written down."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ancestral.app.evaluation import Comparison, Evaluation, Metric, Samples, Subject
from ancestral.app.evaluation.comparison import Pair
from ancestral.app.evaluation.verdict import still_falls, verdict
from ancestral.app.report.write import as_json, markdown, table
from ancestral.metrics import Estimate, expected_copies


def subject(name, fd, *, mmd=0.0, copy_rate=0.01, density=0.9, baseline=False, rows=(), recipe="", family=None):
    metrics = (
        Metric("fd-f", Estimate(fd, 0.3, 500), Estimate(2.0, 0.2, 500), "lower", "distance", "fd"),
        Metric("mmd-f", Estimate(mmd, 0.001, 500), Estimate(0.0, 0.001, 500), "lower", "kernel distance", "mmd"),
        Metric("density-f", Estimate(density, 0.02, 500), Estimate(1.0, 0.02, 500), "as real", "density", "density"),
        Metric("copy-rate", Estimate(copy_rate, 0.01, 500), Estimate(0.01, None, 500), "as real", "copies", "copy-rate"),
        Metric("c_t", Estimate(-9.0 if copy_rate > 0.5 else 0.0, 1.0, 500), Estimate(0.0, None, 500), "as real", "z", "c_t"),
    )
    evaluation = Evaluation(name, family, "data", "test", 500, 500, {"f": "features"}, False, metrics)
    found = Subject(name, Samples(torch.zeros(2, 2)), family=family, baseline=baseline, rows=rows, recipe=recipe)
    found.keep("here", evaluation)
    return found


def compared(*subjects, better=()):
    pairs = [Pair(a, b, {"f": -1.0}, {"f": 0.001}, a) for a, b in better]
    comparison = Comparison(tuple(subjects), tuple(pairs), ())
    return Comparison(comparison.subjects, comparison.pairs, verdict(comparison.subjects, comparison.better))


@pytest.mark.parametrize(
    ("fd", "words"),
    [
        (2.4, "its distance is within two standard errors of that of real data"),
        (2.9, "its distance is 1.4 times that of real data"),
        (60.0, "its distance is 30.0 times that of real data"),
    ],
)
def test_one_run_is_described_in_words(fd, words):
    answer = compared(subject("run", fd)).verdict[0]
    assert answer.startswith("run: ")
    assert words in answer


def test_a_small_difference_that_only_the_kernel_distance_shows():
    """A distance within its error is no reason to stop if mmd is above 0."""
    near = compared(subject("run", 2.4, mmd=0.0018)).verdict[0]
    assert "run: its distance is within two standard errors" in near
    assert near.endswith("Look at the samples beside real data before you trust a figure.")
    shown = compared(subject("run", 2.4, mmd=0.0025, rows=falling(0.02), recipe="x")).verdict[0]
    assert "its samples differ from real data, as mmd-f 0.0025 ± 0.0010 shows" in shown
    assert shown.endswith("Train longer: its loss still falls.")
    assert "differ from real data" not in compared(subject("run", 60.0, mmd=0.9)).verdict[0]


def falling(slope):
    noise = np.random.default_rng(0).normal(size=80)
    return [{"step": i, "seconds": i, "model/total": 5 - slope * i + 0.1 * noise[i]} for i in range(80)]


def test_what_to_do_next():
    assert "Train longer: its loss still falls." in compared(subject("run", 60.0, rows=falling(0.02), recipe="x")).verdict[0]
    flat = compared(subject("run", 60.0, rows=falling(0.0), recipe="x")).verdict[0]
    assert flat.endswith("Train longer, or with a larger network: its loss hardly falls.")
    assert compared(subject("run", 60.0, rows=falling(0.02)[:9], recipe="x")).verdict[0].endswith("Train longer.")
    assert still_falls(falling(0.02))
    assert still_falls(falling(0.0)) is False
    assert still_falls(falling(0.02)[:9]) is None
    assert not still_falls([{"generator/total": 1.0, "critic/total": 2.0}] * 80)  # a game has no loss that falls
    assert still_falls([]) is None


def test_more_time_is_not_the_advice_where_something_else_ended_the_training():
    recipe = "train: {budget: 2m, epochs: 60.0}"
    ended = subject("vae", 60.0, rows=falling(0.02), recipe=recipe)
    ended.cost = {"training_seconds": 74.0}
    longer = "rain longer with a larger train.epochs, since 60 passes through the data ended the training"
    assert f"T{longer}: its loss still falls." in compared(ended).verdict[0]
    assert f"which needs no training: t{longer}." in compared(ended, subject("gaussian", 61.0, baseline=True)).verdict[0]
    ended.cost = {"training_seconds": 119.9}
    assert "Train longer: its loss still falls." in compared(ended).verdict[0]
    watched = [*falling(0.02), {"step": 80, "copies": "The training ended before the model copies."}]
    copying = compared(subject("run", 60.0, rows=watched, recipe=recipe)).verdict[0]
    assert copying.endswith("Give more data, because longer training would copy them.")
    assert (
        "Train longer: its loss" in compared(subject("run", 60.0, rows=[*watched, {"copies": None}], recipe=recipe)).verdict[0]
    )


def test_a_model_no_better_than_a_baseline_is_named():
    diffusion, vae = subject("diffusion", 5.0), subject("vae", 126.8)
    gaussian, copy = subject("gaussian", 61.0, baseline=True), subject("copy", 1.9, copy_rate=1.0, baseline=True)
    comparison = compared(diffusion, vae, gaussian, copy, better=[("diffusion", "vae"), ("diffusion", "gaussian")])
    assert comparison.verdict[0].startswith("diffusion is the best model")
    assert "vae is not shown to be better than gaussian, which needs no training." in comparison.verdict
    assert "diffusion beats every baseline." in comparison.verdict
    alone = compared(vae, gaussian, copy)
    assert "It is not shown to be better than gaussian, which needs no training: train longer." in alone.verdict[0]
    assert any("copy repeats its training data" in sentence for sentence in alone.verdict)
    beaten = compared(vae, gaussian, copy, better=[("gaussian", "vae")])
    assert beaten.verdict[0].endswith("gaussian is better and needs no training: train longer.")
    assert "vae is worse than gaussian, which needs no training." in beaten.verdict


def test_one_training_of_each_is_said():
    gan, vae = subject("gan", 5.0, family="gan"), subject("vae", 9.0, family="vae")
    assert compared(gan, vae).verdict[-1].startswith("There is one training of each model.")
    several = Subject.of_trainings("gan", [gan, subject("gan, seed 1", 7.0, family="gan")])
    assert compared(several, vae).verdict[-1].startswith("There is one training of vae.")
    assert not any("one training" in sentence for sentence in compared(several).verdict)
    assert not any("one training" in sentence for sentence in compared(gan).verdict)  # nothing it could be better than
    samples = subject("theirs", 5.0), subject("ours", 5.0)  # nothing is known of a training
    assert not any("one training" in sentence for sentence in compared(*samples).verdict)


def test_several_trainings_are_one_column_with_their_spread_and_a_fold():
    trainings = [subject(f"gan, seed {i}", fd, family="gan") for i, fd in enumerate((5.0, 7.0, 9.0))]
    comparison = compared(Subject.of_trainings("gan", trainings), subject("vae", 30.0, family="vae"))
    assert "fd-f 7.0 ± 2.0 over 3 trainings, real data 2.00 ± 0.20" in comparison.verdict[0]
    page = markdown(comparison, "title")
    assert "| fd-f (less is better) | ● 7.0 ± 2.0 | 30.00 ± 0.30 |" in page
    assert "Figures are means of gan over 3 trainings." in page
    fold = page.partition("each training of gan")[2]
    assert "| metric | gan, seed 0 | gan, seed 1 | gan, seed 2 |" in fold
    assert "| fd-f (less is better) | 5.00 ± 0.30 | 7.00 ± 0.30 | 9.00 ± 0.30 |" in fold
    stored = as_json(comparison)
    assert [e["subject"] for e in stored["trainings"]["gan"]] == ["gan, seed 0", "gan, seed 1", "gan, seed 2"]
    assert stored["evaluations"][0]["trainings"] == 3
    equal = Subject.of_trainings("gan", [subject(f"gan, seed {i}", 5.0) for i in range(2)])
    assert equal.evaluation.headline.value == Estimate(5.0, pytest.approx(0.3), 500)  # not 0: they are equal by chance


@pytest.mark.parametrize(
    ("differences", "p_values", "words"),
    [
        (
            (-1.0, 1.0),
            (0.001, 0.02),
            "on a and b: a is nearer to the data in the features f and b is nearer to the data in the",
        ),
        (
            (1.0, -1.0),
            (0.001, 0.02),
            "on a and b: b is nearer to the data in the features f and a is nearer to the data in the",
        ),
        ((-1.0, 1.0), (0.001, 0.06), None),
        ((-1.0, -1.0), (0.001, 0.001), None),
    ],
)
def test_extractors_that_contradict_each_other_are_named(differences, p_values, words):
    found = Pair(
        "a", "b", dict(zip("fg", differences, strict=True)), dict(zip("fg", p_values, strict=True)), None
    ).contradiction
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("rate", "n", "held_out", "copies"),
    [(0.19, 130, 20, False), (0.5, 130, 20, True), (0.19, 130, 500, True), (0.04, 2000, 500, False), (0.06, 40, 500, False)],
)
def test_copies_are_not_what_a_threshold_of_few_held_out_samples_makes(rate, n, held_out, copies):
    """With 20 held-out samples 5.7 % of new data are copies by the threshold, and 19 % of 130 in one case of 30."""
    found = subject("run", 60.0)
    metrics = {metric.name: metric for metric in found.evaluation.metrics}
    metrics["copy-rate"] = replace(metrics["copy-rate"], value=Estimate(rate, 0.03, n), real=expected_copies(held_out))
    metrics["c_t"] = replace(metrics["c_t"], value=Estimate(-0.9, 1.0, n))
    found.keep("here", replace(found.evaluation, metrics=tuple(metrics.values())))
    assert found.copies == copies
    sentences = compared(found).verdict
    assert any("repeats the training data" in s or "repeats its training data" in s for s in sentences) == copies
    assert any(f"It is not shown to copy: {rate:.1%} of its samples" in s for s in sentences) != copies


def test_the_expected_copies_are_those_of_new_data():
    """By simulation: the share of 5,000 new values below the 1 % quantile of 20 others, 4,000 times."""
    random = np.random.default_rng(0)
    shares = [(random.random(5000) <= np.quantile(random.random(20), 0.01)).mean() for _ in range(4000)]
    expected = expected_copies(20)
    assert np.mean(shares) == pytest.approx(expected.value, rel=0.1)
    assert np.std(shares) == pytest.approx(expected.std_err, rel=0.1)


def test_a_model_copies_if_one_of_its_trainings_does():
    thief = Subject.of_trainings("gan", [subject("gan, seed 0", 5.0), subject("gan, seed 1", 1.8, copy_rate=0.99)])
    assert thief.copies


def test_copiers_and_baselines_are_never_the_best():
    """Among honest models the best is marked, and what cannot be told from it; also where the best is nearest to real data."""
    comparison = compared(
        subject("a", 5.0, density=0.8),
        subject("b", 5.5, density=0.97),
        subject("c", 9.0, density=1.4),
        subject("thief", 1.8, copy_rate=0.99, density=1.0),
        subject("copy", 1.7, copy_rate=1.0, density=1.0, baseline=True),
        subject("gaussian", 1.0, density=1.0, baseline=True),
    )
    rows = {row["name"]: row["best"] for row in table(comparison)}
    assert rows["fd-f"] == [True, True, False, False, False, False]
    assert rows["density-f"] == [False, True, False, False, False, False]
    page = markdown(comparison, "title")
    assert "| fd-f (less is better) | ● 5.00 ± 0.30 | ● 5.50 ± 0.30 | 9.00 ± 0.30 |" in page
    assert comparison.verdict[0].startswith("a has the smallest distance")


def test_only_copiers():
    answer = compared(subject("thief", 1.8, copy_rate=0.99)).verdict[0]
    assert answer.startswith("thief repeats the training data: train for less long")


def test_names_mean_nothing_in_markdown():
    """A name makes no link, no tag, no column, no line and no heading, as it makes none in the page."""
    name = "a|b\n# c <img src=x onerror=alert(1)> [d](javascript:e) `f` \x1b[31m\u202e"
    page = markdown(compared(subject(name, 5.0), subject("vae", 9.0)), name)
    shown = r"a\|b\\n\# c &lt;img src=x onerror=alert(1)> \[d\](javascript:e) \`f\` \\x1b\[31m\\u202e"
    assert f"# {shown}\n" in page
    assert f"| metric | {shown} | vae | real data |" in page
    assert "<img" not in page
    assert "\x1b" not in page


def test_five_lines_and_a_fold():
    models = [subject(f"m{i}", 5.0 + i) for i in range(3)]
    baselines = [subject(f"b{i}", 6.0 + i, baseline=True) for i in range(6)]
    better = [(f"m{i}", f"b{j}") for i in range(3) for j in range(i, 6)]
    copiers = [subject(f"copy{i}", 1.0, copy_rate=1.0, baseline=True) for i in range(4)]
    page = markdown(compared(*models, *baselines, *copiers, better=better), "title")
    before = page.partition("<details>")[0]
    assert before.count("\n- ") == 4
    assert "<details><summary>more</summary>" in page
