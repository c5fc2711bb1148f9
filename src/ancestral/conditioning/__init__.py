"""Conditions: conversion of users' values to tensors for networks.

A `Conditioner` turns named raw conditions (`{"class": labels}`) into a `Context`, which networks take in addition to the sample
and its noise level. Each kind has a learned null, which replaces an absent or dropped condition, so that one network models
p(x | y) and p(x) (Ho & Salimans 2022, arXiv:2207.12598).
"""

from ancestral.conditioning.classes import ClassCondition
from ancestral.conditioning.conditioner import Condition, Conditioner
from ancestral.conditioning.context import NOTHING, Context, ContextShape
from ancestral.conditioning.embeddings import EmbeddingCondition
from ancestral.conditioning.images import ImageCondition, InpaintCondition, SketchCondition, UpscaleCondition
from ancestral.conditioning.layout import LayoutCondition
from ancestral.conditioning.maps import MapCondition
from ancestral.conditioning.minilm import MiniLM
from ancestral.conditioning.numbers import NumberCondition
from ancestral.conditioning.render import Rendering
from ancestral.conditioning.text import SentenceCondition, TextCondition
from ancestral.conditioning.text_layout import TextLayoutCondition

__all__ = [
    "NOTHING",
    "ClassCondition",
    "Condition",
    "Conditioner",
    "Context",
    "ContextShape",
    "EmbeddingCondition",
    "ImageCondition",
    "InpaintCondition",
    "LayoutCondition",
    "MapCondition",
    "MiniLM",
    "NumberCondition",
    "Rendering",
    "SentenceCondition",
    "SketchCondition",
    "TextCondition",
    "TextLayoutCondition",
    "UpscaleCondition",
]
