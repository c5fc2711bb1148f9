"""Train on your own folder of images: look at the data, train with classes, and draw samples of each class."""

from pathlib import Path

from PIL import Image

import ancestral as an
from ancestral.app.pictures import save_grid


def make_folder(folder: Path, each: int = 100) -> None:
    """Make a folder in place of your pictures: PNG files of handwritten digits, in a sub-folder for each of three classes."""
    digits = an.load_data("digits")
    for label, name in ((0, "zero"), (1, "one"), (7, "seven")):
        rows = (digits.train.labels == label).nonzero()[:each, 0]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(digits.batch(rows).x):
            Image.fromarray((picture[0] * 255).byte().numpy()).resize((16, 16)).save(folder / name / f"{i:03d}.png")


def main(
    budget: str = "2m", settings: tuple[str, ...] = (), photos: Path = Path("photos"), out: Path = Path("runs/photos")
) -> None:
    if not photos.exists():
        make_folder(photos)

    # what is read: look at it before training
    spec = an.load_data(photos).spec
    print(f"{spec.name}: {spec.size} training images of {spec.shape}, classes {spec.classes}")

    # the same call continues a stopped run
    model = an.train(photos, budget=budget, condition="class", out=out, settings=settings)

    # eight of each class; column i of every picture has seed i
    for name in spec.classes:
        x = model.sample(8, {"class": name}, seeds=range(8), guidance=1.5)
        save_grid(x, out / f"{name}.png", spec, columns=8)

    # samples without a class; in training, one image in ten had no class
    save_grid(model.sample(16, seeds=1), out / "any.png", spec)


if __name__ == "__main__":
    main()
