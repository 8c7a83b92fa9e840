"""From a file, standard input or a Hugging Face dataset to question pairs, one at a time and each checked.

Formats, by the name's ending: `.tsv` `.csv` `.jsonl` (`.ndjson`) `.parquet`, the first three also with `.gz` or `.xz`.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal

from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.records import QuestionPair

PAIR_COLUMNS = (
    ("question1", "question2"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("q1", "q2"),
    ("left", "right"),
)
LABEL_COLUMNS = ("label", "is_duplicate", "duplicate")
FORMATS = ("tsv", "csv", "jsonl", "parquet")
_LOOKED_AT = 1000
"""Lines of a TSV file from which it is told whether it quotes its fields."""

Row = Mapping[str, Any]
Refuse = Callable[[InputError], None]


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that hold the pair. What is None is looked for among the usual names."""

    question1: str | None = None
    question2: str | None = None
    label: str | None = None


@dataclass(slots=True)
class Skipped:
    """What `skip_bad` left out: how many rows, and the first `keep` reasons.

    Attributes:
        count: Rows left out so far.
        reasons: One line for each of the first `keep` rows.
    """

    count: int = 0
    reasons: list[str] = field(default_factory=list)
    keep: int = 1000

    def add(self, error: InputError) -> None:
        self.count += 1
        if len(self.reasons) < self.keep:
            self.reasons.append(f"{error.where}: {error.problem}" if error.where else error.problem)


