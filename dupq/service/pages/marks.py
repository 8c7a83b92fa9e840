"""Two posts side by side, with differences and conflicts marked.

The shown texts are cut into pieces. Marks come from comparing words (`dupq.explain`) and play no part in the
probability. Titles are compared with titles. In the bodies only numbers, names and negations without a counterpart in
the other post are marked, since most other words of two bodies differ anyway.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dupq.errors import InputError
from dupq.explain import english
from dupq.explain.alignment import MAX_WORDS, align
from dupq.explain.explanation import Explanation, explain
from dupq.explain.tokens import Word, first_words

LEAD = 1500
"""Characters of a body that are shown before it is folded."""
MAX_SHOWN = 200_000
"""Characters of a body that a page holds at most; the rest is on the forum."""
JOINERS = "\u200c\u200d\ufe0e\ufe0f"

KINDS = {
    "number": "number differs",
    "negation": "negation",
    "name": "name differs",
    "order": "other order",
    "opposite": "opposite",
    "choice": "other choice",
}
"""Kind of a conflict -> what a screen reader reads after the words."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a text.

    Attributes:
        text: The part.
        mark: "" without a mark, "only" for words of this post alone, "conflict" for words in conflict.
        note: For a conflict, what it is.
    """

    text: str
    mark: Literal["", "only", "conflict"] = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class MarkedPost:
    """Shown text of one post.

    Attributes:
        title: The title, in pieces.
        lead: The beginning of the body, in pieces.
        rest: What is folded, or "".
        cut: Number of characters that the page leaves out.
        only: Words of the title that the other title lacks.
    """

    title: tuple[Piece, ...]
    lead: tuple[Piece, ...]
    rest: str
    cut: int
    only: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A conflict of the two titles.

    Attributes:
        kind: Such as "number".
        first, second: Its words in either title; "" where there are none.
        why: The reason.
    """

    kind: str
    first: str
    second: str
    why: str


def marked_posts(
    first: tuple[str, str], second: tuple[str, str]
) -> tuple[MarkedPost, MarkedPost, tuple[Difference, ...]]:
    """Mark two posts; return them and the conflicts of their titles.

    A post is given as (title, body).
    """
    leads = [_split(body) for _, body in (first, second)]
    titles = _explained(first[0], second[0])
    wholes = (f"{first[0]}\n{leads[0][0]}", f"{second[0]}\n{leads[1][0]}")
    words = [first_words(text, MAX_WORDS)[0] for text in wholes]
    matches = align(words[0], words[1])
    matched = ({match.word1 for match in matches}, {match.word2 for match in matches})
    posts = []
    for side, (title, _) in enumerate((first, second)):
        lead, rest, cut = leads[side]
        pieces, only = ((Piece(title),), ()) if titles is None else _marked_title(titles, side)
        body = _marked_body(wholes[side], len(title) + 1, words[side], matched[side]) if lead else ()
        posts.append(MarkedPost(pieces, body, rest, cut, only))
    differences = () if titles is None else tuple(
        Difference(
            str(conflict.kind),
            _joined(titles.words1, conflict.words1),
            _joined(titles.words2, conflict.words2),
            conflict.why,
        )
        for conflict in titles.conflicts
    )  # fmt: skip
    return posts[0], posts[1], differences


def _joined(words: Sequence[Word], indices: Sequence[int]) -> str:
    """Return words as text, with an ellipsis where others are between them."""
    parts = [words[index].text if index - 1 in indices else f"… {words[index].text}" for index in indices]
    return " ".join(parts).removeprefix("… ")


def conflict_kinds(first: str, second: str) -> frozenset[str]:
    """Return the kinds of conflicts between two titles."""
    found = _explained(first, second)
    return frozenset() if found is None else frozenset(str(conflict.kind) for conflict in found.conflicts)


def _explained(first: str, second: str) -> Explanation | None:
    """Return the comparison of two texts; None if one is blank, or no text at all."""
    try:
        return explain(first, second)
    except InputError:
        return None


def _marked_title(found: Explanation, side: int) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    words, text = ((found.words1, found.question1), (found.words2, found.question2))[side]
    free = (found.unmatched1, found.unmatched2)[side]
    marks: dict[int, tuple[Literal["only", "conflict"], str]] = {
        index: ("only", "") for index in free if not words[index].function and _is_word(words[index])
    }
    for conflict in found.conflicts:
        for index in (conflict.words1, conflict.words2)[side]:
            marks[index] = ("conflict", KINDS.get(str(conflict.kind), str(conflict.kind)))
    only = tuple(words[index].text for index, (mark, _) in sorted(marks.items()) if mark == "only")
    return _pieces(text, 0, words, marks), only


def _marked_body(text: str, start: int, words: Sequence[Word], matched: set[int]) -> tuple[Piece, ...]:
    marks: dict[int, tuple[Literal["only", "conflict"], str]] = {
        index: ("only", "")
        for index, word in enumerate(words)
        if index not in matched and word.start >= start and _telling(word)
    }
    return _pieces(text, start, words, marks)


def _is_word(word: Word) -> bool:
    """Return False for signs such as "<" and "="; an emoji is a word."""
    return any(unicodedata.category(character) not in ("Sm", "Sc", "Po") for character in word.text)


def _telling(word: Word) -> bool:
    return (word.number is not None and word.key != "one") or word.name or bool(word.forms & english.NEGATIONS)


def _pieces(
    text: str, start: int, words: Sequence[Word], marks: dict[int, tuple[Literal["only", "conflict"], str]]
) -> tuple[Piece, ...]:
    """Cut a text into pieces by its marks, from character `start` on.

    Words with one mark and nothing but space between them are one piece.
    """
    pieces: list[Piece] = []
    done = start
    for index, (mark, note) in sorted(marks.items()):
        word = words[index]
        between = text[done : word.start]
        if pieces and pieces[-1].mark == mark and pieces[-1].note == note and not between.strip():
            pieces[-1] = Piece(pieces[-1].text + between + word.text, mark, note)
        else:
            pieces += [Piece(between), Piece(word.text, mark, note)]
        done = word.end
    return tuple(piece for piece in [*pieces, Piece(text[done:])] if piece.text)


def _split(body: str) -> tuple[str, str, int]:
    """Split a body into its beginning and the part that is folded.

    The last value is the number of characters that are left out.
    """
    body = body.strip("\n")
    if len(body) <= 1.2 * LEAD:
        return body, "", 0
    at = body.rfind("\n", LEAD // 2, LEAD)
    if at < 0:
        at = body.rfind(" ", LEAD // 2, LEAD)
    at = _between_characters(body, LEAD if at < 0 else at)
    end = _between_characters(body, MAX_SHOWN) if len(body) > MAX_SHOWN else len(body)
    return body[:at], body[at:end].lstrip("\n"), len(body) - end


def _between_characters(text: str, at: int) -> int:
    """Return the last place up to `at` that divides no emoji or accented letter."""
    first = at
    while at > 0 and first - at < 40 and (_joins(text[at]) or text[at - 1] == "\u200d"):
        at -= 1
    return at


def _joins(character: str) -> bool:
    return (
        unicodedata.category(character).startswith("M")
        or character in JOINERS
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
