"""Sample i depends on its seed alone."""

import numpy as np
import pytest
import torch
from scipy import stats

from ancestral.errors import UsageError
from ancestral.noise import SampleNoise, StreamNoise


def test_a_sample_does_not_depend_on_its_batch():
    together, alone = SampleNoise([3, 7, 9]), SampleNoise([7])
    for shape in ((2, 3), (5,), ()):
        torch.testing.assert_close(together.normal(shape)[1], alone.normal(shape)[0], atol=0, rtol=0)
        torch.testing.assert_close(together.uniform(shape)[1], alone.uniform(shape)[0], atol=0, rtol=0)


def test_draws_differ_and_repeat():
    a, b = SampleNoise([0, 1]), SampleNoise([0, 1])
    first, second = a.normal((4,)), a.normal((4,))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, b.normal((4,)))
    for seed in (-1, 2**64):
        with pytest.raises(UsageError, match=f"got {seed}"):
            SampleNoise([0, seed])


def test_distributions():
    assert stats.kstest(SampleNoise(range(500)).normal((40,)).flatten().numpy(), "norm").pvalue > 0.001
    assert stats.kstest(SampleNoise(range(500)).uniform((40,)).flatten().numpy(), "uniform").pvalue > 0.001
    assert stats.kstest(StreamNoise(20_000, 0, 0).normal(()).numpy(), "norm").pvalue > 0.001


def test_stream_is_keyed_by_seed_and_step():
    draw = lambda seed, step: StreamNoise(4, seed, step).normal((3,))  # noqa: E731
    assert torch.equal(draw(0, 5), draw(0, 5))
    assert not torch.equal(draw(0, 5), draw(0, 6))
    assert not torch.equal(draw(0, 5), draw(1, 5))


def test_stratified_times_fill_every_stratum():
    u = StreamNoise(64, 0, 0).stratified().numpy()
    assert sorted(np.floor(u * 64).astype(int)) == list(range(64))
    assert SampleNoise(range(8)).stratified().shape == (8,)
