"""Errors as pages, for browsers."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response

from dupq.service.pages.rendering import render
from dupq.service.sessions import HOME


def error_page(
    request: Request, status: int, detail: str, *, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the page of a problem, within the frame of the session if there is one."""
    session = getattr(request.state, "session", None)
    link = {"title": "Sign in", "href": "/login"} if status == 401 else {"title": "Review page", "href": HOME}
    phrase = HTTPStatus(status).phrase
    if detail == phrase and status == 404:  # of an address without a route, whose session is not looked up
        detail = "there is no page at this address"
    return render(
        request,
        "error.html",
        session,
        status=status,
        headers=headers,
        code=status,
        heading=phrase,
        detail=f"{detail[:1].upper()}{detail[1:]}.",
        hint=hint and f"{hint[:1].upper()}{hint[1:]}.",
        links=[link],
    )
