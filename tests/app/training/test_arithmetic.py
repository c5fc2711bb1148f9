"""fp16 with a loss scale, compiled networks, and what a runtime chooses."""

import pytest
import torch

import ancestral as an
from ancestral import runtime as runtime_module
from ancestral.app.api import plan
from ancestral.app.training.budget import Budget
from ancestral.app.training.player import LossScale
from ancestral.errors import UsageError
from ancestral.runtime import Runtime

SMALL = ("model.channels=[8, 8]", "train.batch=16", "train.previews=0", "train.warmup=1")


def begun(folder, *settings, budget="12it", source="digits", **how):
    return plan(source, budget=budget, out=folder, settings=(*SMALL, *settings), device="cpu", **how).begin()


def test_the_loss_scale_halves_at_an_overflow_and_grows_after_steps_without():
    scale = LossScale(torch.device("cpu"))
    scale.GROWTH = 3
    seen = []
    for finite in (True, False, True, True, True, True):
        scale.update(torch.tensor(finite))
        seen.append(scale.value.item())
    assert seen == [2**16, 2**15, 2**15, 2**15, 2**16, 2**16]


@pytest.mark.parametrize("deferred", [False, True])
def test_fp16_trains_and_continues_exactly_with_its_scale(tmp_path, deferred):
    """The first scale overflows: the step changes nothing but the scale, and is not called a failure."""
    ends = []
    for cut in (None, 5):
        trainer = begun(tmp_path / str(cut), "train.precision=fp16")
        assert str(trainer.runtime).startswith("cpu, fp16")
        trainer.state.deferred = deferred
        (player,) = trainer.players
        player.scale.state[0] = 2.0**40
        before, scales = player.flat.value.detach().clone(), []
        for step in trainer:
            assert step.skipped is None
            scales.append(player.scale.value.item())
            if step.step == 1:
                assert torch.equal(player.flat.value, before)
                player.scale.state[0] = 2.0**16
            if step.step == cut:
                trainer.save()
                break
        assert scales[0] == 2.0**39
        if cut:
            trainer = begun(tmp_path / str(cut), "train.precision=fp16")
            assert trainer.players[0].scale.value == 2.0**16
            list(trainer)
        assert not torch.equal(trainer.players[0].flat.value, before)
        assert trainer.players[0].ema.t == 11  # the step that overflowed does not count
        ends.append(trainer.players[0].flat.value.detach().clone())
    assert torch.equal(*ends)


def test_fp16_is_close_to_fp32(tmp_path):
    ends = [[s.losses["model/total"] for s in begun(tmp_path / p, f"train.precision={p}")] for p in ("fp16", "fp32")]
    assert ends[0] == pytest.approx(ends[1], rel=0.02)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_compiled_networks_train_as_others_and_keep_their_names(tmp_path, monkeypatch, backend):
    """Traced as always; the backend `eager` spares the C++ compiler, which takes half a minute."""
    original, calls = torch.nn.Module.compile, []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda net, **how: calls.append(net) or original(net, **{"backend": backend} | how)
    )
    ends = []
    for compiled in ("off", "on"):
        trainer = plan(
            "moons",
            budget="4it",
            out=tmp_path / compiled,
            device="cpu",
            settings=("model.width=8", "model.blocks=1", "train.batch=16", "train.previews=0", f"train.compile={compiled}"),
        ).begin()
        assert str(trainer.runtime).endswith("compiled") == (compiled == "on")
        ends.append([step.losses["model/total"] for step in trainer])
    assert calls
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
    a, b = (an.load(tmp_path / compiled).state_dict() for compiled in ("off", "on"))
    assert a.keys() == b.keys()


def test_what_is_compiled(monkeypatch):
    """auto: on CUDA, for long training, where there is a compiler."""
    assert not Runtime.choose("cpu", parameters=1, compile="auto", long=True).compiled
    monkeypatch.setattr(runtime_module, "_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(runtime_module, "_missing_compiler", lambda device: None)
    found = [Runtime.choose("cuda", "fp32", parameters=1, compile=c, long=n).compiled for c, n in CASES]
    assert found == [True, False, False, True]
    monkeypatch.setattr(runtime_module, "_missing_compiler", lambda device: "the package triton")
    assert not Runtime.choose("cuda", "fp32", parameters=1, compile="auto", long=True).compiled
    with pytest.raises(UsageError, match=r"train.compile=on needs the package triton, which is not here"):
        Runtime.choose("cuda", "fp32", parameters=1, compile="on")


CASES = [("auto", True), ("auto", False), ("off", True), ("on", False)]


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(runtime_module.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"train.compile=on needs a C\+\+ compiler"):
        Runtime.choose("cpu", parameters=1, compile="on")


@pytest.mark.parametrize(
    ("budget", "long"), [("19m", False), ("20m", True), ("100it", False), ("20000it", True), ("10epochs", True)]
)
def test_which_budgets_pay_a_compilation(budget, long):
    assert Budget.parse(budget).pays_compilation(64 / 200_000) is long


@pytest.mark.parametrize(
    ("native", "capability", "precision"), [(True, (9, 0), "bf16"), (False, (7, 5), "fp16"), (False, (6, 1), "fp32")]
)
def test_the_arithmetic_of_a_gpu(monkeypatch, native, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime_module._fastest(torch.device("cuda")) == precision
