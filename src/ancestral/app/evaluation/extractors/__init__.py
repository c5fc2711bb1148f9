"""Feature extractors: what a distance between sets of samples is measured in.

Which one is used is part of a metric's name (`fd-classifier`), since distances in different features cannot be compared.
"""

from ancestral.app.evaluation.extractors.base import Coordinates, Extractor, Pictures
from ancestral.app.evaluation.extractors.choose import choose, extractor

__all__ = ["Coordinates", "Extractor", "Pictures", "choose", "extractor"]
