"""Steps of training and sampling that never wait for the device.

The `meta` device has no values: a step that reads one raises there, as does an operation whose result has a size that depends
on values. Copies to it must be asynchronous, as CUDA needs. What CUDA itself says is in tests/gpu.
"""

import math
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ancestral.app.api import plan
from ancestral.app.data import sources
from ancestral.app.data.scenes import scenes
from ancestral.models import HasProgress
from ancestral.models.edits import Inpaint, Vary
from ancestral.noise import SampleNoise
from ancestral.registry import names

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.equal, aten._unique2, aten.masked_select, aten.bincount}
TINY = ("train.batch=8", "train.previews=0", "train.diagnoses=0", "train.warmup=1")
SMALL = (*TINY, "model.channels=[8, 8]")
NARROW = (*TINY, "model.width=4")
CODER = (*TINY, "model.autoencoder.width=4", "model.autoencoder.heard=0.15")
KINDS = {
    "diffusion": ("digits", "diffusion", "class", (*SMALL, "data.flip=true", "model.dropout=0.1")),
    "transformer": ("digits", "diffusion", "class", (*TINY, "model.net=dit", "model.width=32", "model.blocks=1")),
    "chain": (
        "digits",
        "diffusion",
        None,
        (*SMALL, "model.schedule=ddpm", "model.target=eps", "model.weight=vlb", "model.times=uniform"),
    ),
    "text": ("scenes", "diffusion", "text", (*SMALL, "data.flip=true")),
    "layout": ("scenes", "diffusion", "layout", SMALL),
    "map": ("scenes", "diffusion", "map", SMALL),
    "upscale": ("scenes", "diffusion", "upscale", SMALL),
    "inpaint": ("scenes", "diffusion", "inpaint", SMALL),
    "sketch": ("scenes", "diffusion", "sketch", SMALL),
    "score": ("digits", "score", None, SMALL),
    "score, exact": ("moons", "score", None, (*TINY, "model.width=16", "model.matching=exact")),
    "score, sliced": ("moons", "score", None, (*TINY, "model.width=16", "model.matching=sliced")),
    "vae": ("digits", "vae", "class", (*NARROW, "model.latent=4", "model.free_bits=0.1", "model.kl_warmup=100")),
    "vae, full": ("digits", "vae", None, (*NARROW, "model.latent=4", "model.posterior=full")),
    "vae, flow": ("digits", "vae", None, (*NARROW, "model.latent=4", "model.posterior=flow")),
    "vae, codebook": ("digits", "vae", None, (*NARROW, "model.bottleneck=vq", "model.codes=32")),
    "vae, groups": ("digits", "vae", None, (*NARROW, "model.hierarchy=2")),
    "vae, logistic": ("digits", "vae", None, (*NARROW, "model.latent=4", "model.likelihood=logistic")),
    "gan": ("digits", "gan", "class", (*SMALL, "model.latent=4", "model.augment=0.5")),
    "gan, wasserstein": ("digits", "gan", None, (*SMALL, "model.latent=4", "model.objective=wasserstein")),
    "gan, hinge": ("digits", "gan", None, (*SMALL, "model.latent=4", "model.objective=hinge")),
    "latent": ("digits", "latent", None, CODER),
    "latent, codebook": ("digits", "latent", None, (*CODER, "model.autoencoder.bottleneck=vq", "model.autoencoder.codes=32")),
}


@pytest.fixture(scope="module", autouse=True)
def _few_scenes():
    """All 11,000 take three seconds each time."""
    few = scenes(200, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.BUILT_IN, "scenes", lambda _: few)
        yield


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    """torch.autocast, which does not know the device `meta`, would be off."""
    monkeypatch.setattr(torch, "autocast", lambda device, *how, **more: nullcontext())


class NoReads(TorchDispatchMode):
    """Raise where a value of a tensor of this device is read, and where a copy between devices is synchronous."""

    def __init__(self, device):
        super().__init__()
        self.device, self.active = device, True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        name = function.overloadpacket
        here = self.active and any(t.device.type == self.device for t in tensors)
        if here and (name in READS or _selects(name, args)):
            raise AssertionError(f"{function} reads a value of the device")
        out = function(*args, **kwargs)
        crossing = name in (aten._to_copy, aten.copy_) and len({t.device for t in (*tensors, out)}) > 1
        if crossing and not (kwargs.get("non_blocking", False) or args[2:3] == (True,)):
            raise AssertionError(f"a synchronous copy of a tensor {tuple(out.shape)}")
        return out


def _selects(name, args):
    """Return whether the operation is an index by a mask, whose result has as many rows as the mask has true values."""
    indices = args[1] if name in (aten.index, aten.index_put, aten.index_put_) else ()
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


@pytest.mark.parametrize(
    "read", [lambda x: x.sum().item(), lambda x: bool(x[0] > 0), lambda x: x[x > 0], lambda x: x.nonzero()]
)
def test_reads_are_found(read):
    with NoReads("cpu"), pytest.raises(AssertionError, match="reads a value"):
        read(torch.ones(3))
    with NoReads("meta"), pytest.raises(AssertionError, match="synchronous copy"):
        torch.ones(3).to("meta")


