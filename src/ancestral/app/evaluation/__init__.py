"""How good are the samples, and is a difference real?

`Evaluator` compares a `Subject` with data, `Comparison` subjects with each other; `baselines` are what a model must beat.
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