def read_pairs(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = False,
    skipped: Skipped | None = None,
    file_format: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[QuestionPair]:
    """Reads pairs one at a time, in constant memory.

    Args:
        source: A file, `-` for standard input, or any iterable of mappings, such as a Hugging Face `Dataset`.
        columns: Names of the columns; the usual ones are found by themselves.
        labelled: True: each row must have a label 0 or 1. False: a label column is not looked at unless it is named.
        skipped: Where to note bad rows and go on; None: the first bad row raises.
        file_format: "tsv", "csv", "jsonl" or "parquet"; needed for standard input and names without a known ending.
        where: Only rows whose columns equal these values, as text, are read.

    Raises:
        InputError: Naming file and row; for a missing file, unknown columns, a damaged archive, a bad text or label.
    """
    for pair, _ in read_rows(
        source, columns=columns, labelled=labelled, skipped=skipped, file_format=file_format, where=where
    ):
        yield pair


def read_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    columns: Columns | None = None,
    labelled: bool = False,
    skipped: Skipped | None = None,
    file_format: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Iterator[tuple[QuestionPair, Row]]:
    """As `read_pairs`, with the whole row beside each pair."""

    def refuse(error: InputError) -> None:
        if skipped is None:
            raise error
        skipped.add(error)

    if isinstance(source, (str, Path)):
        name = "standard input" if str(source) == "-" else str(source)
        rows = file_rows(source, file_format, name, refuse)
    else:
        name = "the dataset"
        rows = _given_rows(source, name)
    found: tuple[str, str, str | None] | None = None
    for number, row in rows:
        if found is None:
            found = find_columns(list(row), columns or Columns(), labelled, name)
            require_columns(where or (), list(row), name)
        if where and not matches(row, where):
            continue
        at = f"{name}, row {number}"
        try:
            left = check_text(row.get(found[0]), f"{at}, column {found[0]!r}")
            right = check_text(row.get(found[1]), f"{at}, column {found[1]!r}")
            label = _label(row.get(found[2]), at, found[2]) if found[2] else None
        except InputError as error:
            refuse(error)
            continue
        yield QuestionPair(left, right, label, number), row


def matches(row: Row, where: Mapping[str, str]) -> bool:
    """Whether these columns of a row equal these values, as text."""
    return all(str(row.get(column)) == value for column, value in where.items())


def require_columns(wanted: Iterable[str], names: list[str], source: str) -> None:
    """Raises InputError unless all the columns wanted are among these names."""
    for name in wanted:
        if name not in names:
            raise InputError(f"there is no column {name!r}", where=source, mend=f"columns: {', '.join(names)}")


def find_columns(names: list[str], wanted: Columns, labelled: bool, source: str) -> tuple[str, str, str | None]:
    """The columns of question 1, question 2 and the label (None where it is not asked for)."""
    require_columns(filter(None, (wanted.question1, wanted.question2, wanted.label)), names, source)
    pair: tuple[str, str]
    if wanted.question1 and wanted.question2:
        pair = (wanted.question1, wanted.question2)
    elif wanted.question1 or wanted.question2:
        raise InputError("only one of the two question columns is named", where=source, mend="name both")
    else:
        known = [usual for usual in PAIR_COLUMNS if set(usual) <= set(names)]
        if len(known) != 1:
            raise InputError(
                "several pairs of columns could be meant" if known else "no columns of a question pair were found",
                where=source,
                mend=f"name them with --columns NAME1 NAME2; columns: {', '.join(names)}",
            )
        pair = known[0]
    label = wanted.label
    if labelled and label is None:
        usual = [name for name in LABEL_COLUMNS if name in names]
        if len(usual) != 1:
            raise InputError(
                "several label columns could be meant" if usual else "no label column was found",
                where=source,
                mend=f"name it with --label-column NAME; columns: {', '.join(names)}",
            )
        label = usual[0]
    return pair[0], pair[1], label


def _label(value: object, at: str, column: str) -> int:
    text = str(value).strip().lower()
    if text in ("0", "1", "0.0", "1.0", "true", "false"):
        return int(text in ("1", "1.0", "true"))
    raise InputError(
        f"the label is {value!r}, not 0 or 1", where=f"{at}, column {column!r}", mend="use 1 = duplicate, 0 = distinct"
    )


def _given_rows(source: Iterable[Mapping[str, Any]], name: str) -> Iterator[tuple[int, Row]]:
    if isinstance(source, Mapping):
        raise InputError("it holds several sets of rows, not one", where=name, mend="give one split: dataset['train']")
    for number, row in enumerate(source, 1):
        if not isinstance(row, Mapping):
            raise InputError(
                f"this is a {type(row).__name__}, not a mapping from column to value",
                where=f"{name}, row {number}",
                mend="give dicts or a Hugging Face Dataset; of a pandas frame, frame.to_dict('records')",
            )
        yield number, row


def file_rows(source: str | Path, file_format: str | None, name: str, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    """The rows of a file or of standard input, each with its number, counted from 1; `name` is for the errors."""
    kind, packing = format_of(source, file_format)
    if kind == "parquet":
        yield from _parquet_rows(Path(source), name)
        return
    with opened(source, packing, name) as stream:
        if kind == "jsonl":
            yield from _json_rows(_decoded(stream), name, refuse)
        else:
            yield from _delimited_rows(_decoded(stream), name, kind == "tsv", refuse)


def format_of(source: str | Path, file_format: str | None) -> tuple[str, Literal["gz", "xz", ""]]:
    """The format and the packing of a file, by its name or as named."""
    suffixes = [suffix.lower().lstrip(".") for suffix in Path(source).suffixes]
    packing: Literal["gz", "xz", ""] = ""
    if suffixes and suffixes[-1] in ("gz", "xz"):
        packing = "gz" if suffixes.pop() == "gz" else "xz"
    kind = file_format or ({"ndjson": "jsonl"}.get(suffixes[-1], suffixes[-1]) if suffixes else "")
    if kind not in FORMATS:
        raise InputError(
            f"the format {kind!r} is not known" if kind else "the format is not known",
            where="standard input" if str(source) == "-" else str(source),
            mend="name it with --format tsv|csv|jsonl|parquet",
        )
    if kind == "parquet" and (packing or str(source) == "-"):
        raise InputError("Parquet can be read from a plain file only", where=str(source), mend="unpack it to a file")
    return kind, packing


@contextmanager
def opened(source: str | Path, packing: str, name: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked by "gz", "xz" or ""; an unreadable one is an InputError that names it."""
    try:
        if str(source) == "-":
            yield sys.stdin.buffer
            return
        opener: Any = {"gz": gzip.open, "xz": lzma.open, "": open}[packing]
        with opener(source, "rb") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"the archive is damaged or cut short ({error})", where=name, mend="fetch it again") from error
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror or error})", where=name, mend="check the path") from error


def _decoded(stream: IO[bytes]) -> Iterator[str]:
    """Lines as text. Bytes that are not UTF-8 become lone surrogates, which are refused in the field they stand in."""
    for number, line in enumerate(stream):
        yield line.decode("utf-8" if number else "utf-8-sig", "surrogateescape")


def _undecoded(line: str) -> bool:
    return not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line)


def _json_rows(lines: Iterator[str], name: str, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = "this line is not a JSON object"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row, problem = None, "not valid UTF-8" if _undecoded(line) else f"not valid JSON ({error})"
        if isinstance(row, dict):
            yield number, row
        else:
            refuse(InputError(problem, where=f"{name}, row {number}", mend="write one JSON object a line"))


def _delimited_rows(lines: Iterator[str], name: str, tabs: bool, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    first = next(lines, None)
    if first is None:
        raise InputError("the file is empty", where=name, mend="give a header line and at least one row")
    delimiter = "\t" if tabs else ","
    # Most TSV files of question pairs know no quoting, and a lone quotation mark is part of a question. Some, Quora's
    # own release among them, quote a field that holds quotation marks: their first lines show it.
    head = list(islice(lines, _LOOKED_AT)) if tabs else []
    quoted = not tabs or first.startswith('"') or _quotes_fields(head)

    reader = csv.reader(
        chain([first], head, lines),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,  # else a quotation mark that is never closed would swallow the rows after it
    )
    header = _header(reader, first, name)
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            refuse(InputError(f"not readable ({error})", where=f"{name}, row {number}", mend="mend or drop the row"))
            continue
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        elif cells:
            refuse(
                InputError(
                    f"{len(cells)} fields where the header has {len(header)}",
                    where=f"{name}, row {number}",
                    mend="check delimiter and quoting",
                )
            )


def _quotes_fields(lines: Iterable[str]) -> bool:
    """Whether tab-separated lines hold fields quoted as in CSV, quotation marks doubled, and none that cannot be so."""
    found = False
    for cell in chain.from_iterable(line.rstrip("\r\n").split("\t") for line in lines):
        if not cell.startswith('"'):
            continue
        closed = len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "")
        # One that goes on in the next line is not closed in this one.
        if not closed and '"' in cell[1:].replace('""', ""):
            return False
        found = found or (closed and '""' in cell[1:-1])
    return found


def _header(reader: Iterator[list[str]], first: str, name: str) -> list[str]:
    at = f"{name}, line 1"
    if _undecoded(first):
        raise InputError("not valid UTF-8", where=at, mend="convert the file to UTF-8")
    try:
        header = [cell.strip() for cell in next(reader)]
    except csv.Error as error:
        raise InputError(
            f"the header is not readable ({error})", where=at, mend="check delimiter and quoting"
        ) from error
    twice = [column for column in header if column and header.count(column) > 1]
    if twice:
        raise InputError(f"the header names the column {twice[0]!r} twice", where=at, mend="rename one of them")
    return header


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("it cannot be read (there is no such file)", where=name, mend="check the path")
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"not readable as Parquet ({error})", where=name, mend="fetch or write it again") from error
