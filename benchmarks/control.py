"""Does a model draw what it is asked for? A classifier that was trained on real data is the judge.

    python benchmarks/control.py class            fashion-mnist: the class that was asked for
    python benchmarks/control.py layout           scenes: each box holds the digit that it should
    python benchmarks/control.py text             scenes: the picture shows each digit that the prompt names
    options: --for 10m  --judge 2m  --n 1000  --guidance 0 1 2 3  --out runs/control

Prints the accuracy of the judge on samples for each scale of guidance, beside its accuracy on real held-out data and with the
conditions of other samples (chance), with binomial standard errors; and writes control-KIND.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ancestral
from ancestral.api import plan
from ancestral.data import DataSet
from ancestral.families import seeds_from
from ancestral.progress import Reporter, follow
from ancestral.training.budget import Budget

SIDE = 16  # pixels of a box's contents, as its judge sees them


class Judge(nn.Module):
    """A convolutional classifier `(n, 1, h, w)` -> logits."""

    def __init__(self, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c in ((1, 32), (32, 64), (64, 128)):
            layers += [
                nn.Conv2d(c_in, c, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(c, c, 3, padding=1),
                nn.SiLU(),
                nn.AvgPool2d(2, ceil_mode=True),
            ]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(128, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).amax((2, 3)))
        return out

    def everywhere(self, x: Tensor) -> Tensor:
        """Logits of each class in each cell of 8 x 8 pixels, `(n, outputs, h / 8, w / 8)`."""
        out: Tensor = self.head(self.body(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


def fit(judge: Judge, x: Tensor, loss, seconds: float) -> None:
    """Train for so long by Adam, with a learning rate that falls to 0. loss: of the rows of a batch and its pictures."""
    optimizer, begun, random = torch.optim.Adam(judge.parameters(), 2e-3), time.monotonic(), torch.Generator().manual_seed(0)
    while (share := (time.monotonic() - begun) / seconds) < 1:
        rows = torch.randint(len(x), (128,), generator=random)
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - share)
        value = loss(rows, x[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


@torch.no_grad()
def in_parts(look, x: Tensor) -> Tensor:
    return torch.cat([look(part) for part in x.split(256)])


def contents(x: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What is in the boxes, scaled to SIDE x SIDE, and the digits that should be there."""
    cut, digits = [], []
    for picture, rows in zip(x, boxes, strict=True):
        for digit, left, top, width, height in rows.tolist():
            part = picture[None, :, top : top + height, left : left + width]
            cut.append(F.interpolate(part, (SIDE, SIDE), mode="bilinear", align_corners=False)[0])
            digits.append(digit)
    return torch.stack(cut), torch.tensor(digits)


class ByClass:
    """The class of the whole picture."""

    source = "fashion-mnist"

    def __init__(self, data: DataSet, seconds: float):
        x, y = data.values(data.train.array), data.train.labels
        self.judge = Judge(len(data.spec.classes))
        fit(self.judge, x, lambda rows, b: F.cross_entropy(self.judge(b), y[rows]), seconds)

    def right(self, x: Tensor, data: DataSet, rows: Tensor) -> Tensor:
        return in_parts(lambda b: self.judge(b).argmax(1), x) == data.test.labels[rows]


class ByLayout:
    """The digit in each box."""

    source = "scenes"

    def __init__(self, data: DataSet, seconds: float):
        x, y = contents(data.values(data.train.array), list(data.train.boxes))
        self.judge = Judge(10)
        fit(self.judge, x, lambda rows, b: F.cross_entropy(self.judge(b), y[rows]), seconds)

    def right(self, x: Tensor, data: DataSet, rows: Tensor) -> Tensor:
        cut, digits = contents(x, [data.test.boxes[i] for i in rows.tolist()])
        return in_parts(lambda b: self.judge(b).argmax(1), cut) == digits


class ByText:
    """Whether the picture shows, in some cell, each digit that the caption names. Cells are learned from maps."""

    source = "scenes"

    def __init__(self, data: DataSet, seconds: float):
        x = data.values(data.train.array)
        self.judge = Judge(10)
        fit(self.judge, x, lambda rows, b: self.loss(b, data.train.maps[rows]), seconds)

    def loss(self, x: Tensor, maps: Tensor) -> Tensor:
        there = F.max_pool2d(F.one_hot(maps.long(), 11).permute(0, 3, 1, 2)[:, 1:].float(), 8)
        return F.binary_cross_entropy_with_logits(self.judge.everywhere(x), there)

    def right(self, x: Tensor, data: DataSet, rows: Tensor) -> Tensor:
        named = self.named([data.test.captions[i] for i in rows.tolist()]) > 0
        return (in_parts(self.judge.everywhere, x).amax((2, 3)) > 0)[named]

    @staticmethod
    def named(captions) -> Tensor:
        return torch.tensor([[str(d) in caption.split() for d in range(10)] for caption in captions]).float()


KINDS = {"class": ByClass, "layout": ByLayout, "text": ByText}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--for", dest="budget", default="10m")
    parser.add_argument("--judge", default="2m")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0, 2.0, 3.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/control"))
    parser.add_argument("settings", nargs="*", help="of the recipe, as section.name=value")
    asked = parser.parse_intermixed_args()

    kind = KINDS[asked.kind]
    planned = plan(
        kind.source, condition=asked.kind, budget=asked.budget, out=asked.out / asked.kind, settings=tuple(asked.settings)
    )
    follow(planned.begin(), Reporter())
    data, model = planned.data, ancestral.load(asked.out / asked.kind)
    torch.manual_seed(0)
    judge = kind(data, Budget.parse(asked.judge).amount)
    rows = torch.from_numpy(np.random.RandomState(0).permutation(len(data.test)))[: asked.n]
    held = data.encoded(model.conditioner)
    real = data.batch(rows, "test").x
    found = {
        "real data": judge.right(real, data, rows),
        "real data, another's condition": judge.right(real, data, rows.roll(1)),
    }
    for scale in asked.guidance:
        x = model.sample(len(rows), held.asked(rows), seeds=seeds_from(1, len(rows)), steps=asked.steps, guidance=scale)
        found[f"samples, guidance {scale:g}"] = judge.right(x.cpu(), data, rows)
    table = {}
    for name, right in found.items():
        share, n = right.double().mean().item(), len(right)
        table[name] = {"accuracy": share, "std_err": (share * (1 - share) / n) ** 0.5, "n": n}
        print(f"{name:32} {share:7.1%} +- {table[name]['std_err']:.1%} of {n:,}")
    told = {"kind": asked.kind, "source": kind.source, "budget": asked.budget, "judge": asked.judge, "found": table}
    (asked.out / f"control-{asked.kind}.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
