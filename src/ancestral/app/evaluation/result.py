"""The result of an evaluation: figures with error bars, each beside the figure of real data at the same n."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from ancestral.app import records
from ancestral.errors import AncestralError
from ancestral.metrics import Estimate

Better = Literal["lower", "higher", "as real"]
DIRECTIONS: dict[str, str] = {"lower": "less is better", "higher": "more is better", "as real": "as real data is best"}
COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "samples_per_second": ("samples a second", lambda v: f"{v:,.1f}"),
    "nfe": ("evaluations a sample", lambda v: f"{v:,.0f}"),
    "parameters": ("parameters", lambda v: f"{v:,.0f}"),
    "memory": ("memory while sampling", lambda v: f"{v / 2**20:,.0f} MiB"),
    "training_seconds": ("training", lambda v: f"{v / 60:,.1f} min"),
    "images": ("samples seen in training", lambda v: f"{v:,.0f}"),
}


def _wrapped(line: str) -> str:
    """Return a line in the width of a terminal, its continuation indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, 79, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class Metric:
    """A figure beside that of real data.

    Attributes:
        name: The registered name, followed by the extractor if features are compared, such as "fd-classifier".
        value: The figure of the samples.
        real: The figure of real data at the same n, or the expectation for a perfect model. None if there is none.
        better: Which values are better.
        meaning: What it measures, in a few words.
        kind: The registered name alone, such as "fd"; "" in evaluations written by earlier versions.
    """

    name: str
    value: Estimate
    real: Estimate | None
    better: Better
    meaning: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.value}" + (f" (real data {self.real})" if self.real else "")


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one model or set of samples.

    Attributes:
        subject: The name of the model or the samples.
        family: The family of the model. None for samples without a model.
        source: The name of the data.
        against: The split of the reference.
        reference: The number of reference samples.
        n: The number of generated samples.
        extractors: The description of each extractor, by name.
        coarse: Whether all extractors are only a rough guide.
        metrics: The figures.
        cost: samples_per_second, nfe, parameters, memory, training_seconds and images, if known.
        how: Options of the sampler.
        notes: Sentences for the reader.
        trainings: The number of trainings of which the figures are means; see `mean`.
        weights: The checksum of the weights of a run, "" if there is no run.
    """

    subject: str
    family: str | None
    source: str
    against: str
    reference: int
    n: int
    extractors: Mapping[str, str]
    coarse: bool
    metrics: tuple[Metric, ...]
    cost: Mapping[str, float] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trainings: int = 1
    weights: str = ""

    def __getitem__(self, name: str) -> Metric:
        """Return the metric of that name, such as "fd-classifier". Raises KeyError, which names those that there are."""
        found = self.get(name)
        if found is None:
            raise KeyError(f"no metric {name!r} in this evaluation; it has {', '.join(self)}")
        return found

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the metrics."""
        return (metric.name for metric in self.metrics)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def get(self, name: str) -> Metric | None:
        """Return the metric of that name, or None."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def headline(self) -> Metric:
        """The metric that ranks subjects: the Fréchet distance in the most trustworthy features."""
        return self[f"fd-{next(iter(self.extractors))}"]

    @property
    def compared(self) -> str:
        """What was compared, e.g. "500 samples against 180 held-out samples of digits"."""
        kind = {"test": "held-out ", "train": "training "}.get(self.against, "")
        return f"{self.n:,} samples against {self.reference:,} {kind}samples of {self.source}"

    def __str__(self) -> str:
        """Write a table for people, each metric with its value and the value of real data, and below it what they mean."""
        rows = [("metric", "samples", "real data", "")]
        rows += [(x.name, str(x.value), str(x.real) if x.real else "", DIRECTIONS[x.better]) for x in self.metrics]
        rows += [(name, form(self.cost[key]), "", "") for key, (name, form) in COSTS.items() if key in self.cost]
        a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
        table = [f"{name:{a}}  {value:>{b}}  {real:>{c}}  {better}".rstrip() for name, value, real, better in rows]
        about = [f"{self.subject}: {self.compared}", *(f"  {name}: {what}" for name, what in self.extractors.items())]
        legend = dict.fromkeys(f"{x.kind or x.name}: {x.meaning}" for x in self.metrics)
        return "\n".join([*map(_wrapped, about), *table, "", *map(_wrapped, [*legend, *self.notes])])

    @classmethod
    def mean(cls, subject: str, of: Sequence[Evaluation]) -> Evaluation:
        """Return the means over several trainings, by the same evaluator.

        Their errors are the standard deviations between trainings, and at least the error of one training: two trainings may be
        near each other by chance.
        """
        first, metrics = of[0], []
        for metric in first.metrics:
            found = [m.value for evaluation in of if (m := evaluation.get(metric.name)) is not None]
            if len(found) == len(of):
                values, own = [v.value for v in found], fmean((v.std_err or 0.0) ** 2 for v in found) ** 0.5
                metrics.append(replace(metric, value=Estimate(fmean(values), max(stdev(values), own), found[0].n)))
        keys = [key for key in first.cost if all(key in evaluation.cost for evaluation in of)]
        cost = {key: fmean(evaluation.cost[key] for evaluation in of) for key in keys}
        return replace(first, subject=subject, metrics=tuple(metrics), cost=cost, trainings=len(of))

    def save(self, path: Path) -> None:
        """Write the evaluation with a checksum."""
        records.write(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read an evaluation. Raises AncestralError if the file is missing, damaged or no evaluation."""
        try:
            return records.read(path, cls, "delete it and evaluate again")
        except FileNotFoundError:
            raise AncestralError(f"{path} is missing: evaluate again") from None
