"""Training longer, fine-tuning, and data that PyTorch hands out."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.data import DataError
from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.noise import StreamNoise

SMALL = (
    "model.channels=[16, 32]",
    "model.blocks=1",
    "train.batch=32",
    "train.previews=0",
    "train.diagnoses=0",
    "train.warmup=1",
)


def begin(source, out, budget, **more):
    return plan(source, budget=budget, out=out, device="cpu", settings=SMALL, **more).begin()


def test_the_same_command_with_a_larger_budget_trains_longer(tmp_path):
    """From where the run ended; the learning rate, which had fallen to 0, follows the new budget."""
    first = list(begin("digits", tmp_path, "10it"))
    assert first[-1].lr < 0.1 * max(step.lr for step in first)
    longer = begin("digits", tmp_path, "30it")
    assert longer.step == 10
    assert "the budget changes from 10it to 30it, of which 33% is spent" in " ".join(longer.notes)
    steps = list(longer)
    assert [steps[0].step, steps[-1].step] == [11, 30]
    assert steps[0].lr > 5 * first[-1].lr
    assert longer.players[0].ema.t == 30
    assert Run(tmp_path).recipe.train.budget == "30it"


def test_a_smaller_budget_that_is_spent_says_so(tmp_path):
    list(begin("digits", tmp_path, "10it"))
    again = begin("digits", tmp_path, "5it")
    assert "the budget 5it is already spent: this run was trained for 10it" in again.notes
    assert list(again) == []
    assert Run(tmp_path).recipe.train.budget == "10it"


def held_out_loss(folder, data):
    """The mean loss of all held-out samples, with the same noise for every model."""
    model = an.load(folder, device="cpu", precision="fp32")
    batch = data.batch(torch.arange(len(data.test)), "test")
    batch = type(batch)(batch.x)
    with torch.no_grad():
        return model.losses(batch, "model", StreamNoise(len(batch), 0, 0))["total"].mean().item() / model.loss_unit


def some(classes, n):
    digits = an.load_data("digits")
    labels = digits.labels("train")
    rows = torch.isin(labels, torch.tensor(classes)).nonzero().flatten()[:n]
    return digits.x("train", rows).mul(16).round().to(torch.uint8).mul(15)


@pytest.mark.long
def test_fine_tuning_beats_training_from_nothing_on_few_pictures(tmp_path):
    """Digits 0 to 4 first; then 200 pictures of 5 to 9 for as many steps, from there and from nothing."""
    list(begin(some([0, 1, 2, 3, 4], 900), tmp_path / "first", "200it"))
    few = some([5, 6, 7, 8, 9], 200)
    tuned = begin(few, tmp_path / "tuned", "40it", start_from=tmp_path / "first")
    assert any("starts from the averaged weights" in note for note in tuned.data.notes)
    list(tuned)
    list(begin(few, tmp_path / "nothing", "40it"))
    data = an.load_data(few)
    assert held_out_loss(tmp_path / "tuned", data) < 0.8 * held_out_loss(tmp_path / "nothing", data)


def test_fine_tuning_with_classes_gets_new_embeddings(tmp_path):
    list(begin("digits", tmp_path / "first", "3it"))
    tuned = begin("digits", tmp_path / "tuned", "3it", start_from=tmp_path / "first", condition="class")
    assert "new embeddings for the condition class" in tuned.data.notes
    list(tuned)
    assert an.load(tmp_path / "tuned", device="cpu").sample(2, {"class": 3}, steps=2).shape == (2, 1, 8, 8)


def test_what_cannot_be_fine_tuned_is_one_sentence(tmp_path):
    list(begin("digits", tmp_path / "first", "2it"))
    with pytest.raises(UsageError, match="start from a run of the same family and shape"):
        begin(np.random.rand(40, 1, 16, 16).astype(np.float32), tmp_path / "a", "2it", start_from=tmp_path / "first")
    with pytest.raises(UsageError, match="is a run of the family diffusion, not vae"):
        plan("digits", model="vae", budget="2it", out=tmp_path / "b", start_from=tmp_path / "first")


class Pairs(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.full((1, 8, 8), i / 40.0), i % 2


class Stream(IterableDataset):
    def __iter__(self):
        return ({"x": torch.full((3,), float(i)), "class": i % 4} for i in range(40))


@pytest.mark.parametrize(
    "source", [Pairs(), DataLoader(Pairs(), batch_size=7, shuffle=True), Stream()], ids=["map", "loader", "stream"]
)
def test_data_of_torch(tmp_path, source):
    data = an.load_data(source)
    assert len(data.train) + len(data.test) == 40
    assert len(data.spec.classes) == (4 if isinstance(source, Stream) else 2)
    settings = ("model.width=16", "train.previews=0") if isinstance(source, Stream) else (*SMALL[:2], "train.previews=0")
    model = an.train(source, budget="2it", condition="class", out=tmp_path, quiet=True, settings=settings, device="cpu")
    assert model.sample(1, {"class": 1}, steps=1).shape[1:] == data.spec.shape


def test_samples_of_another_form_are_one_sentence():
    with pytest.raises(DataError, match="dict needs the key 'x'"):
        an.load_data(DataLoader([{"picture": torch.zeros(3)}] * 4))
    with pytest.raises(DataError, match="different shapes"):
        an.load_data(DataLoader([torch.zeros(3), torch.zeros(4)], batch_size=1))
