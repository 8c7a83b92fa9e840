"""What of a question the model cannot read: what is cut off, and words of a language that it does not know."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from dupq.models.scorers import Embedder

MOST_UNKNOWN = 0.5
"""Above this share of unknown tokens a question counts as not understood,"""
MOST_PIECES = 0.6
"""and above this many tokens a letter, in a text of some length: then words are spelt, not known."""
FEWEST_LETTERS = 6


def notes_on(embedder: Embedder, text: str) -> tuple[str, ...]:
    """What to know before trusting a search for this text; nothing for an embedder whose tokenizer is not known."""
    found = _tokenizer(embedder)
    if found is None:
        return ()
    tokenizer, limit, unknown = found
    encoded = tokenizer.encode(text)
    special = sum(encoded.special_tokens_mask)
    pieces = [
        token
        for token, mark in zip(encoded.tokens, encoded.special_tokens_mask, strict=True)
        if not mark or token == unknown
    ]
    notes = []
    if len(encoded.ids) > limit:
        notes.append(f"only the first {limit - special:,} of its {len(pieces):,} tokens are read; the rest is cut off")
    letters = sum(character.isalpha() for character in text)
    strange = sum(piece == unknown for piece in pieces)
    if pieces and strange / len(pieces) > MOST_UNKNOWN:
        notes.append(
            f"{strange:,} of its {len(pieces):,} tokens are unknown to the model; it may be of another language"
        )
    elif letters >= FEWEST_LETTERS and len(pieces) / letters > MOST_PIECES:
        notes.append("the model spells it letter by letter; it may be of a language that the model does not know")
    return tuple(notes)


_OPENED: WeakKeyDictionary[Embedder, tuple[Any, int, str] | None] = WeakKeyDictionary()


def _tokenizer(embedder: Embedder) -> tuple[Any, int, str] | None:
    """A tokenizer that cuts nothing off, the number of tokens that the model reads, and its unknown token."""
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.runtime import RuntimeBiEncoder

    if isinstance(embedder, (BiEncoder, RuntimeBiEncoder)) and embedder not in _OPENED:
        if isinstance(embedder, RuntimeBiEncoder):
            _OPENED[embedder] = _uncut(embedder.network.tokenizer, embedder.network.settings["max_length"])
        else:
            backend = getattr(embedder.model.tokenizer, "backend_tokenizer", None)
            limit = embedder.model.max_seq_length
            _OPENED[embedder] = None if backend is None else _uncut(backend.to_str().encode(), limit)
    return _OPENED.get(embedder) if isinstance(embedder, (BiEncoder, RuntimeBiEncoder)) else None


def _uncut(content: bytes, limit: int | None) -> tuple[Any, int, str] | None:
    from tokenizers import Tokenizer

    if limit is None:
        return None
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, int(limit), str(getattr(tokenizer.model, "unk_token", "[UNK]"))
