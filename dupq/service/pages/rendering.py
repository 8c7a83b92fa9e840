"""Pages from templates, in one frame with navigation and theme.

Every value is escaped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dupq.service.access import Permission
from dupq.service.state import service_of
from dupq.version import __version__

if TYPE_CHECKING:
    from dupq.service.sessions import Session

FOLDER = Path(__file__).parent.parent
NAVIGATION: tuple[tuple[str, str, Permission], ...] = (
    ("Review", "/review", "read"),
    ("Groups", "/groups", "read"),
    ("Dashboard", "/dashboard", "read"),
    ("Jobs", "/jobs", "manage"),
)
"""Title and path of each page of the navigation, and the permission that it needs."""
PREFERENCES: dict[str, Any] = {"theme": "auto", "keys": True, "blind": True}
"""Preferences of a page, with their defaults: theme "auto", "light" or "dark"; keys; hidden probability in audits."""


def render(
    request: Request,
    name: str,
    session: Session | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Return a page.

    Args:
        request: The request.
        name: The template, such as "review.html".
        session: Of the caller; None on pages without one, such as the login.
        status, headers: Of the answer. A page is never stored by a cache.
        context: Variables of the template, beside session, csrf, nav, service, preferences, path and version.
    """
    nav = [
        {"title": title, "href": href, "current": request.url.path.split("/")[1] == href[1:]}
        for title, href, permission in NAVIGATION
        if session is not None and session.caller.may(permission)
    ]
    text = (
        _templates()
        .get_template(name)
        .render(
            {
                "session": session,
                "csrf": session.csrf if session is not None else "",
                "preferences": PREFERENCES | (dict(session.preferences) if session is not None else {}),
                "nav": nav,
                "service": service_of(request),
                "path": request.url.path,
                "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                "version": __version__,
                **context,
            }
        )
    )
    return HTMLResponse(text, status, {"Cache-Control": "no-store", **(headers or {})})


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"ago": ago, "day": day, "percent": percent, "web_link": web_link}
    found.globals["asset"] = asset
    return found


@lru_cache(maxsize=32)
def asset(name: str) -> str:
    """Return the address of a static file, which changes with its content."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


# ---- filters --------------------------------------------------------------------------------------------------------


def ago(at: str, since: datetime | None = None) -> str:
    """Return the time since an ISO 8601 date in words, such as "2 minutes ago".

    It is "just now" below 45 seconds.
    """
    seconds = ((since or datetime.now(timezone.utc)) - _parsed(at)).total_seconds()
    if seconds < 45:
        return "just now"
    for unit, size in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size or unit == "minute":
            count = max(1, round(seconds / size))
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def day(at: str | None) -> str:
    """Return the date of an ISO 8601 time as "3 May 2024", or "" for None."""
    return "" if at is None else f"{_parsed(at):%d %B %Y}".lstrip("0")


def _parsed(at: str) -> datetime:
    found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def percent(share: float) -> str:
    """Return a share as a percentage that never rounds to 0 % or 100 % unless it is."""
    value = 100 * share
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %" if value < 10 or value > 90 else f"{value:.0f} %"


def web_link(url: object) -> str:
    """Return an address of the web unchanged, and "" for anything else.

    Other schemes, such as `javascript:`, are no address of the web.
    """
    if not isinstance(url, str):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""
