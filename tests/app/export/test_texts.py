"""Exports of models that read texts: their runner reads a text as the model does, without this package."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.export import texts
from ancestral.conditioning import Conditioner, MiniLM, SentenceCondition, TextCondition
from ancestral.errors import AncestralError, UsageError
from ancestral.networks import MLP
from ancestral.runner import Exported, ExportError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")  # torch.export of itself
CAPTIONS = ["a red circle", "two blue squares above", None]
SEEDS = range(7, 12)


def reading(kind):
    """A model of points in the plane that is conditioned on a text."""
    torch.manual_seed(1)
    kind.fit(CAPTIONS)
    conditioner = Conditioner({"text": kind})
    model = an.Diffusion(MLP(2, 16, 1, conditioner.widths), (2,), conditioner=conditioner)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return model.eval()


def far(exported, model, text):
    """Largest difference of samples with the same seeds."""
    ours = model.sample(5, {"text": text}, seeds=SEEDS, steps=2).numpy()
    return np.abs(exported.sample(seeds=SEEDS, text=text) - ours).max()


@pytest.mark.parametrize("make", [lambda: TextCondition(8), lambda: SentenceCondition(MiniLM(), 8)], ids=["own", "minilm"])
def test_a_text_is_read_as_the_model_reads_it(make, tmp_path):
    model = reading(make())
    an.export(model, "pt2", tmp_path / "e", steps=2)
    loaded = an.load(tmp_path / "e")
    exported = loaded.runner
    for text in ("a blue circle", ["a red circle", "", "squares", "two", "above"]):
        assert far(exported, model, text) < 1e-4
    assert np.abs(exported.sample(seeds=SEEDS, text="two") - exported.sample(seeds=SEEDS, text="a red circle")).max() > 1e-2
    np.testing.assert_array_equal(exported.sample(seeds=SEEDS, text=""), exported.sample(seeds=SEEDS))  # the null
    expected = model.sample(2, {"text": "two"}, seeds=0, steps=2)
    torch.testing.assert_close(loaded.sample(2, {"text": "two"}, seeds=0), expected, atol=1e-4, rtol=1e-4)
    numbers = model.conditioner.parse({"text": "two"}, 5)["text"].numpy()
    by_numbers = exported.sample(seeds=SEEDS, text=numbers)  # of minilm up to half precision
    np.testing.assert_allclose(by_numbers, exported.sample(seeds=SEEDS, text="two"), atol=5e-4)
    with pytest.raises(ExportError, match="tokens, and the longest caption had"):
        exported.sample(1, text="a red circle above two blue squares")
    (tmp_path / "e" / "text.json").write_text("{}")
    with pytest.raises(ExportError, match=r"text\.json is damaged"):
        Exported(tmp_path / "e").sample(1, text="two")


def test_words_that_no_caption_had_are_refused(tmp_path, monkeypatch):
    model = reading(TextCondition(8))
    an.export(model, "pt2", tmp_path / "e", steps=1)
    exported = Exported(tmp_path / "e")
    with pytest.raises(ExportError, match="no text of the training data has the word 'zebra'"):
        exported.sample(1, text="a zebra")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ExportError, match="pip install tokenizers"):
        Exported(tmp_path / "e").sample(1, text="two")


def test_an_export_that_reads_differently_is_not_written(tmp_path, monkeypatch):
    model = reading(TextCondition(8))
    monkeypatch.setattr(texts, "START", 2)
    with pytest.raises(AncestralError, match="reads the condition text differently"):
        an.export(model, "pt2", tmp_path / "e", steps=1)
    monkeypatch.undo()
    monkeypatch.setattr(texts, "MiniLM", type("Other", (), {}))
    with pytest.raises(UsageError, match="the text encoder MiniLM cannot be exported"):
        an.export(reading(SentenceCondition(MiniLM(), 8)), "pt2", tmp_path / "e", steps=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_its_program_reads_texts_without_torch_and_this_package(to, tmp_path):
    model = reading(SentenceCondition(MiniLM(), 8))
    an.export(model, to, tmp_path / "e", steps=2)
    place = tmp_path / "elsewhere"
    shutil.move(tmp_path / "e", place)
    alone = (
        "import sys, runpy; sys.modules.update(torch=None, ancestral=None); runpy.run_path('runner.py', run_name='__main__')"
    )
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-c", alone, "-n", "5", "--seed", "2", "--condition", "text=a blue circle", "--out", "x.npy"]
    ran = subprocess.run(words, cwd=place, capture_output=True, text=True, env=surroundings, check=False)
    assert ran.returncode == 0, ran.stderr
    expected = model.sample(5, {"text": "a blue circle"}, seeds=2, steps=2).numpy()
    np.testing.assert_allclose(np.load(place / "x.npy"), expected, atol=1e-4)
