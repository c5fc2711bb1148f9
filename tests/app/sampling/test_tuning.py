"""`ancestral tune` stores a sampler that `sample` and `evaluate` use, and that is refused once the weights are others."""

import json
from dataclasses import asdict, replace
from hashlib import blake2b

import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.evaluate import tuned
from ancestral.app.overview import facts
from ancestral.app.sampling.tuning import FILE, STEPS, Setting, Tuning, stale
from ancestral.app.training.run import Run
from ancestral.app.tune import NEAR
from ancestral.errors import AncestralError, UsageError
from ancestral.schedules import Chain, Linear, grid

NET = ("model.channels=[8, 16]", "model.blocks=1")
QUIET = ("train.batch=16", "train.previews=0", "train.diagnoses=0")
SMALL = (*NET, *QUIET)


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    """A run with classes, tuned by the command for 3 and 5 steps."""
    out = tmp_path_factory.mktemp("tuning") / "digits"
    an.train("digits", budget="20it", out=out, condition="class", settings=SMALL, quiet=True)
    assert command("tune", out, "--steps", "5,3", "-n", 4, "-q").returncode == 0
    return out


def test_what_is_stored_is_what_was_measured(run):
    tuning = Tuning.of(Run(run))
    assert [setting.steps for setting in tuning.settings][:2] == [3, 5]
    assert tuning.guidance == 1.5
    for setting in tuning.settings:
        assert setting.error <= setting.before
        assert setting.before == tuning.spacings["logsnr"][setting.steps]
    assert tuning.usual == min((s.steps for s in tuning.settings if s.error <= max(NEAR, tuning.reference)), default=None)
    assert (run / "tuning.png").is_file()
    stored = json.loads((run / FILE).read_text())
    del stored["checksum"]
    assert stored == json.loads(json.dumps(asdict(tuning)))


def test_a_tuning_of_format_1_is_read(run, tmp_path):
    tuning, other = Tuning.of(Run(run)), Run(tmp_path)
    text = json.dumps(asdict(tuning))
    old = {"checksum": blake2b(text.encode(), digest_size=16).hexdigest(), "tuning": text}
    (tmp_path / FILE).write_text(json.dumps(old))
    assert Tuning.stored(other) == tuning
    (tmp_path / FILE).write_text(json.dumps(old).replace("unipc", "heun").replace("dpmpp", "heun"))
    with pytest.raises(AncestralError, match=r"tuning\.json is damaged \(its content does not match its checksum\)"):
        Tuning.stored(other)


def test_samples_of_a_tuned_run_are_those_of_its_explicit_grid(run):
    setting = Tuning.of(Run(run)).settings[0]
    model = an.load(run)
    wanted = {"n": 4, "conditions": an.app.sampling.Conditions(classes=("1", "2"))}
    x = an.SampleRequest(**wanted, steps=3).run(run)
    seeds = an.SampleRequest(**wanted).chosen_seeds()
    explicit = model.sample(4, {"class": [1, 2, 1, 2]}, seeds=seeds, steps=3, solver=setting.solver, spacing=setting.spacing)
    assert torch.equal(x, explicit)
    assert not torch.equal(x, an.SampleRequest(**wanted, steps=3, solver="dpmpp").run(run))
    assert torch.equal(an.SampleRequest(**wanted, effort="quick").run(run), x)


def test_which_setting_a_request_takes():
    few, many = Setting(4, "unipc", (1.0, 0.6, 0.4, 0.1, 0.0), 0.2, 0.4), Setting(12, "unipc", "trailing", 0.01, 0.02)
    tuning = Tuning("w", (few, many), 12, 12, 0.02, {}, 1.0, 8)
    assert tuning.choose(4, None) == few
    assert tuning.choose(None, None) == many
    assert tuning.choose(None, "quick") == few
    assert tuning.choose(None, "best") == many
    assert tuning.choose(7, None) is None
    assert replace(tuning, usual=None).choose(None, None) is None
    assert an.SampleRequest(effort="best").settled(None).steps == STEPS["best"]
    assert an.SampleRequest(steps=7).settled(None) == an.SampleRequest(steps=7)


def test_a_picture_of_a_tuned_run_is_drawn_again_without_the_tuning(run, tmp_path, command):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert "at fitted noise levels" in command("sample", run, "-n", 4, "--quick", "--out", first).stderr
    held = (run / FILE).rename(tmp_path / FILE)
    assert command("sample", run, "--like", first, "--out", second, "-q").returncode == 0
    held.rename(run / FILE)
    with Image.open(first) as a, Image.open(second) as b:
        assert a.tobytes() == b.tobytes()


