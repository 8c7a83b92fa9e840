"""Long texts: the parts of them that the networks read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.types import Progress

LongTexts = Literal["whole", "lead"]
"""Rule for long texts: embed the whole text, or the mean of the whole text and its first words."""

LONG_TEXT_WORDS = 32
"""Number of words above which a text is long; few questions of one sentence have more."""
LEAD_WORDS = 12
"""Number of words in the lead of a long text. In a forum's post they are its title or its question."""


def embed_long_texts(
    embed: Callable[[Sequence[str], Progress | None], NDArray[np.float32]],
    texts: Sequence[str],
    long_texts: LongTexts = "lead",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embed n texts, with the given rule for long ones.

    With "lead", the vector of a text of more than `LONG_TEXT_WORDS` words is the normalised sum of its own unit vector
    and that of its first `LEAD_WORDS` words. A mean over all tokens of a post represents its topic more than its
    question.

    Args:
        embed: Embeds m texts as float32 (m, d), rows of unit length.
        texts: n texts.
        long_texts: "whole" or "lead".
        progress: Called with (done, total).

    Returns:
        float32 (n, d), rows of unit length.
    """
    if long_texts == "whole":
        return embed(texts, progress)
    # A text may have a million words, so the split stops early.
    split = (text.split(maxsplit=LONG_TEXT_WORDS) for text in texts)
    leads = {row: " ".join(words[:LEAD_WORDS]) for row, words in enumerate(split) if len(words) > LONG_TEXT_WORDS}
    if not leads:
        return embed(texts, progress)
    vectors = embed([*texts, *leads.values()], progress)
    whole, rows = vectors[: len(texts)].copy(), list(leads)
    sums = whole[rows] + vectors[len(texts) :]
    # The sum of opposite vectors has no direction; such a text keeps its own vector.
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    whole[rows] = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), whole[rows])
    return whole


LongPairs = Literal["whole", "head_and_tail"]
"""Rule for long texts in a cross-encoder: read the whole text, or its head and its tail, see `head_and_tail`."""

MAX_CHARACTERS = 520
"""Number of characters above which a cross-encoder reads the head and the tail of a text alone."""
HEAD_CHARACTERS, TAIL_CHARACTERS = 350, 150
"""Characters read of a longer text: its head, with the title of a post, and its tail, where posts put the question."""
OMISSION = " … "
"""Mark between the two."""
_MAX_WORD = 100
"""Characters that a cut between words may cost. A longer run, as of Chinese or code, is cut inside."""
_JOINER, _SKIN_COLOURS = "\u200d", "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
"""Parts of emoji that belong to the character before them."""


def head_and_tail(text: str) -> str:
    """Cut a text of more than `MAX_CHARACTERS` to its head and its tail.

    A shorter text is returned as it is. Head and tail are cut between words, and a character stays with its combining
    marks. Two such texts of English fit into an input of 256 tokens.
    """
    if len(text) <= MAX_CHARACTERS or len(text := text.strip()) <= MAX_CHARACTERS:
        return text
    head, tail = text[: HEAD_CHARACTERS + 1].rsplit(None, 1)[0], text[-TAIL_CHARACTERS - 1 :].split(None, 1)[-1]
    if not 0 <= HEAD_CHARACTERS - len(head) <= _MAX_WORD:
        ends = range(HEAD_CHARACTERS, HEAD_CHARACTERS - _MAX_WORD, -1)
        head = text[: next((at for at in ends if _is_border(text, at)), HEAD_CHARACTERS)]
    if not 0 <= TAIL_CHARACTERS - len(tail) <= _MAX_WORD:
        first = len(text) - TAIL_CHARACTERS
        tail = text[next((at for at in range(first, first + _MAX_WORD) if _is_border(text, at)), first) :]
    return head + OMISSION + tail


def _is_border(text: str, at: int) -> bool:
    """Return True if character `at` does not belong to the one before it.

    Combining marks, joiners and the skin colours of emoji belong to it.
    """
    follows = unicodedata.category(text[at])[0] == "M" or text[at] in _SKIN_COLOURS
    return not follows and _JOINER not in text[at - 1 : at + 1]
