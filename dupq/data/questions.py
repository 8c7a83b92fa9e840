"""Read single questions with their ids from files and forum exports.

The formats are CSV, TSV, JSON, JSONL and Parquet; the exports are those of Stack Exchange and Discourse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dupq.data.arguments import as_choice, as_id, as_kind
from dupq.data.details import NAMES, detail_columns, details_of
from dupq.data.discourse import discourse_rows
from dupq.data.html import strip_clear_html, strip_html
from dupq.data.reading import (
    FileOptions,
    ReadReport,
    check_reading,
    file_rows,
    listed,
    require_columns,
    source_name,
)
from dupq.data.seen_ids import SeenIds
from dupq.data.stackexchange import (
    BODY,
    DATE_COLUMNS,
    TAGS,
    TEXT_COLUMNS,
    TITLE,
    dump_file,
    is_dump,
    post_rows,
    tag_words,
)
from dupq.data.text import check_text
from dupq.errors import InputError

ID_NAMES = ("id", "qid", "questionid", "postid", "threadid", "topicid")
TEXT_NAMES = (
    *("text", "title", "question", "questiontext", "questiontitle", "subject", "headline"),
    *("body", "message", "content"),
)
CREATED_NAMES = (
    *("created", "createdat", "creationdate", "createddate", "date", "datetime", "timestamp"),
    *("posted", "postedat", "postdate", "published", "publishedat", "asked", "askedat"),
)
"""Usual names of columns, best first, compared without case, spaces and punctuation: "Thread-ID" is "threadid"."""
ID_TYPES = ("auto", "int", "text")
HTML_MODES = ("auto", "keep", "strip")

DUMP_DETAILS = (TITLE, BODY, TAGS, "AnswerCount", "Score", "ViewCount")

_HEAD = 100
"""Rows that columns are collected from: JSON objects may differ in their keys."""
_INTEGER = re.compile(r"-?(0|[1-9]\d*)(\.0+)?", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?\d+([.,]\d*)?\s*", re.ASCII)
_MAX_EXACT = 2**53
"""Above it, a float may differ from the integer that was written."""
_TEXT_BITS = 24
"""Bits of the hash by which the texts of two rows with one id are compared."""


@dataclass(frozen=True, slots=True)
class Question:
    """Question of a file.

    Attributes:
        id: The id of the file: a str from CSV and TSV, an int from numbers of JSON, Parquet or a dump, unless `id_type`
            sets one class; the row, counted from 1, if the file has no ids.
        text: The text columns joined by a line break, without HTML; the networks read it.
        created: The date as the file has it, for `parse_date`; None: no date.
        original: `text` with its HTML, to be shown to people.
        details: Further columns, see `dupq.data.details`; None: they were not requested.
    """

    id: int | str
    text: str
    created: str | None = None
    original: str = ""
    details: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.original:
            object.__setattr__(self, "original", self.text)


@dataclass(slots=True)
class ReadIds:
    """Ids of the rows read so far, from one file or from several in turn.

    Attributes:
        table: Id -> its row, counted over all files, and a hash of its text.
        files: For each file the number of rows before it, its name, and the name of its rows.
        rows: Number of the last row.
        named: True if the files have ids, False if row numbers serve as ids; None before the first file.
    """

    table: SeenIds = field(default_factory=SeenIds)
    files: list[tuple[int, str, str]] = field(default_factory=list)
    rows: int = 0
    named: bool | None = None

    def begin(self, source: str, unit: str, named: bool) -> int:
        """Begin a file, and return the number of rows before it.

        Raises:
            InputError: It has ids and the files before it have none, or the other way round.
        """
        if self.named not in (None, named):
            raise InputError(
                f"all files must have ids, or none of them, got {'ids' if named else 'none'} after "
                f"{'none' if named else 'ids'} in {self.files[-1][1]}",
                location=source,
                hint="name the column with --id-column",
            )
        self.named = named
        self.files.append((self.rows, source, unit))
        return self.rows

    def places(self, first: int, second: int) -> str:
        """Return the places of two rows in words."""
        (base, source, unit), (other, other_source, other_unit) = map(self._file, (first, second))
        if base == other:
            return f"{unit}s {first - base} and {second - base}"
        return f"{source}, {unit} {first - base} and {other_source}, {other_unit} {second - other}"

    def _file(self, row: int) -> tuple[int, str, str]:
        return next(file for file in reversed(self.files) if file[0] < row)


def read_questions(
    source: str | Path,
    *,
    id_column: str | None = None,
    text_columns: Sequence[str] = (),
    created_column: str | None = None,
    id_type: str = "auto",
    html: str = "auto",
    details: bool = False,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
    ids: ReadIds | None = None,
) -> Iterator[Question]:
    """Read questions one at a time.

    The memory holds only hashes of ids and texts, about 25 bytes a question. A row that repeats an id and its text is
    skipped and counted; a row that repeats an id with another text is bad.

    Args:
        source: A file, `-` for standard input, a `Posts.xml`, or the folder of a Stack Exchange dump.
        id_column, created_column: None: the usual names; a file may have neither.
        text_columns: One or more columns, joined; none: the first usual name. A dump has Title (the default), Body and
            Tags.
        id_type: "auto": as in the file, with whole floats read as int. "int": digits are read as int, and other text is
            bad. "text": numbers become text.
        html: "auto": remove HTML from texts that clearly are HTML, and from the bodies of a dump. "strip": from all
            texts. "keep": from none.
        details: Read the columns of title, body, tags and so on into `Question.details`, under their usual names.
        options: The format of the file; None: by content and name.
        report: Counts the rows, collects the bad ones with `skip_bad`, and notes the columns and the changes; None: the
            first bad row raises.
        ids: Ids of the files that were read before this one, which gets those of this one; where files have no ids,
            their rows are counted on. None: there are none.

    Yields:
        The questions in the order of the file.

    Raises:
        InputError: The file is missing or has no usable question, a column is unknown, or a text or id is bad; file and
            row are named.
    """
    as_choice(id_type, ID_TYPES, "id_type")
    as_choice(html, HTML_MODES, "html")
    check_reading(options, report)
    report = report if report is not None else ReadReport()
    ids = ReadIds() if ids is None else as_kind(ids, ReadIds, "ids", "give ReadIds(), or leave it out")
    found: Iterator[tuple[int, Mapping[str, Any]]]
    names: Iterable[str]
    if is_dump(source):
        if options is not None and options != FileOptions():
            report.note(f"{source}: format, delimiter and encoding are not used for a Stack Exchange dump")
        found = post_rows(source, report)
        columns = _dump_columns(id_column, text_columns, created_column, str(source))
        reader = _Reader(str(dump_file(source, "Posts")), "line", columns, id_type, html, report, ids, dump=True)
        names = DUMP_DETAILS
    else:
        name = source_name(source)
        rows = iter(file_rows(source, options, name, report))
        head = list(islice(rows, _HEAD))
        columns = _columns([row for _, row in head], id_column, text_columns, created_column, name, report)
        reader = _Reader(name, "row", columns, id_type, html, report, ids)
        names = dict.fromkeys(name for _, row in head for name in row)
        found = chain(head, rows)
    if details:
        reader.details = detail_columns(names)
    yield from reader.questions(found)


def read_discourse(
    source: str | Path,
    *,
    text_columns: Sequence[str] = (),
    id_type: str = "auto",
    html: str = "auto",
    report: ReadReport | None = None,
) -> Iterator[Question]:
    """Read the topics of a Discourse export with their details.

    Args:
        source: The file, see `dupq.data.discourse`.
        text_columns: "title" (the default), "body" (the first post), or both, joined.
        id_type, html, report: As in `read_questions`.

    Yields:
        The questions in the order of the file.

    Raises:
        InputError: The file is no export or has no usable topic, or a text or id is bad; file and topic are named.
    """
    as_choice(id_type, ID_TYPES, "id_type")
    as_choice(html, HTML_MODES, "html")
    check_reading(None, report)
    report = report if report is not None else ReadReport()
    texts = [as_choice(name.lower(), ("title", "body"), "text_columns") for name in text_columns or ["title"]]
    columns = _Columns("id", texts, "created_at")
    reader = _Reader(
        source_name(source), "topic", columns, id_type, html, report, ReadIds(), details=detail_columns(NAMES)
    )
    yield from reader.questions(discourse_rows(source, report))


@dataclass(frozen=True, slots=True)
class _Columns:
    id: str | None
    texts: Sequence[str]
    created: str | None
    remark: str = ""

    def __str__(self) -> str:
        ids = "row numbers as ids" if self.id is None else f"ids from {self.id!r}"
        dates = "no dates" if self.created is None else f"dates from {self.created!r}"
        return f"{ids}, texts from {' + '.join(map(repr, self.texts))}{self.remark}, {dates}"


@dataclass(slots=True)
class _Reader:
    """Converter of rows to questions that counts its changes."""

    source: str
    unit: str
    columns: _Columns
    id_type: str
    html: str
    report: ReadReport
    ids: ReadIds
    dump: bool = False
    details: Mapping[str, str] | None = None
    before: int = 0
    stripped: int = 0
    spaced: int = 0
    floats: int = 0

    def questions(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Question]:
        count, started = 0, False
        for number, row in rows:
            if not started:
                self.before, started = self.ids.begin(self.source, self.unit, self.columns.id is not None), True
            self.ids.rows = max(self.ids.rows, self.before + number)
            if not count:
                self.report.note(f"{self.source}: {self.columns}")
            at = f"{self.source}, {self.unit} {number}"
            try:
                text, original = self._text(row, at)
                id_ = self._id(row, number, at)
                details = None
                if self.details is not None:
                    details = details_of(row, self.details, at, self._without_html)
                # Last, so that a bad row does not take the id of a good one.
                if self._repeats(id_, original, number, at):
                    continue
            except InputError as error:
                self.report.add(error)
                continue
            count += 1
            self.stripped += text != original
            self.spaced += isinstance(id_, str) and id_ != id_.strip()
            yield Question(id_, text, self._created(row), original, details)
        self._note_counts(count)
        if not count:
            why = f": {self.report.reasons[0]}" if self.report.reasons else ""
            raise InputError(f"it contains no usable question{why}", location=self.source, hint="check the file")

    def _note_counts(self, count: int) -> None:
        for number, line in (
            (self.stripped, f"HTML was removed from {self.stripped:,} of {count:,} texts"),
            (self.floats, f"{self.floats:,} ids with a decimal point, such as 2.0, were read as int"),
            (self.spaced, f"{self.spaced:,} ids start or end with a space, which is part of the id"),
        ):
            if number:
                self.report.note(f"{self.source}: {line}")

    def _text(self, row: Mapping[str, Any], at: str) -> tuple[str, str]:
        """Return the joined texts without and with their HTML.

        Missing and blank parts are left out.
        """
        plain, whole = [], []
        for column in self.columns.texts:
            value = row.get(column)
            if _missing(value):
                continue
            text = check_text(value, f"{at}, column {column!r}")
            if self.dump and column == TAGS:
                text = tag_words(text)
            whole.append(text)
            if (words := self._without_html(text, column)).strip():
                plain.append(words)
        if not plain:
            place = f"{at}, column {' and '.join(map(repr, self.columns.texts))}"
            problem = "the text is blank without its HTML" if whole else "the text is blank or missing"
            raise InputError(problem, location=place, hint="give a question or drop the row")
        return "\n".join(plain), "\n".join(whole)

    def _without_html(self, text: str, column: str) -> str:
        if self.html == "keep" or (self.dump and column == TAGS):
            return text
        if self.html == "strip" or (self.dump and column == BODY):
            return strip_html(text)
        # Titles of a dump are plain text, and those on programming often name a tag.
        return text if self.dump else strip_clear_html(text)

    def _id(self, row: Mapping[str, Any], number: int, at: str) -> int | str:
        if self.columns.id is None:
            number += self.before
            return str(number) if self.id_type == "text" else number
        at = f"{at}, column {self.columns.id!r}"
        value = row.get(self.columns.id)
        if _missing(value):
            raise InputError("the id is missing", location=at, hint="give a number or a word")
        if isinstance(value, (float, Decimal)) and float(value).is_integer() and -_MAX_EXACT <= value <= _MAX_EXACT:
            self.floats += 1
            value = int(value)
        elif self.id_type == "int" and isinstance(value, str):
            if not (integer := _INTEGER.fullmatch(value.strip())):
                problem = f"the id must be an integer, got {value!r:.60}"
                raise InputError(problem, location=at, hint="correct it, or set --id-type text")
            self.floats += integer[2] is not None
            digits = value.strip().partition(".")[0]
            value = int(digits) if len(digits) < 30 else 10**30  # `as_id` refuses more than 64 bits
        if self.id_type == "text" and type(value) is int:
            return str(value) if value.bit_length() < 1024 else as_id(value, at)
        return as_id(value, at)

    def _repeats(self, id_: int | str, text: str, number: int, at: str) -> bool:
        """Return True if the id was already read with this text.

        Raises:
            InputError: The id was read with another text.
        """
        if self.columns.id is None:
            return False
        row, mask = self.before + number, (1 << _TEXT_BITS) - 1
        entry = row << _TEXT_BITS | hash(text) & mask
        known = id_ in self.ids.table  # an equal entry may be another row: a line of a dump may hold several
        first = self.ids.table.add(id_, entry)
        if not known:
            return False
        places = self.ids.places(first >> _TEXT_BITS, row)
        if (first ^ entry) & mask:
            problem = f"the id {id_!r:.60} has two texts ({places})"
            raise InputError(problem, location=at, hint="give each question its own id, or drop one of them")
        self.report.skip(f"{self.source}, id {id_!r:.60}: {places} hold the same text")
        return True

    def _created(self, row: Mapping[str, Any]) -> str | None:
        value = row.get(self.columns.created) if self.columns.created else None
        if _missing(value):
            return None
        if isinstance(value, date):  # datetime too
            return value.isoformat()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, (float, Decimal)) and value != value)


def _dump_columns(
    id_column: str | None, text_columns: Sequence[str], created_column: str | None, source: str
) -> _Columns:
    def checked(names: Iterable[str], usual: Sequence[str], option: str) -> list[str]:
        proper = {name.lower(): name for name in usual}
        for name in names:
            if name.lower() not in proper:
                raise InputError(
                    f"a Stack Exchange dump has no column {name!r}",
                    location=source,
                    hint=f"set {option} to one of {', '.join(usual)}",
                )
        return [proper[name.lower()] for name in names]

    checked([id_column] if id_column else [], ["Id"], "--id-column")
    texts = checked(text_columns or [TITLE], TEXT_COLUMNS, "--text-column")
    return _Columns("Id", texts, checked([created_column or DATE_COLUMNS[0]], DATE_COLUMNS, "--created-column")[0])


def _columns(
    head: Sequence[Mapping[str, Any]],
    id_column: str | None,
    text_columns: Sequence[str],
    created_column: str | None,
    source: str,
    report: ReadReport,
) -> _Columns:
    names = list(dict.fromkeys(name for row in head for name in row))
    if not head:
        return _Columns(id_column, text_columns, created_column)
    require_columns(filter(None, (id_column, created_column, *text_columns)), names, source)

    def usual(known: Sequence[str]) -> list[str]:
        keys = {name: re.sub(r"[\W_]+", "", name).casefold() for name in names}
        return sorted((name for name in names if keys[name] in known), key=lambda name: known.index(keys[name]))

    remark = ""
    if not text_columns:
        texts = usual(TEXT_NAMES)
        if not texts:
            raise InputError(
                "no text column was found",
                location=source,
                hint=f"name it with --text-column NAME; {listed(names)}",
            )
        text_columns, others = texts[:1], texts[1:]
        values = [row.get(texts[0]) for row in head if not _missing(row.get(texts[0]))]
        if values and all(_is_number(value) for value in values):
            raise InputError(
                f"the column {texts[0]!r} holds numbers, not questions",
                location=source,
                hint=f"name the texts with --text-column NAME; {listed(names)}",
            )
        if others:
            remark = f" (not {' and '.join(map(repr, others))}; --text-column joins several)"
    ids, dates = usual(ID_NAMES), usual(CREATED_NAMES)
    return _Columns(
        id_column or (ids[0] if ids else None), text_columns, created_column or (dates[0] if dates else None), remark
    )


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, (int, float, Decimal))
