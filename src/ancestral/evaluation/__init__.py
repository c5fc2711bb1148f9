"""How good are the samples, and is a difference real?

`Judge` compares samples with data; `compare` compares models with each other; `baselines` are what a model must beat.
"""

from ancestral.evaluation.baselines import BASELINES, baseline
from ancestral.evaluation.comparison import Comparison, Contestant, compare
from ancestral.evaluation.judge import Judge, N
from ancestral.evaluation.result import Evaluation, Metric
from ancestral.evaluation.samples import Samples, draw

__all__ = [
    "BASELINES",
    "Comparison",
    "Contestant",
    "Evaluation",
    "Judge",
    "Metric",
    "N",
    "Samples",
    "baseline",
    "compare",
    "draw",
]
