"""A pair of questions laid side by side, word by word, for a moderator: as data, as text and as HTML."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dupq.data.text import check_text
from dupq.decisions.alignment import MAX_WORDS, Embed, Match, MatchKind, align
from dupq.decisions.conflicts import Conflict, find_conflicts
from dupq.decisions.words import Word, split_words
from dupq.records import PairScore

NOTE = (
    "This lays the words of the two questions side by side. The score is made by a network that reads whole questions; "
    "nothing that is marked here has caused it."
)

_ONLY = "only"
_GRAMMAR = "grammar"
_COLOURS = {"identical": "32", "form": "32;4", "near": "36;4", _ONLY: "33", _GRAMMAR: "2", "conflict": "1;31"}
"""How a word is marked -> its SGR codes on a terminal."""

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The characters that turn the direction of writing round."""

_TITLES = {
    MatchKind.IDENTICAL: "same words",
    MatchKind.FORM: "other forms",
    MatchKind.NEAR: "near in meaning",
}


@dataclass(frozen=True)
class Explanation:
    """Which words of two questions answer to each other, which to none, and what conflicts.

    It describes words, and is not what made the score. `explain(b, a)` is `explain(a, b).mirrored()`.

    Attributes:
        question1, question2: The texts, unaltered.
        words1, words2: Their words, up to `MAX_WORDS` of each.
        matches: The pairs of words, one to one, in the order of the first question.
        conflicts: The signs that the questions ask different things.
        unread: How many further words of either question were not read.
        vectors: Whether words near in meaning were looked for.
        result: The pipeline's score and decision, if it decides.
    """

    question1: str
    question2: str
    words1: tuple[Word, ...]
    words2: tuple[Word, ...]
    matches: tuple[Match, ...]
    conflicts: tuple[Conflict, ...]
    unread: tuple[int, int] = (0, 0)
    vectors: bool = False
    result: PairScore | None = None

    @property
    def unmatched1(self) -> tuple[int, ...]:
        """The places of the first question's words that nothing answers to."""
        return _others(len(self.words1), (match.word1 for match in self.matches))

    @property
    def unmatched2(self) -> tuple[int, ...]:
        """The places of the second question's words that nothing answers to."""
        return _others(len(self.words2), (match.word2 for match in self.matches))

    def mirrored(self) -> Explanation:
        """The same with the questions exchanged."""
        result = self.result
        return Explanation(
            self.question2,
            self.question1,
            self.words2,
            self.words1,
            tuple(
                sorted(
                    (Match(match.word2, match.word1, match.kind, match.likeness) for match in self.matches),
                    key=lambda match: match.word1,
                )
            ),
            tuple(conflict.mirrored() for conflict in self.conflicts),
            (self.unread[1], self.unread[0]),
            self.vectors,
            None if result is None else replace(result, question1=result.question2, question2=result.question1),
        )

    # ---- data -----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; words are named by text and by their place among the words, from 0."""
        result = self.result
        return {
            "question1": self.question1,
            "question2": self.question2,
            "words1": [_word_dict(word) for word in self.words1],
            "words2": [_word_dict(word) for word in self.words2],
            "matches": [
                {
                    "word1": match.word1,
                    "word2": match.word2,
                    "text1": self.words1[match.word1].text,
                    "text2": self.words2[match.word2].text,
                    "kind": str(match.kind),
                    "likeness": round(match.likeness, 4),
                }
                for match in self.matches
            ],
            "unmatched1": list(self.unmatched1),
            "unmatched2": list(self.unmatched2),
            "conflicts": [
                {
                    "kind": str(conflict.kind),
                    "words1": list(conflict.words1),
                    "words2": list(conflict.words2),
                    "texts1": _texts(self.words1, conflict.words1),
                    "texts2": _texts(self.words2, conflict.words2),
                    "why": conflict.why,
                }
                for conflict in self.conflicts
            ],
            "unread": list(self.unread),
            "vectors": self.vectors,
            "result": None
            if result is None
            else {
                "score": result.score,
                "probability": result.probability,
                "decision": str(result.decision),
                "threshold": result.threshold,
                "base_rate": result.base_rate,
            },
            "note": NOTE,
        }

    # ---- text -----------------------------------------------------------------------------------------------------

    def to_text(self, colour: bool = False) -> str:
        """Some lines for a terminal; complete without colour. Control characters of the questions are not passed on."""
        kinds1, kinds2 = self._kinds()
        lines = [
            f"1: {_painted(self.question1, self.words1, kinds1, colour)}",
            f"2: {_painted(self.question2, self.words2, kinds2, colour)}",
            "",
        ]
        for title, text in self._summary():
            lines.append(f"{title + ':':16} {_printable(text)}")
        for conflict in self.conflicts:
            told = f"{f'{conflict.kind}:':16} {_printable(self._sides(conflict))}  ({conflict.why})"
            lines.append(_sgr(told, "conflict", colour))
        if not self.conflicts:
            lines.append(f"{'conflicts:':16} none found")
        lines += [f"{title + ':':16} {text}" for title, text in self._remarks()]
        return "\n".join([*lines, "", NOTE])

    def __str__(self) -> str:
        return self.to_text()

    def _summary(self) -> list[tuple[str, str]]:
        """What is matched and what is not, as (title, words)."""
        rows = []
        for kind, title in _TITLES.items():
            told = []
            for match in self.matches:
                if match.kind is kind and not (kind is MatchKind.IDENTICAL and self.words1[match.word1].function):
                    first, second = self.words1[match.word1].text, self.words2[match.word2].text
                    likeness = f" {match.likeness:.2f}" if kind is MatchKind.NEAR else ""
                    told.append(first if kind is MatchKind.IDENTICAL else f"{first} ~ {second}{likeness}")
            if told:
                rows.append((title, ", ".join(told)))
        for side, words, places in (("1", self.words1, self.unmatched1), ("2", self.words2, self.unmatched2)):
            if places:
                rows.append((f"only in {side}", ", ".join(_texts(words, places))))
        return rows

    def _sides(self, conflict: Conflict) -> str:
        first = " ".join(_texts(self.words1, conflict.words1))
        second = " ".join(_texts(self.words2, conflict.words2))
        return f"{first or '-'} | {second or '-'}"

    def _remarks(self) -> list[tuple[str, str]]:
        """The decision, and what was not looked at."""
        rows = []
        if self.result is not None:
            told = f"{self.result.decision}, probability {self.result.probability:.3f}"
            rows.append(("decision", f"{told} at a base rate of {self.result.base_rate:.1%}"))
        if any(self.unread):
            left = " and ".join(f"{count:,} of question {side}" for side, count in enumerate(self.unread, 1) if count)
            rows.append(("not read", f"{left}: words beyond the first {MAX_WORDS}"))
        if not self.vectors:
            rows.append(("not looked for", "words near in meaning, for want of a bi-encoder"))
        return rows

    def _kinds(self) -> tuple[list[str], list[str]]:
        """How each word is marked: by its match or the want of one, and above all by a conflict."""
        sides = []
        for side, words in enumerate((self.words1, self.words2)):
            kinds = [_GRAMMAR if word.function else _ONLY for word in words]
            for match in self.matches:
                place = (match.word1, match.word2)[side]
                if not (words[place].function and match.kind is MatchKind.IDENTICAL):
                    kinds[place] = str(match.kind)
            for conflict in self.conflicts:
                for place in (conflict.words1, conflict.words2)[side]:
                    kinds[place] = "conflict"
            sides.append(kinds)
        return sides[0], sides[1]

    # ---- HTML -----------------------------------------------------------------------------------------------------

    def to_html(self) -> str:
        """A page of its own, with no script and nothing loaded from elsewhere; hovering a word tells its match."""
        kinds1, kinds2 = self._kinds()
        told1, told2 = self._hints()
        rows = [*self._summary(), *((str(c.kind), f"{self._sides(c)} ({c.why})") for c in self.conflicts)]
        if not self.conflicts:
            rows.append(("conflicts", "none found"))
        rows += self._remarks()
        flags = {str(conflict.kind) for conflict in self.conflicts}
        table = "\n".join(
            f'<tr class="{"flag" if title in flags else "fact"}"><th>{_escape(title)}</th>'
            f'<td dir="auto">{_escape(text)}</td></tr>'
            for title, text in rows
        )
        return _PAGE.format(
            question1=_marked(self.question1, self.words1, kinds1, told1),
            question2=_marked(self.question2, self.words2, kinds2, told2),
            table=table,
            note=_escape(NOTE),
        )

    def _hints(self) -> tuple[list[str], list[str]]:
        """What is told of each word when the pointer rests on it."""
        hints1 = ["nothing in question 2 answers to it"] * len(self.words1)
        hints2 = ["nothing in question 1 answers to it"] * len(self.words2)
        for match in self.matches:
            kind = f"near, {match.likeness:.2f}" if match.kind is MatchKind.NEAR else str(match.kind)
            hints1[match.word1] = f"{self.words2[match.word2].text} ({kind})"
            hints2[match.word2] = f"{self.words1[match.word1].text} ({kind})"
        for conflict in self.conflicts:
            for hints, places in ((hints1, conflict.words1), (hints2, conflict.words2)):
                for place in places:
                    hints[place] += f"; {conflict.kind}: {conflict.why}"
        return hints1, hints2


