"""A run goes to the hub and comes back, with a card that tells the truth; nothing of this machine goes along."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ancestral as an
from ancestral.app import remote
from ancestral.app.cli import main
from ancestral.app.recipes.recipe import Recipe
from ancestral.errors import AncestralError, UsageError

pytest.importorskip("huggingface_hub")
_spec = importlib.util.spec_from_file_location("fake_hub", Path(__file__).with_name("fake.py"))
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)
QUIET = ("train.previews=0", "train.diagnoses=0", "train.batch=16")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("ANCESTRAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    found = fake.FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", found.address)
    yield found
    found.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of pictures in a folder whose name nobody else should read."""
    place = tmp_path_factory.mktemp("secret")
    pixels = np.random.default_rng(0).integers(0, 255, (300, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        (place / "cats" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / "cats" / "ab"[i % 2] / f"{i}.png")
    out = place / "runs" / "cats"
    an.train(place / "cats", budget="3it", out=out, condition="class", settings=("model.width=16", *QUIET), quiet=True)
    an.evaluate(out, n=25, extractors=["random"])
    return out


def command(*words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return ended.value.code


def test_a_run_comes_back_from_the_hub(hub, run, tmp_path, monkeypatch):
    assert command("push", run, "me/cats", "--license", "cc-by-4.0", "-q") == 0
    back = an.load("hub:me/cats")
    assert torch.equal(back.sample(2, {"class": "b"}, seeds=[3, 4]), an.load(run).sample(2, {"class": "b"}, seeds=[3, 4]))
    monkeypatch.chdir(tmp_path)
    assert command("sample", "hub:me/cats", "-n", 2, "--steps", 2, "-q") == 0
    assert (tmp_path / "samples.png").is_file()  # not in the cache
    assert command("info", "hub:me/cats", "-q") == 0


def test_nothing_of_this_machine_is_written(hub, run):
    an.push(run, "me/cats", licence="mit")
    files = hub.models["me/cats"][-1][1]
    made = {".gitattributes", "README.md", "curves.png", "samples.png"}  # all else is of the run
    assert set(files) - made <= {*remote.MODEL, "evaluation.json", "metrics.jsonl"}
    for name, content in files.items():
        assert b"secret" not in content, name
    assert yaml.safe_load(files["recipe.yaml"])["data"]["source"] == "cats"
    assert Recipe.load(run / "recipe.yaml").checksum() in files["model/model.safetensors"][:4096].decode(errors="ignore")


def test_the_card_says_what_was_measured(hub, run):
    an.push(run, "me/cats", licence="cc-by-4.0")
    text = hub.models["me/cats"][-1][1]["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    metadata, evaluation = yaml.safe_load(head), json.loads((run / "evaluation.json").read_text())
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["library_name"] == "ancestral"
    assert metadata["tags"] == ["generative-model", "diffusion", "class"]
    assert "pipeline_tag" not in metadata  # a class is asked for
    (result,) = metadata["model-index"][0]["results"]
    first = evaluation["metrics"][0]
    assert result["dataset"] == {"name": "cats", "type": "custom", "split": "test", "revision": result["dataset"]["revision"]}
    assert result["metrics"][0]["value"] == first["value"]["value"]
    assert result["metrics"][0]["args"]["real"] == first["real"]["value"]
    assert f"| {first['name']} |" in body
    assert "2 classes: a, b" in body
    assert "ancestral sample hub:me/cats" in body
    assert "3 steps in" in body
    assert "batches of 16" in body


def test_a_model_without_a_run_is_pushed(hub, tmp_path):
    """A saved model has neither a recipe nor measurements."""
    run = tmp_path / "points"
    an.train(torch.randn(40, 2), model="vae", budget="2it", out=run, settings=QUIET, quiet=True).save(tmp_path / "saved")
    an.push(tmp_path / "saved", "me/points", licence="mit")
    files = hub.models["me/points"][-1][1]
    assert {"config.json", "model.safetensors", "samples.png", "README.md"} <= set(files)
    assert "The model was not evaluated." in files["README.md"].decode()
    assert torch.equal(an.load("hub:me/points").sample(3), an.load(tmp_path / "saved").sample(3))


def test_a_name_means_one_commit_until_it_is_asked_for_the_newest(hub, run):
    an.push(run, "me/cats", licence="mit")
    first = remote.located("hub:me/cats")
    asked = len(hub.requests)
    hub.commit("me/cats", {"README.md": b"changed"})
    assert remote.located("hub:me/cats") == first
    assert len(hub.requests) == asked  # without a network
    newest = remote.located("hub:me/cats@main")
    assert newest != first
    assert (newest / "README.md").read_bytes() == b"changed"
    assert remote.located("hub:me/cats") == newest
    assert remote.located(f"hub:me/cats@{hub.models['me/cats'][1][0]}") == first
    assert remote.located("hub:me/cats") == newest  # a named revision is not kept


def test_only_files_that_are_read_are_downloaded(hub, run):
    an.push(run, "me/cats", licence="mit")
    hub.commit("me/cats", {"model.py": b"import os", "model/weights.pkl": b"x", "plugin/setup.py": b"x", "samples.png": b"x"})
    folder = remote.located("hub:me/cats")
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} <= set(remote.PULLED)


def test_a_failed_download_leaves_nothing(hub, run, tmp_path):
    an.push(run, "me/cats", licence="mit")
    commits = hub.models["me/cats"]
    sha, files = commits[-1]
    commits[-1] = (sha, {**files, "model/model.safetensors": fake.FORBIDDEN})  # after other files
    with pytest.raises(AncestralError, match="the hub did not give all files of me/cats"):
        remote.located("hub:me/cats")
    commits[-1] = (sha, files)
    assert not [path for path in (tmp_path / "cache" / "hub" / "me").rglob("*") if path.is_file()]
    assert an.load("hub:me/cats").shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hub:cats", "not the name of a model of the hub"),
        ("hub:me/cats/more", "not the name of a model of the hub"),
        ("hub:../cats", "not the name of a model of the hub"),
        ("hub:me/..", "not the name of a model of the hub"),
        ("hub:me/cats@../../x", "not the name of a model of the hub"),
        ("hub:me/dogs", "the hub has no model me/dogs"),
        ("hub:me/other@v2", "the hub has no such revision of me/other"),
        ("hub:me/other", "me/other holds no model of ancestral"),
    ],
)
def test_a_wrong_name_is_answered_in_a_sentence(hub, name, said):
    hub.commit("me/other", {"README.md": b"of another library"})
    with pytest.raises(UsageError, match=said):
        an.load(name)


def test_a_hub_that_fails_is_answered_in_a_sentence(hub, run, capsys, monkeypatch):
    hub.fails_with = 403
    with pytest.raises(AncestralError, match=r"the hub refused me/cats .*set HF_TOKEN"):
        an.push(run, "me/cats", licence="mit")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(AncestralError, match=r"the hub does not answer .*check the network"):
        an.load("hub:me/cats")
    assert command("push", run, "me/cats") == 2
    assert "name the licence" in capsys.readouterr().err
    for wrong, said in (("hub:me/cats", "on the hub already"), (run, "a push makes a new commit")):
        with pytest.raises(UsageError, match=said):
            an.push(wrong, "me/cats@v1", licence="mit")


def test_a_run_without_a_model_is_refused(hub, run, tmp_path):
    shutil.copytree(run, tmp_path / "untrained")
    (tmp_path / "untrained" / "model" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="has no trained model yet"):
        an.push(tmp_path / "untrained", "me/cats", licence="mit")
    assert not hub.models


def test_the_client_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(AncestralError, match=r"pip install 'ancestral\[hub\]'"), remote.hub_errors("me/cats"):
        pass
