"""Sessions of the pages: cookies, required permissions, and CSRF checks."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from dupq.service.access import Permission, check_rate
from dupq.service.access import Session as Session
from dupq.service.problems import ProblemError
from dupq.service.settings import ServiceSettings
from dupq.service.state import service_of

HOME = "/review"
"""Page after a login that came from no other page."""
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class LoginNeededError(Exception):
    """A page that was asked for without a session.

    Args:
        path: Path and query of the page, to return to.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def add_login_handler(app: FastAPI) -> None:
    """Redirect a page that needs a session to the login."""

    @app.exception_handler(LoginNeededError)
    def of_login(_: Request, error: LoginNeededError) -> Response:
        return RedirectResponse(f"/login?next={quote(error.path, safe='/')}", 303, {"Cache-Control": "no-store"})


# ---- cookies --------------------------------------------------------------------------------------------------------


def cookie_name(settings: ServiceSettings, name: str = "dupq_session") -> str:
    """Return the name of a cookie.

    With `secure_cookies` it has the prefix `__Host-`, which keeps other hosts of the domain from setting it.
    """
    return f"__Host-{name}" if settings.secure_cookies else name


def set_cookie(response: Response, settings: ServiceSettings, secret: str) -> None:
    """Send the cookie of a session."""
    response.set_cookie(
        cookie_name(settings),
        secret,
        max_age=round(3600 * settings.session_hours),
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )


async def session_of(request: Request) -> Session | None:
    """Return the session of a request, or None."""
    service = service_of(request)
    secret = request.cookies.get(cookie_name(service.settings))
    return await run_in_threadpool(service.access.session, secret) if secret else None


# ---- forged requests ------------------------------------------------------------------------------------------------


def check_origin(request: Request) -> None:
    """Raise a problem 403 if a browser says that another site has sent this request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not same:
        raise ProblemError(
            403, "the request was sent by another site", hint="a proxy must pass the header Host on; else use the page"
        )


async def check_csrf(request: Request, expected: str) -> None:
    """Raise a problem 403 if a request lacks the CSRF secret of its page.

    The secret is the form field `csrf` or the header X-CSRF-Token.
    """
    check_origin(request)
    given: Any = request.headers.get("x-csrf-token")
    if given is None and request.headers.get("content-type", "").split(";")[0].strip().lower() in FORMS:
        given = (await request.form()).get("csrf")
    if not isinstance(given, str) or not secrets.compare_digest(given.encode(), expected.encode()):
        raise ProblemError(403, "the form has expired", hint="load the page again")


def local_path(path: str | None) -> str:
    r"""Return a redirect target on this service, or `HOME` for any other path.

    A browser reads "//host", "/\host" and a path with a tab or newline as another host.
    """
    plain = path is not None and all("!" <= character <= "~" and character != "\\" for character in path)
    if path is None or not plain or not path.startswith("/") or path.startswith("//"):
        return HOME
    return HOME if urlsplit(path).path in ("/login", "/logout") else path


# ---- what a page requires -------------------------------------------------------------------------------------------


def require_session(permission: Permission, *, form: bool) -> Callable[..., Any]:
    """Return the dependency of a page or form that requires a permission.

    With `form`, the request is a posted form, and its CSRF secret is checked.
    """

    async def check(request: Request) -> Session:
        session = request.state.session = await session_of(request)
        if session is None and request.method in ("GET", "HEAD"):
            query = f"?{request.url.query}" if request.url.query else ""
            raise LoginNeededError(request.url.path + query)
        if session is None:
            raise ProblemError(401, "the session has ended", hint="sign in again: /login")
        if form:
            await check_csrf(request, session.csrf)
        access = service_of(request).access
        check_rate(access, session.caller)
        if not session.caller.may(permission):
            raise ProblemError(
                403, f"the role {session.caller.role} may not do this", hint="sign in with a token of another role"
            )
        request.state.caller = session.caller
        return session

    return check


PageReader = Annotated[Session, Depends(require_session("read", form=False))]
PageReviewer = Annotated[Session, Depends(require_session("review", form=False))]
PageManager = Annotated[Session, Depends(require_session("manage", form=False))]
PostReader = Annotated[Session, Depends(require_session("read", form=True))]
PostReviewer = Annotated[Session, Depends(require_session("review", form=True))]
PostManager = Annotated[Session, Depends(require_session("manage", form=True))]
