from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from dupq.errors import InputError
from dupq.index.stores import open_store
from dupq.service.access import FAILURES_AT_ONCE, Access
from dupq.service.app import create_app
from dupq.service.sessions import (
    PageManager,
    PageReader,
    PageReviewer,
    PostManager,
    PostReader,
    PostReviewer,
    local_path,
)
from dupq.service.state import Service
from dupq.service.tables import prepare_tables
from tests.service.stores import BOTH, place_of

router = APIRouter(include_in_schema=False)
"""One page and one form of each kind."""


@router.get("/test/reader")
def reader(session: PageReader) -> dict[str, str]:
    return {"name": session.caller.name, "csrf": session.csrf}


@router.get("/test/reviewer")
def reviewer(session: PageReviewer) -> dict[str, str]:
    return {"name": session.caller.name}


@router.get("/test/manager")
def manager(session: PageManager) -> dict[str, str]:
    return {"name": session.caller.name}


@router.post("/test/reader")
def post_reader(session: PostReader) -> dict[str, str]:
    return {"name": session.caller.name}


@router.post("/test/reviewer")
def post_reviewer(session: PostReviewer) -> dict[str, str]:
    return {"name": session.caller.name}


@router.post("/test/manager")
def post_manager(session: PostManager) -> dict[str, str]:
    return {"name": session.caller.name}


@pytest.fixture
def browser(service: Service) -> Iterator[TestClient]:
    """A client that asks for pages and follows no redirect."""
    app = create_app(service)
    app.include_router(router)
    with TestClient(app, follow_redirects=False, headers={"Accept": "text/html"}) as client:
        yield client


