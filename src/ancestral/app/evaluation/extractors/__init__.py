"""Feature extractors, which turn samples into the features in which distances are measured.

The name of the extractor is part of a metric's name (`fd-classifier`), since distances in different features cannot be
compared.
"""

from ancestral.app.evaluation.extractors.base import Coordinates, Extractor, Pictures
from ancestral.app.evaluation.extractors.choose import choose, extractor

__all__ = ["Coordinates", "Extractor", "Pictures", "choose", "extractor"]
