"""Control a model by a class, by words, and by digits in boxes, and count how often samples follow the condition."""

from pathlib import Path

import torch
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

import ancestral as an
from ancestral.app.data import DataSet
from ancestral.app.pictures import save_grid

BOXES = [["3", 2, 9, 10, 14], ["7", 19, 9, 10, 14]]  # class, left, top, width, height, in pixels of 32x32


def contents(x: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the contents of the boxes of pictures, as rows of 8x8 pixels, and the digits that should be there."""
    parts, names = [], []
    for picture, rows in zip(x, boxes, strict=True):
        for name, left, top, width, height in rows.tolist():
            inside = picture[None, :, top : top + height, left : left + width]
            parts.append(F.interpolate(inside, (8, 8), mode="bilinear", antialias=True).flatten())
            names.append(name)
    return torch.stack(parts), torch.tensor(names)


def obeyed(x: Tensor, data: DataSet, rows: Tensor, classifier: SVC) -> float:
    """Return the share of the boxes of held-out scenes `rows` in which pictures x show the right digit."""
    parts, names = contents(x, [data.test.boxes[i] for i in rows.tolist()])
    return float((classifier.predict(parts.numpy()) == names.numpy()).mean())


def main(
    budget: str | None = None, n: int = 200, settings: tuple[str, ...] = (), out: Path = Path("runs/control")
) -> dict[str, float]:
    # a class
    digits = an.train("digits", budget=budget, condition="class", out=out / "class", settings=settings)
    x = digits.sample(20, {"class": [3] * 10 + [8] * 10}, seeds=[*range(10), *range(10)], guidance=2)
    save_grid(x, out / "class.png", an.load_data("digits").spec, columns=10)

    # words
    data = an.load_data("scenes")
    print(data.train.captions[:3])
    prompted = an.train("scenes", budget=budget, condition="text", out=out / "text", settings=settings)
    save_grid(prompted.sample(10, {"text": "a 3 left of a 7"}, guidance=2), out / "text.png", data.spec, columns=10)

    # boxes
    placed = an.train("scenes", budget=budget, condition="layout", out=out / "layout", settings=settings)
    save_grid(placed.sample(10, {"layout": BOXES}, guidance=2), out / "layout.png", data.spec, columns=10)

    # does it obey? train a classifier on the contents of the boxes of real scenes ...
    rows = torch.arange(n)
    parts, names = contents(data.values(data.train.array[:2000]), list(data.train.boxes[:2000]))
    classifier = SVC(gamma="scale", C=10).fit(parts.numpy(), names.numpy())
    real = data.batch(rows, "test").x
    found = {"real": obeyed(real, data, rows, classifier), "chance": obeyed(real.roll(1, 0), data, rows, classifier)}

    # ... and apply it to samples for the same boxes
    wanted = data.encoded(placed.conditioner).asked(rows)
    for scale in (1.0, 2.0, 3.0):
        found[f"guidance {scale:g}"] = obeyed(placed.sample(n, wanted, guidance=scale), data, rows, classifier)
    for who, share in found.items():
        print(f"{who:12} {share:6.1%} of the boxes hold their digit")
    return found


if __name__ == "__main__":
    main()