def explain(question1: str, question2: str, embed: Embed | None = None, result: PairScore | None = None) -> Explanation:
    """Lays the words of two questions side by side.

    Args:
        question1, question2: The texts.
        embed: The bi-encoder's `embed`, asked for the vectors of single words; None: no words are paired by meaning.
        result: The pipeline's score of this pair, to be shown with it.

    Returns:
        The explanation; with the questions exchanged it is the mirror image.

    Raises:
        InputError: A text is missing, blank, too long or broken.
    """
    for side, text in (("first", question1), ("second", question2)):
        check_text(text, f"the {side} question")
    if question2 < question1:
        # One order for the work, so that ties cannot fall in two ways.
        mirror = None if result is None else replace(result, question1=question2, question2=question1)
        return explain(question2, question1, embed, mirror).mirrored()
    words1, words2 = split_words(question1), split_words(question2)
    read1, read2 = tuple(words1[:MAX_WORDS]), tuple(words2[:MAX_WORDS])
    matches = tuple(align(read1, read2, embed))
    return Explanation(
        question1,
        question2,
        read1,
        read2,
        matches,
        tuple(find_conflicts(read1, read2, matches)),
        (len(words1) - len(read1), len(words2) - len(read2)),
        embed is not None,
        result,
    )


def _others(n: int, taken: Iterable[int]) -> tuple[int, ...]:
    gone = set(taken)
    return tuple(place for place in range(n) if place not in gone)


