"""Rows of Parquet files, read and written in constant memory with DuckDB."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.errors import InputError, OutputError, require_extra

if TYPE_CHECKING:
    import duckdb

MAGIC = b"PAR1"
_BATCH = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _connection() -> duckdb.DuckDBPyConnection:
    require_extra("parquet", "Parquet")
    import duckdb

    connection = duckdb.connect(
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,  # no downloads
            "autoload_known_extensions": False,
            "temp_directory": "",
        }
    )
    connection.execute("SET enable_progress_bar = false")  # it would be written to standard output
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def parquet_rows(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a Parquet file with their numbers, counted from 1.

    Args:
        path: The file.
        name: The file, for the errors.

    Raises:
        InputError: The file is missing or damaged.
    """
    require_extra("parquet", "Parquet")
    import duckdb

    if not path.is_file():
        raise InputError("it cannot be read (there is no such file)", location=name, hint="check the path")
    # DuckDB reads a name as a pattern.
    pattern = re.sub(r"([*?\[])", r"[\1]", str(path.absolute()))
    source = "read_parquet(?, hive_partitioning = false)"
    number = 0
    connection = _connection()
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {source}", [pattern]).fetchall()
        names = [column[0] for column in described]
        zoned = {index for index, column in enumerate(described) if column[1] == "TIMESTAMP WITH TIME ZONE"}
        # DuckDB needs one more package to return a time with its zone.
        columns = [
            f"epoch_us({_quoted(column)})" if index in zoned else _quoted(column) for index, column in enumerate(names)
        ]
        cursor = connection.execute(f"SELECT {', '.join(columns)} FROM {source}", [pattern])
        while batch := cursor.fetchmany(_BATCH):
            for cells in batch:
                number += 1
                row = dict(zip(names, cells, strict=True))
                for index in zoned:
                    if cells[index] is not None:
                        row[names[index]] = _EPOCH + timedelta(microseconds=cells[index])
                yield number, row
    except (duckdb.Error, OverflowError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0].replace(pattern, path.name)
        raise InputError(f"unreadable as Parquet ({reason})", location=name, hint="fetch or write it again") from error
    finally:
        connection.close()


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str], name: str) -> int:
    """Write rows to a new Parquet file, with columns of bool, int, float or str.

    The rows are staged in a file beside it, because the type of a column depends on all its values.

    Args:
        path: The new file.
        rows: The rows, each with a value for every column.
        columns: The order of the columns.
        name: The file, for the errors.

    Returns:
        The number of rows written.

    Raises:
        OutputError: The values of a column have no common type, or the file could not be written.
    """
    import duckdb

    staged = path.with_name(f"{path.name}.rows.part")
    types: list[type | None] = [None] * len(columns)
    count = longest = 0
    connection = _connection()
    try:
        with staged.open("x", encoding="utf-8") as stream:
            for row in rows:
                cells = [_cell(row[column], index, column, types, name) for index, column in enumerate(columns)]
                line = json.dumps(cells) + "\n"
                longest = max(longest, len(line))
                stream.write(line)
                count += 1
        names: dict[type | None, str] = {
            None: "VARCHAR",
            str: "VARCHAR",
            bool: "BOOLEAN",
            int: "BIGINT",
            float: "DOUBLE",
        }
        selected = ", ".join(
            f"CAST(json ->> {index} AS {names[types[index]]}) AS {_quoted(column)}"
            for index, column in enumerate(columns)
        )
        staged_name, target = (re.sub("'", "''", str(one.absolute())) for one in (staged, path))
        staged_name = re.sub(r"([*?\[])", r"[\1]", staged_name)
        connection.execute(
            f"COPY (SELECT {selected} FROM read_json_objects('{staged_name}', format = 'newline_delimited', "
            f"maximum_object_size = {max(longest + 1024, 1 << 24)}) AS t(json)) "
            f"TO '{target}' (FORMAT parquet, USE_TMP_FILE false)"
        )
    except duckdb.IOException as error:
        raise OutputError(
            f"it could not be written ({str(error).splitlines()[0]})", location=name, hint="free space"
        ) from error
    except (duckdb.Error, UnicodeEncodeError) as error:
        raise OutputError(f"the rows do not fit Parquet ({error})", location=name, hint="write JSONL") from error
    finally:
        connection.close()
        staged.unlink(missing_ok=True)
    return count


def _cell(value: Any, index: int, column: str, types: list[type | None], name: str) -> str | None:
    """Return a value as text, and widen the type of its column."""
    if value is None:
        return None
    kind = next((one for one in (bool, int, float, str) if isinstance(value, one)), None)
    known = types[index]
    if kind is int and not -(2**63) <= value < 2**63:
        kind = None
    if known is None or kind is known:
        types[index] = kind
    elif {kind, known} == {int, float}:
        types[index] = float
    else:
        kind = None
    if kind is None:
        raise OutputError(
            f"the rows do not fit Parquet (column {column!r} holds {type(value).__name__} {value!r:.60})",
            location=name,
            hint="write JSONL",
        )
    if kind is float:
        return repr(float(value)) if math.isfinite(value) else str(float(value))
    return str(int(value)) if kind is int else ("true" if value else "false") if kind is bool else str(value)
