"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from dupq.errors import ConflictError, DupqError, NotCalibratedError, NotEnoughLabelsError, OutputError
from dupq.service.executor import BusyError, StoppingError
from dupq.service.request_ids import request_id

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 5
"""Retry-After of an answer 503."""

Shapes = Mapping[str, Callable[[int, str], Response]]
"""Path -> function of (status, detail) that answers an error there in another shape."""


class ProblemError(Exception):
    """An answer with a status of 400 or more.

    Args:
        status: The HTTP status.
        detail: The problem of this request.
        hint: The next step of the client.
        headers: Headers of the answer, such as Retry-After.
        extra: Further members of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint = status, detail, hint
        self.headers, self.extra = dict(headers or {}), extra


def problem(
    status: int,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """Return the answer of a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id.get(),
    }
    if hint:
        body["hint"] = hint
    return JSONResponse({**body, **extra}, status, dict(headers or {}), MEDIA_TYPE)


def answer(
    scope: Scope,
    status: int,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """Return the answer of a problem in the shape of the requested path.

    A browser gets a page.
    """
    if "text/html" in Headers(scope=scope).get("accept", ""):
        page: Response = scope["app"].state.error_page(Request(scope), status, detail, hint=hint, headers=headers)
        return page
    shape = scope["app"].state.error_shapes.get(scope["path"])
    if shape is None:
        return problem(status, detail, hint=hint, headers=headers, **extra)
    response: Response = shape(status, detail)
    response.headers.update(headers or {})
    return response


def status_of(error: DupqError) -> int:
    """Return the status that an error of dupq is answered with."""
    if isinstance(error, BusyError):
        return 429
    if isinstance(error, (ConflictError, NotEnoughLabelsError)):
        return 409
    if isinstance(error, (OutputError, NotCalibratedError, StoppingError)):
        return 503
    return 422 if isinstance(error, ValueError) else 500


def add_handlers(app: FastAPI, shapes: Shapes, page: Callable[..., Response]) -> None:
    """Answer all errors of an application as problems.

    Args:
        app: The application.
        shapes: Paths whose clients expect errors of another shape.
        page: Function of (request, status, detail, hint=, headers=) that answers browsers.
    """
    app.state.error_page = page
    app.state.error_shapes = shapes

    @app.exception_handler(ProblemError)
    async def of_problem(request: Request, error: ProblemError) -> Response:
        return answer(request.scope, error.status, error.detail, hint=error.hint, headers=error.headers, **error.extra)

    @app.exception_handler(DupqError)
    async def of_dupq(request: Request, error: DupqError) -> Response:
        status = status_of(error)
        detail = f"{error.location}: {error.message}" if error.location and status < 500 else error.message
        wait = error.retry_after if isinstance(error, BusyError) else RETRY_SECONDS if status == 503 else None
        headers = None if wait is None else {"Retry-After": str(math.ceil(wait))}
        return answer(request.scope, status, detail, hint=error.hint, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        rows = [{"at": "/".join(map(str, row["loc"])), "message": row["msg"]} for row in error.errors()]
        detail = f"{rows[0]['at']}: {rows[0]['message']}" if rows else "the request is invalid"
        return answer(request.scope, 422, detail, errors=rows)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        return answer(request.scope, error.status_code, str(error.detail), headers=error.headers)
