"""Does a model draw what it is asked for? A network that learned from real data reads its samples.

    python benchmarks/control.py class            fashion-mnist: the class that was asked for
    python benchmarks/control.py layout           scenes: the boxes hold their digits, and nothing stands beside them
    python benchmarks/control.py map              the same, asked for by a semantic map
    python benchmarks/control.py text             scenes: the digits that the prompt names, and where they stand
    python benchmarks/control.py emoji            emoji by text: category, style and skin tone; of data/emoji, which
                                                  `benchmarks/emoji.py data/emoji --combinations` makes, or --source
    options: --source scenes64 (layout, map, text: emoji of four classes)  --model latent
             --for 10m  --n 1000  --guidance 0 1 1.5 2 3 5  --steps 20  --run RUN  --out runs/control  section.name=value

Trains a model, or takes that of RUN, and prints for every scale of guidance the share of samples that are found to show what
was asked, beside the same of real held-out data, of real data with the conditions of other samples (chance), and the Fréchet
distance in the reader's features to real data. Scenes of digits and emoji are trained without certain combinations of parts
that are all seen; prompts of these are counted apart. Writes OUT/control-KIND.json and a picture of samples for each scale.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import ancestral
import emoji
from ancestral.app.api import plan
from ancestral.app.data import DataSet, load
from ancestral.app.data.assemble import assemble
from ancestral.app.data.digits import digits
from ancestral.app.data.scenes import DIGITS, compose
from ancestral.app.evaluation.extractors.base import Extractor, Pictures
from ancestral.app.evaluation.extractors.classifier import OwnClassifier
from ancestral.app.evaluation.extractors.efficientnet import efficientnet
from ancestral.app.pictures import save_grid
from ancestral.app.progress import Reporter, follow
from ancestral.app.training.run import Run
from ancestral.metrics.frechet import frechet
from ancestral.models import GenerativeModel
from ancestral.runtime import Runtime
from readers import SEEN, Attributes, Reader, Thing, holds, present, reader, relations, said

HELD_OUT = 10  # of a hundred combinations
REFERENCE = 500, 5000  # real pictures that distances are measured to, at least and at most
SHOWN = 40  # samples in a picture
READER = 300_000  # parameters of a reader, about
COMPOSED = 11_000, 10_000  # scenes of digits in the two splits
Findings = Mapping[str, Tensor]  # by question, 1 where the answer is yes: one for each picture, or for each thing in it


class Task(Protocol):
    """What is asked, and what reads the samples.

    condition: that of the model. data: to train on. tests: by name, data whose held-out split says what is asked for.
    """

    condition: str
    data: DataSet
    tests: dict[str, DataSet]
    features: Extractor

    def score(self, x: Tensor, data: DataSet, rows: Tensor) -> Findings:
        """Whether the pictures x show what the held-out samples of `rows` ask for."""


class Classes:
    """fashion-mnist by class, read by the classifier that `ancestral evaluate` measures distances with."""

    condition = "class"

    def __init__(self, source: str, runtime: Runtime):
        self.data = load(source)
        self.tests = {"classes": self.data}
        self.features = OwnClassifier(self.data, runtime)

    def score(self, x: Tensor, data: DataSet, rows: Tensor) -> Findings:
        assert data.test.labels is not None
        return {"class": self.features.classes(x) == data.test.labels[rows]}


class Scenes:
    """Scenes, read by a reader of things and boxes.

    Of digits a tenth of the arrangements (two digits and where one stands from the other) is in no training scene's caption; a
    second and third digit, whose places a caption does not compare, may stand so. Held-out scenes of emoji are all new.
    """

    def __init__(self, condition: str, source: str, composed: Sequence[int], seen: int, runtime: Runtime):
        self.condition, self.runtime = condition, runtime
        whole = load(source)
        if source == "scenes":
            old, new = divided(*composed)
            self.data, self.tests = old, {"seen combinations": old, "held-out combinations": new}
        else:
            self.data, self.tests = whole, {"new scenes": whole}
        self.reader: Reader = reader(whole, seen, runtime)
        self.features = Pictures("reader", self.reader, "a reader of scenes", runtime)

    def score(self, x: Tensor, data: DataSet, rows: Tensor) -> Findings:
        found = self.reader.read(x, self.runtime)
        asked = [[Thing.of(row) for row in (data.test.boxes or ())[i]] for i in rows.tolist()]
        if self.condition == "text":
            places = [said((data.test.captions or ())[i] or "") for i in rows.tolist()]
            names = [[thing.name for thing in things] for things in asked]  # a caption names them in this order
            answers = [holds(*one) for one in zip(names, places, found, strict=True)]
            named, placed = (torch.tensor(answer) for answer in zip(*answers, strict=True))
            several = torch.tensor([bool(some) for some in places])
            each = [there for one in zip(names, found, strict=True) for there in present(*one)]
            return {
                "thing named": torch.tensor(each),
                "just the things named": named,
                "places, of the right things": placed[named & several],
                "all": placed,
            }
        pictures = list(zip(asked, found, strict=True))
        filled = [any(box.overlap(thing) >= 0.5 for thing in there) for boxes, there in pictures for box in boxes]
        right = [
            [any(box.name == t.name and box.overlap(t) >= 0.5 for t in there) for box in boxes] for boxes, there in pictures
        ]
        whole = [all(boxes) and len(boxes) == len(there) for boxes, there in zip(right, found, strict=True)]
        answered = {"box filled": filled, "box holds its thing": [box for boxes in right for box in boxes], "all": whole}
        return {question: torch.tensor(answers) for question, answers in answered.items()}


def divided(train_scenes: int, test_scenes: int) -> tuple[DataSet, DataSet]:
    """Scenes of digits without the arrangements that are withheld, and the same with held-out scenes of these alone."""
    source = digits()
    train = compose(source.train, train_scenes, np.random.RandomState(0))
    test = compose(source.test, test_scenes, np.random.RandomState(1))
    apart = [torch.tensor([withheld(caption or "") for caption in part.captions or ()]) for part in (train, test)]
    train = train.take((~apart[0]).nonzero()[:, 0])

    def scenes(rows: Tensor) -> DataSet:
        held = test.take(rows.nonzero()[:, 0])
        return assemble("scenes", train, held, levels=256, box_classes=DIGITS, map_classes=DIGITS)

    return scenes(~apart[1]), scenes(apart[1])


class Pictograms:
    """Emoji by text, read by a regression on ImageNet features. All that is held out are combinations of seen parts."""

    condition = "text"

    def __init__(self, folder: Path, runtime: Runtime):
        self.data = load(folder, size=32)
        self.features = efficientnet((3, 64, 64), runtime)
        self.known = emoji.attributes(emoji.fetch(emoji.STYLES[0], folder / "packages"))
        toned = torch.tensor([self.known[caption or ""]["skin tone"] is not None for caption in self.data.test.captions or ()])
        self.tests = {
            name: replace(self.data, test=self.data.test.take(rows.nonzero()[:, 0]))
            for name, rows in (
                ("held-out combinations without a skin tone", ~toned),
                ("held-out combinations with a skin tone", toned),
            )
        }
        train = self.data.values(self.data.train.array)
        self.attributes = Attributes(self.features(train), self.asked(self.data.train.captions or ()))

    def asked(self, captions: Iterable[str | None]) -> dict[str, list[str | None]]:
        each = [self.known[caption or ""] for caption in captions]
        return {attribute: [one[attribute] for one in each] for attribute in each[0]}

    def score(self, x: Tensor, data: DataSet, rows: Tensor) -> Findings:
        captions = data.test.captions or ()
        return self.attributes.right(self.features(x), self.asked(captions[i] for i in rows.tolist()))


def withheld(caption: str) -> bool:
    """Return whether a caption has an arrangement that no training scene may have. "A left of b" equals "b right of a"."""
    for first, relation, other in relations(caption):
        a, b = (first, other) if relation in ("left of", "above") else (other, first)
        if (17 * a + 31 * b + 7 * (relation in ("above", "below"))) % 100 < HELD_OUT:
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("class", "layout", "map", "text", "emoji"))
    parser.add_argument("--for", dest="budget", default="10m")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0, 1.5, 2.0, 3.0, 5.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--run", type=Path, help="a run that is trained already")
    parser.add_argument("--out", type=Path, default=Path("runs/control"))
    parser.add_argument("--source", help="scenes64 in place of scenes; the folder of emoji; data with classes")
    parser.add_argument(
        "--scenes", type=int, nargs=2, default=COMPOSED, metavar=("TRAIN", "TEST"), help="of digits (%(default)s)"
    )
    parser.add_argument("--reader", type=int, default=SEEN, help="scenes in the training of their reader (%(default)s)")
    parser.add_argument("--model", default="diffusion", help="the family")
    parser.add_argument("settings", nargs="*", help="of the recipe, as section.name=value")
    asked = parser.parse_intermixed_args()

    runtime = Runtime.choose("cpu", parameters=READER)
    tasks: dict[str, Callable[[], Task]] = {
        "class": lambda: Classes(asked.source or "fashion-mnist", runtime),
        "emoji": lambda: Pictograms(Path(asked.source or "data/emoji"), runtime),
    }
    scenes = asked.source or "scenes", asked.scenes, asked.reader
    task = tasks.get(asked.kind, lambda: Scenes(asked.kind, *scenes, runtime))()
    tests = [PromptTest(task, prompts, data, asked.n) for prompts, data in task.tests.items()]
    for test in tests:
        test.real()
    run = asked.run or asked.out / asked.kind
    if asked.run is None:
        how = {"model": asked.model, "budget": asked.budget, "settings": tuple(asked.settings)}
        trainer = plan(task.data, condition=task.condition, out=run, **how).begin()
        if follow(trainer, Reporter()) is not None:
            raise SystemExit("stopped: the same command continues")
    model = ancestral.load(run)
    asked.out.mkdir(parents=True, exist_ok=True)
    about = {"kind": asked.kind, "images": Run(run).metrics()[-1]["images"], "steps of sampling": asked.steps}
    for scale in asked.guidance:
        for test in tests:
            x = test.samples(model, steps=asked.steps, guidance=scale)
            save_grid(x[:SHOWN], asked.out / f"{asked.kind}-{test.prompts}-{scale:g}.png", task.data.spec)
        found = about | {test.prompts: test.rows for test in tests}
        (asked.out / f"control-{asked.kind}.json").write_text(json.dumps(found, indent=1))


class PromptTest:
    """The results of one set of prompts, which are those of n held-out samples of the data. prompts: the name of the set."""

    def __init__(self, task: Task, prompts: str, data: DataSet, n: int):
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(data.test)))
        self.task, self.prompts, self.data, self.wanted = task, prompts, data, order[:n]
        least, most = REFERENCE
        rest = order[n : n + most]
        self.reference = task.features(data.batch(rest, "test").x) if len(rest) >= least else None
        self.rows: dict[str, dict[str, Any]] = {}

    def real(self) -> None:
        """The reader on real data, and on real data of other conditions, which tells what chance gives."""
        x = self.data.batch(self.wanted, "test").x
        self.score("real data", x)
        self.score("real data, of another condition", x.roll(1, 0))

    def samples(self, model: GenerativeModel, *, steps: int, guidance: float) -> Tensor:
        """A sample for each prompt."""
        condition = self.data.encoded(model.conditioner).asked(self.wanted)
        n = len(self.wanted)
        x = model.sample(n, condition, seeds=range(n), steps=steps, guidance=guidance).cpu()
        self.score(f"samples, guidance {guidance:g}", x)
        return x

    def score(self, who: str, x: Tensor) -> None:
        """Print and keep a row: shares with their binomial standard errors, and the Fréchet distance."""
        row: dict[str, Any] = {}
        for question, right in self.task.score(x, self.data, self.wanted).items():
            if not (n := len(right)):  # asked of none of these samples
                continue
            share = right.double().mean().item()
            row[question] = {"share": share, "std_err": (share * (1 - share) / n) ** 0.5, "n": n}
        cells = [f"{question} {cell['share']:6.1%} ± {cell['std_err']:.1%}" for question, cell in row.items()]
        if self.reference is not None:
            distance = frechet(self.task.features(x), self.reference)
            row["distance"] = vars(distance)
            cells.append(f"distance {distance.value:.3g} ± {distance.std_err:.2g}")
        print(f"{f'{self.prompts}: {who}':54}" + "   ".join(cells), flush=True)
        self.rows[who] = row


if __name__ == "__main__":
    main()
