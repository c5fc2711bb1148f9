"""The tokenizer and the encoder of texts, with which the runner of an export reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ancestral.app.export.formats import write
from ancestral.app.export.graphs import N, Traceable, texts_of
from ancestral.conditioning import MiniLM, SentenceCondition, TextCondition
from ancestral.conditioning.vocabulary import PAD, START
from ancestral.errors import AncestralError, UsageError
from ancestral.files import write_atomically
from ancestral.models import GenerativeModel
from ancestral.runner import Reader, digest


class EncoderGraph(nn.Module):
    """Numbers of tokens `(n, length)`, 0 after the last -> vectors `(n, length, width)`."""

    def __init__(self, encoder: MiniLM):
        super().__init__()
        self.network = encoder.network()

    def forward(self, numbers: Tensor) -> Tensor:
        x: Tensor = self.network(numbers, numbers != PAD)
        return x


def write_readers(model: GenerativeModel, folder: Path, config: dict[str, Any]) -> None:
    """Write the files of every condition on a text, and describe them.

    Raises:
        UsageError: if an encoder is not part of this package.
        AncestralError: if the runner would read a text differently.
    """
    for name, kind in model.conditioner.kinds.items():
        if isinstance(kind, TextCondition | SentenceCondition):
            description = config["conditions"][name]
            description |= _files(name, kind, folder, config["format"])
            texts = texts_of(kind)
            mine, theirs = kind.read(texts).float().numpy(), Reader(folder, config["format"], description, None)(texts)
            if not np.allclose(theirs, mine, atol=1e-3, rtol=2e-3):  # steps of half precision
                raise AncestralError(f"the export reads the condition {name} differently from the model; nothing was written")


def _files(name: str, kind: TextCondition | SentenceCondition, folder: Path, format: Any) -> dict[str, Any]:
    """Write the files of one condition, and return their description."""
    tokenizer = folder / f"{name}.json"
    files, words, first, encoder = [tokenizer], None, [], None
    if isinstance(kind, TextCondition):
        assert kind.vocabulary is not None
        write_atomically(tokenizer, kind.vocabulary.tokenizer.to_str().encode())
        words, first = sorted(kind.vocabulary.words), [START]
    elif isinstance(kind.encoder, MiniLM):
        write_atomically(tokenizer, kind.encoder.tokenizer_file.read_bytes())
        numbers = torch.ones(N, int(kind.length), dtype=torch.long)
        graph = Traceable(EncoderGraph(kind.encoder), (numbers,), ("numbers",))
        encoder, *more = write(graph, format, folder / f"{name}_encoder")
        files += [encoder, *more]
    else:
        raise UsageError(
            f"the text encoder {type(kind.encoder).__name__} cannot be exported: only that of model.text=own or minilm can"
        )
    return {
        "kind": "text",
        "tokenizer": tokenizer.name,
        "first": first,
        "words": words,
        "encoder": None if encoder is None else encoder.name,
        "files": {file.name: digest(file) for file in files},
    }
