"""Small data sets with classes, and a cache of their own."""

import numpy as np
import pytest

import ancestral as an


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCESTRAL_CACHE", str(tmp_path / "cache"))


def _squares(n, seed=0, classes=(0, 1, 2)):
    """12 x 12 grey images `(n, 12, 12)` uint8 of a bright square, whose place is the class, its size and brightness free."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, size=n)
    images = random.integers(0, 25, size=(n, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        side, (top, left) = random.integers(3, 6), ((1, 1), (6, 1), (3, 6))[label]
        image[top : top + side, left : left + side] += random.integers(90, 230).astype(np.uint8)
    return images, labels


@pytest.fixture(scope="session")
def squares():
    """The function that draws them: (n, seed, classes) -> (images, labels)."""
    return _squares


@pytest.fixture(scope="session")
def data():
    images, labels = _squares(1200)
    return an.load_data(images, labels=labels)
