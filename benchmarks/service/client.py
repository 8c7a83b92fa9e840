"""One keep-alive connection of HTTP/1.1, no more than a load needs, so that the load costs little processor time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

TIMEOUT = 300.0
"""Seconds after which an answer counts as lost."""


class Answer(NamedTuple):
    """Status, headers by lower-case name, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """Connection to a server, opened when it is needed.

    Args:
        host, port: Of the server.
        headers: Headers of every request, such as Authorization.
    """

    def __init__(self, host: str, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._host, self._port = host, port
        lines = {"Host": f"{host}:{port}", "Content-Type": "application/json", **(headers or {})}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request; return its answer.

        Raises:
            ConnectionError: The connection was refused or lost, or no answer came.
        """
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n"
        kept = self._streams is not None
        try:
            try:
                return await asyncio.wait_for(self._exchange(head.encode() + body), TIMEOUT)
            except (OSError, EOFError):
                if not kept:
                    raise
                # A server closes a connection that was idle for some seconds; every client opens another then.
                self.close()
                return await asyncio.wait_for(self._exchange(head.encode() + body), TIMEOUT)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            self.close()
            raise ConnectionError(f"no answer of {self._host}:{self._port}: {error!r}") from error

    async def _exchange(self, request: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head.split()[1]), headers, body)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
