"""A model in the form of an exported graph, which can only be sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ancestral.conditioning import Conditioner, Context
from ancestral.configuration import decode
from ancestral.errors import AncestralError, UsageError
from ancestral.models.base import GenerativeModel
from ancestral.noise import Noise, SampleNoise
from ancestral.runner import CONFIG, Exported, ExportError, read_config
from ancestral.schedules import CLEAN
from ancestral.solvers import State
from ancestral.weights import problem, read_tensors

CONDITIONER = "conditioner.safetensors"


class ExportedModel(GenerativeModel):
    """The sampler of an exported model. It runs on the CPU and draws the samples of the original, by the same seeds.

    Args:
        runner: the export.

    Raises:
        AncestralError: if the encoders of the conditions are damaged.
    """

    def __init__(self, runner: Exported):
        config = runner.config
        super().__init__(
            config["shape"],
            mean=config["mean"],
            std=config["std"],
            bounds=config["bounds"],
            conditioner=_conditioner(config, runner.folder),
        )
        self.runner, self.levels = runner, config["levels"]
        self.family = config["family"]  # type: ignore[misc]

    @classmethod
    def load(cls, folder: str | Path, precision: str = "fp32") -> ExportedModel:
        """Load an export. precision: as of `Exported`.

        Raises:
            UsageError: if the format does not have the precision.
            AncestralError: if the export is damaged, or its runtime is missing.
        """
        form = described(Path(folder))["format"]
        if precision != "fp32" and (form != "openvino" or precision != "bf16"):
            raise UsageError(f"an export to {form} has its own arithmetic, not {precision}: leave the precision out")
        try:
            return cls(Exported(folder, precision)).eval()
        except ExportError as error:
            raise AncestralError(str(error)) from None

    @property
    def options(self) -> tuple[str, ...]:
        """The option `guidance` of an exported network. A sampler has no options, since all is part of its graph."""
        return ("guidance",) if "denoiser" in self.runner.graphs else ()

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options of `sample_path`, with the raw conditions, which the graph encodes itself."""
        return {**how, "raw": {name: value.numpy() for name, value in raw.items()}}

    def sample_path(
        self, noise: Noise, context: Context, *, raw: Mapping[str, Any], guidance: float | None = None
    ) -> Iterator[State]:
        """Yield the samples as the only state, in the units of the data."""
        assert isinstance(noise, SampleNoise)
        x = self.runner.draw(noise.seeds, self.runner.inputs(noise.n, raw), guidance)
        nfe = self.runner.config["sampler"]["nfe"]
        yield State(torch.from_numpy(x), CLEAN, None, nfe, 1, 1)

    def to_data(self, x: Tensor) -> Tensor:
        return x


def described(folder: Path) -> dict[str, Any]:
    """Return the description of an export. Raises AncestralError if it is missing or damaged."""
    try:
        return read_config(folder)
    except ExportError as error:
        raise AncestralError(str(error)) from None


def holds_export(folder: Path) -> bool:
    """Return whether a folder holds an export, which may be damaged."""
    try:
        return '"export": ' in (folder / CONFIG).read_text(encoding="utf-8")[:64]
    except (OSError, ValueError):
        return False


def _conditioner(config: Mapping[str, Any], folder: Path) -> Conditioner | None:
    """Return the encoders of the conditions, which read the values of users."""
    if not config["conditions"]:
        return None
    conditioner: Conditioner = decode(config["conditioner"])
    file = folder / CONDITIONER
    try:
        tensors, metadata = read_tensors(file, "export the model again")
        wrong = problem(tensors, metadata)
        conditioner.load_state_dict(tensors)
    except (OSError, RuntimeError) as error:
        wrong = f"cannot be read ({str(error).splitlines()[0]})"
    if wrong:
        raise AncestralError(f"{file} {wrong}: export the model again")
    return conditioner
