"""Preferences of a moderator: theme, keys, and hidden audit probabilities."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from dupq.service.pages.rendering import render
from dupq.service.sessions import PageReader, PostReader, local_path
from dupq.service.state import Service, service_of

router = APIRouter(include_in_schema=False)

THEMES = {"auto": "as the system", "light": "light", "dark": "dark"}


@router.get("/preferences")
def show_preferences(request: Request, session: PageReader, saved: bool = False) -> Response:
    """Show the preferences."""
    return render(request, "preferences.html", session, themes=THEMES, saved=saved)


@router.post("/preferences")
def set_preferences(
    session: PostReader,
    service: Annotated[Service, Depends(service_of)],
    theme: Annotated[Literal["auto", "light", "dark"] | None, Form()] = None,
    keys: Annotated[Literal["on", "off"] | None, Form()] = None,
    blind: Annotated[Literal["on", "off"] | None, Form()] = None,
    back: Annotated[str, Form()] = "/preferences?saved=1",
) -> Response:
    """Change the preferences that a form has sent, and go back to its page."""
    given: dict[str, Any] = {"theme": theme}
    given |= {name: value == "on" for name, value in (("keys", keys), ("blind", blind)) if value is not None}
    service.access.set_preferences(session, {name: value for name, value in given.items() if value is not None})
    return RedirectResponse(local_path(back), 303)
