"""Warnings about truncated texts and languages that the networks do not cover."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dupq.data.text import check_text
from dupq.models.languages import unknown_language
from dupq.models.long_text import HEAD_CHARACTERS, TAIL_CHARACTERS, head_and_tail
from dupq.models.truncation import UNCUT, truncated_lengths
from dupq.models.vocabulary import Vocabulary
from dupq.types import TextWarning

Cut = tuple[int, int]
"""Of a truncated text: the number of tokens the network receives, and of all its tokens."""


@dataclass
class _Reading:
    """Parts of one text that the networks receive.

    Attributes:
        text: The text.
        part: Part of it that the cross-encoder receives, see `head_and_tail`.
        embedded: Cut of the text by the bi-encoder; None: it receives all.
        scored: Cut of `part` by the cross-encoder; None: it receives all.
    """

    text: str
    part: str
    embedded: Cut | None = None
    scored: Cut | None = None

    @property
    def is_partial(self) -> bool:
        """True where the cross-encoder receives the head and the tail alone."""
        return self.part.strip() != self.text.strip()

    @property
    def message(self) -> str | None:
        """Message on what is read of a text that is not read in full."""
        if not self.is_partial:
            cut = _shorter(self.embedded, self.scored)
            return None if cut is None else f"only {self._size(cut)} are read"
        ends = f"first {HEAD_CHARACTERS} and last {TAIL_CHARACTERS}"
        read = f"its {ends} of {len(self.text):,} characters"
        if self.scored is not None:
            read = f"the first {self.scored[0]:,} of {self.scored[1]:,} tokens in its {ends} characters"
        rest = "" if self.embedded is None else f", the bi-encoder only {self._size(self.embedded)}"
        return f"the cross-encoder reads only {read}{rest}"

    def _size(self, cut: Cut) -> str:
        if len(self.text) <= UNCUT:
            return f"the first {cut[0]:,} of its {cut[1]:,} tokens"
        # Not all tokens of a very long text are counted.
        return f"the first {cut[0]:,} tokens of its {len(self.text):,} characters"


class InputChecks:
    """Checks of the texts that a pipeline's networks receive.

    Args:
        embedder: The bi-encoder, which receives each text alone; None: there is none.
        scorer: The cross-encoder, which receives two texts together; None: there is none.
        languages: ISO 639 codes of the languages they were trained on; None: unknown, and only the vocabulary counts.

    A network without the property `vocabulary` is not checked.
    """

    def __init__(self, embedder: object | None, scorer: object | None, languages: Collection[str] | None) -> None:
        self._single: Vocabulary | None = getattr(embedder, "vocabulary", None)
        self._pair: Vocabulary | None = getattr(scorer, "vocabulary", None)
        self._languages = languages
        self._reads_head_and_tail = getattr(scorer, "long_pairs", "whole") == "head_and_tail"

    def of_texts(self, texts: Sequence[str]) -> list[tuple[TextWarning, ...]]:
        """Return the warnings of each of n texts alone.

        Raises:
            InputError: A text is missing, blank or broken.
        """
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number}")
        messages = self._language_messages(texts)
        return [_warnings(reading, messages[reading.text]) for reading in self._readings(texts)]

    def of_pairs(self, left: Sequence[str], right: Sequence[str]) -> list[tuple[TextWarning, ...]]:
        """Return the warnings of each of n pairs of usable texts, each with its `side`."""
        messages = self._language_messages([*left, *right])
        readings = self._readings([*left, *right])
        lefts, rights = readings[: len(left)], readings[len(left) :]
        for row, cuts in self._pair_cuts([one.part for one in lefts], [one.part for one in rights]).items():
            for one, cut in zip((lefts[row], rights[row]), cuts, strict=True):
                one.scored = _shorter(one.scored, cut)
        return [
            _warnings(one, messages[one.text], side=1) + _warnings(other, messages[other.text], side=2)
            for one, other in zip(lefts, rights, strict=True)
        ]

    def _language_messages(self, texts: Sequence[str]) -> dict[str, str | None]:
        """Return distinct text -> message on its unknown language; None without one."""
        return {text: self._language_message(text) for text in dict.fromkeys(texts)}

    def _language_message(self, text: str) -> str | None:
        vocabulary = self._single or self._pair
        if vocabulary is None and self._languages is None:
            return None
        message = unknown_language(text, self._languages)
        if message is None and vocabulary is not None and (self._languages is None or not text.isascii()):
            message = vocabulary.coverage_gap(text)
        return message

    def _readings(self, texts: Sequence[str]) -> list[_Reading]:
        """Return the reading of each text alone."""
        parts = [head_and_tail(text) for text in texts] if self._reads_head_and_tail else texts
        readings = [_Reading(text, part) for text, part in zip(texts, parts, strict=True)]
        room, pair_room = (
            None if vocabulary is None else vocabulary.room(pair)
            for vocabulary, pair in ((self._single, False), (self._pair, True))
        )
        # Where both networks receive the same, the one with less room decides.
        if self._single is not None and room is not None:
            rows = [item for item in readings if item.is_partial or pair_room is None or room <= pair_room]
            for item, cut in zip(rows, _cuts(self._single, room, [item.text for item in rows]), strict=True):
                item.embedded = cut
        if self._pair is not None and pair_room is not None:
            rows = [item for item in readings if item.is_partial or room is None or pair_room < room]
            for item, cut in zip(rows, _cuts(self._pair, pair_room, [item.part for item in rows]), strict=True):
                item.scored = cut
        return readings

    def _pair_cuts(self, left: Sequence[str], right: Sequence[str]) -> dict[int, tuple[Cut | None, Cut | None]]:
        """Return row -> the cuts of both texts, of each pair that is too long together."""
        if self._pair is None:
            return {}
        room = self._pair.room(pair=True)
        rows = [row for row, (a, b) in enumerate(zip(left, right, strict=True)) if _may_exceed(room, a, b)]
        counts = self._pair.token_counts([*(left[row] for row in rows), *(right[row] for row in rows)])
        cuts = {}
        for row, a, b in zip(rows, counts, counts[len(rows) :], strict=False):
            kept = truncated_lengths([a, b], room)
            if kept != [a, b]:
                cuts[row] = ((kept[0], a) if kept[0] < a else None, (kept[1], b) if kept[1] < b else None)
        return cuts


def _cuts(vocabulary: Vocabulary, room: int, texts: Sequence[str]) -> list[Cut | None]:
    """Return the cut of each text that has more than `room` tokens, else None."""
    cuts: list[Cut | None] = [None] * len(texts)
    rows = [row for row, text in enumerate(texts) if _may_exceed(room, text)]
    for row, count in zip(rows, vocabulary.token_counts([texts[row] for row in rows]), strict=True):
        cuts[row] = (room, count) if count > room else None
    return cuts


def _may_exceed(room: int, *texts: str) -> bool:
    """Return True where texts may have more tokens than `room`.

    In plain ASCII a token has a character or more.
    """
    return sum(map(len, texts)) > room or not all(text.isascii() for text in texts)


def _shorter(one: Cut | None, other: Cut | None) -> Cut | None:
    return min(one, other) if one and other else one or other


def _warnings(
    reading: _Reading, language_message: str | None, side: Literal[1, 2] | None = None
) -> tuple[TextWarning, ...]:
    found: tuple[TextWarning, ...] = ()
    if reading.message is not None:
        found += (TextWarning("truncated", reading.message),)
    if language_message is not None:
        found += (TextWarning("unknown_language", language_message),)
    return tuple(replace(warning, side=side) for warning in found)
