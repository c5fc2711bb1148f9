"""Which metrics pass the sanity checks of Räisä et al. 2025 (arXiv:2505.22450), written from the paper.

    taskset -c 0 env OMP_NUM_THREADS=1 python benchmarks/sanity.py --json benchmarks/results/sanity.json

Each check draws real and synthetic data from known distributions along a curve, such as a growing difference of their means.
The criteria are the paper's, with its tolerances (section 4.2): a value is close to 0, 1 or .2 within .05; a curve is a bell,
falls, rises, is flat or settles. Each belongs to one of the paper's desiderata:

    D1b  the value says what the metric claims to say        D4  values reach their bounds, 0 and 1
    D2   the number of synthetic samples does not matter     D5  units do not matter
    D3   1,000 real samples are enough

As in Tables 3 and 4 of the paper, a metric passes where it does in every dimension and setting. Where synthetic data are wider
than real data, a diversity metric may be low (L) or high (H), but always the same. As in the paper, curves are means over
repetitions, and features are standardised by the real data. Repetitions and points of the curves are fewer, the largest sizes
are 4,000 instead of 10,000, the outlier takes the place of a point, since our rates compare sets of equal size, and units are
changed for the same draws, so that noise is no difference of units.

Metrics are called as `ancestral evaluate` calls them. Three classes are judged apart:

    fidelity   precision, density, clipped-density
    diversity  recall, coverage, clipped-coverage; and vendi, divided by the value of real data at the same n
    distance   fd, fd-infinity, kid, mmd, sliced-wasserstein

The paper has no criteria for distances. Ours are the same in words: a distance is 0 for equal distributions (D4; less than .05
of the largest on the curve) and rises with the fault, on each side of the point without fault (D1b; the paper's tolerances, as
shares of the largest). It has no upper bound, so what asks for one is left out. What must settle or stay does so within 5 %.

Metrics of copies compare with a training set, which no check of the paper has. Two checks of ours follow for them: copies of
the training set, and repetitions of samples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ancestral import metrics as m
from ancestral import registry
from ancestral.app.evaluation.evaluator import LEAST
from ancestral.app.evaluation.projection import Projection

CLASSES = {
    "fidelity": ("precision", "density", "clipped-density"),
    "diversity": ("recall", "coverage", "clipped-coverage", "vendi"),
    "distance": ("fd", "fd-infinity", "kid", "mmd", "sliced-wasserstein"),
    "copies": ("copy-rate", "c_t", "duplicates"),
}
LARGEST = 4  # times n
MODES = 10 * np.random.default_rng(3).normal(size=(10, 2))

Verdict = bool | str  # or "L" and "H" of a diversity metric that is low or high for wider data
Criterion = Callable[[np.ndarray, np.ndarray], Verdict]  # of a curve: x and the metric's values
Draw = Callable[[int], np.ndarray]  # so many points of a distribution


class Point(NamedTuple):
    """A point of a curve: synthetic samples and real ones `(n, d)`, and a source of more real ones."""

    x: float
    synthetic: np.ndarray
    real: np.ndarray
    more: Draw


class Check(NamedTuple):
    """A check: its name in the paper, its curves by setting, and its criteria by class of metric and desideratum."""

    name: str
    curves: Callable[[np.random.Generator, int], Iterator[tuple[str, Point]]]
    criteria: Mapping[str, Mapping[str, tuple[Criterion, ...]]]


# criteria: values at a point


def at(where: float, target: float, within: float = 0.05) -> Criterion:
    """The value at the point nearest to `where` is close to the target."""
    return lambda x, y: bool(abs(y[np.abs(x - where).argmin()] - target) <= within)


def wide(where: float) -> Criterion:
    """Of variety where synthetic data are wider than real data: close to 1 is high, close to 0 low."""
    return lambda x, y: "H" if at(where, 1)(x, y) else "L" if at(where, 0)(x, y) else False


# criteria: shapes


def flat(x: np.ndarray, y: np.ndarray) -> Verdict:
    """All values lie within .05."""
    return bool(np.ptp(y) <= 0.05)


def settles(x: np.ndarray, y: np.ndarray) -> Verdict:
    """The values of the upper half lie within .05."""
    return flat(x, y[x >= np.median(x)])


def falls(x: np.ndarray, y: np.ndarray, to: float | None = None) -> Verdict:
    """From the largest value to the smallest, within .1 each, by .2 or more; to the point `to` by .1 or more."""
    whole = y[0] - y[-1] >= 0.2 and y.max() - y[0] <= 0.1 and y[-1] - y.min() <= 0.1
    return bool(whole and (to is None or y[0] - y[np.abs(x - to).argmin()] >= 0.1))


def rises(x: np.ndarray, y: np.ndarray) -> Verdict:
    """The same upwards."""
    return falls(x, -y)


def bell(middle: float) -> Criterion:
    """The value in the middle is the largest within .1 and .2 above both ends, of which one is the smallest within .1."""

    def criterion(x: np.ndarray, y: np.ndarray) -> Verdict:
        top = y[np.abs(x - middle).argmin()]
        return bool(top - max(y[0], y[-1]) >= 0.2 and y.max() - top <= 0.1 and min(y[0], y[-1]) - y.min() <= 0.1)

    return criterion


def low_or_high(low: Criterion, high: Criterion) -> Criterion:
    """One of two shapes."""
    return lambda x, y: "L" if low(x, y) else "H" if high(x, y) else False


def scaled(criterion: Criterion, *, mirrored: bool = False) -> Criterion:
    """The criterion for a distance: of its share of the largest on the curve, or of one minus that."""

    def shares(x: np.ndarray, y: np.ndarray) -> Verdict:
        if y.max() <= 0:
            return False
        return criterion(x, 1 - y / y.max() if mirrored else y / y.max())

    return shares


def valley(middle: float) -> Criterion:
    """A distance rises on both sides of the middle."""

    def criterion(x: np.ndarray, y: np.ndarray) -> Verdict:
        centre = int(np.abs(x - middle).argmin())
        grows = scaled(falls, mirrored=True)
        return grows(x[: centre + 1], y[centre::-1]) is True and grows(x[centre:], y[centre:]) is True

    return criterion


# checks: where real and synthetic data come from


def points(x: float, synthetic: np.ndarray, real: Draw, n: int) -> Point:
    return Point(x, synthetic, real(n), real)


def gaussian(random: np.random.Generator, d: int, mean: float | np.ndarray = 0.0, std: float | np.ndarray = 1.0) -> Draw:
    return lambda n: mean + std * random.normal(size=(n, d))


def mixture(random: np.random.Generator, means: np.ndarray, std: float, weights: np.ndarray | None = None) -> Draw:
    def draw(n: int) -> np.ndarray:
        chosen = random.choice(len(means), n, p=None if weights is None else weights / weights.sum())
        return means[chosen] + std * random.normal(size=(n, means.shape[1]))

    return draw


def uniform(random: np.random.Generator, d: int, start: float = 0.0) -> Draw:
    return lambda n: random.uniform(start, start + 1, (n, d))


def surface(random: np.random.Generator, d: int, radius: float = 1.0) -> Draw:
    def draw(n: int) -> np.ndarray:
        x = random.normal(size=(n, d))
        return radius * x / np.linalg.norm(x, axis=1, keepdims=True)

    return draw


def ball(random: np.random.Generator, d: int, radius: float) -> Draw:
    """Uniform in a ball: the share r^d of its volume lies within the radius r."""
    return lambda n: surface(random, d)(n) * radius * random.random((n, 1)) ** (1 / d)


def torus(random: np.random.Generator) -> Draw:
    """A disc of radius .1 around (1, 0) in the plane of x and z, turned about z by a uniform angle."""

    def draw(n: int) -> np.ndarray:
        disc, angle = ball(random, 2, 0.1)(n), random.uniform(0, 2 * np.pi, n)
        far = 1 + disc[:, 0]
        return np.stack([far * np.cos(angle), far * np.sin(angle), disc[:, 1]], 1)

    return draw


DIMENSIONS = {1: 6.0, 8: 3.0, 64: 1.0}  # and the largest difference of means


def mean_difference(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    for d, most in DIMENSIONS.items():
        for mean in np.linspace(-most, most, 5):
            yield f"{d}", points(mean / most, gaussian(random, d, mean)(n), gaussian(random, d), n)


def mean_difference_outlier(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    for d, most in DIMENSIONS.items():
        for who in ("real", "synthetic"):
            for mean in np.linspace(-most, most, 5):
                point = points(mean / most, gaussian(random, d, mean)(n), gaussian(random, d), n)
                (point.real if who == "real" else point.synthetic)[0] = most
                yield f"{d}, {who}", point


def std_difference(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    for d, most in {1: 3.0, 8: 1.0, 64: 0.5}.items():
        for power in np.linspace(-most, most, 5):
            yield f"{d}", points(power / most, gaussian(random, d, 0, 10**power)(n), gaussian(random, d), n)


def dropping(random: np.random.Generator, n: int, *, sequential: bool) -> Iterator[tuple[str, Point]]:
    """Ten modes on a diagonal. All but the first lose a share of their weight, or the last ones lose all of it."""
    for d, std in {1: 1 / 6, 8: 1 / 3, 64: 1.0}.items():
        means = np.linspace(0, 10, 10)[:, None].repeat(d, 1)
        for x in (0, 1, 3, 5, 7, 9) if sequential else (0, 0.25, 0.5, 0.75, 0.95, 1):
            weights = np.where(np.arange(10) < 10 - x, 1.0, 0.0) if sequential else np.where(np.arange(10) > 0, 1.0 - x, 1.0)
            yield f"{d}", points(x, mixture(random, means, std, weights)(n), mixture(random, means, std), n)


def invention(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Five of ten modes are real, and the first one to ten are synthetic."""
    for x in range(1, 11):
        yield "", points(x, mixture(random, MODES[:x], 0.25)(n), mixture(random, MODES[:5], 0.25), n)


