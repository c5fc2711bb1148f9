"""Requests for samples. Python, the command and the web use the same request, which is checked here."""

from ancestral.app.sampling.conditions import Conditions, Sweep
from ancestral.app.sampling.edits import EditRequest
from ancestral.app.sampling.guidance import Guidance
from ancestral.app.sampling.request import SampleRequest, Sampling
from ancestral.app.sampling.tuning import Setting, Tuning

__all__ = ["Conditions", "EditRequest", "Guidance", "SampleRequest", "Sampling", "Setting", "Sweep", "Tuning"]
