"""Store of an index in one SQLite file.

Write-ahead logging lets readers go on during a write, and with `synchronous=FULL` each commit is on the disk before it
is acknowledged. A process has one connection that writes, and one for each thread that reads.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_path
from dupq.errors import InputError, OutputError
from dupq.index.forking import Forkable, no_fork
from dupq.index.stores.base import COUNTERS, FORMAT, VECTOR_DTYPES, WAIT_SECONDS, MissingIndexError, StoredModel
from dupq.index.stores.sql import SCHEMA, Transaction, View

T = TypeVar("T")

APPLICATION = 0x64757071  # "dupq"
MAX_WAIT_SECONDS = 1e6
"""SQLite counts the milliseconds in 32 bits."""
MAX_IDLE_READERS = 8
"""Connections that stay open for the next reader."""
TABLES = tuple(
    statement.replace("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY").replace(
        "PRIMARY KEY(slot, other))", "PRIMARY KEY(slot, other)) WITHOUT ROWID"
    )
    for statement in SCHEMA
)
"""The tables of format 2; their primary keys are those of SQLite, which need no index beside the table."""


class SqliteSession:
    """Connection to the file, in a transaction.

    Args:
        sql: The connection.
        location: The path, for errors.
    """

    def __init__(self, sql: sqlite3.Connection, location: str) -> None:
        self.sql, self.location = sql, location
        self._streams: list[sqlite3.Cursor] = []

    def close(self) -> None:
        """Close the queries that were not read to their end.

        They would keep the transaction open after its COMMIT.
        """
        for cursor in self._streams:
            cursor.close()

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        return self.sql.execute(statement, tuple(values)).fetchall()

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query; yield its rows with bounded memory."""
        cursor = self.sql.execute(statement, tuple(values))
        self._streams.append(cursor)
        try:
            yield from cursor
        finally:
            self._streams.remove(cursor)
            cursor.close()

    def run_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of values."""
        self.sql.executemany(statement, rows)

    def make_vectors(self, model: StoredModel) -> None:
        """Create the table of a model's vectors."""
        self.sql.execute(f"CREATE TABLE vectors_{model.number}(slot INTEGER PRIMARY KEY, vector BLOB NOT NULL)")

    def drop_vectors(self, model: StoredModel) -> None:
        """Drop the table of a model's vectors."""
        self.sql.execute(f"DROP TABLE vectors_{model.number}")

    def packed(self, vectors: NDArray[Any], model: StoredModel) -> list[object]:
        """Return the bytes of each row."""
        rows = np.ascontiguousarray(vectors, VECTOR_DTYPES[model.form])
        return [row.tobytes() for row in rows]

    def unpacked(self, values: Sequence[object], model: StoredModel) -> NDArray[Any]:
        """Return the rows (n, d) of bytes."""
        dtype = VECTOR_DTYPES[model.form]
        size = dtype.itemsize * model.dimensions
        data = bytearray()
        for value in values:
            packed = value if isinstance(value, bytes) else b""
            if (found := len(packed)) != size:
                raise InputError(
                    f"a vector has {found} bytes, not {size}",
                    location=self.location,
                    hint="`dupq index verify` lists what is damaged; remove and add those questions again",
                )
            data += packed
        return np.frombuffer(data, dtype).reshape(len(values), model.dimensions)

    def damage(self) -> list[str]:
        """Return the faults that SQLite finds in the file."""
        try:
            rows = self.sql.execute("PRAGMA integrity_check(20)").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [row[0] for row in rows if row[0] != "ok"]