@pytest.fixture
def client(browser: TestClient) -> TestClient:
    return browser


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the form to log in."""
    form = page[page.index('action="/login"') :]
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    return {name: html.unescape(value) for name, value in found}


def login(client: TestClient, secret: str, next: str = "/test/reader", **headers: str) -> Any:
    form = fields(client.get("/login", params={"next": next}).text)
    return client.post("/login", data={**form, "token": secret}, headers=headers)


def cookie_of(client: TestClient) -> str:
    return str(client.cookies.get("dupq_session"))


# ---- the store ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(open_store(place_of(request.param, request, tmp_path))) as made:
        prepare_tables(made)
        yield made


def test_a_session_ends_after_its_hours_and_is_purged(store: Any) -> None:
    now = [1000.0]
    access = Access(store, session_hours=2, clock=lambda: now[0])
    caller = access.caller(access.create_token("Ann", "moderator"))
    assert caller is not None
    first = access.start_session(caller)
    session = access.session(first)
    assert session is not None
    assert session.caller == caller
    assert len(session.csrf) == 43
    assert first not in repr(session)
    assert session.key not in repr(session)
    now[0] += 7199
    assert access.session(first) is not None
    second = access.start_session(caller)
    now[0] += 1
    assert access.session(first) is None
    assert access.session(second) is not None
    access.start_session(caller)
    with store.reading() as view:
        assert view.count("service_sessions") == 2
    for wrong in ("", "x", session.key, "é\ud800"):
        assert access.session(wrong) is None


def test_preferences_last_over_sessions(store: Any) -> None:
    access = Access(store)
    caller = access.caller(access.create_token("Ann", "moderator"))
    assert caller is not None
    session = access.session(access.start_session(caller))
    assert session is not None
    assert session.preferences == {}
    changed = access.set_preferences(session, {"keys": False, "theme": "dark"})
    assert changed.preferences == {"keys": False, "theme": "dark"}
    access.set_preferences(session, {"theme": None})
    access.end_session(session)
    assert access.session(session.key) is None
    again = access.session(access.start_session(caller))
    assert again is not None
    assert again.preferences == {"keys": False}
    with pytest.raises(InputError, match="preferences must have at most"):
        access.set_preferences(again, {"theme": "x" * 5000})


# ---- in and out ---------------------------------------------------------------------------------------------------


def test_log_in_and_out(service: Service, client: TestClient) -> None:
    away = client.get("/test/reader?page=2&q=a+b")
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=/test/reader%3Fpage%3D2%26q%3Da%2Bb"
    form = client.get(away.headers["location"])
    assert form.status_code == 200
    assert form.headers["cache-control"] == "no-store"
    assert "<script" not in re.sub(r'<script type="module" src="/static/[^"]+"></script>', "", form.text)
    secret = service.access.create_token("Ann", "moderator")
    answer = client.post("/login", data={**fields(form.text), "token": f" {secret}\n"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/test/reader?page=2&q=a+b"
    cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("dupq_session="))
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert secret not in cookie
    page = client.get("/test/reader")
    assert page.json()["name"] == "Ann"
    kept = cookie_of(client)
    refused = client.post("/logout")
    assert refused.status_code == 403
    assert client.post("/logout", data={"csrf": page.json()["csrf"]}).headers["location"] == "/login"
    assert client.get("/test/reader").status_code == 303
    client.cookies.set("dupq_session", kept)  # ended in the store, not only in the browser
    assert client.get("/test/reader").status_code == 303


def test_over_https_the_cookie_is_secure_and_of_this_host(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, client = open_(secure_cookies=True)
    client.base_url = "https://testserver"  # type: ignore[assignment]
    client.follow_redirects = False
    answer = login(client, service.access.create_token("Ann", "moderator"), origin="https://testserver")
    assert answer.status_code == 303
    for cookie in answer.headers.get_list("set-cookie"):
        assert cookie.startswith(("__Host-dupq_session=", "__Host-dupq_login="))
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert "domain" not in cookie.lower()


def test_a_login_gets_a_secret_of_its_own(service: Service, client: TestClient) -> None:
    secret = service.access.create_token("Ann", "moderator")
    client.cookies.set("dupq_session", "chosen by another")
    login(client, secret)
    assert service.access.session("chosen by another") is None
    client.cookies.clear()
    login(client, secret)
    first = cookie_of(client)
    login(client, secret)
    assert cookie_of(client) != first
    assert service.access.session(first) is None  # the session before ends
    assert service.access.session(cookie_of(client)) is not None


def test_another_site_cannot_log_a_browser_in(service: Service, client: TestClient) -> None:
    secret = service.access.create_token("Mallory", "moderator")
    other = TestClient(client.app, follow_redirects=False)
    form = fields(other.get("/login").text)  # what an attacker can have
    assert client.post("/login", data={**form, "token": secret}).status_code == 403
    assert client.post("/login", data={"token": secret}).status_code == 403
    own = fields(client.get("/login").text)
    assert client.post("/login", data={**form, "token": secret}).status_code == 403
    assert client.post("/login", data={"token": secret, "csrf": ""}).status_code == 403
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/login", data={**own, "token": secret}, headers=headers).status_code == 403
    assert client.cookies.get("dupq_session") is None
    assert client.post("/login", data={**own, "token": secret}).status_code == 303


def test_wrong_tokens_are_shown_and_limited(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.access.failures, "_clock", lambda: 0.0)
    revoked = service.access.create_token("Bob", "moderator")
    service.access.revoke_token("Bob")
    for secret in ("", "wrong", revoked):
        answer = login(client, secret)
        assert answer.status_code == 401
        assert "This is not a valid token." in answer.text
        assert client.cookies.get("dupq_session") is None
        assert not secret or secret not in answer.text
    statuses = [login(client, f"wrong {number}").status_code for number in range(FAILURES_AT_ONCE)]
    assert set(statuses) == {401, 429}
    refused = login(client, "wrong")
    assert refused.status_code == 429
    assert "Too many wrong tokens" in refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert login(client, service.access.create_token("Ann", "reader")).status_code == 303


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/review?page=2#top", "/review?page=2#top"),
        ("/groups/7", "/groups/7"),
        ("", "/review"),
        (None, "/review"),
        ("review", "/review"),
        ("//evil.example", "/review"),
        ("///evil.example", "/review"),
        ("/\\evil.example", "/review"),
        ("\\\\evil.example", "/review"),
        ("/\t/evil.example", "/review"),
        ("/\n/evil.example", "/review"),
        (" //evil.example", "/review"),
        ("https://evil.example", "/review"),
        ("javascript:alert(1)", "/review"),
        ("/é", "/review"),
        ("/login?next=/login", "/review"),
        ("/logout", "/review"),
    ],
)
def test_a_login_leads_to_a_page_of_this_service(
    service: Service, client: TestClient, given: str | None, path: str
) -> None:
    assert local_path(given) == path
    if given is not None:
        answer = login(client, service.access.create_token("Ann", "reader"), next=given)
        assert answer.headers["location"] == path


def test_nothing_of_the_address_is_markup(client: TestClient) -> None:
    page = client.get("/login", params={"next": '/"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page


# ---- what a page requires -----------------------------------------------------------------------------------------


@pytest.fixture
def csrf(service: Service, client: TestClient) -> str:
    login(client, service.access.create_token("Ann", "moderator"))
    return str(client.get("/test/reader").json()["csrf"])


def test_a_form_needs_the_secret_of_its_session(client: TestClient, csrf: str, service: Service) -> None:
    other = service.access.session(service.access.start_session(service.access.session(cookie_of(client)).caller))  # type: ignore[union-attr]
    assert other is not None
    path = "/test/reviewer"
    for data in ({}, {"csrf": ""}, {"csrf": csrf[:-1]}, {"csrf": other.csrf}, {"csrf": "é"}):
        refused = client.post(path, data=data)
        assert refused.status_code == 403
        assert "The form has expired" in refused.text
        assert "Load the page again" in refused.text
    assert client.post(path, data={"csrf": csrf}).status_code == 200
    assert client.post(path, files={"csrf": (None, csrf)}).status_code == 200
    assert client.post(path, files={"csrf": ("name.txt", csrf)}).status_code == 403
    assert client.post(path, json={}, headers={"X-CSRF-Token": csrf}).status_code == 200
    assert client.post(path, json={"csrf": csrf}).status_code == 403
    assert client.post(f"{path}?csrf={csrf}").status_code == 403
    problem = client.post(path, headers={"Accept": "application/json"})
    assert problem.json()["detail"] == "the form has expired"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "https://testserver"}, 200),  # a proxy ends TLS
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://testserver:99"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_form_of_another_site_is_refused(client: TestClient, csrf: str, headers: dict[str, str], status: int) -> None:
    assert client.post("/test/reader", data={"csrf": csrf}, headers=headers).status_code == status


def test_a_form_after_the_session_is_no_redirect(client: TestClient, csrf: str, service: Service) -> None:
    service.access.revoke_token("Ann")
    answer = client.post("/test/reviewer", data={"csrf": csrf})
    assert answer.status_code == 401
    assert "/login" in answer.text
    assert client.get("/test/reviewer").headers["location"] == "/login?next=/test/reviewer"


def test_a_bearer_token_is_no_session(service: Service, client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {service.access.create_token('Ann', 'admin')}"}
    assert client.get("/test/reader", headers=headers).status_code == 303
    assert client.post("/test/reader", headers=headers).status_code == 401


def test_pages_are_limited_with_the_requests_of_the_token(open_: Callable[..., tuple[Service, TestClient]]) -> None:
    service, _ = open_(rate_limit=0.01, rate_burst=2)
    app = create_app(service)
    app.include_router(router)
    client = TestClient(app, follow_redirects=False, headers={"Accept": "text/html"})
    login(client, service.access.create_token("Ann", "reader"))
    assert [client.get("/test/reader").status_code for _ in range(3)] == [200, 200, 429]
    assert "Try again in" in client.get("/test/reader").text


def test_errors_are_pages_for_browsers_alone(client: TestClient, csrf: str) -> None:
    page = client.get("/test/manager")
    assert page.status_code == 403
    assert page.headers["content-type"].startswith("text/html")
    assert "The role moderator may not do this" in page.text
    assert "Sign out" in page.text  # the frame of the session, to leave it
    assert client.get("/nowhere").headers["content-type"].startswith("text/html")
    problem = client.get("/nowhere", headers={"Accept": "*/*"})
    assert problem.headers["content-type"] == "application/problem+json"
