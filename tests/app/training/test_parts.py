"""A global batch in parts, of one process or several: losses, gradients and running means are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral
from ancestral.app.api import plan
from ancestral.app.processes import joined
from ancestral.noise import PartNoise, StreamNoise

SMALL = ("train.batch=30", "train.previews=0", "train.diagnoses=0", "train.precision=fp32", "train.warmup=1")
CONV = ("model.width=4",)
KINDS = {
    "diffusion": ("digits", "diffusion", "class", ("model.channels=[8, 8]", "data.flip=true")),
    "diffusion, filled in": ("digits", "diffusion", "inpaint", ("model.channels=[8, 8]",)),
    "score": ("moons", "score", None, ("model.width=16", "model.blocks=1")),
    "vae": ("digits", "vae", None, (*CONV, "model.latent=4")),
    "vae, free bits": ("digits", "vae", None, (*CONV, "model.latent=4", "model.free_bits=0.3")),
    "vae, warm-up of the KL": ("digits", "vae", None, (*CONV, "model.latent=4", "model.kl_warmup=200")),
    "vae, codebook": ("digits", "vae", None, (*CONV, "model.bottleneck=vq", "model.codes=64")),
    "vae, groups": ("digits", "vae", None, (*CONV, "model.hierarchy=2")),
    "gan": ("digits", "gan", "class", ("model.channels=[8, 8]", "model.latent=4", "model.augment=0.5")),
    "gan, gradient penalty": (
        "digits",
        "gan",
        None,
        ("model.channels=[8, 8]", "model.latent=4", "model.objective=wasserstein"),
    ),
    "gan, spectral": ("digits", "gan", None, ("model.channels=[8, 8]", "model.latent=4", "model.objective=hinge")),
    "latent, first stage": ("digits", "latent", None, ("model.autoencoder.width=4", "model.autoencoder.heard=0.15")),
    "latent, codebook": (
        "digits",
        "latent",
        None,
        ("model.autoencoder.width=4", "model.autoencoder.bottleneck=vq", "model.autoencoder.codes=64"),
    ),
}


NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


def sgd(parameters):
    """Return an optimiser that, unlike Adam, does not turn rounding into signs."""
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.5)


def trained(folder, kind, accumulate, steps, setting="train.ordered=false"):
    source, model, condition, settings = KINDS[kind]
    settings = (*SMALL, *settings, f"train.accumulate={accumulate}", setting)
    t = plan(source, model=model, condition=condition, budget="20it", out=folder, settings=settings, device="cpu").begin(
        optimizer=sgd
    )
    found = []
    for step in t:
        found.append(step)
        if step.step == steps:
            break
    return t, found


@pytest.mark.parametrize("kind", KINDS)
def test_losses_gradients_and_running_means_do_not_depend_on_the_number_of_parts(tmp_path, kind):
    """Three steps, so that what a step leaves (codebook, variance, counters) enters the next; 30 samples in 1, 4, 8 parts."""
    whole, steps = trained(tmp_path / "1", kind, 1, 3)
    for accumulate in (4, 8):
        parts, found = trained(tmp_path / str(accumulate), kind, accumulate, 3)
        for a, b in zip(steps, found, strict=True):
            assert b.losses == pytest.approx(a.losses, rel=1e-4, abs=1e-5)
            assert b.grad_norms == pytest.approx(a.grad_norms, rel=1e-3)
        assert found[0].losses == pytest.approx(steps[0].losses, rel=1e-5, abs=1e-6)
        assert found[0].grad_norms == pytest.approx(steps[0].grad_norms, rel=1e-4)
        for (name, a), b in zip(whole.stage.model.named_buffers(), parts.stage.model.buffers(), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_the_noise_of_parts_is_that_of_the_whole():
    for draw in (lambda n: n.normal((2, 3)), lambda n: n.uniform(), lambda n: n.stratified()):
        whole = draw(StreamNoise(10, 5, 7))
        parts = [draw(PartNoise(StreamNoise(10, 5, 7), slice(a, a + 4))) for a in (0, 4, 8)]
        assert torch.equal(torch.cat(parts), whole)


def test_a_player_may_have_its_own_rate_and_number_of_turns(tmp_path):
    """Two updates of the discriminator a step, each on a batch of its own; the generator's rate is half the other's."""
    players = '{"discriminator": {"turns": 2}, "generator": {"lr": 0.0005}}'
    again = plan(
        "digits",
        model="gan",
        budget="20it",
        out=tmp_path / "own",
        settings=(*SMALL, "model.channels=[8, 8]", f"train.players={players}"),
        device="cpu",
    ).begin()
    next(iter(again))
    discriminator, generator = again.players
    assert (discriminator.ema.t, generator.ema.t) == (2, 1)
    assert generator.base == [0.0005]
    assert discriminator.base == [again.recipe.train.lr]
    assert not torch.equal(again.state.indices(0, 0), again.state.indices(0, 1))


def test_what_follows_a_batch_stays_where_the_step_is_not_finite(tmp_path, monkeypatch):
    t, _ = trained(tmp_path, "vae, codebook", 1, 1)
    before = {name: buffer.clone() for name, buffer in t.model.named_buffers()}
    loss = t.model.losses

    def broken(*arguments):
        terms = loss(*arguments)
        return terms | {"total": terms["total"] * float("nan")}

    monkeypatch.setattr(t.model, "losses", broken)
    assert t.state.update(1, 30, 1.0)[2] is not None
    assert all(torch.equal(buffer, before[name]) for name, buffer in t.model.named_buffers())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of a kind of model, with six parts of each batch."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = trained(tmp_path_factory.mktemp("alone"), kind, 6, 3)
        return made[kind]

    return of


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of what so many processes made of all kinds of models. Two of them also train in shards, after that."""
    made = {}

    def of(count):
        if count not in made:
            folder = made[count] = tmp_path_factory.mktemp("together")
            launch(count, folder)
        return made[count]

    return of


