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

Row = dict[str, Any]
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

    def refuse(error: InputError) -> None:
        if skipped is None:
            raise error
        skipped.add(error)

    name = str(source) if isinstance(source, (str, Path)) else "the dataset"
    name = "standard input" if name == "-" else name
    rows = (
        _rows(source, file_format, refuse)
        if isinstance(source, (str, Path))
        else ((number, dict(row)) for number, row in enumerate(source, 1))
    )
    found: tuple[str, str, str | None] | None = None
    for number, row in rows:
        if found is None:
            found = find_columns(list(row), columns or Columns(), labelled, name)
            for column in where or ():
                if column not in row:
                    raise InputError(f"there is no column {column!r}", where=name, mend=f"columns: {', '.join(row)}")
        if where and any(str(row.get(column)) != value for column, value in where.items()):
            continue
        at = f"{name}, row {number}"
        try:
            left = check_text(row.get(found[0]), f"{at}, column {found[0]!r}")
            right = check_text(row.get(found[1]), f"{at}, column {found[1]!r}")
            label = _label(row.get(found[2]), at, found[2]) if found[2] else None
        except InputError as error:
            refuse(error)
            continue
        yield QuestionPair(left, right, label, number)


def find_columns(names: list[str], wanted: Columns, labelled: bool, source: str) -> tuple[str, str, str | None]:
    """The columns of question 1, question 2 and the label (None where it is not asked for)."""
    for name in (wanted.question1, wanted.question2, wanted.label):
        if name is not None and name not in names:
            raise InputError(f"there is no column {name!r}", where=source, mend=f"columns: {', '.join(names)}")
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


def _rows(source: str | Path, file_format: str | None, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    name = "standard input" if str(source) == "-" else str(source)
    kind, packing = format_of(source, file_format)
    if kind == "parquet":
        yield from _parquet_rows(Path(source), name)
        return
    with _opened(source, packing, name) as stream:
        lines = _decoded(stream, name, refuse)
        if kind == "jsonl":
            yield from _json_rows(lines, name, refuse)
        else:
            yield from _delimited_rows(lines, name, kind == "tsv", refuse)


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
def _opened(source: str | Path, packing: str, name: str) -> Iterator[IO[bytes]]:
    try:
        if str(source) == "-":
            yield sys.stdin.buffer
            return
        opener: Any = {"gz": gzip.open, "xz": lzma.open, "": open}[packing]
        with opener(source, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=name, mend="check the path") from error
    except IsADirectoryError as error:
        raise InputError("this is a folder, not a file", where=name, mend="name a file in it") from error
    except PermissionError as error:
        raise InputError("the file may not be read", where=name, mend="change its permissions") from error
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"the archive is damaged or cut short ({error})", where=name, mend="fetch it again") from error


def _decoded(stream: IO[bytes], name: str, refuse: Refuse) -> Iterator[str]:
    """Lines as text; a line that is not UTF-8 is refused by its number, counted from 1 with the header."""
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            refuse(
                InputError(
                    f"not valid UTF-8 (byte {error.start} of the line)",
                    where=f"{name}, line {number}",
                    mend="convert the file to UTF-8, or use --skip-bad",
                )
            )


def _json_rows(lines: Iterator[str], name: str, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = "this line is not a JSON object"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row, problem = None, f"not valid JSON ({error})"
        if isinstance(row, dict):
            yield number, row
        else:
            refuse(InputError(problem, where=f"{name}, row {number}", mend="write one JSON object a line"))


def _delimited_rows(lines: Iterator[str], name: str, tabs: bool, refuse: Refuse) -> Iterator[tuple[int, Row]]:
    first = next(lines, None)
    if first is None:
        raise InputError("the file is empty", where=name, mend="give a header line and at least one row")
    delimiter = "\t" if tabs else ","
    # Most TSV files of question pairs know no quoting, and a lone quotation mark is part of a question; one whose
    # header is quoted (Quora's own release is) quotes its fields too.
    quoted = not tabs or first.startswith('"')

    def back() -> Iterator[str]:
        yield first
        yield from lines

    reader = csv.reader(back(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    header = [cell.strip() for cell in next(reader)]
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


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("there is no such file", where=name, mend="check the path")
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(f"not readable as Parquet ({error})", where=name, mend="fetch or write it again") from error
