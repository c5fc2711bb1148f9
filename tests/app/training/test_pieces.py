"""Budgets, recipes, flat parameters, the moving average, files."""

import errno
import json

import pytest
import torch
from torch import nn

from ancestral.app.api import plan, train
from ancestral.app.data import DataSpec
from ancestral.app.progress import describe
from ancestral.app.recipes import DiffusionRecipe
from ancestral.app.recipes.recipe import Recipe, override, parse
from ancestral.app.training.budget import Budget
from ancestral.app.training.loop import Step
from ancestral.app.training.player import FlatParameters, PowerEMA, gamma_of
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, UsageError
from ancestral.files import write_atomically
from ancestral.version import __version__

MINIMAL = {"data": {"source": "digits"}, "train": {"budget": "1m"}}


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"),
        ("2m", 120, "seconds"),
        ("1h30m", 5400, "seconds"),
        ("0.5h", 1800, "seconds"),
        ("20000it", 20000, "iterations"),
        ("20_000 it", 20000, "iterations"),
        ("5epochs", 5, "epochs"),
        ("1 epoch", 1, "epochs"),
    ],
)
def test_budget(text, amount, unit):
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit) == (amount, unit)
    spent = {"seconds": 0.0, "iterations": 0, "epochs": 0.0}
    assert budget.progress(**spent) == 0
    assert budget.progress(**spent | {unit: amount / 4}) == 0.25
    assert budget.progress(**spent | {unit: amount * 2}) == 1


@pytest.mark.parametrize("text", ["2", "m2", "two minutes", "", "5 parsecs"])
def test_budget_says_how_to_write_one(text):
    with pytest.raises(UsageError, match="write a time"):
        Budget.parse(text)


def test_empty_budget():
    with pytest.raises(UsageError, match="is zero: give a larger one"):
        Budget.parse("0s")


def test_recipe_round_trips_through_its_file(tmp_path):
    recipe = Recipe.of(override(MINIMAL, parse(("train.batch=32", "model.channels=[8, 16]", "model.schedule=cosine"))))
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.dump())
    assert Recipe.load(file) == recipe
    assert recipe.model.channels == (8, 16)
    assert recipe.differences(Recipe.of(MINIMAL)) == [
        "model.channels: [8, 16] -> None",
        "model.schedule: cosine -> linear",
        "train.batch: 32 -> 64",
    ]


@pytest.mark.parametrize(
    ("shape", "settings", "expected"),
    [
        ((1, 28, 28), {}, ("velocity", 1.0)),  # patches of 2x2
        ((3, 32, 32), {}, ("velocity", 1.0)),
        ((3, 64, 64), {}, ("v", 0.1)),  # of 4x4, 48 numbers
        ((3, 64, 64), {"patch": 2}, ("velocity", 1.0)),
        ((3, 64, 64), {"net": "dit"}, ("velocity", 1.0)),
        ((3, 64, 64), {"target": "velocity"}, ("velocity", 1.0)),
        ((3, 64, 64), {"target": "v"}, ("v", 1.0)),
        ((1, 28, 28), {"sigma_data": 0.5}, ("v", 0.5)),
        ((200,), {}, ("velocity", 1.0)),
    ],
)
def test_where_a_patch_holds_many_numbers_a_network_need_not_carry_their_noise(shape, settings, expected):
    c = shape[0]
    spec = DataSpec("set", shape, "uint8", (0.0, 1.0), 256, (0.0,) * c, (1.0,) * c, (), 9, "00ff")
    assert DiffusionRecipe(**settings).prediction_type(spec) == expected


def test_sizes_that_follow_from_the_data_are_stored_in_the_run():
    """Later defaults must not read old weights otherwise. Latents are dense: their noise is none of detail alone."""
    pictures = torch.randint(0, 256, (20, 3, 64, 64), dtype=torch.uint8).numpy()
    model = plan(pictures, settings=("model.channels=[8, 16]",)).recipe.model
    assert (model.target, model.sigma_data) == ("v", 0.1)
    latent = ("model.prior.net=dit", "model.prior.patch=4", "model.autoencoder.width=8")
    prior = plan(pictures, model="latent", settings=latent).recipe.model.prior
    assert (prior.target, prior.sigma_data) == ("velocity", None)


