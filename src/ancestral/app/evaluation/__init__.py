"""Evaluation of samples: how good they are, and whether a difference between models is real.

`Evaluator` compares a `Subject` with data, and `Comparison` compares subjects. A model must be better than the `baselines`.
"""

from ancestral.app.evaluation.baselines import baseline
from ancestral.app.evaluation.comparison import Comparison
from ancestral.app.evaluation.evaluator import Evaluator, N
from ancestral.app.evaluation.result import Evaluation, Metric
from ancestral.app.evaluation.samples import Samples, draw
from ancestral.app.evaluation.subject import Cost, Subject

__all__ = [
    "Comparison",
    "Cost",
    "Evaluation",
    "Evaluator",
    "Metric",
    "N",
    "Samples",
    "Subject",
    "baseline",
    "draw",
]