class SqliteStore(Forkable):
    """SQLite file that holds an index.

    All threads of a process and its forked children may use it.

    Args:
        path: The database file. SQLite keeps `-wal` and `-shm` files beside it.
        create: Create the file if it does not exist.
        wait: Seconds to wait for another writer, 0 or more.

    Raises:
        InputError: The file does not exist and `create` is False, or it is not an index, damaged, or of a newer format.
        OutputError: It cannot be written.
    """

    _writer: sqlite3.Connection | None

    def __init__(self, path: str | Path, *, create: bool = True, wait: float = WAIT_SECONDS) -> None:
        self.path = as_path(path, "path")
        self.wait = wait
        if not create and not os.path.isfile(self.path):
            raise MissingIndexError(
                "there is no such index", location=str(path), hint="check the path, or make one: `dupq index add`"
            )
        # An absolute path: later connections open this file, whatever the working directory is then.
        self._uri = self.path.absolute().as_uri()
        self._closed = self._torn = self._writing = False
        self._reset()
        with no_fork(), self._translated():
            sql = self._connect("rwc" if create else "rw")
            try:
                self._prepare(sql, create)
            except BaseException:
                self._open.discard(sql)
                sql.close()
                raise
            self._writer = sql
        self.watch_forks()

    def _reset(self) -> None:
        """Start without connections, with new locks."""
        self._writer = None
        self._readers: list[sqlite3.Connection] = []
        self._open: set[sqlite3.Connection] = set()
        self._free = threading.Lock()  # of the three above
        self._writes = threading.Lock()

    def before_fork(self) -> None:
        """Close every connection that is not in use.

        None may stay open across a fork.
        """
        with self._free:
            self._close_idle()

    def after_fork(self) -> None:
        """Start without connections, in the child."""
        # A connection that is open now was in use by the thread that forked, or by one that did not end in time. To
        # close it here would disturb the parent's transaction, so a reference keeps it open.
        _INHERITED.extend(self._open)
        self._torn = bool(self._open)
        self._reset()

    def _close_idle(self) -> None:
        idle = [*self._readers, *([self._writer] if self._writer is not None and not self._writing else [])]
        self._readers = []
        self._writer = self._writer if self._writing else None
        self._open.difference_update(idle)
        for sql in idle:
            sql.close()

    def _connect(self, mode: str = "rw") -> sqlite3.Connection:
        sql = sqlite3.connect(
            f"{self._uri}?mode={mode}",
            timeout=min(self.wait, MAX_WAIT_SECONDS),
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        self._open.add(sql)
        return sql

    @property
    def location(self) -> str:
        """The path of the file."""
        return str(self.path)

    @property
    def vectors_file(self) -> Path:
        """The file beside the database that caches its vectors."""
        return self.path.absolute().with_name(f"{self.path.name}.vectors")

    def _prepare(self, sql: sqlite3.Connection, create: bool) -> None:
        # First, because this reads the header, and fails for a file that is no database before anything is written. In
        # one transaction, or tables that another process creates meanwhile would look like those of another program.
        sql.execute("BEGIN")
        application = sql.execute("PRAGMA application_id").fetchone()[0]
        tables = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = sql.execute("PRAGMA user_version").fetchone()[0]
        sql.execute("COMMIT")
        if application != APPLICATION and (tables or not create):
            raise InputError(
                "this SQLite file is not an index of dupq", location=str(self.path), hint="name another file"
            )
        self._check_format(found)
        self._use_wal(sql)
        sql.execute("PRAGMA synchronous=FULL")
        if found < FORMAT:
            self._migrate(sql)

    def _check_format(self, found: int) -> None:
        if found > FORMAT:
            raise InputError(
                f"this index has format {found}; this dupq reads {FORMAT}", location=str(self.path), hint="update dupq"
            )

    def _use_wal(self, sql: sqlite3.Connection) -> None:
        """Switch to write-ahead logging.

        It waits for a process that does the same, which SQLite itself does not.
        """
        until = time.monotonic() + self.wait
        while True:
            try:
                sql.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.005)

    def _migrate(self, sql: sqlite3.Connection) -> None:
        """Bring the file to the present format, in one transaction.

        A new file gets its tables, and an older one the migrations that it lacks.
        """
        with _transaction(sql, "BEGIN IMMEDIATE"):
            # Another process may have done it meanwhile.
            found = sql.execute("PRAGMA user_version").fetchone()[0]
            self._check_format(found)
            if not found:
                _make(sql)
            for number in range(found + 1, FORMAT + 1) if found else ():
                MIGRATIONS[number](sql)
            sql.execute(f"PRAGMA user_version={FORMAT}")
            sql.execute(f"PRAGMA application_id={APPLICATION}")

    def close(self) -> None:
        """Close the connections after the current transaction.

        The file stays whole without this call too.
        """
        with self._writes, no_fork(), self._free:
            self._closed = True
            self._close_idle()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the index is closed", location=str(self.path), hint="open it again: QuestionIndex(path)")
        if self._torn:
            raise InputError(
                "this process was forked in the middle of a transaction",
                location=str(self.path),
                hint="fork outside of transactions, or open the index after the fork",
            )

    # ---- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise errors of SQLite as `InputError` or `OutputError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                raise self._timeout("process") from error
            hint = "check the path, its permissions and the free space"
            raise OutputError(f"the index cannot be used ({text})", location=str(self.path), hint=hint) from error
        except sqlite3.Error as error:
            if type(error) is not sqlite3.DatabaseError:
                # A value that SQLite refuses is no sign of damage.
                message = f"SQLite refused a value ({error})"
                raise InputError(message, location=str(self.path), hint="check the ids and texts") from error
            hint = "restore it from a backup, or build it again from the posts"
            raise InputError(f"not an index, or a damaged one ({error})", location=str(self.path), hint=hint) from error

    def _timeout(self, who: str) -> OutputError:
        message = f"another {who} has been writing for more than {self.wait:g} s"
        return OutputError(message, location=str(self.path), hint="try again, or give a longer wait (wait=, --wait)")

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Give one transaction, once other writers have ended theirs; readers go on.

        Raises:
            OutputError: Another writer did not stop within `wait` seconds, or the disk is full.
        """
        with (
            self._only_writer() as sql,
            _transaction(sql, "BEGIN IMMEDIATE"),
            closing(SqliteSession(sql, str(self.path))) as session,
        ):
            yield Transaction(session)

    def write(self, action: Callable[[Transaction], T]) -> T:
        """Run one transaction; see `dupq.index.stores.base.Store`."""
        with self.writing() as transaction:
            return action(transaction)

    @contextmanager
    def _only_writer(self) -> Iterator[sqlite3.Connection]:
        lock = self._writes
        if not lock.acquire(timeout=min(self.wait, MAX_WAIT_SECONDS)):
            raise self._timeout("thread")
        try:
            with no_fork(), self._translated():
                self._check_open()
                if self._writer is None:
                    self._writer = self._connect()
                    self._writer.execute("PRAGMA synchronous=FULL")
                self._writing = True
                try:
                    yield self._writer
                finally:
                    self._writing = False
        finally:
            lock.release()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """Give one view of the file, from its first query on, on a connection of its own.

        Raises:
            InputError: The file is damaged, or the index is closed.
            OutputError: The file cannot be used.
        """
        with no_fork(), self._translated():
            with self._free:
                self._check_open()
                sql = self._readers.pop() if self._readers else self._connect()
            try:
                with _transaction(sql, "BEGIN"), closing(SqliteSession(sql, str(self.path))) as session:
                    yield View(session)
            finally:
                with self._free:
                    kept = not self._closed and len(self._readers) < MAX_IDLE_READERS
                    if kept:
                        self._readers.append(sql)
                    else:
                        self._open.discard(sql)
                if not kept:
                    sql.close()

    # ---- maintenance ----------------------------------------------------------------------------------------------

    def shrink(self) -> None:
        """Free the disk space of removed rows, and empty the log."""
        with self._only_writer() as sql:
            sql.execute("VACUUM")
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def sizes(self) -> dict[str, int]:
        """Return the size of the file and of its log, in bytes."""

        def size(path: Path) -> int:
            return path.stat().st_size if path.exists() else 0

        return {"database_bytes": size(self.path), "log_bytes": size(Path(f"{self.path}-wal"))}


_INHERITED: list[sqlite3.Connection] = []


@contextmanager
def _transaction(sql: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Begin a transaction, and commit it, or roll it back after an error."""
    sql.execute(begin)
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite may have rolled back itself; the first error counts
            sql.execute("ROLLBACK")
        raise
    sql.execute("COMMIT")