def test_a_run_from_before_sigma_data_continues(tmp_path):
    how = {"settings": ("model.channels=[8, 16]", "train.previews=0"), "out": tmp_path / "run"}
    train("digits", budget="2it", **how)
    file = tmp_path / "run" / "recipe.yaml"
    recipe = file.read_text()
    assert "target: velocity" in recipe
    file.write_text(recipe.replace("  sigma_data: null\n", ""))
    assert "sigma_data" not in file.read_text()
    assert train("digits", budget="2it", **how) is not None


def test_recipe_says_all_that_is_wrong_at_once():
    with pytest.raises(UsageError) as error:
        Recipe.of(override({"data": {"source": "digits"}}, parse(("train.bacth=32", "train.lr=fast", "model.schedule=sine"))))
    message = str(error.value)
    assert "unknown setting 'train.bacth': did you mean 'batch'?" in message
    assert "the setting 'train.budget' is missing" in message
    assert "train.lr=fast: input should be a valid number" in message
    assert "model.schedule: unknown schedule 'sine': did you mean 'cosine'?" in message
    assert "pydantic" not in message


@pytest.mark.parametrize("setting", ["data=foo", "train=5", "model=diffusion"])
def test_a_section_has_no_value(setting):
    with pytest.raises(UsageError, match=rf"is a section of the recipe, .*: write {setting.partition('=')[0]}\.name=value"):
        override({}, parse((setting,)))


def test_an_assignment_needs_an_equals_sign():
    with pytest.raises(UsageError, match=r"write a setting as section\.name=value"):
        parse(("train.batch",))
    with pytest.raises(UsageError, match=r"cannot read 'model\.channels=\[8,'"):
        parse(("model.channels=[8,",))
    with pytest.raises(UsageError, match="'train' is a section of the recipe"):
        override({}, {"train": 3, "train.batch": 4})


def test_flat_parameters_are_views_in_the_same_layout():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 5)
    before, strides = net(x), [p.stride() for p in net.parameters()]
    flat = FlatParameters(net.parameters())
    torch.testing.assert_close(net(x), before, atol=0, rtol=0)
    assert [p.stride() for p in net.parameters()] == strides
    net(x).sum().backward()
    expected = torch.cat([p.grad.as_strided((p.numel(),), (1,)) for p in net.parameters()])
    assert flat.grad.abs().sum() > 0
    assert flat.grad.norm().item() == pytest.approx(sum(p.grad.square().sum() for p in net.parameters()).sqrt().item())
    assert len(expected) == flat.value.numel() == sum(p.numel() for p in net.parameters())
    with flat.holding(torch.zeros_like(flat.value)):
        assert net(x).abs().sum() == 0
    torch.testing.assert_close(net(x), before, atol=0, rtol=0)


def test_one_fused_step_is_the_step_of_separate_parameters():
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    a, b = net(), net()
    flat = FlatParameters(a.parameters())
    optimizers = torch.optim.AdamW([flat.value], 0.1, fused=True), torch.optim.AdamW(b.parameters(), 0.1)
    x = torch.randn(16, 4)
    for _ in range(5):
        for model, optimizer in zip((a, b), optimizers, strict=True):
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    torch.testing.assert_close(a(x), b(x))


def test_power_ema_of_a_line():
    """The average of theta_t = t is t (gamma + 1)/(gamma + 2), in the limit of many steps."""
    ema = PowerEMA(torch.zeros(1), std=0.1)
    for t in range(1, 20_001):
        ema.update(torch.tensor([float(t)]))
    assert ema.average.item() == pytest.approx(20_000 * (ema.gamma + 1) / (ema.gamma + 2), rel=1e-3)
    first = PowerEMA(torch.zeros(1))
    first.update(torch.tensor([3.0]))
    assert first.average.item() == 3


