"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from dupq.errors import ConflictError, DupqError, NotCalibratedError, NotEnoughLabelsError, OutputError

MEDIA_TYPE = "application/problem+json"


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
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if hint:
        body["hint"] = hint
    return JSONResponse({**body, **extra}, status, dict(headers or {}), MEDIA_TYPE)


def status_of(error: DupqError) -> int:
    """Return the status that an error of dupq is answered with."""
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, NotEnoughLabelsError):
        return 409
    if isinstance(error, (OutputError, NotCalibratedError)):
        return 503
    return 422 if isinstance(error, ValueError) else 500


def add_handlers(app: FastAPI) -> None:
    """Answer all errors of an application as problems."""

    @app.exception_handler(ProblemError)
    def of_problem(_: Request, error: ProblemError) -> Response:
        return problem(error.status, error.detail, hint=error.hint, headers=error.headers, **error.extra)

    @app.exception_handler(DupqError)
    def of_dupq(_: Request, error: DupqError) -> Response:
        return problem(status_of(error), error.message, hint=error.hint)

    @app.exception_handler(RequestValidationError)
    def of_validation(_: Request, error: RequestValidationError) -> Response:
        rows = [{"at": "/".join(map(str, row["loc"])), "message": row["msg"]} for row in error.errors()]
        return problem(422, f"{rows[0]['at']}: {rows[0]['message']}" if rows else "the request is invalid", errors=rows)

    @app.exception_handler(HTTPException)
    def of_http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)
