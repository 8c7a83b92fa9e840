"""Large bodies of unknown callers, which are refused before they are read."""

from __future__ import annotations

from contextlib import suppress

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dupq.service.access import authenticated
from dupq.service.problems import ProblemError, answer
from dupq.service.sessions import session_of
from dupq.service.state import Service

MAX_BYTES = 65_536
"""Largest body that is read before it is known who sends it."""
SIGNED = "/webhooks/"
"""Start of the paths whose bodies are signed, and so must be read first."""


class UnknownCallers:
    """Answer large bodies of unknown callers with 401.

    A caller is known by a valid token or session; the route then checks the role.

    Args:
        app: The application.
        service: The service.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_large(scope) and not await self._is_known(Request(scope)):
            detail = f"a valid token or session is needed for a body of more than {MAX_BYTES} bytes"
            refusal = answer(scope, 401, detail, headers={"WWW-Authenticate": "Bearer", "Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _is_known(self, request: Request) -> bool:
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            with suppress(ProblemError):
                return await authenticated(request, self.service.access, secret.strip()) is not None
        return await session_of(request) is not None


def _is_large(scope: Scope) -> bool:
    """Return True for an unsigned body above `MAX_BYTES`, or of unknown length."""
    headers = Headers(scope=scope)
    length = headers.get("content-length")
    if scope["path"].startswith(SIGNED):
        return False
    if length is None:
        return "transfer-encoding" in headers
    return not length.isdecimal() or int(length) > MAX_BYTES
