"""Read the rows of CSV and TSV files.

Delimiter and quoting follow from the content. Damaged rows are refused, and none is lost.

The reader is Python's `csv`, which takes lines one by one, so that every line is accounted for. DuckDB drops the text
after an unclosed quotation mark at the end of a file; polars, pandas and pyarrow reject a whole file for one damaged
row, or pad it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice, tee
from typing import Any, Literal, NamedTuple, cast

from dupq.errors import InputError

Refuse = Callable[[InputError], None]
MAX_FIELD = 2**31 - 1
"""Characters in one field; the default of `csv`, 131,072, rejects real posts."""
_LINE_FEED = "\ud8ff"
"""Placeholder of a line feed in a field without quotation marks; no decoder returns this character."""
_LINE_ENDS = re.compile(r"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Dialect:
    r"""Dialect of a delimited file.

    Attributes:
        delimiter: The character between two fields.
        newline: The end of a line, a line feed or a carriage return; with the latter, line feeds are part of a field.
        quoting: "doubled": a field may be in quotation marks, and a mark inside is doubled. "backslash": a mark inside
            may also follow a backslash, as MySQL writes it, and a bare \N is an empty field. "none": quotation marks
            are part of the text.
    """

    delimiter: str = ","
    quoting: Literal["doubled", "backslash", "none"] = "doubled"
    newline: str = "\n"

    def reader(self, lines: Iterable[str], strict: bool = True) -> Any:
        """Return a `csv.reader` of this dialect."""
        if csv.field_size_limit() < MAX_FIELD:
            csv.field_size_limit(MAX_FIELD)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL,
            escapechar="\\" if self.quoting == "backslash" else None,
            strict=strict,
        )


class OddRecord(NamedTuple):
    """Record that is damaged, or has another number of fields than the first one.

    Attributes:
        cells: Its readable fields.
        lines: Its lines.
        first: The number of the first line in the file, counted from 0.
        problem: The damage, or "".
        closed: False if a quotation mark opened in it is not closed before the end of the file.
    """

    cells: list[str]
    lines: Sequence[str]
    first: int
    problem: str
    closed: bool


class _Feed:
    """Lines for `csv.reader`; `ended` is True once it has read past the last one."""

    def __init__(self, lines: Iterable[str], dialect: Dialect) -> None:
        self.ended = False
        self.lines = chain(_prepared(lines, dialect), self._end())

    def _end(self) -> Iterator[str]:
        self.ended = True
        yield from ()


def _prepared(lines: Iterable[str], dialect: Dialect) -> Iterable[str]:
    if dialect.newline == "\r":
        lines = (line[0] + line[1:].replace("\n", _LINE_FEED) if "\n" in line else line for line in lines)
    if dialect.quoting == "backslash":
        mark = re.escape(dialect.delimiter)
        null = re.compile(rf"(^|{mark})\\N(?={mark}|[\r\n]|$)")
        nul = re.compile(r"(?<!\\)((?:\\\\)*)\\0")
        lines = (nul.sub("\\1\0", null.sub(r"\1", line)) if "\\" in line else line for line in lines)
    return lines


def records(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str] | OddRecord]:
    """Yield the records of a delimited file.

    Each record is a list of fields, [] for a blank line, or an OddRecord. The first record that is not blank sets the
    number of fields. A damaged record ends where a lenient reader ends it: text after a closing quotation mark belongs
    to the field.

    Args:
        lines: The lines, each with its end.
        dialect: The dialect of the file.
    """
    ahead, behind = tee(lines)
    feed = _Feed(ahead, dialect)
    reader = dialect.reader(feed.lines)
    restore = dialect.newline == "\r"
    width = read = first = 0
    cells: list[str]
    while True:
        problem = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"unreadable ({error})"
            cells = []
        size, read = reader.line_num - read, reader.line_num
        if restore:
            cells = [cell.replace(_LINE_FEED, "\n") for cell in cells]
        if not problem and "\0" in "".join(cells):
            problem = "it holds a NUL byte"
        width = width or len(cells)
        if not problem and (len(cells) == width or not cells):
            for _ in range(size):
                next(behind)
            first += size
            yield cells
            continue
        kept = list(islice(behind, size))
        # At the end of the file the error is an unclosed quotation mark; elsewhere the record continues.
        if problem and not cells and not feed.ended:
            begun = [line.replace("\0", "\ufffd") for line in _prepared(kept, dialect)]
            lenient = dialect.reader(chain(begun, feed.lines), strict=False)
            with suppress(csv.Error, StopIteration):
                cells = next(lenient)
            kept += islice(behind, lenient.line_num - size)
        yield OddRecord(cells, kept, first, problem, closed=not (problem and feed.ended))
        first += len(kept)


Patterns = Sequence["re.Pattern[str] | None"]


@dataclass(frozen=True, slots=True)
class Shape:
    """Patterns of the values of each column.

    Attributes:
        most, nearly_all: One pattern a column, which most or nearly all of its values match; None: unknown.
    """

    most: Patterns = ()
    nearly_all: Patterns = ()


_MAX_HELD = 100
"""Consecutive rows of another shape after which the shape counts as wrong, and they are yielded."""


def _fits(cells: Sequence[str], patterns: Patterns) -> bool:
    return all(pattern is None or pattern.fullmatch(cell) for cell, pattern in zip(cells, patterns, strict=False))


def _could_begin_row(line: str, dialect: Dialect, width: int, shape: Shape) -> bool:
    """Return True for a line that may be a row of its own, or the first line of one."""
    feed = _Feed([line], dialect)
    try:
        cells: list[str] = next(dialect.reader(feed.lines, strict=False), [])
    except csv.Error:
        return False
    if not (min(2, width) <= len(cells) <= width if feed.ended else len(cells) == width):
        return False
    return _fits(cells[:-1] if feed.ended else cells, shape.nearly_all)


def _may_hide_rows(record: OddRecord, dialect: Dialect, width: int, shape: Shape) -> bool:
    pieces = [piece for piece in _LINE_ENDS.split("".join(record.lines)) if piece]
    return any(_could_begin_row(piece, dialect, width, shape) for piece in pieces[1:])


def delimited_rows(
    lines: Iterable[str], dialect: Dialect, name: str, shape: Shape, first_line: int, refuse: Refuse
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows below the header, numbered from 1.

    Damaged rows and blank lines count too.

    Args:
        lines: The lines, each with its end; the first that is not blank is the header.
        dialect: The dialect of the file.
        name: The source, for the errors.
        shape: The patterns of the values.
        first_line: The number of the first line in the file.
        refuse: Called with the error of a damaged row.

    Raises:
        InputError: The header is unusable; or the start of the next row is unknown, because a damaged row is not closed
            or may contain whole rows.
    """
    found = records(lines, dialect)
    header = _header(next((record for record in found if record), []), name, first_line)
    width = len(header)
    # A line of a damaged record may have as many fields as a row. So a row of another shape is held until the next row
    # of the usual shape, and refused if a damaged record comes first.
    held: list[tuple[int, dict[str, str]]] = []
    damaged = False
    known = [(index, pattern.fullmatch) for index, pattern in enumerate(shape.most) if pattern is not None]
    for number, record in enumerate(found, 1):
        if type(record) is list:
            if not record:
                continue
            for index, fits in known:
                if not fits(record[index]):
                    break
            else:
                if held:
                    yield from held
                    held.clear()
                damaged = False
                yield number, dict(zip(header, record, strict=True))
                continue
            if damaged:
                refuse(_beside_damage(name, number))
            else:
                held.append((number, dict(zip(header, record, strict=True))))
                if len(held) == _MAX_HELD:
                    yield from held
                    held.clear()
            continue
        odd = cast("OddRecord", record)
        loss = _possible_loss(odd, dialect, width, shape, first_line + odd.first)
        if odd.problem or any('"' in line for line in odd.lines):
            damaged = True
            for before, _ in held:
                refuse(_beside_damage(name, before))
        else:
            yield from held
        held.clear()
        at = f"{name}, row {number}"
        if loss:
            raise InputError(
                loss, location=at, hint="close or double the quotation mark in this row, or set --delimiter"
            )
        problem = odd.problem or f"{len(odd.cells)} fields where the header has {width}"
        refuse(InputError(problem, location=at, hint="check the delimiter and the quotation marks"))
    yield from held


