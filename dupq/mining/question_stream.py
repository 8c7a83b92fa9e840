"""Questions that are read one at a time, so that no list of them is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, NamedTuple

import numpy as np

from dupq.data.arguments import as_id, as_list
from dupq.data.dates import parse_date
from dupq.data.seen_ids import SeenIds
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.mining.questions import Columns, OnError, check_columns, ids_twice, read_rows
from dupq.types import Id

IdForm = Literal["plain", "text", "sides"]
"""Form of ids: as they are; as text; or as text with "new:" or "old:" before it, the collection."""


class SourceQuestion(NamedTuple):
    """Question of a stream.

    Attributes:
        id: Its id.
        text: The text that the networks read.
        shown: The text that outputs hold.
        created: Its date in POSIX seconds; None for an unknown one.
    """

    id: Id
    text: str
    shown: str
    created: float | None = None


@dataclass(frozen=True, slots=True)
class QuestionStream:
    """Questions that are read once, one at a time, and checked.

    Attributes:
        questions: Questions with unique ids.
        against: The same of an old collection; it is read after `questions`. None: there is none.
        dated: False if no question has a date.
        left_out: Lines on the texts that were left out; complete when the stream has been read.
        finish: Called with the ids of both, in order, when they have been read. It returns the form of the ids in the
            result, or raises InputError.
    """

    questions: Iterable[SourceQuestion]
    against: Iterable[SourceQuestion] | None = None
    dated: bool = False
    left_out: list[str] = field(default_factory=list)
    finish: Callable[[Sequence[Id]], IdForm] = lambda ids: "plain"


def stream_questions(
    questions: object,
    against: object = None,
    *,
    ids: object = None,
    created: object = None,
    columns: Columns | None = None,
    date_format: str | None = None,
    on_error: OnError = "raise",
) -> QuestionStream:
    """Return a stream of the questions that `read_questions` reads.

    Iterators of texts are read one text at a time, with iterators of ids and dates beside them. Of everything else, all
    is read and checked first.

    Raises:
        InputError: As `read_questions`; the iteration raises it for an iterator.
    """
    columns = columns or Columns()
    if isinstance(questions, Iterator) and (against is None or isinstance(against, Iterator)):
        check_columns(columns, [("questions", questions)])
        return _Streamer(ids, created, date_format, on_error).stream(questions, against)
    rows = read_rows(questions, against, ids, created, columns, date_format, on_error)
    known = [] if rows.ages is None else [None if np.isinf(age) else age for age in rows.ages.tolist()]

    def part(start: int, stop: int) -> Iterator[SourceQuestion]:
        for at in range(start, stop):
            text = rows.texts[at]
            yield SourceQuestion(rows.ids[at], text, text, known[at] if known else None)

    old = None if against is None else part(rows.new, len(rows.texts))
    return QuestionStream(part(0, rows.new), old, rows.ages is not None, [*rows.left_out])


class _Streamer:
    """Reader of iterators of texts, with ids and dates beside them.

    Args:
        ids, created: One for each text, in an iterator or a sequence; None: there are none.
        date_format, on_error: As for `read_questions`.
    """

    def __init__(self, ids: object, created: object, date_format: str | None, on_error: OnError) -> None:
        self.ids = _one_by_one(ids, "ids")
        self.created = _one_by_one(created, "created")
        self.date_format, self.on_error = date_format, on_error
        self.seen, self.left_out, self.total = SeenIds(), list[str](), 0

    def stream(self, questions: Iterator[Any], against: Iterator[Any] | None) -> QuestionStream:
        old = None if against is None else self._read(against, "against")
        new = self._read(questions, "questions")
        return QuestionStream(new, old, self.created is not None, self.left_out, self._finish)

    def _read(self, texts: Iterator[Any], name: str) -> Iterator[SourceQuestion]:
        for number, text in zip(count(1), texts, strict=False):  # the count has no end
            self.total += 1
            id_: Id = self.total - 1
            if self.ids is not None:
                id_ = as_id(self._next(self.ids, "ids"), f"ids {self.total}")
                if (first := self.seen.add(id_, self.total)) != self.total:
                    raise ids_twice(id_, first, self.total)
            created = None
            if self.created is not None:
                created = parse_date(self._next(self.created, "created"), self.date_format, f"created {self.total}")
            place = f"{name}, text {number}"
            try:
                checked = check_text(text, place)
            except InputError as error:
                if self.on_error == "raise":
                    raise
                self.left_out.append(f"{place}: {error.message}")
            else:
                yield SourceQuestion(id_, str(checked), str(checked), created)

    def _next(self, values: Iterator[Any], name: str) -> Any:
        for value in values:
            return value
        raise InputError(
            f"{name} must have one value for each question, got {self.total - 1:,} and more questions", hint="give all"
        )

    def _finish(self, ids: Sequence[Id]) -> IdForm:
        self.seen = SeenIds()  # all are unique, and the memory is needed
        for values, name in ((self.ids, "ids"), (self.created, "created")):
            for _ in values or ():
                raise InputError(f"{name} must have one value for each of {self.total} questions, got more")
        return "plain"


def _one_by_one(values: object, name: str) -> Iterator[Any] | None:
    if values is None or isinstance(values, Iterator):
        return values
    return iter(as_list(values, name))
