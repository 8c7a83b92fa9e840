"""Read the questions of `dupq mine` one at a time, and check them as a whole."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dupq.cli.console import note
from dupq.cli.inputs import new_report, open_question_files, print_report
from dupq.data.dates import parse_date
from dupq.data.seen_ids import SeenIds
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.questions import Question
    from dupq.mining.question_stream import IdForm, QuestionStream, SourceQuestion
    from dupq.types import Id


class MineInput:
    """Reader of the new and the old questions.

    Args:
        args: The options of the command.
        one_type: True where a file of the output needs ids of one type, as a column of Parquet does.
    """

    def __init__(self, args: argparse.Namespace, *, one_type: bool) -> None:
        self.args, self.one_type, self.report = args, one_type, new_report(args)
        self.dated = args.representative == "oldest"
        self._new_ids, self._old_ids, self._types = SeenIds(), SeenIds(), set[type]()
        self._shared, self._has_dates = False, False

    def stream(self) -> QuestionStream:
        """Return the questions as a stream."""
        from dupq.mining.question_stream import QuestionStream

        old = self.old() if self.args.against else None
        return QuestionStream(self.new(), old, self.dated, finish=self.finish)

    def new(self) -> Iterator[SourceQuestion]:
        """Yield the new questions."""
        return self._read(open_question_files(self.args, self.args.questions, self.report), old=False)

    def old(self) -> Iterator[SourceQuestion]:
        """Yield the old questions; the new ones must have been read."""
        return self._read(open_question_files(self.args, [self.args.against], self.report), old=True)

    def _read(self, questions: Iterable[Question], *, old: bool) -> Iterator[SourceQuestion]:
        from dupq.mining.question_stream import SourceQuestion

        for question in questions:
            date = None
            if self.dated:
                date = parse_date(question.created, self.args.date_format, f"created, question {question.id!r}")
                self._has_dates = self._has_dates or date is not None
            self._types.add(type(question.id))
            self._shared = self._shared or (old and question.id in self._new_ids)
            if self.one_type or (self.args.against and not old):
                (self._old_ids if old else self._new_ids).add(question.id, 1)
            yield SourceQuestion(question.id, question.text, question.original, date)

    def finish(self, ids: Sequence[Id]) -> IdForm:
        """Check what has been read, print how it was read, and return the form of the ids.

        Ids that the new and the old file have in common get a prefix. For a column of Parquet, numbers become text if
        ids of both types were read.

        Args:
            ids: All ids, as they were read.

        Raises:
            InputError: No question has a date and dates are needed, or a number and a text would become one id.
        """
        print_report(self.report)
        if self.dated and len(ids) and not self._has_dates:
            raise InputError(
                "--representative oldest needs dates, and no question has one",
                location=", ".join(self.args.questions),
                hint="name their column with --created-column NAME, or use --representative central",
            )
        new, old = self._new_ids, self._old_ids
        self._new_ids, self._old_ids = SeenIds(), SeenIds()  # their memory is needed
        if self._shared:
            return "sides"
        if not self.one_type or len(self._types) < 2:
            return "plain"
        for id_ in ids:
            if isinstance(id_, int) and (str(id_) in new or str(id_) in old):
                raise InputError(
                    f"ids must be of one type for Parquet, got the number {id_} and the text '{id_}'",
                    hint="write JSONL, or give the ids one type in the input",
                )
        note(
            "some ids are numbers and some are text: all are written as text, because a column of Parquet has one type"
        )
        return "text"
