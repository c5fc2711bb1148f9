"""Models for other runtimes: ONNX, OpenVINO, torch's pt2, and the pipelines of diffusers."""

from ancestral.app.export.write import Export, export

__all__ = ["Export", "export"]
