"""Conditions on text, with an encoder that is trained with the model or a frozen one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.encoders import Transformer
from ancestral.conditioning.vocabulary import LONGEST, PAD, Vocabulary, well_formed
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.transfer import onto


class Prompts(Condition):
    """The base class of conditions on a text for each sample. The empty text is the null.

    Raw tensors are the input of the encoder for each text, `(n, length, ...)`.
    """

    source = "text"
    mirrored = "left and right in captions are wrong for mirrored images: leave data.flip out if captions use these words"

    def read(self, texts: Sequence[str]) -> Tensor:
        """Return the raw tensor of texts."""
        raise NotImplementedError

    def check(self, text: str) -> None:
        """Raise UsageError if the model cannot have learned a text."""
        raise NotImplementedError

    def column(self, values: Sequence[str | None]) -> Tensor:
        rows = {text: i for i, text in enumerate(sorted({text or "" for text in values}))}
        return self.read(list(rows))[[rows[text or ""] for text in values]]

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor from one text, or n texts. None and "" are no condition."""
        if isinstance(value, Tensor):
            return value

        def read(text: Any) -> Tensor:
            if text is not None and not isinstance(text, str):
                raise UsageError(f"a text must be a string, found {type(text).__name__}")
            text = well_formed(text or "")
            self.check(text)
            return self.read([text])[0]

        return one_or_each(value, n, value is None or isinstance(value, str), "texts", read)


def too_long(text: str, found: int, length: int) -> UsageError:
    """Return the error for a text with more tokens than the longest caption."""
    return UsageError(f"the text {text!r} has {found} tokens, and the longest caption had {length}: shorten it")


def cut(lengths: Iterable[int]) -> tuple[str, ...]:
    """Return a note for the user if captions with these numbers of tokens are cut."""
    many = sum(length > LONGEST for length in lengths)
    return (f"{many:,} different captions are longer than {LONGEST} tokens, and the rest of them is ignored",) if many else ()


@configurable
class TextCondition(Prompts):
    """A condition on text with a small transformer, which is trained with the model.

    It gives tokens `(n, length, width)`, and a vector from the first token, which attends to all. Raw tensors are token numbers
    `(n, length)`, padded with PAD. The null is encoded like any other text.

    Args:
        width: of the tokens and the vector.
        vocabulary: the largest number of pieces of words. They are learned from the training captions (`fit`) and saved with
            the weights.
        layers: of the transformer.
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
        null = onto(self.read([""]), self.places.device)
        numbers = null.expand(n, -1) if raw is None else where(drop, null, onto(raw, null.device))
        mask = numbers != PAD
        tokens = self.encoder(self.table(numbers) + self.places[: numbers.shape[1]], mask)
        return Context(vector=self.pool(tokens[:, 0]), tokens=tokens, mask=mask)

    def get_extra_state(self) -> Tensor:
        """Return the vocabulary as bytes in a uint8 tensor, so that a model's weights are complete."""
        stored = b"" if self.vocabulary is None else self.vocabulary.dump()
        return torch.frombuffer(bytearray(stored), dtype=torch.uint8) if stored else torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        stored = bytes(state.cpu().numpy().tobytes())
        self.vocabulary = Vocabulary.load(stored) if stored else None

    def _known(self) -> Vocabulary:
        if self.vocabulary is None:
            raise UsageError("this text encoder has no vocabulary yet: learn one from captions with `fit`")
        return self.vocabulary


class SentenceEncoder(Protocol):
    """The interface of a frozen text encoder, such as `MiniLM`. It is not part of a model's weights."""

    width: int

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""

    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """Encode texts as `(n, length, width)`: at most `length` tokens of each text, and rows of 0 after its last."""


@configurable
class SentenceCondition(Prompts):
    """A condition on text with a frozen encoder.

    It gives the encoder's tokens, projected to `(n, length, width)`, and a vector from their mean. Texts are encoded once and
    the results are stored, so training costs no more than the projection. Raw tensors are half-precision
    `(n, length, encoder.width)`, with rows of 0 after the last token. The null is a learned token.
    """

    def __init__(self, encoder: SentenceEncoder, width: int):
        super().__init__()
        self.encoder = encoder
        self.project = nn.Sequential(nn.Linear(encoder.width, width), nn.LayerNorm(width))
        self.null = nn.Parameter(torch.randn(width))
        self.pool = nn.Linear(width, width)
        self.length: Tensor
        self.register_buffer("length", torch.zeros((), dtype=torch.long))  # tokens of the longest caption
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
        read = onto(raw, self.null.device).to(self.null.dtype)
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
            raise UsageError("this text encoder does not know the length of captions: call `fit` with captions")
        return length
