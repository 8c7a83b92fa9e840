"""Read and check question pairs from a file, standard input or a dataset.

The format (CSV, TSV, JSON, JSONL, Parquet) follows from content and name; all but Parquet may be compressed with gzip,
xz or bzip2.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupq.data.arguments import as_choice, as_kind
from dupq.data.delimited import DELIMITER_NAMES, SEPARATOR_LINE, delimited_rows, sniff
from dupq.data.json_rows import begins_array, is_object, json_array, json_lines
from dupq.data.labels import parse_label
from dupq.data.parquet import MAGIC, parquet_rows
from dupq.data.sources import Text, open_source
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.types import QuestionPair

PAIR_COLUMNS = (
    ("question1", "question2"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("q1", "q2"),
    ("left", "right"),
)
LABEL_COLUMNS = ("label", "is_duplicate", "duplicate")
FORMATS = ("tsv", "csv", "json", "jsonl", "parquet")
COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}

Row = Mapping[str, Any]
Refuse = Callable[[InputError], None]


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a pair; a name that is None is found among the usual ones.

    Attributes:
        question1, question2, label: The names of the columns.
        labels: Words of the label column, in lower case -> 0 or 1; None: the usual ones, see `dupq.data.labels`.

    Raises:
        InputError: A name is no str.
    """

    question1: str | None = None
    question2: str | None = None
    label: str | None = None
    labels: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        for name in ("question1", "question2", "label"):
            if getattr(self, name) is not None:
                as_kind(getattr(self, name), str, f"the column of {name}", "give its name, or leave it out")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Format of a file, where its content does not show it.

    Attributes:
        file_format: "tsv", "csv", "json", "jsonl" or "parquet"; None: by content and name.
        delimiter: The character between two fields of a CSV or TSV file, or "tab"; None: by content.
        encoding: A Python codec such as "cp1252"; None: by content.

    Raises:
        InputError: The delimiter is not one character that can divide fields, or a value is unknown.
    """

    file_format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        format_of("", self.file_format)
        if self.delimiter in ("tab", "\\t"):
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\\\0'):
            raise InputError(
                f"delimiter must be one character, and no quote, backslash or line end, got {self.delimiter!r:.40}",
                hint='give one such as ";", or "tab"',
            )
        if self.encoding is not None:
            try:
                known = codecs.lookup(self.encoding)
            except (LookupError, ValueError):
                known = None
            if known is None or not getattr(known, "_is_text_encoding", True):
                raise InputError(
                    f"encoding must be a text codec of Python, got {self.encoding!r}",
                    hint="give one such as utf-8 or cp1252",
                )


@dataclass(slots=True)
class ReadReport:
    """Counts of the records of a source, with the reasons of rejected ones.

    Attributes:
        skip_bad: False: the first bad record raises. True: bad records are counted and skipped.
        keep: The number of reasons kept (default: 1000).
        rows: Records found so far.
        rejected: Records skipped so far.
        reasons: One line for each of the first `keep` skipped records.
        notes: One line for each property that was detected, repaired or dropped.
    """

    skip_bad: bool = False
    keep: int = 1000
    rows: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """Number of records that were not skipped."""
        return self.rows - self.rejected

    def add(self, error: InputError) -> None:
        """Count a bad record and keep its reason; raise `error` unless `skip_bad`."""
        if not self.skip_bad:
            raise error
        self.skip(f"{error.location}: {error.message}" if error.location else error.message)

    def skip(self, reason: str) -> None:
        """Count a skipped record and keep its reason."""
        self.rejected += 1
        if len(self.reasons) < self.keep:
            self.reasons.append(reason)

    def note(self, line: str) -> None:
        """Keep a line for the user, once."""
        if line not in self.notes:
            self.notes.append(line)


def read_pairs(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = False,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[QuestionPair]:
    """Read question pairs one at a time, in constant memory.

    Args:
        source: A file, `-` for standard input, or any iterable of mappings, such as a Hugging Face `Dataset`.
        columns: The columns; None: the usual names.
        labelled: True: each row must have a label 0 or 1. False: a label column is read only if `columns` names it.
        options: The format of the file; None: by content and name.
        report: Counts the rows, and collects the bad ones with `skip_bad`; None: the first bad row raises.
        where: Column -> text; other rows are left out.

    Yields:
        The pairs, each with its row, counted from 1.

    Raises:
        InputError: The file is missing or damaged, a column is unknown, or a text or label is bad; file and row are
            named.
    """
    for pair, _ in read_rows(source, columns=columns, labelled=labelled, options=options, report=report, where=where):
        yield pair


def read_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = False,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[tuple[QuestionPair, Row]]:
    """Read question pairs, each with its whole row.

    Arguments and errors are those of `read_pairs`.
    """
    if where is not None:
        as_kind(where, Mapping, "where", 'give a dict of columns and values, such as {"natural": "1"}')
    if columns is not None:
        as_kind(columns, Columns, "columns", 'give Columns("q1", "q2")')
    check_reading(options, report)
    as_kind(labelled, bool, "labelled", "give True or False")
    report = report if report is not None else ReadReport()
    if isinstance(source, (str, Path)):
        name = source_name(source)
        rows = file_rows(source, options, name, report)
    else:
        name = "the dataset"
        rows = _dataset_rows(source, name, report)
    columns = columns or Columns()
    found: tuple[str, str, str | None] | None = None
    for number, row in rows:
        if found is None:
            found = find_columns(list(row), columns, labelled, name)
            require_columns(where or (), list(row), name)
        if where and not matches(row, where):
            continue
        at = f"{name}, row {number}"
        question1, question2, label_column = found
        try:
            left = check_text(row.get(question1), f"{at}, column {question1!r}")
            right = check_text(row.get(question2), f"{at}, column {question2!r}")
            label = (
                parse_label(row.get(label_column), columns.labels, at, label_column, report.note)
                if label_column
                else None
            )
        except InputError as error:
            report.add(error)
            continue
        yield QuestionPair(left, right, label, number), row


def check_reading(options: object, report: object) -> None:
    """Check the classes of `options` and `report`.

    Raises:
        InputError: `options` is neither FileOptions nor None, or `report` is neither a ReadReport nor None.
    """
    if options is not None:
        as_kind(options, FileOptions, "options", 'give FileOptions(delimiter=";"), or leave it out')
    if report is not None:
        as_kind(report, ReadReport, "report", "give ReadReport(skip_bad=True), or leave it out")


def source_name(source: str | Path) -> str:
    """Return the name of a file for messages; `-` is "standard input"."""
    return "standard input" if str(source) == "-" else str(source)


def matches(row: Row, where: Mapping[str, str]) -> bool:
    """Return True if these columns of a row equal these values, as text."""
    return all(str(row.get(column)) == value for column, value in where.items())


def require_columns(wanted: Iterable[str], names: list[str], source: str) -> None:
    """Raise InputError unless `names` contains all columns wanted."""
    for name in wanted:
        if name not in names:
            raise InputError(f"there is no column {name!r}", location=source, hint=listed(names))


def listed(names: list[str]) -> str:
    """Return a hint that lists the columns.

    The hint has a note if they look like a row without a header.
    """
    names = [str(name) for name in names]
    shown = ", ".join(f"{name:.40}" for name in names[:30]) + (", ..." if len(names) > 30 else "")
    # Columns are not named by a number, a question or a sentence.
    values = [name for name in names if re.fullmatch(r"[\d.:/ T-]+|.*[?\uff1f\u061f]|(\S+\s+){5,}\S+", name.strip())]
    return f"columns: {shown}" + ("; the first line looks like a row: add a header above it" if values else "")


def find_columns(names: list[str], columns: Columns, labelled: bool, source: str) -> tuple[str, str, str | None]:
    """Return the columns of question 1, question 2 and the label.

    The label column is None if it is neither named nor required.

    Args:
        names: The columns of the source.
        columns: The columns that the user named.
        labelled: True: a label column is required.
        source: The source, for the error.

    Raises:
        InputError: A named column is missing, or the usual names fit none or several columns.
    """
    require_columns(filter(None, (columns.question1, columns.question2, columns.label)), names, source)
    if columns.question1 and columns.question2:
        pair = (columns.question1, columns.question2)
    elif columns.question1 or columns.question2:
        raise InputError("only one of the two question columns is named", location=source, hint="name both")
    else:
        usual_pairs = [usual for usual in PAIR_COLUMNS if set(usual) <= set(names)]
        if len(usual_pairs) != 1:
            raise InputError(
                "several pairs of columns could be meant"
                if usual_pairs
                else "no columns of a question pair were found",
                location=source,
                hint=f"name them with --columns NAME1 NAME2; {listed(names)}",
            )
        pair = usual_pairs[0]
    label = columns.label
    if labelled and label is None:
        usual = [name for name in LABEL_COLUMNS if name in names]
        if len(usual) != 1:
            raise InputError(
                "several label columns could be meant" if usual else "no label column was found",
                location=source,
                hint=f"name it with --label-column NAME; {listed(names)}",
            )
        label = usual[0]
    return pair[0], pair[1], label


def _dataset_rows(source: Iterable[Mapping[str, Any]], name: str, report: ReadReport) -> Iterator[tuple[int, Row]]:
    if isinstance(source, Mapping):
        raise InputError("it contains several sets of rows", location=name, hint="give one split: dataset['train']")
    if not isinstance(source, Iterable) or getattr(source, "ndim", 1) == 0:
        raise InputError(
            f"source must be a file or rows, got {type(source).__name__}", hint="give a path, or a list of dicts"
        )
    for number, row in enumerate(source, 1):
        if not isinstance(row, Mapping):
            raise InputError(
                f"a row must be a mapping from column to value, got {type(row).__name__}",
                location=f"{name}, row {number}",
                hint="give dicts or a Hugging Face Dataset; convert a pandas frame with frame.to_dict('records')",
            )
        report.rows += 1
        yield number, row


def file_rows(
    source: str | Path, options: FileOptions | None, name: str, report: ReadReport
) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a file or of standard input, numbered from 1.

    Args:
        source: A file, or `-` for standard input.
        options: The format of the file; None: by content and name.
        name: The source, for the errors.
        report: Counts the records, collects the damaged ones, and notes the format found.

    Raises:
        InputError: The file is unreadable or has no rows; or a quotation mark is not closed, so that the start of the
            next row is unknown (`skip_bad` does not help then).
    """
    before = report.rows

    def refuse(error: InputError) -> None:
        report.rows += 1
        report.add(error)

    for number, row in _file_rows(source, options or FileOptions(), name, report, refuse):
        report.rows += 1
        yield number, row
    if report.rows == before:
        raise InputError(
            "there are no rows", location=name, hint="give at least one row, below a header in CSV and TSV"
        )


