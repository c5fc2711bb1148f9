"""Model objects in the training loop: own networks, optimisers, schedules, averages, callbacks."""

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.app.api import plan
from ancestral.errors import UsageError


class Own(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, z, logsnr):
        return self.layers(torch.cat([z, logsnr[:, None] / 10], 1))


QUIET = ("train.previews=0", "train.batch=64")


def own():
    torch.manual_seed(0)
    return an.Diffusion(Own(), shape=(2,))


def train(out, budget="20it", model=None, **options):
    settings = (*QUIET, *options.pop("settings", ()))
    return an.train(
        "moons", model=model or own(), budget=budget, out=out, quiet=True, device="cpu", settings=settings, **options
    )


def test_a_run_of_an_own_network_can_be_loaded_with_it(tmp_path):
    model = train(tmp_path)
    again = an.load(tmp_path, network=Own(), device="cpu")
    assert torch.equal(again.sample(4, seeds=range(4)), model.sample(4, seeds=range(4)))
    with pytest.raises(UsageError, match=r"is your own, and no file holds its code: give it with ancestral.load\("):
        an.load(tmp_path)


def test_it_continues_as_if_it_had_not_been_stopped(tmp_path):
    whole = train(tmp_path / "whole")
    trainer = plan("moons", model=own(), budget="20it", out=tmp_path / "part", device="cpu", settings=QUIET).begin()
    for step in trainer:
        if step.step == 7:
            trainer.save()
            break
    part = train(tmp_path / "part")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.RAdam([{"params": p[:2], "lr": 1e-2}, {"params": p[2:]}], lr=1e-3),
        lambda p: torch.optim.Adam(list(reversed(p)), lr=1e-3),
    ],
    ids=["sgd", "groups", "reversed"],
)
def test_any_optimiser_continues_exactly(tmp_path, optimizer):
    whole = train(tmp_path / "whole", optimizer=optimizer)
    trainer = plan("moons", model=own(), budget="20it", out=tmp_path / "part", device="cpu", settings=QUIET).begin(
        optimizer=optimizer
    )
    for step in trainer:
        if step.step == 9:
            trainer.save()
            break
    part = train(tmp_path / "part", optimizer=optimizer)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))
    assert not torch.equal(next(whole.parameters()), next(own().parameters()))


def test_schedule_average_and_callbacks_are_arguments(tmp_path):
    seen = []
    train(
        tmp_path,
        lr_schedule=lambda step, progress: 0.5,
        callbacks=[seen.append],
        settings=("train.ema=null", "train.clip=null"),
    )
    assert [step.step for step in seen] == list(range(1, 21))
    assert {step.lr for step in seen} == {0.5 * 2e-3}


def test_without_an_average_the_model_is_the_last_one(tmp_path):
    trainer = plan("moons", model=own(), budget="5it", out=tmp_path, device="cpu", settings=(*QUIET, "train.ema=null")).begin()
    list(trainer)
    assert torch.equal(trainer.players[0].ema.average, trainer.players[0].flat.value.data)


def test_data_of_another_shape_are_refused(tmp_path):
    with pytest.raises(UsageError, match="the model is for samples of shape 2, and those of digits have 1x8x8"):
        an.train("digits", model=own(), out=tmp_path, quiet=True)


def test_a_latent_model_of_a_trained_autoencoder(tmp_path):
    """Only its prior is trained, on the autoencoder's latents."""

    class Halves(nn.Module):
        latent_shape = (1,)

        def encode(self, x, condition=None):
            return x.mean(1, keepdim=True)

        def decode(self, z, condition=None):
            return z.expand(-1, 2)

    model = an.LatentModel(Halves(), an.Diffusion(an.networks.MLP(1, 16, 1), shape=(1,)), shape=(2,))
    trained = train(tmp_path, model=model, budget="10it")
    assert trained.sample(3, seeds=range(3)).shape == (3, 2)
    assert trained.known
