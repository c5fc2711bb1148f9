"""The formats of exported graphs. Each needs its own packages, which are imported when it is written."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from ancestral.app.export.graphs import Traceable
from ancestral.errors import AncestralError, UsageError

Format = Literal["onnx", "openvino", "pt2"]
NEEDED: Mapping[Format, tuple[str, ...]] = {
    "pt2": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}
INT8 = ("Conv", "MatMul", "Gemm")  # operations that int8 can have
MOST = 63  # samples of a graph at a time; networks of diffusers have another branch from 64 on


def check_packages(format: Format) -> None:
    """Raise AncestralError if a package of the format is not installed."""
    if missing := [name for name in NEEDED[format] if find_spec(name) is None]:
        raise AncestralError(f"the format {format} needs {' and '.join(missing)}: pip install 'ancestral[{format}]'")


def write(
    graph: Traceable, format: Format, file: Path, calibration: Sequence[Sequence[np.ndarray]] | None = None
) -> list[Path]:
    """Write a graph.

    Args:
        graph: the graph.
        format: the format.
        file: the path without its suffix.
        calibration: inputs of the graph from which the ranges of int8 are measured. None: the graph stays in float32.

    Returns:
        The files, the first of which a runtime opens.

    Raises:
        UsageError: if the format cannot hold the graph.
    """
    with quiet():
        program = traced(graph)
        if format == "pt2":
            torch.export.save(program, file.with_suffix(".pt2"))
            return [file.with_suffix(".pt2")]
        model = file.with_suffix(".onnx")
        _onnx(program, graph, model)
        if calibration is not None:
            _quantise(model, graph.names, calibration)
        return [model] if format == "onnx" else _openvino(model, file)


def traced(graph: Traceable) -> ExportedProgram:
    """Trace a graph with an open number of samples. Raises UsageError if it depends on values."""
    n = Dim("n", min=1, max=MOST)
    open_first = tuple({0: n} for _ in graph.inputs)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused layers of transformers are in no other format
    try:
        return torch.export.export(Flat(graph.module), graph.inputs, dynamic_shapes=(open_first,), strict=False)
    except RuntimeError as error:
        raise UsageError(
            f"this model cannot be written as a graph ({_first_line(error)}): choose another `solver`, or export the network "
            "alone with `what=network`"
        ) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Flat(torch.nn.Module):
    """A module whose inputs are all positional, so that all are named alike."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module.eval()

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.module(*inputs)


def _onnx(program: ExportedProgram, graph: Traceable, file: Path) -> None:
    try:
        written = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=list(graph.names), output_names=[graph.output]
        )
    except RuntimeError as error:
        raise UsageError(f"ONNX cannot hold this model ({_first_line(error)}): export it as pt2") from None
    assert written is not None
    written.save(str(file), external_data=False)


def _openvino(model: Path, file: Path) -> list[Path]:
    import openvino

    openvino.save_model(openvino.Core().read_model(str(model)), str(file.with_suffix(".xml")), compress_to_fp16=False)
    model.unlink()
    return [file.with_suffix(".xml"), file.with_suffix(".bin")]


def _quantise(file: Path, names: Sequence[str], calibration: Sequence[Sequence[np.ndarray]]) -> None:
    """Replace a graph by one whose convolutions and products of matrices are of int8 numbers.

    Convolutions that read the inputs stay in float32. They cost little, random numbers have no bounds, and openvino 2026.4
    computes them differently from onnxruntime, far beyond rounding.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.left, None)
            return None if batch is None else dict(zip(names, batch, strict=True))

    whole = file.with_name(f".{file.name}")
    os.replace(file, whole)
    try:
        quantize_static(
            str(whole),
            str(file),
            Batches(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(INT8),
            nodes_to_exclude=_first(onnx.load(str(whole)).graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # weights of 7 bits: without VNNI two products of 8 bits overflow the 16 of their sum
        )
    finally:
        whole.unlink(missing_ok=True)


def _first(graph: Any) -> list[str]:
    """Return the names of the convolutions that read the inputs of an ONNX graph, through no other operation for int8."""
    first: list[str] = []
    after: set[str] = set()  # what depends on such an operation
    for node in graph.node:
        if not after.isdisjoint(node.input):
            after.update(node.output)
        elif node.op_type in INT8:
            first += [node.name] if node.op_type == "Conv" else []
            after.update(node.output)
    return first


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and log lines of the exporters about themselves."""
    loggers = [logging.getLogger(), logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
