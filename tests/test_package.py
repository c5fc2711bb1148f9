"""The package as a whole: what importing it costs, its names, the machine."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import ancestral
from ancestral.errors import UsageError
from ancestral.runtime import Runtime
from ancestral.suggest import unknown


def loaded(code):
    """The modules that running `code` in a new process leaves loaded."""
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(out.stderr.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not {"torch", "numpy", "sklearn", "pydantic"} & loaded("import ancestral")


def test_help_needs_no_torch():
    heavy = {"torch", "numpy", "sklearn", "pydantic", "matplotlib"}
    assert not heavy & loaded("from ancestral.app.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert not heavy & loaded("from ancestral.app.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass")
    assert not heavy & loaded("from ancestral.app.cli import main\ntry: main(['sample', '--help'])\nexcept SystemExit: pass")


def test_public_names():
    for name in ancestral.__all__:
        assert getattr(ancestral, name) is not None
    assert set(ancestral.__all__) <= set(dir(ancestral))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ancestral.trian  # noqa: B018


def test_the_librarys_packages_are_attributes():
    """Loaded when they are first named, in a process that imported nothing else."""
    code = "import ancestral as an; an.networks.UNet, an.schedules.Linear, an.solvers.Heun, an.Diffusion, an.noise, an.models"
    assert "pydantic" not in loaded(code)
    assert {"networks", "schedules", "solvers", "Diffusion"} <= set(dir(ancestral))


def test_runtime_chooses():
    assert Runtime.choose("cpu", "fp32", parameters=10**7).bf16 is False
    assert Runtime.choose("cpu", "bf16", parameters=10).bf16 is True
    small, large = (Runtime.choose("cpu", parameters=n) for n in (1000, 10**7))
    assert (small.bf16, small.threads) == (False, 1)
    assert large.threads is None
    with pytest.raises(UsageError, match="the device 'gpu' is not available here: choose cpu"):
        Runtime.choose("gpu", parameters=1)


def test_runtime_places_and_casts():
    runtime = Runtime.choose("cpu", "bf16", parameters=10)
    net = runtime.place(nn.Conv2d(4, 4, 3))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    with runtime.autocast():
        assert net(torch.randn(1, 4, 5, 5)).dtype == torch.bfloat16
    assert runtime.memory() > 2**20


def test_dropout_is_seeded():
    runtime = Runtime.choose("cpu", parameters=1)
    draws = []
    for seed in (1, 2, 1):
        runtime.seed(seed)
        draws.append(nn.functional.dropout(torch.ones(50)))
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_unknown_names():
    assert unknown("solver", "hean", ["heun", "ddim"]) == "unknown solver 'hean': did you mean 'heun'? Known: heun, ddim"
    assert unknown("solver", "xyz", ["heun"]) == "unknown solver 'xyz'. Known: heun"