@pytest.mark.long
@pytest.mark.parametrize("count", [3, 2])
def test_any_number_of_processes_gives_the_same_bits(alone, together, count):
    """30 samples in six parts: losses of three steps, and the weights, statistics and counters after them."""
    folder = together(count)
    different = []
    for kind in KINDS:
        trainer, steps = alone(kind)
        weights, losses = made_by(folder / "ordered", kind)
        same = all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
        if not same or losses != [dict(step.losses) for step in steps]:
            different.append(kind)
    assert not different


@pytest.mark.long
def test_shards_give_the_same_losses(tmp_path, monkeypatch, together):
    """FSDP2 on two processes against one process, by AdamW, which turns the rounding of a few weights into signs."""
    folder = together(2) / "sharded"
    assert ancestral.load(folder / "both stages").sample(2).shape == (2, 1, 8, 8)
    monkeypatch.setattr(sys.modules[__name__], "sgd", None)
    for kind in KINDS:
        trainer, steps = trained(tmp_path / f"alone{NUMBERS[kind]}", kind, 6, 3)
        weights, losses = made_by(folder, kind)
        for found, step in zip(losses, steps, strict=True):
            assert found == pytest.approx(dict(step.losses), rel=1e-3, abs=1e-4), kind
        assert losses[0] == pytest.approx(dict(steps[0].losses), rel=1e-5, abs=1e-6)
        assert {name: value.shape for name, value in weights.items()} == {
            name: value.shape for name, value in trainer.model.state_dict().items()
        }
        pairs = [(weights[name].double(), value.double()) for name, value in trainer.model.state_dict().items()]
        moved = torch.cat([(a - b).abs().flatten() for a, b in pairs])
        assert moved.quantile(0.9) < 1e-4, kind


def launch(count, folder):
    """Run `in_processes` in several processes, by torchrun."""
    run = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}")
    source = str(Path(ancestral.__file__).parents[1])
    done = subprocess.run(
        [*run, __file__, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def made_by(folder, kind):
    """Return weights and losses that `in_processes` wrote."""
    number = NUMBERS[kind]
    return load_file(folder / f"{number}.safetensors"), json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))


def in_processes(folder):
    """Train all kinds of models with all processes that run this file, and write what came out."""
    global sgd  # noqa: PLW0603
    shards = "train.strategy=sharded"
    if two := os.environ["WORLD_SIZE"] == "2":
        small = ("model.autoencoder.width=4", "model.prior.channels=[8, 8]", "train.previews=1", "train.batch=30", shards)
        out = folder / "sharded" / "both stages"
        ancestral.train("digits", "latent", "4it", out, settings=small, device="cpu", quiet=True)
    with joined() as group:
        write(folder / "ordered", "train.ordered=true", group)
        if two:
            sgd = None
            write(folder / "sharded", shards, group)
        group.wait()
        os._exit(0)  # the threads of torch.distributed may abort a process that ends while they run


def write(folder, setting, group):
    """Train by a setting. The main process writes weights and losses."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        number = NUMBERS[kind]
        trainer, steps = trained(folder / str(number), kind, 6, 3, setting)
        tensors = {name: value.contiguous() for name, value in trainer.strategy.state_dict(trainer.model).items()}
        if group.main:
            save_file(tensors, folder / f"{number}.safetensors")
            (folder / f"{number}.json").write_text(json.dumps([dict(step.losses) for step in steps]), encoding="utf-8")


if __name__ == "__main__":
    in_processes(Path(sys.argv[1]))
