"""What all tests share."""

import os
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from ancestral import registry


@pytest.fixture(autouse=True)
def _one_thread():
    """Bitwise comparisons hold for a fixed number of threads, and tests run in parallel processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def command():
    """A function that runs `ancestral WORDS` in this process, which need not import torch anew."""
    from ancestral.app.cli import main

    def run(*words, cwd=None):
        out, err = StringIO(), StringIO()
        surroundings = mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"})
        place = chdir(cwd) if cwd else nullcontext()
        with surroundings, place, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return SimpleNamespace(returncode=end.value.code, stdout=out.getvalue(), stderr=err.getvalue())

    return run


@pytest.fixture
def registered():
    """What a test registers ends with it."""
    import ancestral.app.evaluate  # noqa: F401  # and with it all built-in parts

    before = {kind: dict(entries) for kind, entries in registry._kinds.items()}
    yield
    registry._kinds.clear()
    registry._kinds.update(before)


class _Basis:
    """Noise whose j-th draw is the unit vector k in row `first + j d + k`, and 0 in all other rows."""

    def __init__(self, n, first):
        self.n, self.row = n, first

    def normal(self, shape):
        (d,) = shape
        z = torch.zeros(self.n, d, dtype=torch.float64)
        z[self.row : self.row + d] = torch.eye(d, dtype=torch.float64)
        self.row += d
        return z


@pytest.fixture
def moments():
    """Mean and covariance, without chance, of what a solver makes of N(mean, root root') where the denoiser is affine.

    What it makes of the mean, of each column of the root and of each coordinate of each draw of its noise is one row of a
    batch. draws: at most so many.
    """

    def of(method, denoise, levels, mean, root, draws=0):
        d = len(mean)
        x = mean.double().repeat(1 + d + d * draws, 1)
        x[1 : 1 + d] += root.double().T
        *_, last = method(denoise, x, levels, _Basis(len(x), 1 + d))
        columns = last.x[1:] - last.x[0]
        return last.x[0], columns.T @ columns

    return of
