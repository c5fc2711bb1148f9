"""What an evaluation says: figures with error bars, each beside that of real data at the same n."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ancestral.errors import AncestralError
from ancestral.files import disk_errors, write_atomically
from ancestral.metrics import Estimate

Better = Literal["lower", "higher", "as real"]


@dataclass(frozen=True)
class Metric:
    """A figure. real: of real data at the same n, or what is expected of a perfect model. meaning: in a few words."""

    name: str
    value: Estimate
    real: Estimate | None
    better: Better
    meaning: str


@dataclass(frozen=True)
class Evaluation:
    """Of one model or set of samples.

    subject: its name. family: None where the samples come from elsewhere. source: the data. against: the reference split, of
    `reference` samples. n: generated samples. extractors: name -> what it is. coarse: none is better than a rough guide.
    cost: samples_per_second, nfe, parameters, memory, training_seconds, where known. how: options of the sampler.
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

    def __getitem__(self, name: str) -> Metric:
        """The metric of that name. Raises KeyError."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def get(self, name: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def headline(self) -> Metric:
        """The distance by which the subject is judged first: Fréchet's in the most trustworthy features."""
        return self[f"fd-{next(iter(self.extractors))}"]

    def save(self, path: Path) -> None:
        with disk_errors(path):
            write_atomically(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Raises AncestralError if the file is not an evaluation."""
        try:
            values = json.loads(path.read_text())
            metrics = tuple(_metric(m) for m in values.pop("metrics"))
            return cls(metrics=metrics, notes=tuple(values.pop("notes")), **values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AncestralError(f"{path} is not a whole evaluation: delete it and evaluate again") from error


def _metric(values: dict[str, Any]) -> Metric:
    real = values["real"]
    return Metric(**{**values, "value": Estimate(**values["value"]), "real": None if real is None else Estimate(**real)})
