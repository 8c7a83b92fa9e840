"""Token ids of texts and pairs, truncated without overflow.

A `tokenizers.Tokenizer` that truncates also returns every part of a text beyond its limit, and of a pair every
combination of the parts of both: two posts of 20,000 characters take a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dupq.models.truncation import UNCUT, cut_text, truncated_lengths

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Input = str | tuple[str, str]
Tokens = tuple[list[int], list[int]]
"""Ids, and the type of each: 0; 1 for the second text if the tokenizer marks it."""


class TokenReader:
    """Tokenizer of texts or pairs that truncates to `max_length` by "longest_first".

    Args:
        tokenizer: A loaded tokenizer; its truncation and padding are switched off.
        max_length: Maximum number of tokens of an input, special ones included.

    Raises:
        ValueError: The tokenizer does not put a text, or two in order, between fixed tokens, or there is no room left
            between them.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.max_length = max_length
        _check_template(tokenizer)
        unknown = getattr(tokenizer.model, "unk_token", None)
        if isinstance(unknown, str) and tokenizer.token_to_id(unknown) is None:
            raise ValueError(f"its unknown token {unknown!r:.40} is missing")
        self._frames = {n: _frame(tokenizer.encode("a", "b" if n == 2 else None), n) for n in (1, 2)}
        for n in self._frames:
            if self._room(n) < n:
                raise ValueError(f"{max_length} tokens leave no room for a text")
            example = tokenizer.encode("a b", "b" if n == 2 else None)
            texts = [tokenizer.encode(text, add_special_tokens=False).ids for text in ("a b", "b")[:n]]
            if max_length >= len(example) and self._framed(texts) != (example.ids, example.type_ids):
                raise ValueError("it does not put a text between fixed tokens")

    def read(self, inputs: Sequence[Input]) -> list[Tokens]:
        """Return the ids and types of n texts, or of n pairs."""
        pairs = [(item,) if isinstance(item, str) else item for item in inputs]
        distinct = list(dict.fromkeys(text for pair in pairs for text in pair))
        cut = [text if len(text) <= UNCUT else cut_text(text, self.tokenizer, self.max_length) for text in distinct]
        # A batch call starts a thread pool, which one text does not pay for.
        encoded = (
            [self.tokenizer.encode(cut[0], add_special_tokens=False)]
            if len(cut) == 1
            else self.tokenizer.encode_batch_fast(cut, add_special_tokens=False)
        )
        ids = dict(zip(distinct, (item.ids for item in encoded), strict=True))
        return [self._framed([ids[text] for text in pair]) for pair in pairs]

    def _room(self, n: int) -> int:
        return self.max_length - sum(len(ids) for ids, _ in self._frames[n][0])

    def _framed(self, texts: list[list[int]]) -> Tokens:
        """Truncate the tokens of one text or two, and put the special tokens around them."""
        special, types_of = self._frames[len(texts)]
        ids, types = list(special[0][0]), list(special[0][1])
        lengths = truncated_lengths([len(text) for text in texts], self._room(len(texts)))
        for text, length, type_id, (after, after_types) in zip(texts, lengths, types_of, special[1:], strict=True):
            ids += text[:length]
            ids += after
            types += [type_id] * length
            types += after_types
        return ids, types


def _check_template(tokenizer: Tokenizer) -> None:
    """Raise ValueError where a template names a missing token.

    The library would panic.
    """
    waiting = [json.loads(tokenizer.post_processor.__getstate__())] if tokenizer.post_processor else []
    while waiting:
        processor = waiting.pop()
        waiting += processor.get("processors", [])
        for piece in [*processor.get("single", []), *processor.get("pair", [])]:
            name = piece.get("SpecialToken", {}).get("id")
            if name is not None and name not in processor["special_tokens"]:
                raise ValueError(f"its template names {name!r:.40}, which it does not have")


def _frame(example: Encoding, n: int) -> tuple[list[Tokens], list[int]]:
    """Return the tokens before, between and after n texts, and the type of each text."""
    owners = example.sequence_ids
    starts = [owners.index(owner) if owner in owners else -1 for owner in range(n)]
    ends = [len(owners) - owners[::-1].index(owner) if owner in owners else -1 for owner in range(n)]
    edges = [0, *(edge for pair in zip(starts, ends, strict=True) for edge in pair), len(owners)]
    if -1 in edges or edges != sorted(edges):
        raise ValueError("it does not put one text after the other")
    gaps = [slice(*edges[at : at + 2]) for at in range(0, len(edges), 2)]
    return [(example.ids[gap], example.type_ids[gap]) for gap in gaps], [example.type_ids[start] for start in starts]
