"""How often the verdict of `compare` is right, where the truth is known.

    python benchmarks/verdicts.py --json benchmarks/results/verdicts.json      # ten minutes on one core

A subject holds samples of known data that were made worse by a known amount: of a Gaussian mixture in 16 dimensions, with the
coordinates as features, and of fashion-mnist at 14x14, with a classifier and a random network. So the truth needs no statistic:

    equal     two subjects of one distribution: each "better" is wrong
    unlike    two distributions that a symmetry makes equally far from the data, such as two lost modes; or a conditional and
              an unconditional model, both perfect: each "better" is wrong
    gap g     the same change, stronger in one of them by g units: "better" is right of the weaker one alone
    four      four subjects, two of them equal and the others at gaps of two units: one wrong pair makes the verdict wrong
    families  models whose trainings vary: the truth is that of the means over all trainings

The unit of distance, D in the documentation, is the headline distance, Fréchet's in the first features, of real data at the
same n. A gap of g units means that the Fréchet distances of the two distributions, measured with many samples less that of
real data, differ by g units. Each comparison is made by `Comparison.of`, with held-out data of its own: one of twelve splits.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ancestral.app.data import load
from ancestral.app.data.arrays import from_array
from ancestral.app.evaluation import Comparison, Evaluator, Samples, Subject
from ancestral.app.evaluation.comparison import LEVEL
from ancestral.app.evaluation.extractors import Extractor, extractor
from ancestral.app.evaluation.extractors.base import Pictures
from ancestral.app.evaluation.extractors.classifier import fit
from ancestral.metrics.frechet import gaussian_distance2, moments
from ancestral.runtime import Runtime

CPU = Runtime.choose("cpu", "fp32", parameters=1)
TRAIN, COPIED, POINTS = 2000, 20, 9
BASES, GAPS, MOST = (0.0, 3.0), (2.0, 4.0, 8.0), 15.0  # in units
OTHER = " of another"
WAYS = ("noise", "blur", "shift", "loss", "shares", "copies")
Random = np.random.Generator


class World(Protocol):
    """Data that can be drawn, and made worse in several ways by a strength from 0 to the largest of each way."""

    name: str
    strongest: dict[str, float]
    unlike: tuple[tuple[str, str, float], ...]  # pairs of ways that are equally far at so many units

    def evaluator(self, split: int, n: int, held_out: int) -> Evaluator: ...

    def draw(self, how: str, strength: float, n: int, shared: Random, own: Random) -> Samples:
        """Draw n samples. Subjects with equal `shared` streams have correlated samples, as models of equal seeds may have."""


def tilted(k: int, how: str, strength: float) -> np.ndarray:
    """Return the shares of k classes: one of them partly lost, or all of them mixed in other proportions."""
    shares = np.ones(k)
    if how.startswith("loss"):
        shares[int(how.endswith(OTHER))] = 1 - strength
    if how == "shares":
        shares = np.exp(strength * np.linspace(-1, 1, k))
    return shares / shares.sum()


class Mixture:
    """Eight unit Gaussians in 16 dimensions, the mean of each 3 on an axis of its own: these axes may be exchanged."""

    name, modes, dims = "mixture", 8, 16
    strongest: ClassVar = {"noise": 4.0, "shift": 20.0, "loss": 1.0, "shares": 2.0, "copies": 1.0}
    unlike = tuple(
        (how, how + OTHER, units) for how in ("loss", "shift") for units in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
    )

    def __init__(self) -> None:
        self.copied = self._clean(COPIED, np.random.default_rng(99), np.ones(self.modes) / self.modes)

    def _clean(self, n: int, random: Random, shares: np.ndarray) -> np.ndarray:
        x = random.normal(size=(n, self.dims))
        x[np.arange(n), random.choice(self.modes, n, p=shares)] += 3
        return x

    def evaluator(self, split: int, n: int, held_out: int) -> Evaluator:
        random, shares = np.random.default_rng((1, split)), tilted(self.modes, "", 0)
        train, test = (self._clean(size, random, shares).astype(np.float32) for size in (TRAIN, held_out))
        return Evaluator(from_array(train, test=test, name=self.name), n=n, runtime=CPU)

    def draw(self, how: str, strength: float, n: int, shared: Random, own: Random) -> Samples:
        x = self._clean(n, shared, tilted(self.modes, how, strength))
        if how == "noise":
            x += strength * own.normal(size=x.shape)
        if how.startswith("shift"):
            x[:, int(how.endswith(OTHER))] += strength
        if how == "copies":
            x = np.where((shared.random(n) < strength)[:, None], self.copied[own.integers(COPIED, size=n)], x)
        return Samples(torch.from_numpy(x.astype(np.float32)))


class Garments:
    """Grey images with classes. Samples are fresh real images: neither training nor held-out ones."""

    name = "pictures"
    strongest: ClassVar = {"noise": 0.5, "blur": 2.0, "loss": 1.0, "shares": 2.0, "copies": 1.0}
    unlike = (("asked", "", 0.0),) * 10  # a conditional and an unconditional model, both perfect

    def __init__(self, source: str, size: int | None, seen: int) -> None:
        data = load(source, size=size)
        x = torch.cat([data.x("train"), data.x("test")]).numpy()
        labels = np.concatenate([data.labels(split).numpy() for split in ("train", "test")])  # type: ignore[union-attr]
        order = np.random.default_rng(0).permutation(len(x))
        self.x, self.labels, self.classes = x[order], labels[order], len(data.spec.classes)
        own = min(10_000, len(x) // 4)  # train the classifier, and take no other part
        network = fit(torch.from_numpy(self.x[:own]), torch.from_numpy(self.labels[:own]), self.classes, CPU, seen=seen)
        self.first = own
        self.extractors: list[Extractor] = [
            Pictures("classifier", network, f"a classifier of {self.classes} classes", CPU),
            extractor("random", data, CPU),
        ]
        self.rows: list[np.ndarray] = []  # of each class, that the present split leaves
        self.evaluator(0, 20, len(x) // 8)

    def evaluator(self, split: int, n: int, held_out: int) -> Evaluator:
        random = np.random.default_rng((2, split))
        rows = self.first + random.permutation(len(self.x) - self.first)
        each = held_out // self.classes  # as a held-out split has
        test = np.concatenate([rows[self.labels[rows] == c][:each] for c in range(self.classes)])
        rest = rows[~np.isin(rows, test)]
        train, rest = rest[: min(TRAIN, len(rest) // 3)], rest[min(TRAIN, len(rest) // 3) :]
        self.rows = [rest[self.labels[rest] == c] for c in range(self.classes)]
        self.copied = self.x[train[:COPIED]]
        as_bytes = [np.rint(self.x[part, 0] * 255).astype(np.uint8) for part in (train, test)]
        data = from_array(
            as_bytes[0], labels=self.labels[train], test=as_bytes[1], test_labels=self.labels[test], name=self.name
        )
        return Evaluator(data, n=n, extractors=self.extractors, runtime=CPU)

    def draw(self, how: str, strength: float, n: int, shared: Random, own: Random) -> Samples:
        if how == "asked":  # a conditional model: the classes are those of held-out data, and not drawn
            classes = np.arange(n) % self.classes
        else:
            classes = shared.choice(self.classes, n, p=tilted(self.classes, how, strength))
        x = self.x[[self.rows[c][int(u * len(self.rows[c]))] for c, u in zip(classes, shared.random(n), strict=True)]]
        if how == "noise":
            x = x + strength * own.normal(size=x.shape)
        if how == "blur":
            x = gaussian_filter(x, (0, 0, strength, strength))
        if how == "copies":
            x = np.where((shared.random(n) < strength)[:, None, None, None], self.copied[own.integers(COPIED, size=n)], x)
        levels = np.rint(np.clip(x, 0, 1) * 255) / 255
        return Samples(torch.from_numpy(levels.astype(np.float32)), torch.from_numpy(classes) if how == "asked" else None)


@dataclass
class Scale:
    """The strength at which the Fréchet distance of a way of getting worse is so many units above that of real data."""

    unit: float
    strengths: dict[str, np.ndarray]
    units: dict[str, np.ndarray]

    @classmethod
    def of(cls, world: World, n: int, held_out: int, splits: int, many: int) -> Scale:
        found = []
        for split in range(splits):
            evaluator = world.evaluator(split, n, held_out)
            real = evaluator.evaluate(Subject("real", world.draw("", 0, n, *streams(3, split)))).headline.real
            assert real is not None
            found.append(real.value)
        e, project = evaluator.extractors[0], evaluator.projections[0]

        def summary(how: str, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
            return moments(project(e(world.draw(how, strength, many, *streams(4, seed)).x)))

        unit, reference = float(np.mean(found)), summary("", 0, 0)
        bias, strengths, units = gaussian_distance2(summary("", 0, 1), reference), {}, {}
        for how, strongest in world.strongest.items():

            def above(strength: float, how: str = how) -> float:
                return (gaussian_distance2(summary(how, strength, 1), reference) - bias) / unit

            while above(strongest) > MOST:
                strongest *= 0.75
            strengths[how] = strongest * np.linspace(0, 1, POINTS)
            units[how] = np.maximum.accumulate([0.0, *map(above, strengths[how][1:])])
        return cls(unit, strengths, units)

    def strength(self, how: str, units: float) -> float | None:
        """Return the strength for that many units, or None if the strongest change does not reach them."""
        how = how.removesuffix(OTHER)
        if how not in self.strengths:
            return 0.0
        if units > self.units[how][-1]:
            return None
        return float(np.interp(np.sqrt(units), np.sqrt(self.units[how]), self.strengths[how]))


Model = tuple[str, Sequence[float]]  # how it is worse than the data, and the units of each of its trainings


class Bench:
    """Makes comparisons in a world, and counts what is said of single subjects."""

    def __init__(self, world: World, n: int, held_out: int, splits: int, many: int, seed: int):
        self.world, self.n, self.held_out, self.splits, self.seed = world, n, held_out, splits, seed
        self.scale = Scale.of(world, n, held_out, splits, many)
        self.made = 0
        self.said: dict[str, Counter[str]] = defaultdict(Counter)

    def reaches(self, how: str, units: float) -> bool:
        return self.scale.strength(how, units) is not None

    def trainings(self, *models: Model, paired: bool = False) -> tuple[list[list[Subject]], Evaluator]:
        """Return the evaluated trainings of each model, and their evaluator. paired: the samples of all are correlated."""
        self.made += 1
        split = self.seed * self.splits + self.made % self.splits
        evaluator, found = self.world.evaluator(split, self.n, self.held_out), []
        for i, (how, units) in enumerate(models):
            members: list[Subject] = []
            for k, f in enumerate(units):
                strength = self.scale.strength(how, f)
                assert strength is not None, (how, f)
                shared, _ = streams(5, self.seed, self.made, 0 if paired else 1 + 100 * i + k)
                _, own = streams(5, self.seed, self.made, 1 + 100 * i + k)
                members.append(Subject("abcd"[i] + str(k), self.world.draw(how, strength, self.n, shared, own)))
                self._read(members[-1], how, f, evaluator)
            found.append(members)
        return found, evaluator

    def compare(self, *models: Model, paired: bool = False) -> Comparison:
        found, evaluator = self.trainings(*models, paired=paired)
        return compared(found, evaluator)

    def _read(self, subject: Subject, how: str, units: float, evaluator: Evaluator) -> None:
        """Count what the verdict says of one subject alone."""
        answer, *others = Comparison.of([subject], evaluator).verdict
        said = self.said[f"{units:g} units"]
        said["all"] += 1
        said["within two standard errors of real data"] += "within two standard errors" in answer
        said["repeats its training data"] += subject.copies
        if how.removesuffix(OTHER) not in ("loss", "shares", "copies"):
            said["whole"] += 1
            said["leaves out a part"] += any("leaves out a part" in sentence for sentence in others)


def compared(trainings: Sequence[Sequence[Subject]], evaluator: Evaluator) -> Comparison:
    """Compare models, named a, b, c, d."""
    subjects = []
    for name, members in zip("abcd", trainings, strict=False):
        subjects.append(Subject.of_trainings(name, members) if len(members) > 1 else members[0])
        subjects[-1].name = name
    return Comparison.of(subjects, evaluator)


def streams(*key: int) -> tuple[Random, Random]:
    return np.random.default_rng((*key, 0)), np.random.default_rng((*key, 1))


def judged(comparison: Comparison, *units: float) -> Counter[str]:
    """Count a verdict, whether one of its pairs is wrong, and whether it decides all pairs that differ."""
    truth = dict(zip("abcd", units, strict=False))
    wrong = any(p.better is not None and truth[p.better] >= max(truth[p.a], truth[p.b]) for p in comparison.pairs)
    decided = all(p.better is not None for p in comparison.pairs if truth[p.a] != truth[p.b])
    return Counter({"comparisons": 1, "wrong": int(wrong), "decided": int(decided and len(set(units)) > 1)})


Counts = dict[str, Counter[str]]


def single(bench: Bench, repeats: int, ways: Sequence[str]) -> Counts:
    """Compare two or four subjects of one training each."""
    found: Counts = defaultdict(Counter)
    for repeat in range(repeats):
        for how in (w for w in ways if w in bench.world.strongest):
            for base in (b for b in BASES if bench.reaches(how, b)):
                found["equal"].update(judged(bench.compare((how, [base]), (how, [base])), base, base))
                for gap in (g for g in GAPS if bench.reaches(how, base + g)):
                    two = bench.compare((how, [base]), (how, [base + gap]), paired=repeat % 2 > 0)
                    found[f"gap {gap:g} above {base:g}"].update(judged(two, base, base + gap))
                    found[f"{how}: gap {gap:g} above {base:g}"].update(judged(two, base, base + gap))
            four = [1.0, 1.0, 3.0, 5.0]
            if bench.reaches(how, four[-1]):
                found["four"].update(judged(bench.compare(*((how, [f]) for f in four)), *four))
        for a, b, units in bench.world.unlike:
            if a in (*ways, "asked") and bench.reaches(a, units):
                found["unlike"].update(judged(bench.compare((a, [units]), (b, [units])), units, units))
    return found


def families(bench: Bench, repeats: int, seeds: int, spreads: Sequence[float]) -> dict[str, Counts]:
    """Compare two families by the first training of each, and by all. Trainings vary by a standard deviation in units."""
    found: dict[str, Counts] = {}
    for spread in spreads:
        for gap in (0.0, 4.0):
            counts = found[f"spread {spread:g}, gap {gap:g}"] = {"one training": Counter(), f"{seeds} trainings": Counter()}
            for repeat in range(repeats):
                random = np.random.default_rng((7, bench.seed, repeat, int(10 * spread), int(10 * gap)))
                units = [np.clip(mean + spread * random.normal(size=seeds), 0, None) for mean in (3.0, 3.0 + gap)]
                trainings, evaluator = bench.trainings(*(("shift", list(f)) for f in units))
                counts[f"{seeds} trainings"].update(judged(compared(trainings, evaluator), 3, 3 + gap))
                counts["one training"].update(judged(compared([members[:1] for members in trainings], evaluator), 3, 3 + gap))
    return found


def table(counts: Counts, decides: bool = True) -> str:
    """Return the counts as lines of Markdown."""
    lines = ["| | comparisons | wrong | all decided |", "|---|---|---|---|"]
    for case, count in counts.items():
        n = count["comparisons"]
        decided = f"{count['decided'] / n:.0%}" if decides and case not in ("equal", "unlike") else ""
        lines.append(f"| {case} | {n} | {count['wrong']} ({count['wrong'] / n:.1%}) | {decided} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="fashion-mnist", help="pictures with classes (fashion-mnist)")
    parser.add_argument("--size", type=int, default=14, help="of the pictures (14)")
    parser.add_argument("--n", type=int, default=250, help="samples of each subject (250)")
    parser.add_argument("--held-out", type=int, default=500, help="real samples (500)")
    parser.add_argument("--splits", type=int, default=12, help="into training and held-out data, in turns (12)")
    parser.add_argument("--many", type=int, default=5000, help="samples from which the distance of a distribution is known")
    parser.add_argument("--seen", type=int, default=40_000, help="images that the classifier is trained on (40000)")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="in which samples get worse (all)")
    parser.add_argument("--repeats", type=int, default=3, help="of each pair (3)")
    parser.add_argument("--seed", type=int, default=0, help="of splits and samples (0)")
    parser.add_argument("--families", type=int, default=20, help="comparisons of each kind of family (20)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each family (3)")
    parser.add_argument("--spreads", nargs="+", type=float, default=(0.5, 1.0), help="of trainings, in units (0.5 1)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    begun = time.monotonic()
    results: dict[str, object] = {"n": options.n, "held_out": options.held_out, "level": LEVEL, "seed": options.seed}
    pictures, totals = Garments(options.source, options.size, options.seen), defaultdict(Counter)
    with tempfile.TemporaryDirectory() as place:
        os.environ["ANCESTRAL_CACHE"] = place  # of splits that nobody needs again
        for world in (Mixture(), pictures):
            bench = Bench(world, options.n, options.held_out, options.splits, options.many, options.seed)
            counts = single(bench, options.repeats, options.ways)
            print(f"\n## {world.name}\n\nOne unit is {bench.scale.unit:.3g}.\n\n{table(counts)}\n", flush=True)
            for units, said in sorted(bench.said.items()):
                print(f"{units}: {dict(said)}")
            results[world.name] = {"unit": bench.scale.unit, "verdicts": counts, "said of one": bench.said}
            for case, count in counts.items():
                totals[case].update(count)
        results["both"] = totals
        every = [count for case, count in totals.items() if ":" not in case]
        made, wrong = (sum(count[key] for count in every) for key in ("comparisons", "wrong"))
        print(f"\n## both\n\n{table(totals)}\n\nwrong: {wrong} of {made} ({wrong / made:.1%})", flush=True)
        if options.families:
            bench = Bench(Mixture(), options.n, options.held_out, options.splits, options.many, options.seed)
            results["families"] = several = families(bench, options.families, options.seeds, options.spreads)
            for case, rows in several.items():
                print(f"\n## families: {case}\n\n{table(rows, decides='gap 0' not in case)}", flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