def _beside_damage(name: str, number: int) -> InputError:
    return InputError(
        "this row may be part of the damaged row beside it",
        location=f"{name}, row {number}",
        hint="check the quotation marks of the rows around it",
    )


def _possible_loss(record: OddRecord, dialect: Dialect, width: int, shape: Shape, line: int) -> str:
    """Return the reason why rows after a damaged record may be lost, or ""."""
    if not record.closed:
        return f"a quotation mark opened in this row is not closed (line {line:,} of the file)"
    if _may_hide_rows(record, dialect, width, shape):
        last = line + len(record.lines) - 1
        span = f"line {line:,}" if last == line else f"lines {line:,} to {last:,}"
        return f"this row is damaged and may hold other rows ({span} of the file)"
    return ""


def _header(record: list[str] | OddRecord, name: str, first_line: int) -> list[str]:
    at = f"{name}, line {first_line}"
    if isinstance(record, OddRecord):
        raise InputError(
            f"the header is damaged: {record.problem}", location=at, hint="check the delimiter and the quotation marks"
        )
    header = [cell.strip() for cell in record]
    seen: set[str] = set()
    for column in header:
        if any("\ud800" <= character <= "\udfff" for character in column):
            raise InputError("the header is not valid UTF-8", location=at, hint="set --encoding")
        if column and column in seen:
            raise InputError(
                f"the header names the column {column!r:.60} twice", location=at, hint="rename one of them"
            )
        seen.add(column)
    return header


