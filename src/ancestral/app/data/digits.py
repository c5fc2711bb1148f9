"""The data set `digits`: handwritten digits that are part of scikit-learn, so that the first run needs no download."""

from __future__ import annotations

import numpy as np
import torch

from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import DataSet, Split


def digits() -> DataSet:
    """Load 1,797 images of shape (1, 8, 8) with 17 levels (0..16) and 10 classes. A stratified tenth is held out.

    Source: the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI).
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    array = torch.from_numpy(images.astype(np.uint8).reshape(-1, 1, 8, 8))
    samples = Split({"x": array, "class": torch.from_numpy(labels.astype(np.int64))})
    return assemble("digits", samples, levels=17, classes=tuple("0123456789"))
