"""Features: what they are of, that they are cached, and parity of the Inception network."""

import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.evaluation.extractors import choose, extractor
from ancestral.app.evaluation.extractors import classifier as classifier_module
from ancestral.app.evaluation.extractors import inception as inception_module
from ancestral.app.evaluation.extractors.inception import Inception, resize
from ancestral.errors import AncestralError, UsageError
from ancestral.runtime import Runtime

CPU = Runtime.choose("cpu", "fp32", parameters=1)


def test_choice(data, squares):
    assert choose(data) == ["classifier", "efficientnet"]
    assert choose(an.load_data("moons")) == ["coordinates"]
    assert choose(an.load_data(squares(60)[0])) == ["efficientnet", "random"]
    assert choose(an.load_data(np.random.default_rng(0).normal(size=(60, 2, 40)))) == ["random"]


def test_unfit_extractors(data, squares):
    with pytest.raises(UsageError, match="unknown extractor 'classifer': did you mean 'classifier'"):
        extractor("classifer", data, CPU)
    with pytest.raises(UsageError, match="needs classes, and array has none"):
        extractor("classifier", an.load_data(squares(60)[0]), CPU)
    with pytest.raises(UsageError, match="needs images, and moons has none"):
        extractor("efficientnet", an.load_data("moons"), CPU)


def test_the_classifier_learns_and_is_trained_once(data, monkeypatch):
    monkeypatch.setattr(classifier_module, "SEEN", 12_000)
    first = extractor("classifier", data, CPU)
    assert first.accuracy > 0.95
    assert "3 classes" in first.about
    x = data.values(data.test.array)
    features = first(x)
    assert features.shape == (len(x), 128)
    monkeypatch.setattr(classifier_module, "fit", None)
    again = extractor("classifier", data, CPU)
    np.testing.assert_array_equal(features, again(x))
    assert (again.classes(x) == data.test.labels).double().mean() == pytest.approx(first.accuracy)


@pytest.mark.parametrize("name", ["random", "efficientnet"])
def test_features_do_not_depend_on_the_batch(data, name):
    e = extractor(name, data, CPU)
    x = data.values(data.test.array[:9])
    alone = np.concatenate([e(row[None]) for row in x])
    np.testing.assert_allclose(alone, e(x), atol=2e-4 * np.abs(alone).max())


def test_coordinates_are_standardised():
    data = an.load_data("moons")
    features = extractor("coordinates", data, CPU)(data.values(data.train.array))
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(features.std(0), 1, atol=1e-6)


def test_signals_have_random_features():
    data = an.load_data(np.random.default_rng(0).normal(size=(60, 2, 40)))
    assert extractor("random", data, CPU)(data.values(data.test.array)).shape == (6, 896)


def test_inception_agrees_with_torch_fidelity(tmp_path):
    """Equal random weights give equal features; torch-fidelity is installed aside, as its presence breaks torchmetrics."""
    aside = Path(sys.prefix) / "aside" / "torch_fidelity"
    package = types.ModuleType("torch_fidelity")
    package.__path__ = [str(aside)]
    sys.modules["torch_fidelity"] = package
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        torch.manual_seed(0)
        ours = Inception().eval()
        for module in ours.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            elif isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        torch.save(ours.state_dict(), tmp_path / "weights.pth")
        theirs = FeatureExtractorInceptionV3("parity", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth"))
        x = torch.randint(0, 256, (2, 3, 28, 41), dtype=torch.uint8)
        with torch.no_grad():
            (expected,) = theirs(x)
            found = ours(x / 255)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
            del sys.modules[name]
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_resizing_is_tensorflows():
    """Position i of the new axis reads i * old / new of the old one."""
    x = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    torch.testing.assert_close(resize(x, 8)[0, 0, 0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))


def test_the_standard_weights_are_checked(tmp_path, data):
    with pytest.raises(AncestralError, match=r"needs the file pt_inception.*--inception-weights"):
        extractor("inception", data, CPU, weights=tmp_path / "none.pth")
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"something else")
    with pytest.raises(AncestralError, match="does not hold the weights of the standard FID"):
        extractor("inception", data, CPU, weights=wrong)


@pytest.mark.skipif(inception_module.find() is None, reason="the weights of the standard FID are not on this machine")
def test_features_of_the_real_weights():
    file = inception_module.find()
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(inception_module.SHA256)
    e = inception_module.inception(CPU)
    features = e(torch.full((1, 3, 299, 299), 128 / 255))
    assert features.shape == (1, 2048)
    assert 0.2 < features.mean() < 0.6