# ---- migrations ---------------------------------------------------------------------------------------------------


def _make(sql: sqlite3.Connection) -> None:
    """Create the tables of format 2 in an empty file."""
    for statement in TABLES:
        sql.execute(statement)
    rows = [("database", uuid.uuid4().hex), ("epoch", "0"), *((f"last_{name}", "0") for name in COUNTERS)]
    sql.executemany("INSERT INTO meta VALUES(?, ?)", rows)


def _from_format_1(sql: sqlite3.Connection) -> None:
    """Migrate the file from format 1 to format 2.

    Format 2 has typed ids, and tables of models, vectors, verdicts, merges and calibrations.
    """
    old = ("meta", "questions", "removed", "decisions")
    for name in ("questions_print", "decisions_other"):
        sql.execute(f"DROP INDEX {name}")
    for name in old:
        sql.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    last = dict(sql.execute("SELECT replace(name, 'old_', ''), seq FROM sqlite_sequence").fetchall())
    for statement in TABLES:
        sql.execute(statement)
    facts = dict(sql.execute("SELECT key, value FROM old_meta").fetchall())
    counters = dict.fromkeys(COUNTERS, 0) | {"slot": last.get("questions", 0), "removal": last.get("removed", 0)}
    counters["model"] = int("model" in facts)
    meta = {"database": facts["database"], "epoch": int(facts["epoch"]) + 1}
    meta |= {f"last_{name}": value for name, value in counters.items()}
    sql.execute(
        "INSERT INTO questions(slot, id, text, print, created)"
        " SELECT slot, CASE typeof(id) WHEN 'integer' THEN 'i' || id ELSE 't' || id END, text, print, created"
        " FROM old_questions"
    )
    if "model" in facts:
        meta["model"] = 1
        sql.execute(
            "INSERT INTO models(number, fingerprint, dimensions, form) VALUES(1, ?, ?, 'float32')",
            (facts["model"], facts["dimensions"]),
        )
        sql.execute("CREATE TABLE vectors_1(slot INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        sql.execute("INSERT INTO vectors_1(slot, vector) SELECT slot, vector FROM old_questions")
    # Older decisions were stored without a threshold, and were drawn for no audit.
    sql.execute(
        "INSERT INTO decisions(slot, other, scorer, score, probability, base_rate, decision, threshold, stratum, value,"
        " drawn) SELECT slot, other, scorer, score, probability, base_rate, decision, 1, '', 1, 1 FROM old_decisions"
    )
    sql.executemany("INSERT INTO meta VALUES(?, ?)", [(key, str(value)) for key, value in meta.items()])
    for name in old:
        sql.execute(f"DROP TABLE old_{name}")


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {2: _from_format_1}
"""Format -> the migration that leads to it from the one before; a new file is made in the present format at once."""