# ---- delimiter and quoting by content -----------------------------------------------------------------------------

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SNIFFED_RECORDS = 1000
_GOOD_SHARE = 0.9
"""Share of records with the header's width above which the delimiter of the file's name is used unchecked."""
_MIN_SHARE = 0.5
"""Share below which a file without a format in its name is not delimited."""
_MOST = 0.6
"""Share of values that set the pattern of a column; the others may be lines of damaged rows."""
_MIN_ROWS = 10
"""Rows below which a column of single words has no pattern: its texts may be one word by chance."""
_PATTERNS = (re.compile(r"[-+.:/\dTZ]*\d[-+.:/\dTZ]*"), re.compile(r"\s*\S+\s*"))
"""Patterns of a column: a number or a date, and one word."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
"""A first line for Excel that names the delimiter."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """Dialect of a file and the shape of its columns."""

    dialect: Dialect
    shape: Shape


@dataclass(frozen=True, slots=True)
class _SampleParse:
    dialect: Dialect
    width: int
    good: list[list[str]]
    bad: int

    @property
    def share(self) -> float:
        return len(self.good) / (len(self.good) + self.bad) if self.good or self.bad else 1.0


def sniff(
    lines: Sequence[str], whole: bool, usual: str | None, delimiter: str | None = None, newline: str = "\n"
) -> Sniffed | None:
    """Find the dialect of a file.

    The delimiter is that of the file's name if 90 % of the rows have as many fields as the header; else the one with
    the largest share of such rows. Of ambiguous quotation marks, those between commas and semicolons enclose a field,
    and those between tabs and bars are part of the text.

    Args:
        lines: The first lines, each with its end.
        whole: True if they are all lines of the file.
        usual: The delimiter that the file's name stands for; None: unknown.
        delimiter: The delimiter to use; None: by content.
        newline: The end of a line.

    Returns:
        The dialect; None if `usual` is None and no delimiter divides the header.
    """
    if not whole:
        lines = lines[:-1]
    wanted = [delimiter] if delimiter else [*filter(None, (usual,)), *(one for one in DELIMITERS if one != usual)]
    header = next((line for line in lines if line.strip()), "")
    tries = [
        _best_quoting(lines, whole, Dialect(one, newline=newline))
        for one in wanted
        if one == delimiter or one in header
    ]
    dividing = [one for one in tries if one.width > 1]
    if not dividing:
        if usual is None and delimiter is None:
            return None
        best = tries[0] if tries else _best_quoting(lines, whole, Dialect(delimiter or usual or ",", newline=newline))
        if not delimiter and best.dialect.delimiter != usual:
            best = _best_quoting(lines, whole, Dialect(usual or ",", newline=newline))
    elif usual and dividing[0].dialect.delimiter == usual and dividing[0].share >= _GOOD_SHARE:
        best = dividing[0]
    else:
        best = max(dividing, key=lambda one: one.share)
        if usual is None and delimiter is None and best.share < _MIN_SHARE:
            return None
    return Sniffed(best.dialect, _shape(best.good))


def _shape(rows: Sequence[Sequence[str]]) -> Shape:
    patterns = _PATTERNS if len(rows) >= _MIN_ROWS else _PATTERNS[:1]

    def pattern_of(column: Sequence[str], share: float) -> re.Pattern[str] | None:
        fitting = (one for one in patterns if sum(1 for cell in column if one.fullmatch(cell)) >= share * len(column))
        return next(fitting, None) if len(column) > 1 else None

    columns = list(zip(*rows, strict=True))
    return Shape(
        [pattern_of(column, _MOST) for column in columns], [pattern_of(column, _GOOD_SHARE) for column in columns]
    )


def _parse_sample(lines: Sequence[str], whole: bool, dialect: Dialect) -> _SampleParse:
    found = list(islice(records(lines, dialect), _SNIFFED_RECORDS + 1))
    if not whole and len(found) <= _SNIFFED_RECORDS:
        found = found[:-1]  # it may continue after the last line
    kept = [record for record in found if record]
    if not kept or isinstance(kept[0], OddRecord):
        return _SampleParse(dialect, 0, [], len(kept))
    good = [record for record in kept[1:] if not isinstance(record, OddRecord)]
    return _SampleParse(dialect, len(kept[0]), good, len(kept) - 1 - len(good))


def _best_quoting(lines: Sequence[str], whole: bool, dialect: Dialect) -> _SampleParse:
    doubled = _parse_sample(lines, whole, dialect)
    text = "".join(lines)
    if '"' not in text:
        return doubled
    if '\\"' in text:
        backslash = _parse_sample(lines, whole, replace(dialect, quoting="backslash"))
        if backslash.share > doubled.share:
            return backslash
    if dialect.delimiter not in ("\t", "|") or text.lstrip().startswith('"'):
        return doubled
    plain = _parse_sample(lines, whole, replace(dialect, quoting="none"))
    needed = _needed_quotes(text, dialect.delimiter)
    if plain.share > doubled.share:
        return doubled if needed > doubled.bad else plain
    return doubled if needed or doubled.share > plain.share else plain


def _needed_quotes(text: str, delimiter: str) -> int:
    """Return the number of quoted fields that need their quotation marks.

    They contain a doubled quotation mark, a delimiter or a line break. A comma counts too if every field with a comma
    is quoted, as Excel does between tabs.
    """
    mark = re.escape(delimiter)
    quoted = re.findall(rf'(?:^|{mark})"((?:[^"]|"")*)"(?={mark}|[\r\n]|$)', text, re.MULTILINE)
    commas = not re.search(rf'(?:^|{mark})[^"{mark}\r\n][^{mark}\r\n]*,', text, re.MULTILINE)
    reasons = ('""', delimiter, "\n", "\r", *([","] if commas else []))
    return sum(any(reason in field for reason in reasons) for field in quoted)
