"""Store of an index in a PostgreSQL database with the extension pgvector.

Tables are in a schema of their own. Readers have one snapshot (REPEATABLE READ); writers take turns by an advisory
lock, because a reader that follows the counters must see them in the order of commits. A process has one connection
that writes, and one for each thread that reads; each is opened by the thread that needs it, so that a failure is one
clear error, and idle ones are closed before a fork.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote
from weakref import finalize

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from dupq.errors import DupqError, InputError, OutputError
from dupq.index.forking import Forkable, no_fork
from dupq.index.stores.base import COUNTERS, FORMAT, VECTOR_DTYPES, WAIT_SECONDS, MissingIndexError, StoredModel
from dupq.index.stores.sql import SCHEMA, SqlSession, Transaction, View

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

DEFAULT_SCHEMA = "dupq"
TRIES = 6
"""Times that a transaction is run while its connection is lost, or the server has no connection left."""
BACK_OFF_SECONDS = 0.25
"""Pause before the second try; each further one is twice as long, about 8 s in all."""
CONNECT_SECONDS = 10
"""Time that a server has to answer, unless the URL or PGCONNECT_TIMEOUT has another."""
MAX_IDLE = 8
"""Connections that stay open for the next reader."""
FETCH = 4096
"""Rows that a streamed query holds in memory."""
MIN_PGVECTOR, SOUND_PGVECTOR = (0, 8), (0, 8, 4)
"""Oldest version with all that is used, and the oldest without known faults of its graphs (pgvector #959, #988)."""

MIN_EXPANSION, MAX_EXPANSION = 100, 1000
"""Candidates that a search in the graph keeps (hnsw.ef_search); 1,000 is the limit of pgvector."""

READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A writer must see what was committed while it waited for its turn.
WRITE = b"BEGIN ISOLATION LEVEL READ COMMITTED"

ROLLED_BACK = "PostgreSQL has rolled back a transaction in which a statement had failed"

_log = logging.getLogger(__name__)


# ---- the session --------------------------------------------------------------------------------------------------


class PostgresSession:
    """Connection to the database, in a transaction.

    Args:
        connection: The connection.
        location: The URL without its password, for errors.
    """

    def __init__(self, connection: Connection, location: str) -> None:
        self.connection, self.location = connection, location
        self._streams = 0

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        cursor = self.connection.execute(_translated(statement), tuple(values), binary=True)
        return cursor.fetchall() if cursor.description is not None else []

    def stream(self, statement: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Run a query; yield its rows, some thousand of which are in memory."""
        self._streams += 1
        with self.connection.cursor(f"dupq_{self._streams}") as cursor:
            cursor.itersize = FETCH
            cursor.execute(_translated(statement), tuple(values), binary=True)
            yield from cursor

    def run_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each row of values, without waiting for each answer."""
        with self.connection.cursor() as cursor:
            cursor.executemany(_translated(statement), rows)

    def make_vectors(self, model: StoredModel) -> None:
        """Create the table of a model's vectors."""
        kind = "halfvec" if model.form == "float16" else "vector"
        self.run(
            f"CREATE TABLE vectors_{int(model.number)}"
            f"(slot BIGINT PRIMARY KEY, vector {kind}({int(model.dimensions)}) NOT NULL)"
        )

    def drop_vectors(self, model: StoredModel) -> None:
        """Empty the table of a model's vectors, and drop the indexes for its search.

        An older snapshot still reads the deleted rows, which it would not of a dropped table.
        """
        self.run(f"DELETE FROM vectors_{int(model.number)}")
        for (name,) in self.run(
            "SELECT quote_ident(relname) FROM pg_index JOIN pg_class ON pg_class.oid=indexrelid"
            f" WHERE indrelid='vectors_{int(model.number)}'::regclass AND NOT indisprimary"
        ):
            self.run(f"DROP INDEX {name}")

    def packed(self, vectors: NDArray[Any], model: StoredModel) -> list[object]:
        """Return the vector of each row."""
        kind = HalfVector if model.form == "float16" else Vector
        return [kind(row) for row in np.ascontiguousarray(vectors, VECTOR_DTYPES[model.form])]

    def unpacked(self, values: Sequence[object], model: StoredModel) -> NDArray[Any]:
        """Return the rows (n, d) of vectors."""
        rows = np.empty((len(values), model.dimensions), VECTOR_DTYPES[model.form])
        for at, value in enumerate(cast("Sequence[HalfVector | Vector]", values)):
            row = value.to_numpy()
            if len(row) != model.dimensions:
                raise InputError(
                    f"a vector has {len(row)} dimensions, not {model.dimensions}",
                    location=self.location,
                    hint="`dupq index verify` lists what is damaged; remove and add those questions again",
                )
            rows[at] = row
        return rows

    def damage(self) -> list[str]:
        """Return nothing: the server checks its pages itself."""
        return []


@lru_cache(maxsize=4096)
def _translated(statement: str) -> bytes:
    """Return a statement with the parameter marks of psycopg."""
    return statement.replace("%", "%%").replace("?", "%s").encode()


# ---- the store ----------------------------------------------------------------------------------------------------


class PostgresStore(Forkable):
    """Schema of a PostgreSQL database that holds an index.

    All threads of a process and its forked children may use it.

    Args:
        url: `postgresql://user@host/database`, with any parameter of libpq, and `dupq_schema` for another schema than
            "dupq". A password is better kept in ~/.pgpass.
        create: Create the tables, and the extension pgvector, if they do not exist.
        wait: Seconds to wait for another writer, 0 or more.

    Raises:
        InputError: The URL is wrong, the login is refused, the database or pgvector is missing, there is no index and
            `create` is False, or it is damaged or of a newer format.
        OutputError: The server cannot be reached or written.
    """

    def __init__(self, url: str, *, create: bool = True, wait: float = WAIT_SECONDS) -> None:
        self.wait = wait
        self._conninfo, self.schema, self._location = _read_url(url)
        self._closed = self._torn = False
        self._idle: list[Connection] = []
        finalize(self, _close_all, self._idle)
        self._reset()
        with no_fork():
            with self._as_dupq_errors():
                database = self._prepare(create)
            self._vectors_file = cache_folder() / f"{database}.vectors"
        self.watch_forks()

    def _reset(self) -> None:
        """Start without connections, with new locks."""
        self._idle.clear()
        self._open: set[Connection] = set()
        self._free = threading.Lock()  # of the two above
        self._writes = threading.Lock()

    def before_fork(self) -> None:
        """Close every connection that is not in use.

        A child that held one would keep a killed parent's lock alive.
        """
        with self._free:
            self._close_idle()

    def after_fork(self) -> None:
        """Start without connections, in the child."""
        # One that is open now is in use by the thread that forked; to close it here would end the parent's session.
        _INHERITED.extend(self._open)
        self._torn = bool(self._open)
        self._reset()

    def _close_idle(self) -> None:
        self._open.difference_update(self._idle)
        _close_all(self._idle)

    @property
    def location(self) -> str:
        """The URL without its password."""
        return self._location

    @property
    def vectors_file(self) -> Path:
        """The file in the user's cache folder that caches the vectors.

        It is named by the random name of the index.
        """
        return self._vectors_file

    def close(self) -> None:
        """Close the connections after the current transaction."""
        with self._writes, no_fork(), self._free:
            self._closed = True
            self._close_idle()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the index is closed", location=self.location, hint="open it again: QuestionIndex(url)")
        if self._torn:
            raise InputError(
                "this process was forked in the middle of a transaction",
                location=self.location,
                hint="fork outside of transactions, or open the index after the fork",
            )

    # ---- connections ----------------------------------------------------------------------------------------------

    def _connect(self) -> Connection:
        """Open a connection, without the settings of an index.

        Raises:
            InputError: The login is refused, or the database does not exist, so that another try is useless.
        """
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            refusal = self._refusal(error)
            if refusal is not None:
                raise refusal from error
            raise
        with self._free:
            self._open.add(connection)
        return connection

    def _configure(self, connection: Connection) -> str | None:
        """Set what every transaction needs; return the version of pgvector.

        The version is None if pgvector is not installed.
        """
        milliseconds = min(max(1, round(1000 * min(self.wait, 1e7))), 2**31 - 1)  # 0 would mean: for ever
        found = connection.execute(
            "SELECT set_config('search_path', concat_ws(', ', quote_ident(%s), quote_ident(nspname)), false),"
            " set_config('lock_timeout', %s, false),"
            # A prepared statement with a plan for any value can be a thousand times slower than one for this value.
            " set_config('plan_cache_mode', 'force_custom_plan', false),"
            # What is acknowledged must be on the disk.
            " set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'"
            " ELSE current_setting('synchronous_commit') END, false),"
            " extversion FROM (VALUES(1)) one LEFT JOIN pg_extension ON extname='vector'"
            " LEFT JOIN pg_namespace ON pg_namespace.oid=extnamespace",
            (self.schema, str(milliseconds)),
        ).fetchone()
        version = cast("str | None", None if found is None else found[-1])
        if version is not None:
            if _numbers(version) < MIN_PGVECTOR:
                raise InputError(
                    f"the extension pgvector must be 0.8 or newer, got {version}",
                    location=self.location,
                    hint="update it: ALTER EXTENSION vector UPDATE",
                )
            register_vector(connection)
            connection.adapters.register_dumper(int, Int8Dumper)  # one type for all, so one prepared statement
        return version

    def _discard(self, connection: Connection) -> None:
        with self._free:
            self._open.discard(connection)
        connection.close()

    def _take(self, begin: bytes) -> Connection:
        """Return a connection that has begun a transaction."""
        while True:
            with self._free:
                self._check_open()
                connection = self._idle.pop() if self._idle else None
            fresh = connection is None
            if connection is None:
                connection = self._connect()
            try:
                if fresh and self._configure(connection) is None:
                    raise self._no_pgvector()
                connection.execute(begin, prepare=False)
                return connection
            except psycopg.OperationalError:
                self._discard(connection)
                if fresh:  # idle connections that the server has closed meanwhile cost no try
                    raise
            except BaseException:
                self._discard(connection)
                raise

    def _give_back(self, connection: Connection) -> None:
        idle = not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE
        with self._free:
            kept = idle and not self._closed and len(self._idle) < MAX_IDLE
            if kept:
                self._idle.append(connection)
        if not kept:
            self._discard(connection)

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[PostgresSession]:
        """Commit the transaction of a connection, or roll it back after an error.

        The connection is given back.
        """
        try:
            yield PostgresSession(connection, self.location)
            # A transaction in which a statement has failed is rolled back by COMMIT, without an error.
            if connection.execute("COMMIT", prepare=False).statusmessage != "COMMIT":
                raise OutputError(ROLLED_BACK, location=self.location, hint="try again")
        except BaseException:
            with suppress(psycopg.Error):  # the connection may be lost; the first error counts
                connection.execute("ROLLBACK")
            raise
        finally:
            self._give_back(connection)

    # ---- transactions ---------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[View]:
        """Give one snapshot of the database, on a connection of its own.

        The snapshot begins with its first query. A connection that is lost before the block begins is replaced; one
        that is lost within it is an OutputError.

        Raises:
            InputError: The index is damaged or closed.
            OutputError: The server cannot be reached.
        """
        with no_fork(), self._as_dupq_errors():
            connection = self._retried(lambda _: self._take(READ))
            with self._transaction(connection) as session:
                yield View(session)

    def write(self, action: Callable[[Transaction], T]) -> T:
        """Run one transaction; see `dupq.index.stores.base.Store`.

        It is run up to `TRIES` times. If the connection is lost in a commit, and the commit turns out to be done, the
        action is not run again; another writer that has committed since then hides this, and the action is repeated.
        """
        token = uuid.uuid4().hex
        results: list[T] = []

        def attempt(number: int) -> T:
            with self._transaction(self._take(WRITE)) as session:
                self._lock(session, self.schema)
                transaction = Transaction(session)
                if number and results and transaction.meta("last_write") == token:
                    return results[-1]
                results.append(action(transaction))
                transaction.set_meta("last_write", token)
            return results[-1]

        lock = self._writes
        if not lock.acquire(timeout=min(self.wait, threading.TIMEOUT_MAX)):
            raise self._timeout("thread")
        try:
            with no_fork(), self._as_dupq_errors():
                return self._retried(attempt)
        finally:
            lock.release()

    def _lock(self, session: PostgresSession, name: str) -> None:
        """Wait for the turn to write, and keep it until the transaction ends.

        Locks of other databases do not matter.
        """
        key = int.from_bytes(hashlib.blake2b(f"dupq {name}".encode(), digest_size=8).digest(), "big", signed=True)
        session.run("SELECT pg_advisory_xact_lock(?)", (key,))

    def _retried(self, attempt: Callable[[int], T]) -> T:
        """Run an attempt, given its number from 0, again while its connection is lost."""
        number = 0
        while True:
            try:
                return attempt(number)
            except psycopg.OperationalError as error:
                number += 1
                if number >= TRIES or not _is_transient(error):
                    raise
                _log.info("a transaction is run again (%s)", type(error).__name__)
            time.sleep(BACK_OFF_SECONDS * 2 ** (number - 1))

    # ---- creation -------------------------------------------------------------------------------------------------

    def _prepare(self, create: bool) -> str:
        """Create or migrate the index if need be; return its random name."""
        connection = self._connect()
        try:
            version = self._configure(connection)
            session = PostgresSession(connection, self.location)
            found, database = self._found(session)
            if found is None and not create:
                raise MissingIndexError(
                    "there is no such index",
                    location=self.location,
                    hint="check the URL, or make one: `dupq index add`",
                )
            if found != FORMAT or version is None:
                version, database = self._make(connection, session)
        except BaseException:
            self._discard(connection)
            raise
        self._give_back(connection)
        if _numbers(version) < SOUND_PGVECTOR:
            wanted = ".".join(map(str, SOUND_PGVECTOR))
            _log.warning(
                "%s: pgvector %s has faults that can damage its indexes; update it to %s or newer",
                self.location,
                version,
                wanted,
            )
        return database

    def _found(self, session: PostgresSession) -> tuple[int | None, str]:
        """Return the format and the name of the index in the schema.

        They are None and "" if the schema is empty or missing.

        Raises:
            InputError: The schema holds something else, or a newer index.
        """
        tables = session.run(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid=relnamespace"
            " WHERE nspname=? AND relkind IN ('r', 'p', 'v', 'm', 'f')",
            (self.schema,),
        )
        if not tables:
            return None, ""
        # With its schema, because one that the user may not use is left out of the search path.
        facts, meta = dict[str, str](), f'"{self.schema}".meta'
        if ("meta",) in tables:
            with suppress(psycopg.errors.UndefinedColumn):
                facts = dict(session.run(f"SELECT key, value FROM {meta} WHERE key IN ('format', 'database')"))
        if len(facts) != 2 or not facts["format"].isdigit():
            raise InputError(
                f"the schema {self.schema!r} holds tables of another program",
                location=self.location,
                hint="name another schema: ?dupq_schema=NAME",
            )
        if int(facts["format"]) > FORMAT:
            raise InputError(
                f"this index has format {facts['format']}; this dupq reads {FORMAT}",
                location=self.location,
                hint="update dupq",
            )
        return int(facts["format"]), facts["database"]

    def _make(self, connection: Connection, session: PostgresSession) -> tuple[str, str]:
        """Create the index, or migrate an older one, in one transaction.

        It returns the version of pgvector and the name of the index.

        Raises:
            InputError: pgvector is missing, or the encoding of the database is not UTF-8.
        """
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise InputError(
                f"the encoding of the database must be UTF8, got {encoding}",
                location=self.location,
                hint="make another: createdb -E UTF8 -T template0 NAME",
            )
        connection.execute(WRITE)
        self._lock(session, "")  # the extension is one for all schemas
        self._lock(session, self.schema)
        if self._configure(connection) is None:
            self._make_extension(connection, session)
        version = self._configure(connection)
        if version is None:
            raise self._no_pgvector()
        # Another process may have done it meanwhile.
        found, database = self._found(session)
        if found is None:
            if not session.run("SELECT 1 FROM pg_namespace WHERE nspname=?", (self.schema,)):
                session.run(f'CREATE SCHEMA "{self.schema}"')
            for statement in SCHEMA:
                session.run(statement)
            found, database = FORMAT, uuid.uuid4().hex
            rows = [("database", database), ("epoch", "0"), *((f"last_{name}", "0") for name in COUNTERS)]
            session.run_many("INSERT INTO meta(key, value) VALUES(?, ?)", rows)
        for number in range(found + 1, FORMAT + 1):
            MIGRATIONS[number](session)
        Transaction(session).set_meta("format", FORMAT)
        connection.execute("COMMIT")
        return version, database

    def _make_extension(self, connection: Connection, session: PostgresSession) -> None:
        if not session.run("SELECT 1 FROM pg_available_extensions WHERE name='vector'"):
            raise self._no_pgvector()
        # In the schema where the server would put it, and not in that of the index, which may be dropped.
        connection.execute("RESET search_path")
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.errors.InsufficientPrivilege as error:
            raise InputError(
                "this user may not create the extension pgvector",
                location=self.location,
                hint="let an administrator run in this database: CREATE EXTENSION vector",
            ) from error

    def _no_pgvector(self) -> InputError:
        return InputError(
            "the extension pgvector is missing",
            location=self.location,
            hint="install pgvector 0.8.4 or newer on the server, then run in this database: CREATE EXTENSION vector",
        )

    # ---- approximate search ---------------------------------------------------------------------------------------

    def can_search(self, view: View, model: StoredModel) -> bool:
        """Return True if the HNSW index of a model is built and valid."""
        return self._search_index(view.session, model) is True

    def nearest(self, view: View, model: StoredModel, query: NDArray[np.float32], count: int) -> list[int]:
        """Return the slots of about the `count` nearest rows of a query.

        They are rows of the state of the view. Above `MAX_EXPANSION` rows the scan is exact. There is no iterative
        scan: it would be slow where a threshold cannot be reached, and the caller takes enough candidates.

        Args:
            view: A view of this store.
            model: The model of the vectors.
            query: float32 (d,).
            count: At least 1.
        """
        settings = "set_config('hnsw.ef_search', ?, true), set_config('enable_indexscan', ?, true)"
        expansion = min(MAX_EXPANSION, max(MIN_EXPANSION, 2 * count))
        view.session.run(f"SELECT {settings}", (str(expansion), "on" if count <= MAX_EXPANSION else "off"))
        (packed,) = view.session.packed(query[None], model)
        rows = view.session.run(
            f"SELECT slot FROM vectors_{int(model.number)} ORDER BY vector <#> ? LIMIT ?", (packed, int(count))
        )
        view.session.run("SELECT set_config('enable_indexscan', 'on', true)")
        return [row[0] for row in rows]

    def build_search(self, model: StoredModel) -> None:
        """Build the HNSW index of a model beside readers and writers, unless it is there.

        The graph is built fastest where it fits into `maintenance_work_mem`, a setting of the server.

        Raises:
            OutputError: It could not be built.
        """
        kind = "halfvec_ip_ops" if model.form == "float16" else "vector_ip_ops"
        name = f"vectors_{int(model.number)}_hnsw"
        with self._outside() as session:
            before = session.run("SELECT current_setting('lock_timeout')")[0][0]
            session.run("SET lock_timeout=0")  # the build waits for every older transaction
            key = f"dupq {self.schema} {name}"
            try:
                session.run("SELECT pg_advisory_lock(hashtextextended(?, 0))", (key,))
                try:
                    found = self._search_index(session, model)
                    if found is False:  # an earlier build was interrupted
                        session.run(f'DROP INDEX CONCURRENTLY "{self.schema}"."{name}"')
                    if not found:
                        session.run(
                            f'CREATE INDEX CONCURRENTLY "{name}" ON vectors_{int(model.number)}'
                            f" USING hnsw (vector {kind}) WITH (m=16, ef_construction=128)"
                        )
                finally:
                    session.run("SELECT pg_advisory_unlock(hashtextextended(?, 0))", (key,))
            finally:
                session.run("SELECT set_config('lock_timeout', ?, false)", (before,))

    def _search_index(self, session: SqlSession, model: StoredModel) -> bool | None:
        """Return the state of the HNSW index of a model.

        True: it is valid; False: its build was interrupted; None: there is none.
        """
        rows = session.run(
            "SELECT indisvalid FROM pg_index WHERE indexrelid=to_regclass(?)",
            (f'"{self.schema}".vectors_{int(model.number)}_hnsw',),
        )
        return bool(rows[0][0]) if rows else None

    # ---- maintenance ----------------------------------------------------------------------------------------------

    def shrink(self) -> None:
        """Free the space of removed rows for new ones; readers and writers go on."""
        with self._outside() as session:
            for name in self._tables(session):
                session.run(f'VACUUM (ANALYZE) "{name}"')

    def sizes(self) -> dict[str, int]:
        """Return the size of the tables with their indexes, in bytes."""
        with self._outside() as session:
            rows = session.run(
                "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class"
                " JOIN pg_namespace ON pg_namespace.oid=relnamespace WHERE nspname=? AND relkind='r'",
                (self.schema,),
            )
        return {"database_bytes": int(rows[0][0])}

    @contextmanager
    def _outside(self) -> Iterator[PostgresSession]:
        """Give a session in which each statement is a transaction."""
        with no_fork(), self._as_dupq_errors():
            connection = self._retried(lambda _: self._take(b"SELECT 1"))
            try:
                yield PostgresSession(connection, self.location)
            finally:
                self._give_back(connection)

    def _tables(self, session: PostgresSession) -> list[str]:
        rows = session.run(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid=relnamespace"
            " WHERE nspname=? AND relkind='r' ORDER BY relname",
            (self.schema,),
        )
        return [row[0] for row in rows]

    # ---- errors ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _as_dupq_errors(self) -> Iterator[None]:
        """Raise errors of PostgreSQL as `InputError` or `OutputError`."""
        try:
            yield
        except psycopg.Error as error:
            raise self._dupq_error(error) from error

    def _timeout(self, who: str) -> OutputError:
        message = f"another {who} has been writing for more than {self.wait:g} s"
        return OutputError(message, location=self.location, hint="try again, or give a longer wait (wait=, --wait)")

    def _dupq_error(self, error: psycopg.Error) -> DupqError:
        """Return the error of dupq for one of PostgreSQL."""
        code, text = error.sqlstate or "", _first_line(error)
        if code == "55P03":
            return self._timeout("process")
        if code in FAULTS:
            kind, message, hint = FAULTS[code]
            return kind(message, location=self.location, hint=hint)
        if not code and isinstance(error, psycopg.OperationalError):
            text = "no answer in time" if isinstance(error, psycopg.errors.ConnectionTimeout) else text
            hint = "check the host and port of the URL, and that the server runs; then try again"
            return OutputError(f"the server cannot be reached ({text})", location=self.location, hint=hint)
        if isinstance(error, psycopg.OperationalError):
            hint = "check the server and its log, then try again"
            return OutputError(f"the index cannot be used ({text})", location=self.location, hint=hint)
        if isinstance(error, (psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError)):
            # A value that PostgreSQL refuses is no sign of damage.
            if "NUL" in text:
                message, hint = "a text holds a NUL character, which PostgreSQL cannot keep", "remove it from the text"
            else:
                message, hint = f"PostgreSQL refused a value ({text})", "check the ids and texts"
            return InputError(message, location=self.location, hint=hint)
        hint = "restore it from a backup, or build it again from the posts"
        return InputError(f"not an index, or a damaged one ({text})", location=self.location, hint=hint)

    def _refusal(self, error: psycopg.OperationalError) -> InputError | None:
        """Return the error of a connection refused for its login or database.

        None for any other error.
        """
        text = _first_line(error)
        # libpq has no code for this; the words are those of a server that speaks English.
        if re.search(r'database ".*" does not exist', text):
            return InputError("there is no such database", location=self.location, hint="make it: createdb NAME")
        if re.search(r"too many|remaining connection|starting up|shutting down|recovery", text):
            return None
        password = error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password)
        if password or re.search(r'role ".*" does not exist|authentication failed|pg_hba\.conf', text):
            return InputError(
                f"the server refused the login ({text})",
                location=self.location,
                hint="check the user of the URL, the password (~/.pgpass or PGPASSWORD), and the server's pg_hba.conf",
            )
        return None


FAULTS: dict[str, tuple[type[InputError] | type[OutputError], str, str]] = {
    "25006": (OutputError, "the server is read-only", "use the primary server (target_session_attrs=read-write)"),
    "25P02": (OutputError, ROLLED_BACK, "try again"),
    "42501": (
        OutputError,
        "this user lacks a permission",
        "use the user who made the index; to make one: GRANT CREATE ON DATABASE ... TO ...",
    ),
    "53100": (OutputError, "the disk of the server is full", "free some space on it, then try again"),
    "53300": (OutputError, "the server has no connection left", "close some, or raise its max_connections"),
    "57014": (OutputError, "the server has cancelled a statement", "raise its statement_timeout for this user"),
}
"""SQLSTATE -> kind, message and hint of an error."""

MIGRATIONS: dict[int, Callable[[PostgresSession], None]] = {}
"""Format -> the migration that leads to it from the one before; format 2 is the first one in PostgreSQL."""

_INHERITED: list[Connection] = []


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _is_transient(error: psycopg.OperationalError) -> bool:
    """Return True if a transaction may succeed when it is run again.

    It may after a lost connection.
    """
    code = error.sqlstate
    return code is None or code[:2] in ("08", "40") or code in ("57P01", "57P02", "57P03", "57P05", "53300")


def _first_line(error: Exception) -> str:
    """Return the first line of an error, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


# ---- the URL ------------------------------------------------------------------------------------------------------

_SCHEMA_PARAMETER = "dupq_schema="


def _read_url(url: str) -> tuple[str, str, str]:
    """Return the connection string for libpq, the schema and the shown URL.

    The shown URL is without the password.

    Raises:
        InputError: It is no URL of PostgreSQL; the error holds no part of it, because that may be the password.
    """
    plain, schema = _without_schema(url)
    hint = 'write postgresql://user@host/database; percent-encode "/", "@", ":", "?" and "%" in a password'
    try:
        found: dict[str, Any] = conninfo_to_dict(plain)
    except (psycopg.Error, UnicodeError):
        raise InputError("the URL of the database cannot be read", hint=hint) from None
    host, port = str(found.get("host", "")), str(found.get("port", ""))
    if "@" in host or not re.fullmatch(r"[\d,]*", port):
        raise InputError("the URL of the database has a wrong host or port", hint=hint)
    # A server that does not answer must not block for ever.
    defaults: dict[str, Any] = {"application_name": "dupq", "keepalives_idle": 30, "keepalives_interval": 10}
    defaults["tcp_user_timeout"] = 60_000
    if "PGCONNECT_TIMEOUT" not in os.environ:
        defaults["connect_timeout"] = CONNECT_SECONDS
    conninfo = make_conninfo(**(defaults | found | {"client_encoding": "utf8"}))
    user = f"{quote(str(found['user']))}@" if "user" in found else ""
    socket = host.startswith(("/", "@"))
    shown = "" if socket else (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    extras = [f"host={host}"] if socket else []
    extras += [f"{_SCHEMA_PARAMETER}{schema}"] if schema != DEFAULT_SCHEMA else []
    location = f"postgresql://{user}{shown}/{quote(str(found.get('dbname', '')))}{'?' if extras else ''}"
    return conninfo, schema, location + "&".join(extras)


def _without_schema(url: str) -> tuple[str, str]:
    """Return the URL without the parameter `dupq_schema`, and its value.

    Raises:
        InputError: The value is no name of a schema.
    """
    start, mark, query = url.rpartition("?")
    if not mark or _SCHEMA_PARAMETER not in query:
        return url, DEFAULT_SCHEMA
    parts = query.split("&")
    rest = [part for part in parts if not part.startswith(_SCHEMA_PARAMETER)]
    names = [unquote(part[len(_SCHEMA_PARAMETER) :]) for part in parts if part.startswith(_SCHEMA_PARAMETER)]
    for name in names:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name.startswith("pg_") or name == "information_schema":
            raise InputError(
                f"dupq_schema must be a name of lower-case letters, digits and _, got {name!r:.80}",
                hint="name it as in ?dupq_schema=forum2",
            )
    if len(names) > 1:
        raise InputError("the URL has more than one dupq_schema", hint="give one")
    return (f"{start}?{'&'.join(rest)}" if rest else start), (names or [DEFAULT_SCHEMA])[0]


def cache_folder() -> Path:
    """Return the folder of the user's caches.

    It is DUPQ_CACHE, or "dupq" in the cache folder of the platform.
    """
    if own := os.environ.get("DUPQ_CACHE"):
        return Path(own).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser().absolute() / "dupq"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dupq"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "dupq"
    return Path.home() / ".cache" / "dupq"
