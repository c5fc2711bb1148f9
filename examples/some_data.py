"""Make small data of each kind in the folder `data`, in place of yours: captioned pictures, a table, signals, arrays."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_wine

import ancestral as an

FOLDER = Path("data")


def captions(folder: Path, n: int = 2000) -> None:
    """Make pictures of two or three digits, and metadata.jsonl with a caption for each."""
    scenes = an.load_data("scenes")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, picture in enumerate(scenes.train.array[:n]):
        Image.fromarray(np.asarray(picture)[0]).save(folder / f"{i:04d}.png")
        rows.append(json.dumps({"file_name": f"{i:04d}.png", "text": scenes.train.captions[i]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")


def table(path: Path) -> None:
    """Write a table of 178 wines: 13 chemical measurements, and the grape as the label."""
    wine = load_wine()
    header = ",".join([*(name.replace("/", " to ") for name in wine.feature_names), "label"])
    np.savetxt(path, np.column_stack([wine.data, wine.target]), fmt="%g", delimiter=",", header=header, comments="")


def signals(path: Path, n: int = 2000) -> None:
    """Write swings that die away, of random frequency, height and damping: two channels, position and speed, of 64 steps."""
    random = np.random.RandomState(0)
    t = np.linspace(0, 4, 64)
    height, damping, frequency, phase = (random.uniform(*ends, (n, 1)) for ends in ((5, 20), (0.3, 1), (4, 8), (0, 6.28)))
    position = height * np.exp(-damping * t) * np.cos(frequency * t + phase)
    x = np.stack([position, np.gradient(position, t, axis=1)], 1)
    np.savez(path, x=x.astype(np.float32), channel_names=["position, mm", "speed, mm/s"])


def arrays(path: Path, n: int = 1000, side: int = 16) -> None:
    """Write maps of three quantities on a grid: a warm spot, and the two components of the wind around it."""
    random = np.random.RandomState(0)
    y, x = np.mgrid[:side, :side] / side - 0.5
    left, top, width = (random.uniform(*ends, (n, 1, 1)) for ends in ((-0.2, 0.2), (-0.2, 0.2), (0.1, 0.25)))
    spot = np.exp(-((x - left) ** 2 + (y - top) ** 2) / 2 / width**2)
    maps = np.stack([280 + 15 * spot, -8 * spot * (y - top) / width, 8 * spot * (x - left) / width], 1)
    np.savez(
        path, x=maps.astype(np.float32), channel_names=["temperature, K", "wind to the east, m/s", "wind to the south, m/s"]
    )


if __name__ == "__main__":
    captions(FOLDER / "captions")
    table(FOLDER / "wine.csv")
    signals(FOLDER / "swings.npz")
    arrays(FOLDER / "weather.npz")
    print(f"{FOLDER.resolve()}: captions, wine.csv, swings.npz, weather.npz")
