"""Vocabulary of a network: token counts, and coverage of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from dupq.models.truncation import UNCUT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MIN_LETTERS = 6
MAX_TOKENS_PER_LETTER = 0.6
"""Ratio above which a text of at least `MIN_LETTERS` letters counts as spelt letter by letter."""
MAX_UNKNOWN = 0.5
"""Share of unknown tokens above which a text counts as not covered."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokenizer of a network, without truncation.

    Attributes:
        content: The JSON of a `tokenizers.Tokenizer`.
        limit: Maximum number of tokens of an input, special ones included.
    """

    content: bytes
    limit: int

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, shared by all users of the same content."""
        return load_tokenizer(self.content)

    def room(self, pair: bool = False) -> int:
        """Return the number of tokens left beside the special ones.

        They are for one text, or for both texts of a pair.
        """
        return self.limit - int(self.tokenizer.num_special_tokens_to_add(pair))

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special ones.

        Of a text of more than `UNCUT` characters only the start is counted where that alone exceeds the limit.
        """
        counts = self._counts([text[:UNCUT] for text in texts])
        rows = [row for row, text in enumerate(texts) if len(text) > UNCUT and counts[row] <= self.limit]
        for row, count in zip(rows, self._counts([texts[row] for row in rows]), strict=True):
            counts[row] = count
        return counts

    def _counts(self, texts: Sequence[str]) -> list[int]:
        return [len(encoded.ids) for encoded in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def coverage_gap(self, text: str) -> str | None:
        """Return a message on why the vocabulary does not cover a text; None if it does."""
        encoded = self.tokenizer.encode(text[:UNCUT], add_special_tokens=False)
        unknown = str(getattr(self.tokenizer.model, "unk_token", None) or "[UNK]")
        # Punctuation and digits are tokens of one character in every language.
        tokens = [token for token in encoded.tokens if token == unknown or any(char.isalpha() for char in token)]
        n_unknown = tokens.count(unknown)
        if tokens and n_unknown > MAX_UNKNOWN * len(tokens):
            return f"{n_unknown:,} of its {len(tokens):,} tokens are unknown to the model"
        letters = sum(char.isalpha() for char in text[:UNCUT])
        if letters >= MIN_LETTERS and len(tokens) > MAX_TOKENS_PER_LETTER * letters:
            return "the model spells it letter by letter"
        return None


def stock_vocabulary(model: object) -> Vocabulary | None:
    """Return the vocabulary of a stock model.

    It is None if the tokenizer is a slow one or the limit is unknown.
    """
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    limit = getattr(model, "max_seq_length", None)
    return None if backend is None or not limit else Vocabulary(backend.to_str().encode(), int(limit))


def load_tokenizer(content: bytes) -> Tokenizer:
    """Return the tokenizer of its JSON, without truncation and padding.

    All users of the same content share it.

    Raises:
        ValueError: The content is damaged.
    """
    with _LOADING:  # networks are opened at the same time
        return _load_tokenizer(content)


_LOADING = Lock()


@lru_cache(maxsize=8)
def _load_tokenizer(content: bytes) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def largest_token(content: bytes) -> int:
    """Return the largest token id of a tokenizer's JSON; 0 if it has no tokens."""
    with _LOADING:
        return _largest_token(content)


@lru_cache(maxsize=8)
def _largest_token(content: bytes) -> int:
    return int(max(_load_tokenizer(content).get_vocab().values(), default=0))