def _file_rows(
    source: str | Path, options: FileOptions, name: str, report: ReadReport, refuse: Refuse
) -> Iterator[tuple[int, Row]]:
    named = format_of(source, options.file_format)
    with open_source(source, name) as found:
        if found.compression and COMPRESSIONS.get(Path(source).suffix.lower()) != found.compression:
            report.note(f"{name}: decompressed with {found.compression}")
        if found.head.startswith(MAGIC) or named == "parquet":
            if found.compression or str(source) == "-":
                raise InputError(
                    "Parquet can be read from a plain file only", location=name, hint="decompress it to a file"
                )
        elif not found.head:
            raise InputError(
                "the file is empty", location=name, hint="give at least one row, below a header in CSV and TSV"
            )
        else:
            text = Text(found, options.encoding, name, report.note)
            yield from _text_rows(text, named, options, name, report, refuse, found.whole)
            return
    if named != "parquet":
        report.note(f"{name}: read as Parquet")
    yield from parquet_rows(Path(source), name)


def _text_rows(
    text: Text, named: str, options: FileOptions, name: str, report: ReadReport, refuse: Refuse, whole: bool
) -> Iterator[tuple[int, Row]]:
    sample = text.sample
    start = sample.lstrip()
    forced = options.file_format in ("csv", "tsv")
    if named == "json" or (not forced and begins_array(sample)):
        if start.startswith("[") or not is_object(start.partition("\n")[0]):
            if named != "json":
                report.note(f"{name}: read as a JSON array")
            yield from json_array(text.chunks(), name, refuse)
            return
        named = "jsonl"
    if named == "jsonl" or (not forced and is_object(start.partition("\n")[0])):
        if named != "jsonl":
            report.note(f"{name}: read as JSONL")
        yield from json_lines(text.lines(), name, refuse)
        return
    head = io.StringIO(sample, newline="\r" if text.newline == "\r" else "\n").readlines()
    lines = text.lines()
    first_line, delimiter = 1, options.delimiter
    if head and (separator := SEPARATOR_LINE.fullmatch(head[0])):
        delimiter = delimiter or separator.group(1)
        next(lines)
        head, first_line = head[1:], 2
    sniffed = sniff(head, whole, _DELIMITERS.get(named), delimiter, text.newline)
    if sniffed is None:
        raise InputError(
            "the format is unknown", location=name, hint=f"set --format {'|'.join(FORMATS)}, or --delimiter"
        )
    dialect = sniffed.dialect
    if dialect.delimiter != _DELIMITERS.get(named) and not options.delimiter:
        report.note(
            f"{name}: fields are separated by {DELIMITER_NAMES.get(dialect.delimiter, repr(dialect.delimiter))}"
        )
    if dialect.quoting == "none":
        report.note(f"{name}: quotation marks are part of the texts")
    if dialect.quoting == "backslash":
        report.note(f"{name}: quotation marks in fields follow a backslash")
    yield from delimited_rows(lines, dialect, name, sniffed.shape, first_line, refuse)


def format_of(source: str | Path, file_format: str | None) -> str:
    """Return the format as given, or by the suffix of the file's name.

    It is "" if neither shows one.

    Raises:
        InputError: The format given is unknown.
    """
    if file_format is not None:
        return as_choice(file_format, FORMATS, "file_format")
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    suffix = suffixes[-1].lstrip(".") if suffixes else ""
    suffix = {"ndjson": "jsonl", "tab": "tsv"}.get(suffix, suffix)
    return suffix if suffix in FORMATS else ""
