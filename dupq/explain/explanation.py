"""Explanation of a question pair, word by word, as data, as text and as HTML."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dupq.data.arguments import as_kind
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.explain.alignment import (
    MAX_WORDS,
    Embed,
    Match,
    MatchKind,
    align,
)
from dupq.explain.asked import Asked, Locate, find_asked
from dupq.explain.conflicts import Conflict, find_conflicts
from dupq.explain.tokens import Word, first_words
from dupq.types import PairScore

NOTE = (
    "This compares the words of the two questions. The score comes from a network that reads whole questions, and is "
    "not computed from these marks."
)

_ONLY = "only"
_GRAMMAR = "grammar"
_COLOURS = {"identical": "32", "form": "32;4", "near": "36;4", _ONLY: "33", _GRAMMAR: "2", "conflict": "1;31"}
"""Mark of a word -> its SGR codes on a terminal."""

_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The characters that reverse the direction of writing."""

_TITLES = {
    MatchKind.IDENTICAL: "same words",
    MatchKind.FORM: "other forms",
    MatchKind.NEAR: "near in meaning",
}


@dataclass(frozen=True)
class Explanation:
    """Matching words of two questions, words without a match, and conflicts.

    It describes the words and plays no part in the score. `explain(b, a)` equals `explain(a, b).mirrored()`.

    Attributes:
        question1, question2: The texts, unaltered.
        words1, words2: Their words, at most `MAX_WORDS` each.
        matches: The pairs of words, one to one, in the order of the first question.
        conflicts: The signs that the questions ask different things.
        unread: The number of words of each question beyond `MAX_WORDS`, which were not compared.
        vectors: True if words near in meaning were compared.
        result: The pipeline's score and decision; None without a decision.
        asked: The span of a long text in which the other question is asked; None without a network that finds it.
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
    asked: Asked | None = None

    @property
    def unmatched1(self) -> tuple[int, ...]:
        """Indices of the first question's words without a match."""
        matched = {match.word1 for match in self.matches}
        return tuple(index for index in range(len(self.words1)) if index not in matched)

    @property
    def unmatched2(self) -> tuple[int, ...]:
        """Indices of the second question's words without a match."""
        matched = {match.word2 for match in self.matches}
        return tuple(index for index in range(len(self.words2)) if index not in matched)

    def mirrored(self) -> Explanation:
        """Return the explanation with the questions exchanged."""
        matches = (Match(match.word2, match.word1, match.kind, match.similarity) for match in self.matches)
        return Explanation(
            self.question2,
            self.question1,
            self.words2,
            self.words1,
            tuple(sorted(matches, key=lambda match: match.word1)),
            tuple(conflict.mirrored() for conflict in self.conflicts),
            (self.unread[1], self.unread[0]),
            self.vectors,
            _exchanged(self.result),
            None if self.asked is None else self.asked.mirrored(),
        )

    # ---- data -----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain data for JSON.

        Words are given by text and by index, from 0. The key "asked" is there only where the span was found.
        """
        result = self.result
        return {
            **({} if self.asked is None else {"asked": asdict(self.asked)}),
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
                    "similarity": round(match.similarity, 4),
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
                "warnings": [asdict(warning) for warning in result.warnings],
            },
            "note": NOTE,
        }

    # ---- text -----------------------------------------------------------------------------------------------------

    def to_text(self, colour: bool = False) -> str:
        """Return lines for a terminal, without the control characters of the questions.

        Args:
            colour: True: mark words with SGR colours (default: False); the lines are complete without.

        Raises:
            InputError: `colour` is no bool.
        """
        as_kind(colour, bool, "colour", "give True or False")
        kinds1, kinds2 = self._kinds()
        lines = [
            f"1: {_marked_text(self.question1, self.words1, kinds1, colour)}",
            f"2: {_marked_text(self.question2, self.words2, kinds2, colour)}",
            "",
        ]
        for title, text in self._summary():
            lines.append(f"{title + ':':16} {_printable(text)}")
        for conflict in self.conflicts:
            line = f"{f'{conflict.kind}:':16} {_printable(self._conflict_texts(conflict))}  ({conflict.why})"
            lines.append(_sgr(line, "conflict", colour))
        if not self.conflicts:
            lines.append(f"{'conflicts:':16} none found")
        lines += [f"{title + ':':16} {text}" for title, text in self._remarks()]
        return "\n".join([*lines, "", NOTE])

    def __str__(self) -> str:
        return self.to_text()

    def _summary(self) -> list[tuple[str, str]]:
        """Return rows (title, text) of matched words, unmatched words and the span asked."""
        rows = []
        for kind, title in _TITLES.items():
            texts = []
            for match in self.matches:
                first, second = self.words1[match.word1], self.words2[match.word2]
                if match.kind is kind and not (kind is MatchKind.IDENTICAL and first.function):
                    similarity = f" {match.similarity:.2f}" if kind is MatchKind.NEAR else ""
                    texts.append(
                        first.text if kind is MatchKind.IDENTICAL else f"{first.text} ~ {second.text}{similarity}"
                    )
            if texts:
                rows.append((title, ", ".join(texts)))
        for side, words, indices in (("1", self.words1, self.unmatched1), ("2", self.words2, self.unmatched2)):
            if indices:
                rows.append((f"only in {side}", ", ".join(_texts(words, indices))))
        if self.asked is not None:
            place = f"characters {self.asked.start:,} to {self.asked.end:,}"
            rows.append((f"asked in {self.asked.side}", f"{self.asked.text} ({place})"))
        return rows

    def _conflict_texts(self, conflict: Conflict) -> str:
        first = " ".join(_texts(self.words1, conflict.words1))
        second = " ".join(_texts(self.words2, conflict.words2))
        return f"{first or '-'} | {second or '-'}"

    def _remarks(self) -> list[tuple[str, str]]:
        """Return the decision and the limits of the comparison as rows of (title, text)."""
        rows = []
        if self.result is not None:
            decision = f"{self.result.decision}, probability {self.result.probability:.3f}"
            rows.append(("decision", f"{decision} at a base rate of {self.result.base_rate:.1%}"))
        if any(self.unread):
            left = " and ".join(f"{count:,} of question {side}" for side, count in enumerate(self.unread, 1) if count)
            rows.append(("not compared", f"words beyond the first {MAX_WORDS}: {left}"))
        if not self.vectors:
            rows.append(("not compared", "words near in meaning (no bi-encoder)"))
        return rows

    def _kinds(self) -> tuple[list[str], list[str]]:
        """Return the mark of each word: its conflict, else its match, else "only"."""
        sides = []
        for side, words in enumerate((self.words1, self.words2)):
            kinds = [_GRAMMAR if word.function else _ONLY for word in words]
            for match in self.matches:
                index = (match.word1, match.word2)[side]
                if not (words[index].function and match.kind is MatchKind.IDENTICAL):
                    kinds[index] = str(match.kind)
            for conflict in self.conflicts:
                for index in (conflict.words1, conflict.words2)[side]:
                    kinds[index] = "conflict"
            sides.append(kinds)
        return sides[0], sides[1]

    # ---- HTML -----------------------------------------------------------------------------------------------------

    def to_html(self) -> str:
        """Return a self-contained HTML page without scripts.

        Hovering over a word shows its match.
        """
        kinds1, kinds2 = self._kinds()
        hints1, hints2 = self._hints()
        rows = [*self._summary(), *((str(c.kind), f"{self._conflict_texts(c)} ({c.why})") for c in self.conflicts)]
        if not self.conflicts:
            rows.append(("conflicts", "none found"))
        rows += self._remarks()
        flags = {str(conflict.kind) for conflict in self.conflicts}
        table = "\n".join(
            f'<tr class="{"flag" if title in flags else "fact"}"><th>{_escape(title)}</th>'
            f'<td dir="auto">{_escape(text)}</td></tr>'
            for title, text in rows
        )
        asked = self.asked
        spans = [(asked.start, asked.end) if asked and asked.side == side else (0, 0) for side in (1, 2)]
        return _PAGE.format(
            style="" if asked is None else _ASKED_STYLE,
            question1=_marked_html(self.question1, self.words1, kinds1, hints1, spans[0]),
            question2=_marked_html(self.question2, self.words2, kinds2, hints2, spans[1]),
            table=table,
            note=_escape(NOTE),
        )

    def _hints(self) -> tuple[list[str], list[str]]:
        """Return the tooltip of each word."""
        hints1 = ["no match in question 2"] * len(self.words1)
        hints2 = ["no match in question 1"] * len(self.words2)
        for match in self.matches:
            kind = f"near, {match.similarity:.2f}" if match.kind is MatchKind.NEAR else str(match.kind)
            hints1[match.word1] = f"{self.words2[match.word2].text} ({kind})"
            hints2[match.word2] = f"{self.words1[match.word1].text} ({kind})"
        for conflict in self.conflicts:
            for hints, indices in ((hints1, conflict.words1), (hints2, conflict.words2)):
                for index in indices:
                    hints[index] += f"; {conflict.kind}: {conflict.why}"
        return hints1, hints2


def explain(
    question1: str,
    question2: str,
    embed: Embed | None = None,
    result: PairScore | None = None,
    locate: Locate | None = None,
) -> Explanation:
    """Compare the words of two questions.

    Args:
        question1, question2: The texts.
        embed: The bi-encoder's `embed`, for vectors of single words; None: no words are matched by meaning.
        result: The pipeline's score of this pair, to be shown with it.
        locate: The cross-encoder's `response_map`, to find the place in a long text at which the other question is
            asked; None: it is not looked for.

    Returns:
        The explanation; with the questions exchanged it is the mirror image.

    Raises:
        InputError: A text is missing, blank or not valid UTF-8, or another argument is of the wrong class.
    """
    for side, text in (("first", question1), ("second", question2)):
        check_text(text, f"the {side} question")
    if result is not None:
        as_kind(result, PairScore, "result", "give that of pipeline.score")
    if embed is not None and not callable(embed):
        raise InputError(f"embed must be a function, got {type(embed).__name__}", hint="give that of an embedder")
    if locate is not None and not callable(locate):
        raise InputError(f"locate must be a function, got {type(locate).__name__}", hint="give that of a cross-encoder")
    if question2 < question1:
        # A fixed order of the questions makes ties fall the same way for both.
        return explain(question2, question1, embed, _exchanged(result), locate).mirrored()
    (words1, more1), (words2, more2) = first_words(question1, MAX_WORDS), first_words(question2, MAX_WORDS)
    matches = align(words1, words2, embed)
    read = [
        text[: words[-1].end] if more else text
        for text, words, more in ((question1, words1, more1), (question2, words2, more2))
    ]
    return Explanation(
        question1,
        question2,
        tuple(words1),
        tuple(words2),
        tuple(matches),
        tuple(find_conflicts(words1, words2, matches)),
        (more1, more2),
        embed is not None,
        result,
        None if locate is None else find_asked((read[0], read[1]), (words1, words2), locate),
    )


def _exchanged(result: PairScore | None) -> PairScore | None:
    return None if result is None else replace(result, question1=result.question2, question2=result.question1)


def _texts(words: Sequence[Word], indices: Iterable[int]) -> list[str]:
    return [words[index].text for index in indices]


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
    """Split the text into its words and the pieces between them.

    A word comes with its index, a piece between words with None.
    """
    pieces: list[tuple[str, int | None]] = []
    done = 0
    for index, word in enumerate(words):
        pieces += [(text[done : word.start], None), (word.text, index)]
        done = word.end
    return [(piece, index) for piece, index in [*pieces, (text[done:], None)] if piece]


def _printable(text: str) -> str:
    """Return the text on one line, without control characters.

    Characters that control a terminal or the direction of writing are replaced by U+FFFD.
    """
    spaced = (" " if character.isspace() else character for character in text)
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" or c in _BIDI_CONTROLS else c for c in spaced)


def _sgr(text: str, kind: str, colour: bool) -> str:
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if colour and kind in _COLOURS else text


def _marked_text(text: str, words: Sequence[Word], kinds: Sequence[str], colour: bool) -> str:
    return "".join(
        _printable(piece) if index is None else _sgr(_printable(piece), kinds[index], colour)
        for piece, index in _pieces(text, words)
    )


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _marked_html(
    text: str, words: Sequence[Word], kinds: Sequence[str], hints: Sequence[str], asked: tuple[int, int]
) -> str:
    marked, at = [], 0
    for piece, index in _pieces(text, words):
        inside = " asked" if asked[0] <= at < asked[1] else ""
        at += len(piece)
        if index is not None:
            marked.append(
                f'<span class="{kinds[index]}{inside}" title="{_escape(hints[index])}">{_escape(piece)}</span>'
            )
        else:
            marked.append(f'<span class="asked">{_escape(piece)}</span>' if inside else _escape(piece))
    return "".join(marked)


_ASKED_STYLE = "\n.asked { outline: 2px solid light-dark(#8a6d00, #d9b84a); outline-offset: -1px; }"


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
.conflict {{ border-bottom: 3px double; }}{style}
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
