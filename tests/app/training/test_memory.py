"""A batch that does not fit into the memory is computed in more parts, with the same result."""

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral import runtime
from ancestral.app.api import plan
from ancestral.app.data import load
from ancestral.app.training import memory
from ancestral.app.training.memory import bytes_per_sample, parts_that_fit
from ancestral.errors import AncestralError
from ancestral.runtime import Runtime, free_memory, memory_is_full

CPU = Runtime(torch.device("cpu"))
SMALL = ("train.batch=30", "train.previews=0", "train.diagnoses=0", "train.precision=fp32", "train.memorisation=off")
KINDS = {
    "diffusion": ("digits", "diffusion", ("model.channels=[8, 8]",)),
    "gan": ("digits", "gan", ("model.channels=[8, 8]", "model.latent=4", "model.objective=wasserstein")),
}
WORDS = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes.",
    "CUDA out of memory. Tried to allocate 20.00 GiB.",
    "std::bad_alloc",
    "could not create a primitive",
)


def sgd(parameters):
    """Return an optimiser that, unlike Adam, does not turn rounding into signs."""
    return torch.optim.SGD(parameters, lr=1e-3)


def trainer(folder, kind, *settings):
    source, model, sizes = KINDS[kind]
    planned = plan(source, model=model, budget="4it", out=folder, settings=(*SMALL, *sizes, *settings), device="cpu")
    return planned.begin(optimizer=sgd)


def run(t):
    notes = [note for step in t for note in step.notes]
    return notes, torch.cat([state.flat.value.detach().clone() for state in t.players])


def fails_above(monkeypatch, t, most, error):
    """Let a loss of more than `most` samples fail as if there were no memory."""
    losses = t.model.losses

    def limited(batch, *rest):
        if len(batch.x) > most:
            raise error
        return losses(batch, *rest)

    monkeypatch.setattr(t.model, "losses", limited)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_memory_divides_the_batch(tmp_path, monkeypatch, kind):
    whole = run(trainer(tmp_path / "whole", kind))[1]
    quarters = run(trainer(tmp_path / "quarters", kind, "train.accumulate=4"))[1]
    t = trainer(tmp_path / "full", kind)
    fails_above(monkeypatch, t, 8, RuntimeError(WORDS[0]))
    notes, found = run(t)
    assert torch.equal(found, quarters)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    told = [note for note in notes if note.startswith("the memory was full")]
    assert told[-1] == "the memory was full: each batch of 30 is computed in 4 parts, with the same result"
    assert len(told) == 2  # halved twice, and not again in later steps


def test_a_memory_that_one_sample_fills_is_one_sentence(tmp_path, monkeypatch):
    t = trainer(tmp_path / "run", "diffusion")
    fails_above(monkeypatch, t, 0, MemoryError())
    with pytest.raises(
        AncestralError, match=r"^the memory is full with each batch in 30 parts: close other programs, use a smal"
    ):
        list(t)


def test_other_errors_are_not_taken_for_a_full_memory(tmp_path, monkeypatch):
    t = trainer(tmp_path / "run", "diffusion")
    fails_above(monkeypatch, t, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        list(t)


@pytest.mark.parametrize("words", WORDS)
def test_the_words_of_a_full_memory(words):
    assert memory_is_full(RuntimeError(words))
    assert not memory_is_full(ValueError(words))
    assert memory_is_full(MemoryError())


def test_true_allocations_that_fail_are_recognised():
    with pytest.raises((RuntimeError, MemoryError)) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory_is_full(failed.value)


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 2)

    def forward(self, z, logsnr, context=None):
        return self.last(nn.functional.silu(self.first(z)))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, z, logsnr, context=None):
        return self.norm(z)


def test_the_bytes_of_a_sample_are_those_that_the_graph_keeps():
    """The input and the output of the SiLU, four bytes for each feature."""
    data = load("moons")
    each = [bytes_per_sample(an.Diffusion(Wide(w), shape=(2,)), data, CPU) for w in (1000, 3000)]
    assert each[1] - each[0] == 2 * 4 * 2000


def test_the_measurement_changes_no_model():
    """Not even running statistics, which a forward pass in training mode moves."""
    data, model = load("moons"), an.Diffusion(Normed(), shape=(2,)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bytes_per_sample(model, data, CPU)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("free", "parts"), [(10**9, 1), (1125, 1), (1124, 2), (555, 4), (75, 16), (1, 30)])
def test_parts_are_doubled_until_one_fits(monkeypatch, free, parts):
    """30 samples of 20 bytes need 900 bytes, and 0.8 of what is free may be used."""
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    assert parts_that_fit(20.0, 30, 1, CPU) == parts


def test_a_batch_that_will_not_fit_is_divided_before_it_fails(tmp_path, monkeypatch):
    planned = trainer(tmp_path / "whole", "diffusion")
    need = 30 * bytes_per_sample(planned.model, planned.data, CPU) * memory.OVERHEAD
    monkeypatch.setattr(memory, "free_memory", lambda device: need / memory.SAFE / 2)
    notes, found = run(trainer(tmp_path / "run", "diffusion"))
    assert torch.equal(found, run(trainer(tmp_path / "halves", "diffusion", "train.accumulate=2"))[1])
    assert any("each batch of 30 is computed in 2 parts, with the same result" in note for note in notes)


def test_limits_of_the_process_and_of_its_control_groups_count(tmp_path, monkeypatch):
    before = free_memory()
    resource = pytest.importorskip("resource")
    with monkeypatch.context() as patched:
        patched.setattr(resource, "getrlimit", lambda kind: (runtime.psutil.Process().memory_info().vms + 12_345, -1))
        assert free_memory() <= 12_345
    group = tmp_path / "slice" / "job"
    group.mkdir(parents=True)
    for folder, limit in ((group, "max"), (tmp_path / "slice", "1000")):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text("700\n")
        (folder / "memory.stat").write_text("anon 600\ninactive_file 90\n")
    (tmp_path / "groups").write_text("4:memory:/other\n0::/slice/job\n")
    monkeypatch.setattr(runtime, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(runtime, "CONTROL", tmp_path)
    assert free_memory() == 390 < before