def test_ema_widths_are_those_of_the_paper():
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.01)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.01)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomically(file, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new and longer")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def a_run(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Recipe.of(MINIMAL))
    return run


def test_checkpoints_keep_the_newest_and_know_when_they_are_damaged(tmp_path):
    run = a_run(tmp_path)
    assert run.load_checkpoint() is None
    for step in (1, 2, 3):
        run.save_checkpoint(step, {"w": torch.full((100,), float(step))}, {"step": step}, keep=2)
    assert [f.name for f in run.checkpoint_files()] == ["step-00000002.safetensors", "step-00000003.safetensors"]
    newest = run.checkpoint_files()[-1]
    sound = newest.read_bytes()
    for damaged in (sound[: len(sound) // 2], sound[:-1], b"", sound[:-8] + b"12345678"):
        newest.write_bytes(damaged)
        stored = run.load_checkpoint()
        assert stored.numbers == {"step": 2}
        assert [file.name for file in stored.damaged] == ["step-00000003.safetensors"]
    for file in run.checkpoint_files():
        file.write_bytes(b"nothing")
    with pytest.raises(AncestralError, match=r"every checkpoint in .* is damaged"):
        run.load_checkpoint()


def test_metrics_survive_a_cut_line_and_rewind(tmp_path):
    run = a_run(tmp_path)
    for step in range(5):
        run.append_metrics({"step": step})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3, 4]
    run.rewind_metrics(2)
    assert [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()] == [0, 1, 2]


def test_another_recipe_is_refused(tmp_path):
    run = a_run(tmp_path)
    run.create(Recipe.of(MINIMAL))
    with pytest.raises(UsageError, match=r"holds a run of another recipe \(train\.batch: 64 -> 32\): choose another folder"):
        run.create(Recipe.of(override(MINIMAL, parse(("train.batch=32",)))))


def test_not_a_run(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        Run.existing(tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds no run"):
        Run.existing(tmp_path)


def test_a_model_of_another_version_is_called_so(tmp_path):
    run = plan("moons", budget="1it", out=tmp_path / "run", settings=("train.previews=0",)).begin()
    for _ in run:
        pass
    folder, config = Run(tmp_path / "run"), tmp_path / "run" / "model" / "config.json"
    described = json.loads(config.read_text())
    assert described["version"] == __version__
    folder.load_model()
    del described["checksum"]
    config.write_text(json.dumps(described | {"version": "0.0.9", "model": described["model"] | {"width": 8}}))
    with pytest.raises(AncestralError, match=r"was made by ancestral 0\.0\.9 and this is .* some of its parameters are"):
        folder.load_model()
    config.write_text(json.dumps(described | {"version": "0.0.9", "model": described["model"] | {"flavour": 8}}))
    with pytest.raises(AncestralError, match=r"made by ancestral 0\.0\.9 .* this version does not know its settings"):
        folder.load_model()
    del described["version"]
    config.write_text(json.dumps(described | {"model": described["model"] | {"width": 8}}))
    with pytest.raises(AncestralError, match="made by an older version and this is"):
        folder.load_model()


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({"model/total": 0.5, "model/kl": 0.1}, "  loss 0.5000  kl 0.1000  "),
        (
            {"discriminator/total": 0.5, "discriminator/r1": 0.1, "generator/total": 0.7},
            "  discriminator loss 0.5000  r1 0.1000  generator loss 0.7000  ",
        ),
    ],
)
def test_the_progress_line_names_the_player_of_each_loss(losses, words):
    line = describe(Step(1, 64, 1.0, 0.1, losses, {"model": 1.0}, 0.1, 5.0, 0))
    assert words in line


def test_an_earlier_checkpoint_is_the_model_that_ended_there(tmp_path):
    """Without a decay of the learning rate, the second step of a run of three is the end of a run of two."""
    settings = ("model.channels=[8, 16]", "model.blocks=1", "train.decay=0", "train.previews=0", "train.checkpoint_every=1e-9")
    for steps in (2, 3):
        train("digits", budget=f"{steps}it", out=tmp_path / str(steps), settings=(*settings, "train.keep=9"), quiet=True)
    run = Run.existing(tmp_path / "3")
    short, final = (Run.existing(tmp_path / name).load_model("cpu").state_dict() for name in "23")
    second, third = (run.load_model("cpu", step=step).state_dict() for step in (2, 3))
    assert all(torch.equal(second[name], short[name]) for name in short)
    assert all(torch.equal(third[name], final[name]) for name in final)
    assert not all(torch.equal(short[name], final[name]) for name in short)
    with pytest.raises(UsageError, match=r"of step 7 does not exist in .*, which has those of 1, 2, 3: to store more"):
        run.load_model(step=7)
