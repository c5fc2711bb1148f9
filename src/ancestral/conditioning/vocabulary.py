"""A vocabulary that is learned from captions by byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ancestral.errors import UsageError
from ancestral.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, UNKNOWN = 0, 1, 2  # token numbers; every text begins with START, so that the empty one has a token
LONGEST = 64  # the largest number of tokens of a text; the rest is ignored


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary, which converts text to numbers.

    Args:
        tokenizer: the tokenizer of the package tokenizers.
        words: all words of the captions.
        length: the number of tokens of the longest caption, with START.
    """

    tokenizer: Tokenizer
    words: frozenset[str]
    length: int

    @classmethod
    def learn(cls, captions: Iterable[str], size: int) -> Vocabulary:
        """Learn at most `size` pieces of words, in lower case. The same captions give the same vocabulary."""
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token="[unknown]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        special = ["[pad]", "[start]", "[unknown]"]
        texts = sorted(set(captions))
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        draft = cls(tokenizer, frozenset(), LONGEST)
        words = frozenset(word for text in texts for word in draft.split(text))
        longest = max((len(encoding.ids) for encoding in tokenizer.encode_batch(texts)), default=0)
        return cls(tokenizer, words, min(LONGEST, 1 + longest))

    def encode(self, text: str) -> list[int]:
        """Return START and the pieces of the text, at most `length` numbers."""
        return [START, *self.tokenizer.encode(text).ids][: self.length]

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, with START."""
        return 1 + len(self.tokenizer.encode(text).ids)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the pieces, separated by spaces."""
        return " ".join(str(self.tokenizer.id_to_token(i)) for i in numbers if i > UNKNOWN)

    def check(self, text: str) -> None:
        """Raise UsageError if a text has a word that is in no caption."""
        for word in self.split(text):
            if word not in self.words:
                raise UsageError(f"no text of the training data has the word {word!r}: {_hint(word, self.words)}")

    def split(self, text: str) -> list[str]:
        """Split a text into words in lower case."""
        normal = self.tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    def dump(self) -> bytes:
        """Return the vocabulary as bytes, for `load`."""
        stored = {"tokenizer": read_json(self.tokenizer.to_str()), "words": sorted(self.words), "length": self.length}
        return json.dumps(stored).encode()

    @classmethod
    def load(cls, stored: bytes) -> Vocabulary:
        from tokenizers import Tokenizer

        found = read_json(stored)
        return cls(Tokenizer.from_str(json.dumps(found["tokenizer"])), frozenset(found["words"]), found["length"])


def well_formed(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which is no character and cannot be written as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _hint(word: str, words: Iterable[str]) -> str:
    close = get_close_matches(word, list(words), n=1)
    some = sorted(words, key=lambda known: (len(known), known))[:20]
    return f"did you mean {close[0]!r}?" if close else f"its words are {', '.join(some)}{', ...' if len(some) == 20 else ''}"