def begun(tmp_path, kind, *more):
    source, model, condition, settings = KINDS[kind]
    settings = (*settings, "train.precision=fp32", *more)
    how = {"budget": "20it", "out": tmp_path / "run", "device": "cpu"}
    trainer = plan(source, model=model, condition=condition, settings=settings, **how).begin()
    if isinstance(trainer.stage.model, HasProgress):
        trainer.stage.model.on_progress(1.0)
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_their_gradients_read_nothing_from_the_device(tmp_path, kind):
    trainer = begun(tmp_path, kind)
    model = trainer.stage.model
    batch = trainer.state.data.batch(torch.arange(8), noise=SampleNoise(range(8)))
    model.to("meta").train()
    for player in model.players():
        model.zero_grad()
        with NoReads("meta"):
            terms = model.losses(batch.to("meta"), player.name, SampleNoise(range(8), "meta"))
            terms["total"].mean().backward()
        assert any(p.grad is not None for p in player.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_an_update_reads_nothing(tmp_path, kind):
    """Clipping, optimiser, average and running state. The numbers of an update are read during the next one."""
    trainer = begun(tmp_path, kind)
    state = trainer.state
    state.deferred = True
    trainer.model.train()
    reads, compute = NoReads("cpu"), state._loss

    def loss(*args):  # the levels of a batch are numbers of the CPU
        reads.active = False
        try:
            return compute(*args)
        finally:
            reads.active = True

    state._loss = loss
    before = [player.flat.value.detach().clone() for player in state.players]
    with reads:
        for step in range(2):
            state._pending.clear()
            state.update(step, 8 * step, 1.0)
    for player, value in zip(state.players, before, strict=True):
        assert not torch.equal(player.flat.value, value)


SOLVERS = [name for name in names("solver") if name != "adaptive"]  # which chooses its steps by errors that it reads


@pytest.fixture(scope="module")
def drawn_from(tmp_path_factory):
    """A model on the device, by kind."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = begun(tmp_path_factory.mktemp("runs"), kind).model.to("meta").eval()
        return made[kind]

    return of


@pytest.mark.parametrize("solver", [pytest.param(s, marks=pytest.mark.long if s == "langevin-v1" else ()) for s in SOLVERS])
def test_solvers_read_nothing_from_the_device(drawn_from, solver):
    model = drawn_from("diffusion")
    with NoReads("meta"):
        x = model.sample(2, {"class": 3}, steps=4, solver=solver, guidance=2.0, interval=(0.1, 0.9), rescale=0.5)
    assert x.shape == (2, 1, 8, 8)
    assert x.is_meta


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_reads_nothing_from_the_device(drawn_from, kind):
    model = drawn_from(kind)
    condition = {"class": 3} if "class" in model.conditioner.kinds else None
    latent = kind.startswith("latent")  # which reads once whether its prior is known
    how = {"steps": 3} if latent or hasattr(model, "denoiser") else {}
    with NoReads("meta"):
        x = model.to_data(model.prior.sample(2, **how)) if latent else model.sample(2, condition, **how)
    assert x.is_meta
    assert x.shape == (2, *model.shape)


@pytest.mark.parametrize("edit", [Vary, partial(Inpaint, known=torch.ones(2, 1, 8, 8, device="meta"))], ids=["vary", "inpaint"])
def test_edits_read_nothing_from_the_device(drawn_from, edit):
    model = drawn_from("diffusion")
    with NoReads("meta"):
        assert model.sample(2, {"class": 3}, steps=4, edit=edit(torch.zeros(2, 1, 8, 8, device="meta"))).is_meta


@pytest.mark.parametrize("kind", ["diffusion", "vae, codebook", "gan, hinge"])
def test_a_deferred_step_that_is_not_finite_changes_nothing_and_is_reported_one_step_later(tmp_path, kind):
    trainer = begun(tmp_path, kind)
    state, model = trainer.state, trainer.stage.model
    state.deferred = True
    model.train()
    losses = model.losses
    broken = False
    model.losses = lambda *how: losses(*how) | {"total": losses(*how)["total"] * (math.nan if broken else 1)}

    def held():
        parts = [state.players[0].flat.value, state.players[0].ema.average, *state.players[0].optimizer.state.values()]
        flat = [t for part in parts for t in (part.values() if isinstance(part, dict) else [part])]
        return [t.detach().clone() for t in (*flat, *model.buffers())]

    state.players = state.players[:1]
    assert state.update(0, 0, 1.0)[2] is None
    before, updates = held(), state.players[0].ema.t
    broken = True
    assert state.update(1, 8, 1.0)[2] is None
    assert all(torch.equal(a, b) for a, b in zip(held(), before, strict=True))
    broken = False
    found = state.update(2, 16, 1.0)[2]
    assert found is not None
    assert state.players[0].ema.t == updates + 1  # of two updates since then, one counts
    assert not all(torch.equal(a, b) for a, b in zip(held(), before, strict=True))
    assert state.update(3, 24, 1.0)[2] is None


@pytest.mark.parametrize(
    "kind",
    [
        "diffusion",
        "vae, codebook",
        "gan, hinge",
        *(pytest.param(k, marks=pytest.mark.long) for k in ("vae", "latent, codebook")),
    ],
)
def test_deferred_training_ends_with_the_same_bits(tmp_path, kind):
    ends = []
    for deferred in (False, True):
        trainer = begun(tmp_path / str(deferred), kind)
        seen = []
        for step in trainer:
            trainer.state.deferred = deferred
            seen.append(dict(step.losses))
        ends.append((trainer.model.state_dict(), trainer.state.tensors(), seen))
    (model, tensors, losses), (other, more, also) = ends
    assert losses == also
    assert all(torch.equal(model[name], other[name]) for name in model)
    assert tensors.keys() == more.keys()
    assert all(torch.equal(tensors[name], more[name]) for name in tensors)
