"""Middleware: request ids, log, metrics, security headers, and body limits.

All are plain ASGI, so that they neither buffer an answer nor hide that a client has gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dupq.service.executor import ClientGoneError, client_gone
from dupq.service.metrics import Metrics
from dupq.service.problems import RETRY_SECONDS, answer
from dupq.service.request_ids import HEADER, accepted_id, request_id

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self';"
    " connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
UNKNOWN = "(unknown)"
"""Route of all paths that are none, so that their number is bounded in the metrics."""
BODIES = 8
"""Bodies of the largest size that are held at once."""
CLIENT_GONE = 499
"""Status, in log and metrics alone, of a request whose client did not wait for the answer."""
PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that are asked for every few seconds; the log leaves them out while they are well."""

_log = logging.getLogger("dupq.service.requests")


class SecurityHeaders:
    """Add the security headers to each answer.

    Browsers and proxies may keep static files only.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RequestRecords:
    """Give each request an id, a line in the log, and metrics.

    An unexpected error is answered with 500.

    Args:
        app: The application.
        metrics: What counts requests and their seconds.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id_ = accepted_id(Headers(scope=scope).get(HEADER))
        before = request_id.set(id_)
        start, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = id_
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientGoneError:
            status = CLIENT_GONE
        except asyncio.CancelledError:  # the server stops, and this request has had its seconds
            if status:
                raise
            headers = {"Connection": "close", "Retry-After": str(RETRY_SECONDS)}
            await answer(scope, 503, "the service is stopping", headers=headers)(scope, receive, send_with_id)
        except Exception:  # the request ends here, with an answer
            _log.exception("unexpected error")
            if status:  # the client sees a broken answer, which is right: a whole one would be a lie
                raise
            problem = answer(scope, 500, "an unexpected error; the log has it under the id of the request")
            await problem(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.count(route_of(scope), status, seconds)
            level = logging.DEBUG if scope["path"] in PROBES and status < 400 else logging.INFO
            _log.log(level, "%s %s %s %.0f ms", scope["method"], _printable(scope), status or "-", 1000 * seconds)
            request_id.reset(before)


class BodyLimit:
    """Limit the size of each body, and of all bodies in progress.

    A body that is too large is answered with 413, and one that comes beside too many others with 429.

    Args:
        app: The application.
        max_bytes: Bytes of the largest body; all bodies in progress have `BODIES` times as many.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        detail = f"the body must be of at most {self.max_bytes} bytes"
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            await answer(scope, 413, detail, hint="send it in parts")(scope, receive, send)
            return
        read = 0

        async def receive_some() -> Message:
            nonlocal read
            message = await receive()
            size = len(message.get("body", b""))
            read += size
            self.held += size
            if read > self.max_bytes:
                raise HTTPException(413, detail)
            if self.held > BODIES * self.max_bytes:
                raise HTTPException(429, "too many large bodies are in progress", {"Retry-After": "1"})
            return message

        try:
            await self.app(scope, receive_some, send)
        finally:
            self.held -= read


class ClientWatch:
    """Let the executor drop the work of clients that have gone.

    It sets `client_gone`, which returns at the end of the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        before = client_gone.set(gone if scope["type"] == "http" else None)
        try:
            await self.app(scope, receive, send)
        finally:
            client_gone.reset(before)


def route_of(scope: Scope) -> str:
    """Return the template of the route of a request, such as "/v1/groups/{id}".

    It is `UNKNOWN` where there is none.
    """
    if scope["path"].startswith("/static/"):
        return "/static"
    path = getattr(scope.get("route"), "path", None)
    return str(path) if path else UNKNOWN


def _printable(scope: Scope) -> str:
    """Return the path as it was sent, without its query.

    The query may hold private text, which does not belong in a log.
    """
    raw = scope.get("raw_path")
    return raw.decode("ascii", "backslashreplace") if raw else quote(scope["path"])
