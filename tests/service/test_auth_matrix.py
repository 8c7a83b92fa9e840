"""Every route by every role. A route without an entry below fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dupq.pipeline import DuplicatePipeline
from dupq.service.access import PERMISSIONS, ROLES, Access
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings

OPEN = {
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
    "GET /login",
}
"""Routes that anybody may read."""
OWN = {"POST /login", "POST /webhooks/discourse", "POST /webhooks/github", "POST /webhooks/generic"}
"""Routes that no role opens: they check a form or a signature of their own, which these tests do not have."""
API = {
    "read": {
        "POST /v1/score",
        "POST /v1/explain",
        "POST /v1/flag",
        "GET /v1/questions/{id:id}",
        "GET /v1/review",
        "GET /v1/pairs",
        "GET /v1/history",
        "GET /v1/groups",
        "GET /v1/groups/{id:id}",
        "GET /v1/report",
        "GET /v1/calibrations",
        "POST /rerank",
        "POST /similarity",
        "POST /predict",
        "POST /score",
        "GET /info",
    },
    "write": {"PUT /v1/questions", "DELETE /v1/questions/{id:id}"},
    "review": {"POST /v1/verdicts", "POST /v1/undo", "POST /v1/merge", "POST /v1/unmerge"},
    "manage": {"POST /v1/calibrate", "POST /v1/calibrations/{number}/use"},
}
"""Permission -> the routes of the API that need it; they take a bearer token alone."""
PAGES = {
    "read": {
        "POST /logout",
        "GET /review",
        "GET /review/pair",
        "GET /review/help",
        "GET /review/list",
        "GET /preferences",
        "POST /preferences",
        "GET /groups",
        "GET /groups/show",
        "GET /dashboard",
    },
    "review": {
        "POST /review/verdict",
        "POST /review/undo",
        "GET /review/bulk",
        "POST /review/bulk/confirm",
        "POST /review/bulk",
        "POST /review/bulk/undo",
        "POST /groups/merge",
        "POST /groups/unmerge",
    },
    "manage": {
        "GET /calibrate",
        "POST /calibrate/try",
        "POST /calibrate",
        "GET /calibrate/roll-back",
        "POST /calibrate/roll-back",
        "GET /jobs",
        "POST /jobs/retry",
        "POST /jobs/retry-dead",
        "POST /jobs/discard",
    },
}
"""Permission -> the pages and forms that need it; they take a session alone."""
NOBODY = ("none", "wrong", "revoked")


def routes_of(app: FastAPI) -> set[str]:
    """Every method and path of the application, but the mounted static files."""
    try:
        from fastapi.routing import iter_route_contexts
    except ImportError:  # FastAPI of Python 3.10 has one flat list
        found: Any = app.routes
    else:
        found = iter_route_contexts(app.routes)
    return {
        f"{method} {route.path}" for route in found if getattr(route, "methods", None) for method in route.methods
    } - {f"HEAD {path}" for path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, pipeline: DuplicatePipeline) -> Iterator[FastAPI]:
    place = tmp_path_factory.mktemp("matrix") / "forum.db"
    service = open_service(ServiceSettings(db=str(place), rate_limit=0), pipeline)
    service.access.failures.rate = 0  # the tests send many wrong tokens
    made = create_app(service)
    with TestClient(made):
        yield made


@pytest.fixture(scope="module")
def access(app: FastAPI) -> Access:
    found: Access = app.state.service.access
    return found


@pytest.fixture(scope="module")
def secrets(access: Access) -> dict[str, str]:
    """Token of each role, a wrong and a revoked one."""
    found = {role: access.create_token(f"the {role}", role) for role in ROLES}
    revoked = access.create_token("revoked", "admin")
    access.revoke_token("revoked")
    return {**found, "wrong": "dupq_" + 43 * "x", "revoked": revoked}


def request(app: FastAPI, route: str, *, cookie: str = "", csrf: str = "", **headers: str) -> Any:
    """Send a request that is well-formed as far as nobody has to be known for it."""
    client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
    if cookie:
        client.cookies.set("dupq_session", cookie)
    method, path = route.split()
    path = path.replace("{id:id}", "7").replace("{number}", "1")
    given: dict[str, Any] = {} if method in ("GET", "DELETE") else {"data": {"csrf": csrf}} if csrf else {"json": {}}
    return client.request(method, path, headers=headers, **given)


def outcome(answer: Any) -> str:
    """The class of an answer: "in" for one whom the route lets in, whatever it then thinks of the body."""
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    assert answer.status_code != 429
    if answer.status_code in (401, 403):
        return str(answer.status_code)
    return "login" if answer.headers.get("location", "").startswith("/login?next=") else "in"


def entries(table: dict[str, set[str]]) -> list[Any]:
    return [pytest.param(route, need, id=route) for need, routes in table.items() for route in sorted(routes)]


def there(app: FastAPI, route: str) -> None:
    if route not in routes_of(app):
        pytest.fail(f"there is no route {route}: delete its entry")


def test_every_route_has_one_entry(app: FastAPI) -> None:
    tables = [OPEN, OWN, *API.values(), *PAGES.values()]
    known = set().union(*tables)
    assert sum(map(len, tables)) == len(known)
    assert routes_of(app) - known == set(), "routes without an entry in this file"


@pytest.mark.parametrize("route", sorted(OPEN))
def test_an_open_route_takes_anybody(app: FastAPI, secrets: dict[str, str], route: str) -> None:
    there(app, route)
    assert outcome(request(app, route)) == "in"
    assert outcome(request(app, route, authorization=f"Bearer {secrets['wrong']}")) == "in"


@pytest.mark.parametrize("route", sorted(OWN))
def test_no_role_opens_what_checks_its_own(app: FastAPI, secrets: dict[str, str], route: str) -> None:
    there(app, route)
    statuses = {request(app, route, authorization=f"Bearer {secret}").status_code for secret in secrets.values()}
    statuses.add(request(app, route).status_code)
    assert len(statuses) == 1
    assert 400 <= statuses.pop() < 500


@pytest.mark.parametrize(("route", "need"), entries(API))
def test_the_api_by_role(app: FastAPI, access: Access, secrets: dict[str, str], route: str, need: Any) -> None:
    there(app, route)
    found = {who: outcome(request(app, route, authorization=f"Bearer {secret}")) for who, secret in secrets.items()}
    found["none"] = outcome(request(app, route))
    allowed = {role: "in" if need in PERMISSIONS[role] else "403" for role in ROLES}
    assert found == {**dict.fromkeys(NOBODY, "401"), **allowed}
    caller = access.caller(secrets["admin"])
    assert caller is not None
    session = access.start_session(caller)
    csrf = access.session(session).csrf  # type: ignore[union-attr]
    # Another site could send the cookie along, so the API does not read it.
    assert outcome(request(app, route, cookie=session, **{"X-CSRF-Token": csrf})) == "401"


@pytest.mark.parametrize(("route", "need"), entries(PAGES))
def test_the_pages_by_role(app: FastAPI, access: Access, secrets: dict[str, str], route: str, need: Any) -> None:
    there(app, route)
    post = route.startswith("POST")
    refused = "401" if post else "login"
    assert outcome(request(app, route)) == refused
    assert outcome(request(app, route, cookie="wrong", csrf="wrong")) == refused
    assert outcome(request(app, route, authorization=f"Bearer {secrets['admin']}")) == refused
    assert outcome(request(app, route, cookie=secrets["admin"], csrf="wrong")) == refused
    for role in ROLES:
        caller = access.caller(secrets[role])
        assert caller is not None
        cookie = access.start_session(caller)
        csrf = access.session(cookie).csrf  # type: ignore[union-attr]
        expected = "in" if need in PERMISSIONS[role] else "403"
        if post:
            for sent in ({}, {"csrf": "wrong"}, {"X-CSRF-Token": "wrong"}):
                assert outcome(request(app, route, cookie=cookie, **sent)) == "403", role
            forged = {"Origin": "https://evil.example", "csrf": csrf}
            assert outcome(request(app, route, cookie=cookie, **forged)) == "403", role
        assert outcome(request(app, route, cookie=cookie, csrf=csrf)) == expected, role


@pytest.mark.parametrize("need", ["read", "review", "manage"])
def test_a_revoked_token_takes_its_sessions_out(app: FastAPI, access: Access, need: str) -> None:
    caller = access.caller(access.create_token(f"leaves {need}", "admin"))
    assert caller is not None
    cookie = access.start_session(caller)
    csrf = access.session(cookie).csrf  # type: ignore[union-attr]
    access.revoke_token(f"leaves {need}")
    for route in sorted(PAGES[need] & routes_of(app)):
        refused = "401" if route.startswith("POST") else "login"
        assert outcome(request(app, route, cookie=cookie, csrf=csrf)) == refused


def test_the_test_finds_a_route_without_an_entry(app: FastAPI) -> None:
    other = FastAPI()

    @other.get("/new")
    def new() -> None:
        """Answer anybody."""

    assert "GET /new" in routes_of(other)
