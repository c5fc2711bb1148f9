"""Samples whose range is not that of the data, references that say nothing, and few samples: one true sentence each."""

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.cli import main
from ancestral.app.evaluation.ranges import usual_range
from ancestral.metrics import Estimate

HOW = {"extractors": ["random"], "device": "cpu"}


@pytest.fixture
def pictures(squares):
    return squares(80, 1)[0], squares(200, 3)[0]  # uint8 `(n, 12, 12)`


@pytest.mark.parametrize(
    ("convert", "theirs"),
    [
        (lambda x: x / 127.5 - 1, r"\[-1, 1\]"),
        pytest.param(lambda x: 1.0 * x, r"\[0, 255\]", marks=pytest.mark.long),
    ],
    ids=["symmetric", "bytes"],
)
def test_unlike_ranges_are_named_and_converted(pictures, convert, theirs):
    x, real = pictures
    same = an.evaluate(x, against=real, **HOW)
    unlike = convert(x.astype(np.float32))
    with pytest.raises(an.UsageError, match=rf"from {theirs} to \[0, 1\] with --rescale"):
        an.evaluate(unlike, against=real, **HOW)
    converted = an.evaluate(unlike, against=real, rescale=True, **HOW)
    assert converted.headline.value.value == pytest.approx(same.headline.value.value, rel=1e-4)
    assert an.evaluate(unlike, against=real, rescale=False, **HOW).headline.value.value > 2 * same.headline.value.value


def test_data_in_another_range_than_the_pictures(pictures):
    """The reference may be the float array."""
    x, real = pictures
    symmetric = real.astype(np.float32) / 127.5 - 1
    with pytest.raises(an.UsageError, match=r"from \[0, 1\] to \[-1, 1\]"):
        an.evaluate(x, against=symmetric, **HOW)
    converted = an.evaluate(x, against=symmetric, rescale=True, **HOW)
    assert converted.headline.value.value < 10 * converted.headline.real.value


def test_ranges_that_are_alike_pass(pictures):
    x, real = pictures
    floats = x.astype(np.float32) / 255
    assert an.evaluate(floats, against=real, **HOW).headline.value.value == pytest.approx(
        an.evaluate(x, against=real, **HOW).headline.value.value, rel=1e-4
    )


def test_measurements_in_their_own_units_may_have_other_extremes():
    """Signals end where chance ends them; a range that is shifted or doubled is still refused."""
    random = np.random.default_rng(0)
    real, x = (random.normal(size=(n, 1, 32)).astype(np.float32) * 0.35 for n in (200, 80))
    x[0, 0, 0] = 1.7  # beyond all usual ranges of the data, which lie in [-1.5, 1.5]
    assert usual_range(torch.from_numpy(x)) != usual_range(torch.from_numpy(real))
    found = an.evaluate(x, against=real, **HOW).headline
    assert found.value.value < found.real.value + 3 * found.value.std_err
    for unlike in (4 * x, x + 1):
        with pytest.raises(an.UsageError, match="convert the samples"):
            an.evaluate(unlike, against=real, **HOW)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, (0, 1)),
        (-0.2, 1.2, (0, 1)),
        (0.1, 0.4, (0, 1)),
        (-1, 1, (-1, 1)),
        (-1.1, 0.7, (-1, 1)),
        (0, 255, (0, 255)),
        (3, 97, (0, 255)),
        (-4, 4, None),
        (0, 16, None),
        (0, 4095, None),
    ],
)
def test_usual_ranges(low, high, found):
    assert usual_range(torch.tensor([low, high], dtype=torch.float32)) == found


def test_the_command_rescales(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, real = pictures
    np.save("theirs.npy", x.astype(np.float32) / 127.5 - 1)
    np.save("real.npy", real)
    words = ["evaluate", "theirs.npy", "--against", "real.npy", "--features", "random", "--device", "cpu", "-q"]
    for more, code in ((["--rescale"], 0), ([], 2)):
        with pytest.raises(SystemExit) as done:
            main([*words, *more])
        assert done.value.code == code
    assert "theirs.npy lie in [-1" in " ".join(capsys.readouterr().err.split())


def test_a_constant_reference(squares):
    with pytest.raises(an.UsageError, match="reference samples of array are equal, so a distance from them says nothing"):
        an.evaluate(squares(60, 1)[0], against=np.full((60, 12, 12), 7, np.uint8), **HOW)


def test_other_channels_and_few_samples(squares):
    real = squares(100, 3)[0]
    colour = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(an.UsageError, match="shape 3x12x12 and those of array 1x12x12"):
        an.evaluate(colour, against=real, **HOW)
    with pytest.raises(an.UsageError, match="19 samples; at least 20 are needed"):
        an.evaluate(real[:19], against=real, **HOW)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1.2345678e82, 3.4e80, 100), "1.23e+82 ± 3e+80"),
        (Estimate(12_345.6, 42.0, 100), "12,346 ± 42"),
        (Estimate(0.123, None, 100), "0.123"),
    ],
)
def test_wide_figures_have_an_exponent(estimate, text):
    assert str(estimate) == text
