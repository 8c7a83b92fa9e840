"""Results to files: streaming, and either whole or not there at all."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from dupq.errors import InputError, OutputError

OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Gives the path of a temporary file in the same folder, which takes the name `path` when the block succeeds.

    Raises:
        OutputError: The file could not be written (full disk, no permission); nothing is left of it.
    """
    path = Path(path)
    # A device or a pipe is written to as it is: a file must not take its place. Of a link, the target is replaced.
    direct = os.path.exists(path) and not os.path.isfile(path)
    target = path if direct else Path(os.path.realpath(path))
    beside = target if direct else target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        if not direct:
            os.replace(beside, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"it could not be written ({error.strerror or error})",
            where=str(path),
            mend="free space, or write elsewhere",
        ) from error
    finally:
        if not direct:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Writes JSON that a person can read, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def output_format(path: str | Path, file_format: str | None = None) -> str:
    """The format to write, by the name's ending or as named; standard output (`-`) is JSONL unless named."""
    ending = Path(path).suffix.lower().lstrip(".")
    kind = file_format or ("jsonl" if str(path) == "-" else {"ndjson": "jsonl"}.get(ending, ending))
    if kind not in OUTPUT_FORMATS:
        raise InputError(
            f"the format {kind!r} cannot be written", where=str(path), mend=f"use one of {', '.join(OUTPUT_FORMATS)}"
        )
    if kind == "parquet" and str(path) == "-":
        raise InputError("Parquet cannot go to standard output", mend="name a file with -o")
    return kind


def write_rows(
    path: str | Path, rows: Iterable[Mapping[str, Any]], columns: list[str], file_format: str | None = None
) -> int:
    """Writes rows as they come, in constant memory, to JSONL, CSV, TSV or Parquet; `-` is standard output.

    Returns:
        The number of rows written.

    Raises:
        OutputError: The file could not be written; nothing is left of it.
    """
    kind = output_format(path, file_format)
    if str(path) == "-":
        try:
            count = _write_text_rows(sys.stdout, rows, columns, kind)
            sys.stdout.flush()
        except BrokenPipeError:
            raise  # the reader has had enough: no error of the writer's
        except OSError as error:
            raise OutputError(
                f"it could not be written ({error.strerror or error})", where="standard output", mend="free space"
            ) from error
        return count
    with written_beside(path) as beside:
        if kind == "parquet":
            return _write_parquet(beside, rows, columns)
        with beside.open("w", encoding="utf-8", newline="") as stream:
            return _write_text_rows(stream, rows, columns, kind)


def _write_text_rows(stream: IO[str], rows: Iterable[Mapping[str, Any]], columns: list[str], kind: str) -> int:
    count = 0
    if kind == "jsonl":
        for row in rows:
            stream.write(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n")
            count += 1
        return count
    # Every text is quoted, so that no character in it needs care; a quoted header tells `read_pairs` of a TSV file so.
    delimiter = "\t" if kind == "tsv" else ","
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row[name] for name in columns])
        count += 1
    return count


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> int:
    import pyarrow
    import pyarrow.parquet

    source = iter(rows)
    count = 0
    writer = None
    try:
        while chunk := [{name: row[name] for name in columns} for row in islice(source, 4096)]:
            table = pyarrow.Table.from_pylist(chunk, schema=writer.schema if writer else None)
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += len(chunk)
        if writer is None:
            empty = pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in columns})
            pyarrow.parquet.write_table(empty, path)
    except pyarrow.ArrowException as error:
        raise OutputError(f"the rows do not fit Parquet ({error})", where=str(path), mend="write JSONL") from error
    finally:
        if writer is not None:
            writer.close()
    return count
