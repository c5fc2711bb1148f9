"""A classifier of the data's own classes, whose features suit these data best if there are labels.

It is trained once on the training split and cached under the data's fingerprint. The same network, trained for a few seconds on
generated samples, gives the classification accuracy score.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.app.data import DataSet
from ancestral.app.data.cache import cache_dir, keep
from ancestral.app.evaluation.extractors.base import BATCH, Pictures
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import DamageError
from ancestral.noise import StreamNoise
from ancestral.runtime import Runtime
from ancestral.weights import read_tensors, serialise

FORMAT = 1
BATCH_TRAIN = 128
SEEN = 250_000  # training samples, counted with repetition; a few minutes for small images
FEATURES = 128


class Classifier(nn.Module):
    """Convolutions that halve the map until its sides are at most 4, a hidden layer of 128 features, and the logits.

    Args:
        shape: `(c, h, w)`, `(c, l)` (treated as height 1) or `(d,)`, for which the convolutions are dense layers.
        classes: The number of classes.
        dropout: The dropout rate.
    """

    def __init__(self, shape: Sequence[int], classes: int, dropout: float = 0.3):
        super().__init__()
        self.dropout = dropout
        layers: list[nn.Module] = []
        if len(shape) == 1:
            widths = [shape[0], 256, 256]
            layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
            flat = widths[-1]
        else:
            c, *space = shape
            h, w = space if len(space) == 2 else (1, space[0])
            width = 32
            while True:
                layers += [nn.Conv2d(c, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                c, width = width, min(128, 2 * width)
                if max(h, w) <= 4:
                    break
                kernel = (min(2, h), min(2, w))
                layers.append(nn.MaxPool2d(kernel))
                h, w = h // kernel[0], w // kernel[1]
            flat = c * h * w
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(flat, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features `(n, 128)`."""
        x = x[:, :, None, :] if x.ndim == 3 else x
        h = F.dropout(self.body(x).flatten(1), self.dropout, self.training)
        return F.relu(self.hidden(h))

    def logits(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.dropout(self(x), self.dropout, self.training))
        return out


def fit(
    x: Tensor,
    labels: Tensor,
    classes: int,
    runtime: Runtime,
    *,
    seen: int,
    progress: Progress = silent,
    what: str = "classifier",
) -> Classifier:
    """Train a classifier. The same data give the same network.

    Args:
        x: Samples `(n, *shape)` in the units of the data.
        labels: Their classes `(n,)`.
        classes: The number of classes.
        runtime: Device and precision.
        seen: The number of training samples, counted with repetition.
        progress: A function that is called with a sentence about the progress.
        what: The name of the work in these sentences.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Classifier(x.shape[1:], classes)
    runtime.place(model)
    model.train()
    steps = max(1, seen // BATCH_TRAIN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    for step in range(steps):
        noise = StreamNoise(min(BATCH_TRAIN, len(x)), 0, step)
        rows = (noise.uniform() * len(x)).long().clamp(max=len(x) - 1)
        runtime.seed(step)  # dropout
        with runtime.autocast():
            logits = model.logits(x[rows].to(runtime.device, torch.float32))
        loss = F.cross_entropy(logits.float(), labels[rows].to(runtime.device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            progress(f"{what}: {step / steps:.0%}")
    return model.eval()


@torch.no_grad()
def predict(model: Classifier, x: Tensor, runtime: Runtime) -> Tensor:
    """Return the most likely class of each sample, `(n,)`."""
    with runtime.autocast():
        return torch.cat([model.logits(part.to(runtime.device)).float().argmax(1).cpu() for part in x.split(BATCH)])


class OwnClassifier(Pictures):
    """The cached classifier of a data set as an extractor. `accuracy` is its accuracy on the held-out split."""

    def __init__(self, data: DataSet, runtime: Runtime, progress: Progress = silent):
        if (labels := data.labels()) is None:
            raise ValueError(f"{data.spec.name} has no classes")
        file = cache_dir() / "extractors" / f"classifier-{FORMAT}-{data.spec.fingerprint}.safetensors"
        found = _recall(file, data, progress)
        if found is None:
            x = data.x()
            seen = min(SEEN, 60 * len(data.train))
            model = fit(x, labels, len(data.spec.classes), runtime, seen=seen, progress=progress)
            test = data.batch(torch.arange(len(data.test)), "test")
            right = predict(model, test.x, runtime) == test.conditions["class"]
            found = model, right.float().mean().item()
            keep(file, b"".join(serialise(model.state_dict(), {"accuracy": str(found[1])})), progress)
        self.classifier, self.accuracy = found
        about = f"a classifier of the {len(data.spec.classes)} classes, {self.accuracy:.1%} right on held-out data"
        super().__init__("classifier", self.classifier, about, runtime)

    def classes(self, x: Tensor) -> Tensor:
        """Return the most likely class of each sample, `(n,)`."""
        return predict(self.classifier, x, self.runtime)


def _recall(file: Path, data: DataSet, progress: Progress) -> tuple[Classifier, float] | None:
    """Return the classifier in a file and its accuracy, or None if it is missing or damaged."""
    try:
        tensors, metadata = read_tensors(file, "it is trained again")
    except FileNotFoundError:
        return None
    except DamageError as error:
        progress(str(error))
        return None
    model = Classifier(data.spec.shape, len(data.spec.classes))
    model.load_state_dict(tensors)
    return model.eval(), float(metadata["accuracy"])