def collapse(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Two modes, and one that is as wide as both."""
    for d in DIMENSIONS:
        for mu in np.linspace(0, 5, 5):
            means = np.array([-mu / 2, mu / 2])[:, None].repeat(d, 1)
            yield f"{d}", points(mu, gaussian(random, d, 0, np.sqrt(1 + mu**2))(n), mixture(random, means, 1), n)


def hypersphere(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    for d in (2, 16, 128):
        for radius in np.linspace(0.1, 1.9, 5):
            yield f"{d}", points(radius, surface(random, d, radius)(n), surface(random, d), n)


def hypercube(random: np.random.Generator, n: int, *, both: bool) -> Iterator[tuple[str, Point]]:
    """Unit cubes of which a fifth overlaps. x: the share of n of synthetic samples, or of both."""
    for d in DIMENSIONS:
        for x in (0.1, 0.3, 1, 2, LARGEST):
            size = max(int(x * n), LEAST)
            yield f"{d}", points(x, uniform(random, d, 1 - 0.2 ** (1 / d))(size), uniform(random, d), size if both else n)


def sphere_torus(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """A ball inside a torus, which it does not touch."""
    shapes = {"sphere": ball(random, 3, 0.8), "torus": torus(random)}
    for real, synthetic in (("sphere", "torus"), ("torus", "sphere")):
        for x in (0.1, 0.3, 1, 2, LARGEST):
            yield f"real {real}", points(x, shapes[synthetic](max(int(x * n), LEAST)), shapes[real], n)


def scaling(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Two disjoint Gaussians, whose second coordinate is in other units; the same draws in all of them."""
    seed = random.integers(2**32)
    for x in range(-3, 4):
        draws, units = np.random.default_rng(seed), np.array([1, 10.0**x])
        yield "", points(x, gaussian(draws, 2, units * [6, 0], units)(n), gaussian(draws, 2, 0, units), n)


def pareto(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Beside the coordinate whose mean differs, one with a heavy tail, of index 1.01, that does not."""

    def draw(size: int, mean: float = 0.0) -> np.ndarray:
        return np.stack([mean + random.normal(size=size), 1 + random.pareto(1.01, size)], 1)

    for mean in np.linspace(-6, 6, 5):
        yield "", points(mean / 6, draw(n, mean), draw, n)


def disjoint(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Disjoint in one coordinate, equal in 1 to 1,000 others."""
    for others in (1, 10, 100, 1000):
        shift = 6.0 * (np.arange(1 + others) == 0)
        yield "", points(np.log10(others), gaussian(random, 1 + others, shift)(n), gaussian(random, 1 + others), n)


def discrete(random: np.random.Generator, n: int, *, real: str) -> Iterator[tuple[str, Point]]:
    """Numbers, and numbers that are rounded. x: log10 of the number of steps in a deviation."""
    for x in np.linspace(0, 3, 5):
        plain = gaussian(random, 1, 0, 10**x)
        rounded = lambda size, plain=plain: np.round(plain(size))  # noqa: E731
        of = {"discrete": rounded, "continuous": plain}
        other = of["continuous" if real == "discrete" else "discrete"]
        yield f"real {real}", points(x, other(n), of[real], n)


def copies(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Of new samples, a share is replaced by training data. The real data of the point are the training set."""
    for x in np.linspace(0, 1, 5):
        point = points(x, gaussian(random, 8)(n), gaussian(random, 8), n)
        point.synthetic[: int(x * n)] = point.real[: int(x * n)]
        yield "", point


def repetitions(random: np.random.Generator, n: int) -> Iterator[tuple[str, Point]]:
    """Of new samples, a share is pairs of equal ones."""
    for x in np.linspace(0, 1, 5):
        synthetic, pairs = gaussian(random, 8)(n), int(x * n) // 2
        synthetic[:pairs] = synthetic[pairs : 2 * pairs]
        yield "", points(x, synthetic, gaussian(random, 8), n)


BELL = {"D1b": (bell(0),), "D4": (at(0, 1), at(-1, 0), at(1, 0))}
EQUAL = scaled(at(0, 0))  # a distance where there is no fault
DIFFERENCE = {"fidelity": BELL, "diversity": BELL, "distance": {"D1b": (valley(0),), "D4": (EQUAL,)}}


SHARE = tuple(at(x, x) for x in (0, 0.5, 1))  # of the faulty samples


def z_falls(x: np.ndarray, y: np.ndarray) -> Verdict:
    """A z-score within 3 where nothing is copied, below -3 where all is, and falling between."""
    return bool(abs(y[0]) < 3 and y[-1] < -3 and (np.diff(y) < 0).all())


def drops(most: float, to: float) -> dict[str, dict[str, tuple[Criterion, ...]]]:
    less = partial(falls, to=to)
    return {
        "fidelity": {"D1b": (flat,), "D4": (at(0, 1), at(most, 1))},
        "diversity": {"D1b": (less,), "D4": (at(0, 1),)},
        "distance": {"D1b": (scaled(less, mirrored=True),), "D4": (EQUAL,)},
    }


def same(shape: str, criterion: Criterion, **scores: tuple[Criterion, ...]) -> dict[str, dict[str, tuple[Criterion, ...]]]:
    """A shape that all three classes must have, and values that scores must have."""
    both = {name: (*((criterion,) if name == shape else ()), *scores.get(name, ())) for name in (shape, *scores)}
    return {"fidelity": both, "diversity": both, "distance": {shape: (scaled(criterion),)}}


RADIUS = {"D1b": (bell(1),), "D4": (at(1, 1), at(0.1, 0), at(1.9, 0))}
CHECKS = (
    Check("Gaussian Mean Difference", mean_difference, DIFFERENCE),
    Check("Gaussian Mean Difference + Outlier", mean_difference_outlier, DIFFERENCE),
    Check("Gaussian Mean Difference + Pareto", pareto, DIFFERENCE),
    Check(
        "Gaussian Std. Deviation Difference",
        std_difference,
        {
            "fidelity": {"D1b": (falls,), "D4": (at(0, 1), at(-1, 1), at(1, 0))},
            "diversity": {"D1b": (low_or_high(bell(0), rises),), "D4": (at(0, 1), at(-1, 0), wide(1))},
            "distance": {"D1b": (valley(0),), "D4": (EQUAL,)},
        },
    ),
    Check("Simultaneous Mode Dropping", partial(dropping, sequential=False), drops(1, 0.95)),
    Check("Sequential Mode Dropping", partial(dropping, sequential=True), drops(9, 5)),
    Check(
        "Mode Dropping + Invention",
        invention,
        {
            "fidelity": {"D1b": (falls,), "D4": (at(5, 1), at(1, 1))},
            "diversity": {"D1b": (rises,), "D4": (at(5, 1), at(10, 1))},
            "distance": {"D1b": (valley(5),), "D4": (scaled(at(5, 0)),)},
        },
    ),
    Check(
        "Mode Collapse",
        collapse,
        {
            "fidelity": {"D1b": (falls,), "D4": (at(0, 1),)},
            "diversity": {"D1b": (low_or_high(falls, flat),), "D4": (at(0, 1),)},
            "distance": {"D1b": (scaled(falls, mirrored=True),), "D4": (EQUAL,)},
        },
    ),
    Check(
        "Hypersphere Surface",
        hypersphere,
        {
            "fidelity": RADIUS,
            "diversity": RADIUS,
            "distance": {"D1b": (valley(1),), "D4": (scaled(at(1, 0)),)},
        },
    ),
    Check("Hypercube, Varying Sample Size", partial(hypercube, both=True), same("D3", settles, D1b=(at(LARGEST, 0.2),))),
    Check("Hypercube, Varying Syn. Size", partial(hypercube, both=False), same("D2", settles, D1b=(at(LARGEST, 0.2),))),
    Check("Sphere vs. Torus", sphere_torus, same("D1b", settles, D4=(at(LARGEST, 0),))),
    Check("Scaling One Dimension", scaling, same("D5", flat, D4=(at(-3, 0), at(3, 0)))),
    Check("One Disjoint Dim. + Many Identical Dim.", disjoint, same("D1b", flat, D4=(at(0, 0), at(3, 0)))),
    Check(
        "Discrete Num. vs. Continuous Num.",
        partial(discrete, real="discrete"),
        {
            "fidelity": {"D1b": (flat,), "D4": (at(0, 0), at(3, 0))},
            "diversity": {"D1b": (flat,), "D4": (wide(0), wide(3))},
            "distance": {"D1b": (scaled(falls),)},
        },
    ),
    Check(
        "Discrete Num. vs. Continuous Num.",
        partial(discrete, real="continuous"),
        {
            "fidelity": {"D1b": (flat,), "D4": (at(0, 1), at(3, 1))},
            "diversity": {"D1b": (flat,), "D4": (at(0, 0), at(3, 0))},
            "distance": {"D1b": (scaled(falls),)},
        },
    ),
    Check("Copies of the training set (ours)", copies, {"copy-rate": {"D1b": SHARE}, "c_t": {"D1b": (z_falls,)}}),
    Check("Repeated samples (ours)", repetitions, {"duplicates": {"D1b": SHARE}}),
)


# the metrics, as the evaluator calls them


def measure(point: Point, names: Sequence[str]) -> dict[str, float]:
    """Return the values of the metrics, in features that the real data standardise."""
    scale = m.Scale(point.real.mean(0), point.real.std(0))
    size = len(point.synthetic)
    synthetic, real, more, fresh = (
        scale(x) for x in (point.synthetic, point.real, point.more(len(point.real)), point.more(size))
    )
    project, units, whiten, least = Projection(real, size), m.Scale.of(more), m.Whitening.of(more), min(size, len(real))
    inputs = {
        "features": (synthetic, real),
        "standardised": (units(synthetic), units(real)),
        "whitened": (whiten(synthetic), whiten(real)),
        "components": (project(synthetic), project(real)),
        "equal features": (synthetic[:least], real[:least]),
    }
    values: dict[str, float] = {}
    for metric in (registry.entry("metric", name) for name in names):
        if metric.name not in values and (takes := metric.facts.get("takes", "features")) in inputs:
            result = metric.value(*inputs[takes])
            found = result if isinstance(result, Mapping) else {metric.name: result}
            values |= {name: estimate.value for name, estimate in found.items()}
    if "vendi" in names:
        values["vendi"] /= m.vendi(fresh, real.mean(0)).value
    if "copy-rate" in names:  # the real data are the training set here, and `more` the held-out split
        to_train, held_out = (m.nearest(x, real)[0] for x in (synthetic, more))
        values |= {"copy-rate": m.copy_rate(to_train, held_out).value, "c_t": m.data_copying(to_train, held_out)[0]}
    if "duplicates" in names:
        own, others = (m.nearest(x, x, own=True)[0] for x in (synthetic, fresh))
        values["duplicates"] = m.duplicate_rate(own, others).value
    return values


def judged(check: Check) -> dict[str, str]:
    """Return the metrics that a check judges, each with its class, or with its own name where the criteria are its own."""
    return {name: key for kind, names in CLASSES.items() for name in names for key in (kind, name) if key in check.criteria}


def run(check: Check, n: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return the mean curves: by setting, x and the values of each metric."""
    sums: dict[str, dict[float, list[dict[str, float]]]] = {}
    for repeat in range(repeats):
        for setting, point in check.curves(np.random.default_rng(repeat), n):
            sums.setdefault(setting, {}).setdefault(float(point.x), []).append(measure(point, tuple(judged(check))))
    return {
        setting: {"x": list(curve)}
        | {name: [float(np.mean([v[name] for v in values])) for values in curve.values()] for name in judged(check)}
        for setting, curve in sums.items()
    }


def verdicts(check: Check, curves: Mapping[str, Mapping[str, list[float]]]) -> Iterator[tuple[str, str, Verdict]]:
    """Yield (desideratum, metric, verdict) of every criterion and setting."""
    for curve in curves.values():
        for name, key in judged(check).items():
            for desideratum, criteria in check.criteria[key].items():
                for criterion in criteria:
                    yield desideratum, name, criterion(np.array(curve["x"]), np.array(curve[name]))


def mark(found: Sequence[Verdict]) -> str:
    """Return P (all pass), L or H (all pass, low or high), or F."""
    named = {verdict for verdict in found if isinstance(verdict, str)}
    return "F" if len(named) > 1 or not all(found) else "".join(named) or "P"


def tables(results: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each class of metrics with its table in Markdown, from marks by check, desideratum and metric."""
    for kind, names in CLASSES.items():
        rows = [
            [check, desideratum, *(marks.get(name, "") for name in names)]
            for check, found in results.items()
            for desideratum, marks in sorted(found.items())
            if set(names) & set(marks)
        ]
        if rows:
            passed = [
                f"{sum(row[i] not in 'F' for row in rows if row[i])}/{sum(bool(row[i]) for row in rows)}"
                for i in range(2, len(names) + 2)
            ]
            yield (
                kind,
                [
                    f"| check | | {' | '.join(f'`{name}`' for name in names)} |",
                    "|---|---|" + "---|" * len(names),
                    *(f"| {' | '.join('**F**' if cell == 'F' else cell for cell in row)} |" for row in rows),
                    f"| passed | | {' | '.join(passed)} |",
                ],
            )


def main() -> None:
    names = list(dict.fromkeys(check.name for check in CHECKS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="real and synthetic samples (1000)")
    parser.add_argument("--repeats", type=int, default=2, help="of which curves are means (2; the paper has 10)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CHECK", help="of " + ", ".join(names))
    parser.add_argument("--json", type=Path, help="write results and curves to this file, after every check")
    asked = parser.parse_args()
    begun = time.process_time()
    curves: dict[str, dict[str, dict[str, list[float]]]] = {}
    found: dict[str, dict[str, dict[str, list[Verdict]]]] = {}
    results: dict[str, dict[str, dict[str, str]]] = {}
    for check in CHECKS:
        if check.name not in asked.only:
            continue
        new = run(check, asked.n, asked.repeats)
        curves.setdefault(check.name, {}).update(new)
        for desideratum, name, verdict in verdicts(check, new):
            found.setdefault(check.name, {}).setdefault(desideratum, {}).setdefault(name, []).append(verdict)
        results[check.name] = {
            desideratum: {name: mark(marks) for name, marks in by.items()} for desideratum, by in found[check.name].items()
        }
        if asked.json:
            rounded = json.loads(json.dumps(curves), parse_float=lambda text: float(f"{float(text):.4g}"))
            seconds = round(time.process_time() - begun)
            written = {"n": asked.n, "repeats": asked.repeats, "seconds": seconds, "results": results, "curves": rounded}
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(written) + "\n")
    for kind, lines in tables(results):
        print(f"\n## {kind}\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
