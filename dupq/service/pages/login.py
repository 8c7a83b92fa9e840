"""Log in with a token, and out."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from dupq.service.access import authenticated
from dupq.service.pages.rendering import render
from dupq.service.problems import ProblemError
from dupq.service.sessions import PostReader, check_csrf, cookie_name, local_path, session_of, set_cookie
from dupq.service.state import Service, service_of

router = APIRouter(include_in_schema=False)

FORM_COOKIE = "dupq_login"
"""Cookie that the login form sends back, so that another site cannot log a browser in."""


@router.get("/login")
async def login_form(request: Request, next: str = "") -> Response:
    """Show the form."""
    return await _form(request, next)


@router.post("/login")
async def login(
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "",
) -> Response:
    """Start a session for the caller of a token, under a new secret."""
    sent = request.cookies.get(cookie_name(service.settings, FORM_COOKIE))
    if not sent:
        raise ProblemError(403, "the form has expired", hint="load the page again, and allow cookies")
    await check_csrf(request, sent)
    try:
        caller = await authenticated(request, service.access, token.strip())
    except ProblemError as error:
        return await _form(request, next, error=error)
    if caller is None:
        return await _form(request, next, error=ProblemError(401, "this is not a valid token"))
    before = request.cookies.get(cookie_name(service.settings))
    secret = await run_in_threadpool(service.access.start_session, caller, before)
    response = RedirectResponse(local_path(next), 303, {"Cache-Control": "no-store"})
    set_cookie(response, service.settings, secret)
    response.delete_cookie(
        cookie_name(service.settings, FORM_COOKIE), secure=service.settings.secure_cookies, httponly=True
    )
    return response


@router.post("/logout")
async def logout(session: PostReader, service: Annotated[Service, Depends(service_of)]) -> Response:
    """End the session."""
    await run_in_threadpool(service.access.end_session, session)
    response = RedirectResponse("/login", 303, {"Cache-Control": "no-store"})
    response.delete_cookie(cookie_name(service.settings), secure=service.settings.secure_cookies, httponly=True)
    return response


async def _form(request: Request, next_: str, error: ProblemError | None = None) -> Response:
    settings = service_of(request).settings
    name = cookie_name(settings, FORM_COOKIE)
    secret = request.cookies.get(name) or secrets.token_urlsafe(32)  # two open forms share it
    response = render(
        request,
        "login.html",
        await session_of(request),
        status=error.status if error else 200,
        headers=error.headers if error else None,
        login_csrf=secret,
        next=local_path(next_),
        error=error,
    )
    response.set_cookie(name, secret, path="/", secure=settings.secure_cookies, httponly=True, samesite="strict")
    return response
