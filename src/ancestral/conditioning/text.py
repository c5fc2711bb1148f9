"""Conditions on text, by an encoder that is trained with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.conditioning.conditioner import Condition, one_or_each
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Transformer
from ancestral.conditioning.vocabulary import LONGEST, PAD, Vocabulary
from ancestral.errors import UsageError


class Prompts(Condition):
    """A text a sample. Raw: token numbers `(n, length)`, padded with PAD; the null is the empty text, encoded like any
    other.
    """

    source = "captions"
    mirrored = "left and right in captions do not hold for images that are mirrored: leave data.flip out if captions use them"

    def numbers(self, text: str) -> list[int]:
        """Token numbers of a text, at most `length`."""
        raise NotImplementedError

    def check(self, text: str) -> None:
        """Raises UsageError for a text that the encoder cannot have learned."""

    @property
    def length(self) -> int:
        raise NotImplementedError

    def column(self, values: Sequence[str | None]) -> Tensor:
        numbers = {text: self._row(text) for text in {text or "" for text in values}}
        return torch.stack([numbers[text or ""] for text in values])

    def parse(self, value: Any, n: int) -> Tensor:
        """From a text, or n of them; None and "" ask for nothing."""
        if isinstance(value, Tensor):
            return value
        single = value is None or isinstance(value, str)

        def read(text: Any) -> Tensor:
            if text is not None and not isinstance(text, str):
                raise UsageError(f"a text is a string, found {type(text).__name__}")
            self.check(text or "")
            return self._row(text or "")

        return one_or_each(value, n, single, "texts", read)

    def _row(self, text: str) -> Tensor:
        numbers = self.numbers(text)
        return torch.tensor(numbers + [PAD] * (self.length - len(numbers)))

    def _asked(self, raw: Tensor | None, n: int, drop: Tensor | None, device: torch.device) -> Tensor:
        """The token numbers of n samples, the empty text's where nothing is asked or the condition is dropped."""
        null = self._row("").to(device)
        if raw is None:
            return null.expand(n, -1)
        raw = raw.to(device)
        return raw if drop is None else torch.where(drop.to(device)[:, None], null, raw)


class TextCondition(Prompts):
    """Text -> tokens `(n, length, width)` by a small transformer, and a vector from the first token, which sees them all.

    vocabulary: the most pieces of words that are told apart; they are learned from the training captions (`fit`) and kept
    with the weights.
    """

    def __init__(self, width: int, vocabulary: int = 1024, layers: int = 2):
        super().__init__()
        self.size = vocabulary
        self.vocabulary: Vocabulary | None = None
        self.table = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(LONGEST, width))
        self.encoder = Transformer(width, layers)
        self.pool = nn.Linear(width, width)
        self.widths = ContextShape(vector=width, tokens=width)

    def fit(self, values: Sequence[str | None]) -> None:
        self.vocabulary = Vocabulary.learn([text for text in values if text], self.size)
        whole = [1 + len(self.vocabulary.tokenizer.encode(text).ids) for text in {text for text in values if text}]
        cut = sum(length > LONGEST for length in whole)
        self.notes = (f"{cut:,} different captions are longer than {LONGEST} tokens and are read so far only",) if cut else ()

    @property
    def length(self) -> int:
        return self._known().length

    def numbers(self, text: str) -> list[int]:
        return self._known().encode(text)

    def check(self, text: str) -> None:
        self._known().check(text)

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        numbers = self._asked(raw, n, drop, self.places.device)
        mask = numbers != PAD
        tokens = self.encoder(self.table(numbers) + self.places[: numbers.shape[1]], mask)
        return Context(vector=self.pool(tokens[:, 0]), tokens=tokens, mask=mask)

    def get_extra_state(self) -> Tensor:
        """The vocabulary as bytes in a uint8 tensor, so that a model's weights are whole."""
        stored = b"" if self.vocabulary is None else self.vocabulary.dump()
        return torch.frombuffer(bytearray(stored), dtype=torch.uint8) if stored else torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        stored = bytes(state.cpu().numpy().tobytes())
        self.vocabulary = Vocabulary.load(stored) if stored else None

    def _known(self) -> Vocabulary:
        if self.vocabulary is None:
            raise UsageError("this text encoder has no vocabulary yet: let it learn one from captions with `fit`")
        return self.vocabulary
