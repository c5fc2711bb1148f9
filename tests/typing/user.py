"""A user's file that `make lint` checks as strictly as the package. It is not run.

If a public name lost its type, `assert_type` would fail, and the error that is expected at the end would be missing.
"""

from typing import assert_type

import torch
from torch import Tensor, nn

import ancestral as an
from ancestral.schedules import Linear
from ancestral.solvers import Heun


class Net(nn.Module):
    """A network of one's own."""

    def forward(self, z: Tensor, logsnr: Tensor, context: object = None) -> Tensor:
        return z * logsnr.sigmoid()[:, None]


model = an.Diffusion(Net(), shape=(2,), schedule=Linear(), target="velocity")
assert_type(model.loss(torch.randn(8, 2)), dict[str, Tensor])
assert_type(model.sample(4, seeds=range(4), solver=Heun(), steps=5), Tensor)
trained = assert_type(an.train(torch.randn(64, 2), model=model, budget="5it", quiet=True), an.GenerativeModel)
result = an.evaluate(trained.sample(64), against=torch.randn(64, 2))
if result is not None:
    assert_type(result["fd-coordinates"].value.value, float)
assert_type(an.load_data("digits"), an.DataSet)
assert_type(an.SampleRequest(n=3, steps=4).run(trained), Tensor)
wrong: int = model.sample(4)  # type: ignore[assignment]
