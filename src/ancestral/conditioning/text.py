"""Conditions on text, by an encoder that is trained with the model or by one that is not trained at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Transformer
from ancestral.conditioning.vocabulary import LONGEST, PAD, Vocabulary
from ancestral.configuration import configurable
from ancestral.errors import UsageError


class Prompts(Condition):
    """A text a sample; the empty text is the null. Raw: what an encoder reads of each, `(n, length, ...)`."""

    source = "text"
    mirrored = "left and right in captions do not hold for images that are mirrored: leave data.flip out if captions use them"

    def read(self, texts: Sequence[str]) -> Tensor:
        """The raw tensor of texts."""
        raise NotImplementedError

    def check(self, text: str) -> None:
        """Raises UsageError for a text that the model cannot have learned."""
        raise NotImplementedError

    def column(self, values: Sequence[str | None]) -> Tensor:
        rows = {text: i for i, text in enumerate(sorted({text or "" for text in values}))}
        return self.read(list(rows))[[rows[text or ""] for text in values]]

    def parse(self, value: Any, n: int) -> Tensor:
        """From a text, or n of them; None and "" ask for nothing."""
        if isinstance(value, Tensor):
            return value

        def read(text: Any) -> Tensor:
            if text is not None and not isinstance(text, str):
                raise UsageError(f"a text is a string, found {type(text).__name__}")
            self.check(text or "")
            return self.read([text or ""])[0]

        return one_or_each(value, n, value is None or isinstance(value, str), "texts", read)


def too_long(text: str, found: int, length: int) -> UsageError:
    """What to say of a text with more tokens than the longest caption."""
    return UsageError(f"the text {text!r} has {found} tokens, and the longest caption had {length}: shorten it")


def cut(lengths: Iterable[int]) -> tuple[str, ...]:
    """What a person should be told of captions of so many tokens."""
    many = sum(length > LONGEST for length in lengths)
    return (f"{many:,} different captions are longer than {LONGEST} tokens and are read so far only",) if many else ()


@configurable
class TextCondition(Prompts):
    """Text -> tokens `(n, length, width)` by a small transformer that is trained with the model, and a vector from the first
    token, which sees them all.

    vocabulary: the most pieces of words that are told apart; they are learned from the training captions (`fit`) and kept
    with the weights. Raw: token numbers `(n, length)`, padded with PAD; the null is encoded like any other text.
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

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self._known().dump())

    def fit(self, values: Sequence[str | None]) -> None:
        self.vocabulary = Vocabulary.learn([text for text in values if text], self.size)
        self.notes = cut(self.vocabulary.count(text) for text in {text for text in values if text})

    def read(self, texts: Sequence[str]) -> Tensor:
        known = self._known()
        numbers = [known.encode(text) for text in texts]
        return torch.tensor([row + [PAD] * (known.length - len(row)) for row in numbers])

    def check(self, text: str) -> None:
        known = self._known()
        known.check(text)
        if (found := known.count(text)) > known.length:
            raise too_long(text, found, known.length)

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        null = self.read([""]).to(self.places.device)
        numbers = null.expand(n, -1) if raw is None else where(drop, null, raw.to(null.device))
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


class SentenceEncoder(Protocol):
    """Reads texts without being trained, such as `MiniLM`; it is no part of a model's weights."""

    width: int

    def count(self, text: str) -> int:
        """How many tokens a text has."""

    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """`(n, length, width)`, at most `length` tokens of each text and rows of 0 after its last."""


@configurable
class SentenceCondition(Prompts):
    """Text -> what a frozen encoder makes of its tokens, projected to `(n, length, width)`, and a vector of their mean.

    Texts are read once and kept as they were read, so training costs no more than the projection. Raw: half-precision
    `(n, length, encoder.width)` with rows of 0 after the last token. The null is a learned token.
    """

    def __init__(self, encoder: SentenceEncoder, width: int):
        super().__init__()
        self.encoder = encoder
        self.project = nn.Sequential(nn.Linear(encoder.width, width), nn.LayerNorm(width))
        self.null = nn.Parameter(torch.randn(width))
        self.pool = nn.Linear(width, width)
        self.length: Tensor
        self.register_buffer("length", torch.zeros((), dtype=torch.long))  # of the longest caption, in tokens
        self.widths = ContextShape(vector=width, tokens=width)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), type(self.encoder), self._length())

    def fit(self, values: Sequence[str | None]) -> None:
        lengths = [self.encoder.count(text) for text in {text for text in values if text}]
        self.length.fill_(min(LONGEST, max(lengths, default=1)))
        self.notes = cut(lengths)

    def read(self, texts: Sequence[str]) -> Tensor:
        length = self._length()
        raw = torch.zeros(len(texts), length, self.encoder.width, dtype=torch.float16)
        if said := [i for i, text in enumerate(texts) if text]:
            raw[said] = self.encoder([texts[i] for i in said], length).half()
        return raw

    def check(self, text: str) -> None:
        if text and (found := self.encoder.count(text)) > self._length():
            raise too_long(text, found, self._length())

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        if raw is None:
            raw = torch.zeros(n, self._length(), self.encoder.width)
        read = raw.to(self.null)
        read = where(drop, torch.zeros_like(read[:1]), read)
        mask = (read != 0).any(-1)
        first = torch.zeros_like(mask)
        first[:, 0] = ~mask.any(1)
        tokens = torch.where(first[..., None], self.null, self.project(read))
        mask = mask | first
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return Context(vector=self.pool(mean), tokens=tokens, mask=mask)

    def _length(self) -> int:
        if not (length := int(self.length)):
            raise UsageError("this text encoder does not know how long captions are: let it see them with `fit`")
        return length