def _texts(words: Sequence[Word], places: Iterable[int]) -> list[str]:
    return [words[place].text for place in places]


def _word_dict(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "start": word.start,
        "end": word.end,
        "function": word.function,
        "name": word.name,
        "number": word.number,
    }


def _pieces(text: str, words: Sequence[Word]) -> list[tuple[str, int | None]]:
    """The whole text in pieces: each word with its place, and what stands between with None."""
    pieces: list[tuple[str, int | None]] = []
    done = 0
    for place, word in enumerate(words):
        pieces += [(text[done : word.start], None), (word.text, place)]
        done = word.end
    return [(piece, place) for piece, place in [*pieces, (text[done:], None)] if piece]


def _printable(text: str) -> str:
    """On one line, and with nothing that moves the cursor, sets a colour or turns the writing round."""
    spaced = (" " if character.isspace() else character for character in text)
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" or c in _TURNING else c for c in spaced)


def _sgr(text: str, kind: str, colour: bool) -> str:
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if colour and kind in _COLOURS else text


def _painted(text: str, words: Sequence[Word], kinds: Sequence[str], colour: bool) -> str:
    return "".join(
        _printable(piece) if place is None else _sgr(_printable(piece), kinds[place], colour)
        for piece, place in _pieces(text, words)
    )


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _marked(text: str, words: Sequence[Word], kinds: Sequence[str], hints: Sequence[str]) -> str:
    return "".join(
        _escape(piece)
        if place is None
        else f'<span class="{kinds[place]}" title="{_escape(hints[place])}">{_escape(piece)}</span>'
        for piece, place in _pieces(text, words)
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Two questions, word by word</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
.question {{ font-size: 1.2rem; margin: .4rem 0; overflow-wrap: anywhere; white-space: pre-wrap; }}
.identical {{ color: light-dark(#14692b, #7fd69a); }}
.form {{ color: light-dark(#14692b, #7fd69a); border-bottom: 2px dotted; }}
.near {{ color: light-dark(#0b5c86, #7cc7ee); border-bottom: 2px dashed; }}
.only {{ background: light-dark(#ffe9b8, #5a4300); }}
.grammar {{ opacity: .7; }}
.conflict, .flag td {{ color: light-dark(#a30f1d, #ff9a9f); font-weight: 700; }}
.conflict {{ border-bottom: 3px double; }}
th {{ text-align: start; vertical-align: top; padding-inline-end: 1rem; font-weight: 600; white-space: nowrap; }}
td {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<p class="question" dir="auto">{question1}</p>
<p class="question" dir="auto">{question2}</p>
<table>
{table}
</table>
<p><small>{note}</small></p>
</body>
</html>
"""
