"""Truncation of long texts before the tokenizer, and of the texts of a pair.

A tokenizer tokenizes a whole text, even where it keeps only a few hundred tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNCUT = 20_000
"""Number of characters of a text that are never cut."""
UNCUT_PAIR = 4_000
"""The same for each of two texts: a tokenizer that truncates a pair also returns every pair of the parts cut off."""

_BY_WORD = ("WordPiece", "WordLevel", "Unigram")
"""Tokenizer models that turn every word by itself into one token or more, as byte-level BPE does too."""


def cut_text(text: str, tokenizer: Tokenizer, max_length: int, uncut: int = UNCUT) -> str:
    """Return the start of a text that keeps its first `max_length` tokens.

    A tokenizer splits a text into words and turns each into one token or more. A cut changes only the last words, so
    the tokens of the words before them stay. A text of too few words, or with a tokenizer that works in another way, is
    returned whole.

    Args:
        text: Text of any length.
        tokenizer: Tokenizer that will tokenize it.
        max_length: Number of tokens that will be kept, 1 or more.
        uncut: Number of characters of the start, 1 or more; multiplied by 4 while they hold too few words.
    """
    if len(text) <= uncut or not _tokenizes_words(tokenizer):
        return text
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    while uncut < len(text):
        start = text[:uncut]
        normal = start if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(start)
        # "[SEP]" in a text is one token, but it is split into three words here.
        words = max((len(token) for token in added if token in start or token in normal), default=1)
        # The cut may have split an added token, which then looks like several words at the end.
        spoiled = max(map(len, added), default=1) + 1
        if len(tokenizer.pre_tokenizer.pre_tokenize_str(normal)) - spoiled >= max_length * words:
            return start
        uncut *= 4
    return text


def cut_for(model: Any, texts: Sequence[str], uncut: int = UNCUT) -> list[str]:
    """Cut texts for a stock network of sentence-transformers, see `cut_text`.

    Args:
        model: A `SentenceTransformer` or `CrossEncoder`. Texts stay whole for one without a token limit, one that keeps
            the end of a text, and one with a slow tokenizer.
        texts: n texts.
        uncut: Number of characters that are never cut.
    """
    if all(len(text) <= uncut for text in texts):
        return list(texts)
    backend, limit = getattr(model.tokenizer, "backend_tokenizer", None), model.max_seq_length
    if backend is None or limit is None or not 1 <= limit < UNCUT or model.tokenizer.truncation_side != "right":
        return list(texts)
    return [cut_text(text, backend, int(limit), uncut) for text in texts]


def cut_pairs_for(model: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Cut pairs for a stock `CrossEncoder`, see `cut_text`.

    Where both texts are truncated to an odd number of tokens in all, the odd token may go to the other text than
    without the cut.
    """
    left, right = (cut_for(model, [pair[side] for pair in pairs]) for side in (0, 1))
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        if min(len(a), len(b)) > UNCUT_PAIR:
            left[row], right[row] = cut_for(model, [a, b], UNCUT_PAIR)
    return list(zip(left, right, strict=True))


def truncated_lengths(lengths: list[int], room: int) -> list[int]:
    """Return the number of tokens kept of one text or two by "longest_first".

    At most `room` tokens are kept in all.
    """
    if sum(lengths) <= room:
        return lengths
    if len(lengths) == 1:
        return [room]
    shorter = min(min(lengths), room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]


def _tokenizes_words(tokenizer: Tokenizer) -> bool:
    kind = type(tokenizer.model).__name__
    return (kind in _BY_WORD and tokenizer.pre_tokenizer is not None) or (
        kind == "BPE" and "ByteLevel" in repr(tokenizer.pre_tokenizer)
    )
