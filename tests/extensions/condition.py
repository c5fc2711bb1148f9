import torch
from torch import nn

import ancestral as an
from ancestral.conditioning import Condition, Context, ContextShape
from ancestral.conditioning.conditioner import one_or_each, where


class Brightness(Condition):
    """The mean of a sample -> a vector. Raw: `(n,)`."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.null = nn.Parameter(torch.zeros(width))
        self.widths = ContextShape(vector=width)

    def derive(self, x, noise):
        return x.flatten(1).mean(1)

    def parse(self, value, n):
        value = torch.as_tensor(value, dtype=torch.float32)
        return one_or_each(value, n, value.ndim == 0, "values", lambda v: v)

    def forward(self, raw, n, drop=None):
        if raw is None:
            return Context(vector=self.null.expand(n, -1))
        return Context(vector=where(drop, self.null, self.embed(raw.to(self.null.device)[:, None])))


@an.register("condition", "brightness", "the mean of a sample's pixels")
def brightness(spec, space, **options):
    return Brightness(64)
