"""Options of commands that read files of pairs or of questions."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import note
from dupq.data.dates import check_date_format, parse_date
from dupq.data.details import reach_of
from dupq.data.labels import parse_labels
from dupq.data.questions import HTML_MODES, ID_TYPES, ReadIds, read_questions
from dupq.data.reading import (
    FORMATS,
    Columns,
    FileOptions,
    ReadReport,
)
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.questions import Question

MAX_LISTED = 20
"""Left-out rows whose reasons are printed."""


def add_pair_options(parser: argparse.ArgumentParser, labelled: bool = True) -> None:
    """Add the options of a command that reads a file of pairs."""
    group = parser.add_argument_group("reading pairs")
    group.add_argument(
        "--columns",
        nargs=2,
        metavar=("NAME1", "NAME2"),
        help="columns of the two questions (default: the usual names)",
    )
    if labelled:
        group.add_argument(
            "--label-column",
            metavar="NAME",
            help="column of labels, 1 = duplicate, 0 = distinct (default: the usual names)",
        )
        group.add_argument(
            "--labels",
            nargs="+",
            metavar="WORD=LABEL",
            help="words that stand for the labels, such as same=1 other=0 (default: 1 and 0, true and false, yes and "
            "no, duplicate and distinct)",
        )
    _add_file_options(group)


def add_html_option(parser: argparse._ActionsContainer) -> None:
    """Add the option for HTML in texts."""
    parser.add_argument(
        "--html",
        choices=HTML_MODES,
        default="auto",
        help="keep or strip HTML before texts are scored (default: auto, strip it from texts that clearly are HTML)",
    )


def add_question_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that reads a file of single questions."""
    group = parser.add_argument_group("reading questions")
    group.add_argument(
        "--id-column", metavar="NAME", help="column of ids (default: one of the usual names, else row numbers)"
    )
    group.add_argument(
        "--text-column",
        action="append",
        metavar="NAME",
        help="column of texts; give it several times to join columns, such as title and body (default: one of the "
        "usual names; Title in a Stack Exchange dump)",
    )
    group.add_argument(
        "--created-column", metavar="NAME", help="column of creation dates (default: one of the usual names, else none)"
    )
    group.add_argument(
        "--id-type",
        choices=ID_TYPES,
        default="auto",
        help="read ids as whole numbers or as text, so that those of a CSV and of a JSON file agree (default: auto, "
        "text from CSV, and numbers where a JSON or Parquet file has them)",
    )
    add_html_option(group)
    group.add_argument(
        "--date-format",
        metavar="FORMAT",
        help="strptime format of the dates, such as %%d/%%m/%%Y (default: ISO 8601 and epoch numbers)",
    )
    _add_file_options(group)


def _add_file_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--format", choices=FORMATS, help="format of the input (default: by content and name)")
    group.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="delimiter of CSV and TSV fields; `tab` for a tab (default: by content)",
    )
    group.add_argument("--encoding", metavar="NAME", help="text encoding, such as cp1252 (default: by content)")
    group.add_argument("--skip-bad", action="store_true", help="leave out bad rows and list them, instead of stopping")


def file_options(args: argparse.Namespace) -> FileOptions:
    """Return the format, delimiter and encoding that were given."""
    return FileOptions(args.format, args.delimiter, args.encoding)


def pair_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `read_pairs` and `load_pairs`.

    They are columns, options and report.
    """
    first, second = args.columns or (None, None)
    label, words = getattr(args, "label_column", None), getattr(args, "labels", None)
    return {
        "columns": Columns(first, second, label, parse_labels(words)),
        "options": file_options(args),
        "report": new_report(args),
    }


def split_path(pairs: str, name: str) -> Path:
    """Return the file of a split in the folder `pairs`, or `pairs` if it is a file."""
    return Path(pairs) / f"{name}.jsonl" if Path(pairs).is_dir() else Path(pairs)


def validation_path(args: argparse.Namespace) -> str | Path | None:
    """Return the file of `--validation`, or that of the folder PAIRS.

    It is None if there is neither.
    """
    return args.validation or (split_path(args.pairs, "validation") if Path(args.pairs).is_dir() else None)


def new_report(args: argparse.Namespace) -> ReadReport:
    """Return an empty reading report; under `--skip-bad` it accepts bad rows."""
    return ReadReport(skip_bad=args.skip_bad)


def open_questions(
    args: argparse.Namespace, source: str, report: ReadReport, *, details: bool = False, ids: ReadIds | None = None
) -> Iterator[Question]:
    """Read the questions of a file by the options of `add_question_options`.

    Args:
        args: The options.
        source: The file.
        report, ids: As in `read_questions`.
        details: Read further columns too (default: False).

    Raises:
        InputError: The date format is invalid, or the file cannot be used.
    """
    check_date_format(args.date_format)
    return read_questions(
        source,
        id_column=args.id_column,
        text_columns=args.text_column or (),
        created_column=args.created_column,
        id_type=args.id_type,
        html=args.html,
        details=details,
        options=file_options(args),
        report=report,
        ids=ids,
    )


def open_question_files(args: argparse.Namespace, sources: Sequence[str], report: ReadReport) -> Iterator[Question]:
    """Read the questions of one file after the other; ids must be unique over all.

    Raises:
        InputError: A file is given twice, or as `open_questions`.
    """
    ids, places = ReadIds(), set[str]()
    for source in sources:
        place = os.path.realpath(source)
        if place in places:
            raise InputError("the file is given twice", location=source, hint="name each file once")
        places.add(place)
        yield from open_questions(args, source, report, ids=ids)


def question_arguments(args: argparse.Namespace, questions: Sequence[Question], reading: ReadReport) -> dict[str, Any]:
    """Return the arguments of `QuestionIndex.add` for questions with details."""
    details = [question.details or {} for question in questions]
    return {
        "ids": [question.id for question in questions],
        "texts": [question.text for question in questions],
        "created": _dates(args, questions, reading),
        "reach": [reach_of(shown) for shown in details] if any("views" in shown for shown in details) else None,
        "details": [shown or None for shown in details],
    }


def _dates(args: argparse.Namespace, questions: Sequence[Question], reading: ReadReport) -> list[float | None]:
    """Return the creation dates in POSIX seconds.

    Under `--skip-bad`, a bad date is None and noted in the report.
    """
    dates: list[float | None] = []
    bad = 0
    for question in questions:
        try:
            dates.append(parse_date(question.created, args.date_format, f"created, id {question.id!r}"))
        except InputError as error:
            if not args.skip_bad:
                raise
            dates.append(None)
            if not bad:
                reading.note(str(error))
            bad += 1
    if bad:
        reading.note(f"{bad:,} dates cannot be read; their questions are added without one")
    return dates


def print_report(report: ReadReport) -> None:
    """Print the notes on a file and its left-out rows on standard error."""
    for line in report.notes:
        note(line)
    if not report.rejected:
        return
    note(f"read {report.rows:,} rows: {report.accepted:,} used, {report.rejected:,} left out")
    for reason in report.reasons[:MAX_LISTED]:
        note(f"  {reason}")
    if (more := report.rejected - min(len(report.reasons), MAX_LISTED)) > 0:
        note(f"  ... and {more:,} more")


def parse_where(values: list[str] | None) -> dict[str, str] | None:
    """Return `["natural=1"]` as `{"natural": "1"}`, and None for none.

    Raises:
        InputError: A value is not COLUMN=VALUE.
    """
    if not values:
        return None
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise InputError(f"a condition must be COLUMN=VALUE, got {name!r}", hint="write it as natural=1")
    return {name: value for name, _, value in pairs}
