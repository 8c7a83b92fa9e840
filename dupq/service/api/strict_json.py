"""Request bodies as strict JSON (RFC 8259).

NaN, infinite numbers, and characters that are no Unicode are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

LARGE = 100_000
"""Bytes of a body from which it is read in another thread than that of the event loop."""


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text; raise ValueError for anything else."""
    value = json.loads(body.decode("utf-8-sig"), parse_float=_finite, parse_constant=_refuse)
    if b"\\ud" in body or b"\\uD" in body:
        # Halves of a surrogate pair that stand alone have no UTF-8.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _finite(text: str) -> float:
    if (value := float(text)) in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text:.40} is too large")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class StrictRequest(Request):
    """Request whose body is read as strict JSON."""

    async def json(self) -> Any:
        """Return the value of the body; raise HTTPException 400 if it is no strict JSON."""
        body = await self.body()
        try:
            return strict_json(body) if len(body) < LARGE else await run_in_threadpool(strict_json, body)
        except UnicodeError as error:
            raise HTTPException(400, "the body must be JSON of valid Unicode") from error
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            raise HTTPException(400, f"the body must be JSON: {reason:.200}") from error


class StrictRoute(APIRoute):
    """Route that reads its body as strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which gets a `StrictRequest`."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
