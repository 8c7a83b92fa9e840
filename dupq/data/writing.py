"""Write files in constant memory; a file appears whole or not at all."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from dupq.data.parquet import write_parquet
from dupq.errors import InputError, OutputError

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")

_LOG = logging.getLogger("dupq")
_FORMULA = re.compile(r"(?![+-][\d.,]+$)[=+\-@\t\r]")
"""Start of a cell that a spreadsheet runs as a formula; a number with its sign is none."""


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` when the block succeeds.

    The temporary file lies beside the final one. Each call uses its own name, which ends in ".part", so that threads
    and processes may write one file; the last one wins, and readers always find a whole file. The bytes are synced to
    disk before the rename. A device or a pipe is written directly; of a link, the target is replaced.

    Args:
        path: The final path; missing folders are created.

    Raises:
        OutputError: The file could not be written (full disk, no permission); the temporary file is removed.
    """
    path = Path(path)
    direct = os.path.exists(path) and not os.path.isfile(path)
    target = path if direct else Path(os.path.realpath(path))
    beside = target if direct else target.with_name(_part_name(target.name))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if not direct:
            _sync_to_disk(beside)
            os.replace(beside, target)
            if os.name == "posix":  # elsewhere a folder cannot be opened
                _sync_to_disk(target.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"it could not be written ({error.strerror or error})",
            location=str(path),
            hint="free space or write elsewhere",
        ) from error
    finally:
        if not direct:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def _part_name(name: str) -> str:
    return f".{name[:40]}.{secrets.token_hex(8)}.part"


def _sync_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all.

    Raises:
        OutputError: The file could not be written.
    """
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write indented JSON, whole or not at all.

    Raises:
        OutputError: The file could not be written.
        ValueError: `data` holds NaN or infinity.
    """
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def output_format(path: str | Path, file_format: str | None = None) -> str:
    """Return the format to write.

    Args:
        path: The file; `-` is standard output.
        file_format: One of `OUTPUT_FORMATS`; None: by the suffix of the name, and "jsonl" for standard output.

    Raises:
        InputError: The format is unknown, or Parquet for standard output.
    """
    suffix = Path(path).suffix.lower().lstrip(".")
    kind = file_format or ("jsonl" if str(path) == "-" else {"ndjson": "jsonl"}.get(suffix, suffix))
    if kind not in OUTPUT_FORMATS:
        raise InputError(
            f"the format {kind!r} cannot be written", location=str(path), hint=f"use one of {', '.join(OUTPUT_FORMATS)}"
        )
    if kind == "parquet" and str(path) == "-":
        raise InputError("Parquet cannot go to standard output", hint="name a file with -o")
    return kind


def write_rows(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    columns: list[str],
    file_format: str | None = None,
    *,
    escape_formulas: bool = True,
) -> int:
    """Write rows to JSONL, CSV, TSV or Parquet in constant memory.

    Args:
        path: The file; `-` is standard output.
        rows: The rows, each with a value for every column.
        columns: The order of the columns.
        file_format: "jsonl", "csv", "tsv" or "parquet"; None: by the suffix of the name.
        escape_formulas: Prefix texts in CSV and TSV that a spreadsheet would run as a formula (first character = + - @,
            tab or carriage return) with ', and log their number (default: True). Set it to False if a program reads the
            file, because no reader removes the '. JSONL and Parquet are never changed.

    Returns:
        The number of rows written.

    Raises:
        InputError: The format is unknown.
        OutputError: The file could not be written; no part of it is left.
    """
    kind = output_format(path, file_format)
    if str(path) == "-":
        try:
            count = _write_text_rows(sys.stdout, rows, columns, kind, escape_formulas, "standard output")
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # the reader closed the pipe, which is no error of the writer
        except OSError as error:
            raise OutputError(
                f"it could not be written ({error.strerror or error})", location="standard output", hint="free space"
            ) from error
        return count
    with written_beside(path) as beside:
        if kind == "parquet":
            return write_parquet(beside, rows, columns, str(path))
        with beside.open("w", encoding="utf-8", newline="") as stream:
            return _write_text_rows(stream, rows, columns, kind, escape_formulas, str(path))


def _write_text_rows(
    stream: IO[str], rows: Iterable[Mapping[str, Any]], columns: list[str], kind: str, escape: bool, name: str
) -> int:
    count = escaped = 0
    if kind == "jsonl":
        for row in rows:
            stream.write(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n")
            count += 1
        return count
    # Quoting every text avoids special characters; in TSV a quoted header shows `read_pairs` the quoting.
    delimiter = "\t" if kind == "tsv" else ","
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    for row in rows:
        cells = [row[name] for name in columns]
        if escape:
            for index, cell in enumerate(cells):
                if isinstance(cell, str) and _FORMULA.match(cell):
                    cells[index] = f"'{cell}"
                    escaped += 1
        writer.writerow(cells)
        count += 1
    if escaped:
        _LOG.warning(
            "%s: %d texts that a spreadsheet would run as formulas were prefixed with '; JSONL needs no prefix",
            name,
            escaped,
        )
    return count
