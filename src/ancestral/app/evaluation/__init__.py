"""How good are the samples, and is a difference real?

`Evaluator` compares samples with data; `compare` compares models with each other; `baselines` are what a model must beat.
"""

from ancestral.app.evaluation.baselines import BASELINES, baseline
from ancestral.app.evaluation.comparison import Comparison, Subject, compare
from ancestral.app.evaluation.judge import Evaluator, N
from ancestral.app.evaluation.result import Evaluation, Metric
from ancestral.app.evaluation.samples import Samples, draw

__all__ = [
    "BASELINES",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "Metric",
    "N",
    "Samples",
    "Subject",
    "baseline",
    "compare",
    "draw",
]
