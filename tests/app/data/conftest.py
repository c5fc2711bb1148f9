"""Every test has a cache of its own, and pictures to make."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Colour = int | tuple[int, ...]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache directory of this test, empty."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ANCESTRAL_CACHE", str(path))
    return path


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Saves an image of one colour, or of seeded noise without one; makes the folders it needs."""

    def save(path: Path, colour: Colour | None = None, size: tuple[int, int] = (8, 8), mode: str = "L", **how) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if colour is None:
            bands = len(Image.new(mode, (1, 1)).getbands())
            seed = sum(str(path.name).encode())
            noise = np.random.RandomState(seed).randint(256, size=(size[1], size[0], bands), dtype=np.uint8)
            image = Image.fromarray(noise[..., 0] if bands == 1 else noise, mode=None).convert(mode)
        else:
            image = Image.new(mode, size, colour)
        image.save(path, **how)
        return path

    return save


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of more than 4 kB count as too large for the memory, and 64 samples stand for them."""
    from ancestral.app.data import arrays, assemble, dataset, decode_once, streamed

    for module in (arrays, assemble, decode_once, streamed):
        monkeypatch.setattr(module, "HELD", 4096)
    monkeypatch.setattr(dataset, "KEPT", 20)