def test_evaluate_and_info_use_the_same_sampler(run):
    tuning = Tuning.of(Run(run))
    how = tuned(Run(run), {"steps": 3, "guidance": 2.0})
    assert how == {"steps": 3, "solver": tuning.settings[0].solver, "spacing": tuning.settings[0].spacing, "guidance": 2.0}
    assert tuned(Run(run), {"steps": 3, "solver": "heun"}) == {"steps": 3, "solver": "heun"}
    assert "tuned for 3, 5" in facts(Run(run))["sampler"]


def test_a_tuning_of_other_weights_is_ignored_and_named(run, tmp_path, command):
    other = Run(tmp_path / "other")
    an.train("digits", budget="2it", out=other.path, condition="class", settings=SMALL, quiet=True)
    assert stale(other) is None
    Tuning.of(Run(run)).save(other)
    assert Tuning.of(other) is None
    assert an.SampleRequest(steps=3).settled(other) == an.SampleRequest(steps=3)
    told = " ".join(command("sample", other.path, "-n", 1, "--steps", 3, "--out", tmp_path / "a.png").stderr.split())
    assert "1 samples" in told
    assert "is of other weights and is not used" in told
    assert "fitted" not in told
    assert "other weights" in facts(other)["sampler"]
    (other.path / FILE).write_text((other.path / FILE).read_text().replace("unipc", "heun").replace("dpmpp", "heun"))
    with pytest.raises(AncestralError, match=r"tuning\.json is damaged"):
        Tuning.of(other)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("tune", "{run}", "--steps", "four"), "write whole numbers separated by commas"),
        (("tune", "{run}", "--steps", "1"), "levels are fitted for 2 to 24 steps; got 1"),
        (("tune", "nowhere"), "does not exist"),
        (("sample", "{run}", "--quick", "--best"), "give one of them"),
        (("sample", "{run}", "--quick", "--steps", "4"), "--quick chooses the whole sampler: leave --steps out"),
        (("sample", "{run}", "--spacing", "1,0.5,0.7,0", "--steps", "3"), "must fall from 1 (noise) to 0 (data)"),
        (("sample", "{run}", "--spacing", "1,x,0"), "write numbers from 1 to 0"),
        (("sample", "{run}", "--spacing", "1,0.5,0", "--steps", "3"), "3 steps visit 4 times, and 3 are given"),
    ],
)
def test_a_wrong_request_is_a_sentence(run, command, words, sentence):
    done = command(*(word.format(run=run) for word in words))
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def test_a_model_without_steps_is_refused():
    model = an.GAN.__new__(an.GAN)
    torch.nn.Module.__init__(model)
    with pytest.raises(UsageError, match="the sampler of this model has no steps to fit"):
        an.tune(model)
    with pytest.raises(UsageError, match="`quick` chooses between samplers, and this model has only one"):
        an.SampleRequest(effort="quick").prepare(model)


@pytest.mark.parametrize("family", ["score", pytest.param("latent", marks=pytest.mark.long)])
def test_score_and_latent_runs_are_tuned(family, tmp_path):
    settings = {
        "score": (*NET, "model.schedule=geometric"),
        "latent": ("model.prior.width=16", "model.autoencoder.width=16"),
    }[family]
    an.train(
        "digits",
        family,
        budget="20it",
        out=tmp_path / family,
        settings=(*settings, *QUIET),
        quiet=True,
    )
    tuning = an.tune(tmp_path / family, (3,), n=4)
    assert tuning.settings[0].error <= tuning.settings[0].before
    assert an.SampleRequest(n=2, steps=3).run(tmp_path / family).isfinite().all()


def test_a_model_object_is_tuned_without_a_folder():
    model = an.Diffusion(lambda z, logsnr: z * torch.sigmoid(logsnr)[:, None], shape=(2,), schedule=Linear())
    tuning = an.tune(model, (3,), n=8)
    setting = tuning.settings[0]
    assert len(grid(model.schedule, 3, setting.spacing)) == 4
    assert model.sample(5, steps=3, solver=setting.solver, spacing=setting.spacing).isfinite().all()


def test_a_short_chain_has_few_levels():
    model = an.Diffusion(lambda z, logsnr: z * torch.sigmoid(logsnr)[:, None], shape=(2,), schedule=Chain.cosine(8))
    tuning = an.tune(model, (4,), n=4)
    assert [setting.steps for setting in tuning.settings] == [4]
    with pytest.raises(UsageError, match="the chain of this model has 8 noise levels"):
        an.tune(model, (10,), n=4)
